"""The verbs of studies, which are several runs or measurements: glue run, submit and compare; bench; check."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bertkit.cli.recipes import SUFFIXES, read_recipe, shipped_recipes
from bertkit.cli.shared import Json, Quiet, Settings, Verbs, What
from bertkit.errors import BertkitError
from bertkit.launch import say, sayer

if TYPE_CHECKING:
    from bertkit.findings import Finding

glue = Verbs(
    help="Fine-tune on the nine GLUE tasks, score them as GLUE does, submit, and compare studies.",
    no_args_is_help=True,
)
study = Verbs(help="Questions that take several runs: how far scores spread, which settings are good.",
              no_args_is_help=True)  # fmt: skip
Jobs = Annotated[int, typer.Option(min=1, help="Jobs at a time on each device.")]
Gpus = Annotated[int | None, typer.Option(min=1, help="GPUs to spread the jobs over; default: all.")]
Executor = Annotated[Literal["local", "ray"], typer.Option(help="Run the jobs here or on a Ray cluster.")]
Address = Annotated[str | None, typer.Option(help="HOST:PORT of the Ray cluster; default: this machine's.",
                                             show_default=False)]  # fmt: skip


@glue.command("run")
def run_glue(
    settings: Settings = (),
    model: Annotated[str, typer.Option("--model", "-m", help="Checkpoint: a Hub id or a folder.",
                                       show_default=False)] = ...,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the study.", show_default=False)] = ...,
    data: Annotated[str | None, typer.Option("--data", "-d", help="Folder in GLUE's layout; default: the Hub.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Tasks, such as cola,rte; default: all in the data.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each task, with seed, seed + 1, ...")] = 1,
    jobs: Jobs = 1,
    gpus: Gpus = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue; finished runs are not repeated.")] = False,
    executor: Executor = "local",
    address: Address = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Run GLUE: bertkit glue run --model google-bert/bert-base-uncased --data glue_data --out runs/glue

    Settings apply to all tasks (train.epochs=1), to one (rte.train.epochs=10) or to the study: glue.from_mnli=true
    starts MRPC, STS-B and RTE from the MNLI model; glue.held_back=0.1 is the share of train, its last rows, that
    replaces a missing dev file; glue.published=false leaves published scores out of the report.
    """
    from bertkit.studies.glue import study
    from bertkit.studies.glue.tables import lines
    from bertkit.studies.runner.room import Room

    results = study.run(
        model, out, data=data, tasks=_names(tasks), seeds=seeds, room=Room(jobs, gpus, executor, address),
        resume=resume, assignments=settings, quiet=quiet, say=sayer(quiet),
    )  # fmt: skip
    print(json.dumps(results.to_json()) if as_json else "\n".join([*lines(results), "", results.headline]))
    if not quiet:
        say(f"report: {out / 'report.html'}")


@glue.command("submit")
def submit_glue(
    study: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `bertkit glue run` wrote.",
                                          show_default=False)],
    settings: Settings = (),
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default: DIR/submission.zip.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Only these tasks, such as rte,mrpc,ax.")] = None,
    any_size: Annotated[bool, typer.Option("--any-size", help="Accept test sets of any size, as a trial.")] = False,
    jobs: Jobs = 1,
    gpus: Gpus = None,
    executor: Executor = "local",
    address: Address = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write the zip file for the GLUE server: bertkit glue submit runs/glue

    The settings are those of hardware, such as hardware.device=cpu.
    """
    from bertkit.studies.glue.submission import submit
    from bertkit.studies.runner.room import Room

    print(submit(
        study, out, tasks=_names(tasks), any_size=any_size, assignments=settings,
        room=Room(jobs, gpus, executor, address), quiet=quiet, say=sayer(quiet),
    ))  # fmt: skip


@glue.command("compare")
def compare_glue(
    first: Annotated[Path, typer.Argument(metavar="DIR_A", help="Folder of a study.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="DIR_B", help="Folder of another study.", show_default=False)],
    draws: Annotated[int, typer.Option(min=100, help="Bootstrap draws.")] = 1000,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Compare two studies, with an interval for the difference: bertkit glue compare runs/a runs/b"""
    from bertkit.studies.base import aligned
    from bertkit.studies.glue.compare import compare, table

    found = compare(first, second, draws)
    if as_json:
        print(json.dumps([entry._asdict() for entry in found]))
        return
    shown = table(found, (str(first), str(second)))
    print("\n".join([*aligned(shown), "", shown.caption]))


Model = Annotated[str | None, typer.Option("--model", "-m", help="Hub id or folder of the checkpoint.")]
Train = Annotated[str | None, typer.Option("--train", help="Training rows.")]
StudyFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder of the study.", show_default=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Continue; finished runs are not repeated.")]


@study.command("folds")
def run_folds(
    what: What,
    settings: Settings = (),
    model: Model = None,
    train_file: Train = None,
    out: StudyFolder = ...,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the training rows.")] = 5,
    jobs: Jobs = 1,
    gpus: Gpus = None,
    resume: Resume = False,
    executor: Executor = "local",
    address: Address = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a recipe on k folds: bertkit study folds sentiment --train reviews.csv --out runs/folds

    Each row is answered once, by a model that has not seen it: DIR/predictions.jsonl has all answers, and the report
    the spread of the scores and the rows that are most wrong, among which wrong labels stand.
    """
    from bertkit.studies.folds import run
    from bertkit.studies.runner.room import Room

    recipe = read_recipe(what, settings, {"model.checkpoint": model, "data.train": train_file})
    room = Room(jobs, gpus, executor, address)
    _conclude(run(recipe, out, folds=folds, room=room, resume=resume, quiet=quiet), out, as_json, quiet)


@study.command("search")
def run_search(
    what: What,
    settings: Settings = (),
    model: Model = None,
    train_file: Train = None,
    validation: Annotated[str | None, typer.Option(help="Validation rows; default: a tenth of train.")] = None,
    out: StudyFolder = ...,
    space: Annotated[list[str], typer.Option(
        metavar="KEY=LOW..HIGH|KEY=A,B", help="A setting and its range or choices; default: those of learning rate, "
        "batch size and epochs that are not set.")] = (),
    trials: Annotated[int, typer.Option(min=1, help="Trials in all.")] = 20,
    keep_all: Annotated[bool, typer.Option("--keep-all", help="Keep the weights of all trials.")] = False,
    jobs: Jobs = 1,
    gpus: Gpus = None,
    resume: Resume = False,
    executor: Executor = "local",
    address: Address = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Search for good settings: bertkit study search sentiment --train reviews.csv --out runs/search

    Each trial is a run of its own. The best settings are in DIR/best.yaml, which `bertkit train` takes. A search goes
    on with --resume, also with more --trials.
    """
    from bertkit.studies.runner.room import Room
    from bertkit.studies.search import USUAL, run

    given = {setting.partition("=")[0] for setting in settings}
    if twice := [entry for entry in space if entry.partition("=")[0] in given]:
        raise BertkitError(f"--space {twice[0]}: the setting is given a value as well", hint="leave out one of the two")
    space = space or [entry for entry in USUAL if entry.partition("=")[0] not in given]
    if not space:
        raise BertkitError("--space: no setting is left to search", hint="name one, such as train.warmup=0..0.3")
    flags = {"model.checkpoint": model, "data.train": train_file, "data.validation": validation}
    found = run(
        read_recipe(what, settings, flags), out, space=space, trials=trials, keep_all=keep_all,
        room=Room(jobs, gpus, executor, address), resume=resume, quiet=quiet,
    )  # fmt: skip
    _conclude(found, out, as_json, quiet)


def _conclude(results: Mapping[str, object], out: Path, as_json: bool, quiet: bool) -> None:
    """Print what a study has come to: one JSON object, or its notes and tables."""
    from bertkit.pages.html import read_findings

    if as_json:
        print(json.dumps(results))
        return
    _print_findings(read_findings(out / "findings.json"))
    if not quiet:
        say(f"report: {out / 'report.html'}")


def bench(
    what: What = "sentiment",
    settings: Settings = (),
    model: Annotated[str | None, typer.Option("--model", "-m", help="Hub id or folder; default: a tiny model.")] = None,
    train_file: Annotated[str | None, typer.Option("--train", help="Training rows; default: bundled rows.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write; default: next in runs/.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; every variant runs once in each.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of a variant in a round.")] = 4,
    growth: Annotated[bool, typer.Option("--growth", help="Measure how time and memory grow with the data.")] = False,
    largest: Annotated[int, typer.Option(min=1, help="With --growth: the most rows and characters.")] = 1_000_000,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure speed with each switch on and off: bertkit bench sentiment --model M --train reviews.csv

    Settings apply to all variants; each variant turns one switch the other way. With --growth: the time of a step by
    number of rows, the memory of evaluation, and the time of one document by its length.
    """
    from bertkit.disk import next_folder
    from bertkit.studies.bench import speed

    if "=" in what:  # the task was left out: this is the first setting
        what, settings = "sentiment", [what, *settings]
    flags = {"model.checkpoint": model, "data.train": train_file}
    recipe, notes = speed.complete(read_recipe(what, settings, flags))
    with next_folder("speed") if out is None else nullcontext(out) as folder:
        results = speed.run(
            recipe, folder, rounds=rounds, steps=steps, growth=growth, largest=largest, notes=notes, say=sayer(quiet)
        )
    if as_json:
        print(json.dumps(results))
        return
    _print_results(results)
    if not quiet:
        say(f"report: {folder / 'report.html'}")


def check(
    data: Annotated[str, typer.Argument(metavar="DATA|RECIPE", help="File, folder or Hub id of rows; or a recipe.",
                                        show_default=False)],
    settings: Settings = (),
    task: Annotated[str | None, typer.Option("--task", "-t", help="What the rows are for.", show_default=False)] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Hub id or folder of the checkpoint.")] = None,
    validation: Annotated[str | None, typer.Option(help="Validation rows; default: a tenth of DATA.")] = None,
    test: Annotated[str | None, typer.Option(help="Test rows.")] = None,
    estimate: Annotated[bool, typer.Option("--estimate/--no-estimate", help="Time a few steps of training.")] = True,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for a page; default: none.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Look at rows before training: bertkit check reviews.csv --task sentiment --out runs/check

    Columns, labels, repeated and suspicious rows, lengths, the tokenizer's fit, and the time that a run takes here, all
    read as `bertkit train` with the same settings reads them. What training would stop at is an error at the end.
    """
    from bertkit.studies.check import run

    if task is None and not (data.endswith(SUFFIXES) or data in shipped_recipes()):
        raise BertkitError(f"{data}: which task are these rows for?", hint="add --task sentiment, or another")
    flags = {"model.checkpoint": model, "data.validation": validation, "data.test": test}
    recipe = read_recipe(task or data, settings, flags | ({"data.train": data} if task else {}))
    results = run(recipe, out, estimate=estimate, say=sayer(quiet))
    if as_json:
        print(json.dumps(results))
    else:
        _print_results(results)
    if out is not None and not quiet:
        say(f"report: {out / 'report.html'}")
    if results["refused"]:
        raise BertkitError(**results["refused"][0])


def _print_results(results: Mapping[str, object]) -> None:
    from bertkit.findings import from_json

    _print_findings(from_json(results["findings"]))


def _print_findings(found: Sequence[Finding]) -> None:
    """Notes, tables and short curves; the rest is for the page."""
    from bertkit.findings import Note, Series, Table
    from bertkit.studies.base import aligned

    for finding in found:
        if isinstance(finding, Note):
            print(f"{finding.title}: {finding.text}\n")
        elif isinstance(finding, Table) or (isinstance(finding, Series) and not finding.shares):
            print("\n".join([finding.title, *aligned(finding), ""]))


def _names(tasks: str | None) -> list[str]:
    names = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    if tasks is not None and not names:  # such as a variable of the shell that is not set
        raise BertkitError("--tasks: no task is named", hint="such as cola,rte; leave it out for all")
    return names

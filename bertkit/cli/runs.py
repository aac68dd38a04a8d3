"""The verbs of one run: train, evaluate, predict, report, watch."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bertkit.cli.complete import complete_run
from bertkit.cli.recipes import read_recipe
from bertkit.cli.shared import Json, Launcher, More, Quiet, RunFolder, Settings, Verbose, What, launchable, split_more
from bertkit.errors import BertkitError
from bertkit.launch import is_first, process_count, say, sayer

if TYPE_CHECKING:
    from bertkit.recipe import PretrainRecipe, Recipe
    from bertkit.tasks.base import Task

Engine = Annotated[
    Literal["torch", "onnx"], typer.Option(help="What computes; onnx: what `bertkit export` wrote into the run.")
]


@launchable
def train(
    what: What,
    settings: Settings = (),
    model: Annotated[str | None, typer.Option("--model", "-m", help="Hub id or folder of the checkpoint.")] = None,
    train_file: Annotated[str | None, typer.Option("--train", help="Training rows.")] = None,
    validation: Annotated[str | None, typer.Option(help="Validation rows; default: a tenth of train.")] = None,
    test: Annotated[str | None, typer.Option(help="Test rows; scored once, at the end.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write; default: next in runs/.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in --out.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    *,
    launcher: Launcher,
) -> None:  # fmt: skip
    """Fine-tune a checkpoint: bertkit train sentiment --train reviews.csv --out runs/reviews"""
    from bertkit.run import finetune
    from bertkit.tasks.base import make_task

    flags = {"model.checkpoint": model, "data.train": train_file, "data.validation": validation, "data.test": test}
    recipe = read_recipe(what, [*settings, *["log.verbose=true"] * verbose], flags)

    def work(folder: Path) -> None:
        print_scores(finetune(recipe, folder, resume=resume, quiet=quiet), as_json)
        if not quiet and not as_json and is_first():
            name = shlex.quote(str(folder))
            texts = " ".join(f'{flag} "..."' for flag in _flags_of(make_task(recipe.task)))
            say(f"next: bertkit predict {name} {texts}\nnext: bertkit report {name}")

    _run_in_folder(str(recipe.task["name"]), recipe, out, resume, quiet, launcher, work)


@launchable
def pretrain(
    recipe: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A YAML file; default: no settings.",
                                                  show_default=False)] = None,
    settings: Settings = (),
    model: Annotated[str | None, typer.Option("--model", "-m", help="Hub id or folder of the checkpoint.")] = None,
    text: Annotated[list[str], typer.Option("--train", help="File or folder of text; may be given again.")] = (),
    held_out: Annotated[list[str], typer.Option(help="Text to score on; default: a share of the documents.")] = (),
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write; default: next in runs/.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in --out.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    *,
    launcher: Launcher,
) -> None:  # fmt: skip
    """Let a model learn from running text: bertkit pretrain --train books.txt.xz --out runs/mlm

    A tenth of the words is hidden and restored; plain text has a paragraph a line and a blank line between documents.
    model.init=scratch begins with random weights. The run is a checkpoint: bertkit train sentiment --model runs/mlm
    """
    from bertkit.config import put, read_yaml
    from bertkit.recipe import PretrainRecipe, load_recipe
    from bertkit.run.pretrain import pretrain

    if recipe is not None and "=" in str(recipe):  # no file: this is the first setting
        recipe, settings = None, [str(recipe), *settings]
    tree = {} if recipe is None else read_yaml(recipe)
    for dotted, value in (("model.checkpoint", model), ("corpus.train", [*text]), ("corpus.held_out", [*held_out])):
        tree = put(tree, dotted, value) if value else tree
    asked = load_recipe(tree, [*settings, *["log.verbose=true"] * verbose], PretrainRecipe)
    _run_in_folder(
        "pretrain",
        asked,
        out,
        resume,
        quiet,
        launcher,
        lambda folder: print_scores(pretrain(asked, folder, resume=resume, quiet=quiet), as_json),
    )


@launchable
def evaluate(
    run: RunFolder,
    more: More = (),
    data: Annotated[str, typer.Option("--data", "-d", help="Rows with gold answers.", show_default=False)] = ...,
    split: Annotated[str, typer.Option(help="Split to read, if --data is a folder or a Hub id.")] = "test",
    engine: Engine = "torch",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    *,
    launcher: Launcher,
) -> None:  # fmt: skip
    """Score a finished run on other rows: bertkit evaluate runs/reviews --data more.csv

    Several runs, such as those of several seeds, answer together: their probabilities are averaged.
    """
    from bertkit.run import evaluate

    runs, settings = split_more(run, more)
    if launcher.runs(quiet):
        return
    assignments = [*settings, *["log.verbose=true"] * verbose]
    print_scores(evaluate(runs, data, assignments=assignments, split=split, engine=engine, quiet=quiet), as_json)


@launchable
def predict(
    run: RunFolder,
    more: More = (),
    source: Annotated[str | None, typer.Option("--input", "-i", help="File of rows; - is standard input.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="csv, tsv, jsonl, json, parquet or conllu file; - or "
                                             "nothing: standard output.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted prediction.")] = False,
    text: Annotated[str | None, typer.Option(help="One text.")] = None,
    second: Annotated[str | None, typer.Option(help="The second text of tasks that read two.")] = None,
    question: Annotated[str | None, typer.Option(help="A question; needs --context or --context-file.")] = None,
    context: Annotated[str | None, typer.Option(help="The document that holds the answer.")] = None,
    context_file: Annotated[Path | None, typer.Option(help="A text file that holds the document.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of a folder or a Hub id that --input names; default: test.",
                                              show_default=False)] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Add what each word adds to the answer; slow.")] = False,
    engine: Engine = "torch",
    quiet: Quiet = False,
    verbose: Verbose = False,
    *,
    launcher: Launcher,
) -> None:  # fmt: skip
    """Answer new rows: bertkit predict runs/reviews --text "I would go again"

    Several runs, such as those of several seeds, answer together: their probabilities are averaged.
    """
    from bertkit.data.writing import Answers, as_json, check_out
    from bertkit.disk import checksum
    from bertkit.reopen import read_run
    from bertkit.run import FINELY, load, predict
    from bertkit.rundir import RunDir

    runs, settings = split_more(run, more)
    texts = _texts(text, second, question, context, context_file)
    if (source is None) == (not texts):
        raise BertkitError(
            "give one kind of input: --input FILE, --text, or --question with --context",
            hint="bertkit predict RUN --input rows.csv --out predictions.jsonl",
        )
    if source is None and split is not None:
        raise BertkitError(f"--split {split}: there is one text", hint="give a source with --input")
    out = None if out == Path("-") else out
    if out is not None:
        check_out(out)
        if source is not None and out.exists() and os.path.exists(source) and out.samefile(source):
            raise BertkitError(f"--out: {out} is the input itself", hint="give another name")
    if resume and (out is None or source is None):
        raise BertkitError("--resume: goes on writing --out from --input", hint="leave it out, or give both")
    if source is None and not launcher.asked.dry_run:
        _check_texts(read_run(run, settings)[0].task, texts)
    if launcher.runs(quiet):
        return
    if resume and process_count() > 1:
        raise BertkitError("--resume: one process alone goes on", hint="leave out --gpus, --cpus and --hosts")
    assignments = [*settings, *["log.verbose=true"] * verbose]
    answers = None
    if out is not None and is_first():
        free = ("hardware.", "log.")  # but the precision, no answer depends on these
        same = [one for one in settings if not one.startswith(free) or one.startswith("hardware.precision")]
        # the scores of another training have other seconds
        scores = [RunDir(one).open()["metrics.json"] for one in (runs if isinstance(runs, list) else [runs])]
        trained = [checksum(file) if file.exists() else "" for file in scores]
        asked = {"runs": trained, "input": source, "settings": same, "explain": explain, "engine": engine}
        answers = Answers(out, asked, resume)
    if source is None:
        predictor = load(runs, [*assignments, *(FINELY if explain else ())], quiet, engine)
        given = tuple(texts.values())
        found = (predictor.explain if explain else predictor.predict)([given if len(given) > 1 else given[0]])
    else:
        found = predict(
            runs, source, assignments=assignments, split=split or "test", explain=explain,
            done=answers.records() if answers and answers.count else (), engine=engine, quiet=quiet,
        )  # fmt: skip
    # anything wrong with the run or the rows shows with the first answer, before a file is begun
    found = chain(list(islice(found, 1)), found)
    if not is_first():
        for _ in found:  # does our share of the work; the first process writes it
            pass
    elif answers is None:
        for prediction in found:
            print(as_json(prediction), flush=True)
    else:
        answers.write(found, sayer(quiet))
        if not quiet:
            say(f"predictions: {out}")


def _run_in_folder(
    name: str, recipe: Recipe | PretrainRecipe, out: Path | None, resume: bool, quiet: bool, launcher: Launcher,
    work: Callable[[Path], None],
) -> None:  # fmt: skip
    """Train in `out`, or in the next free folder of this name, in as many processes as are asked for."""
    from bertkit.disk import next_folder

    if out is None and (launcher.asked.hosts or 1) > 1:
        raise BertkitError("--hosts: all hosts must name the same --out", hint="give --out, on a disk that all share")
    if out is None and resume:
        raise BertkitError("--resume: which run is to go on?", hint="give --out, the folder of the run")
    with next_folder(name) if out is None else nullcontext(out) as folder:
        # every process gets the name, restarted ones too
        extra = ["--out", str(folder)] if out is None else []
        if not launcher.runs(quiet, takes_all=recipe.hardware.device in ("auto", "cuda"), extra=extra):
            work(folder)


def print_scores(metrics: dict, as_json: bool) -> None:
    """Print what `finetune` or `evaluate` gave back."""
    if as_json:
        print(json.dumps(metrics))
        return
    from bertkit.metrics.shown import describe_scores

    for split, scores in (metrics.get("splits") or {metrics["data"]: metrics}).items():
        shown = {name: value for name, value in scores.items() if value is None or isinstance(value, int | float)}
        print(f"{split}: {describe_scores(shown)}")


def _texts(
    text: str | None, second: str | None, question: str | None, context: str | None, context_file: Path | None
) -> dict[str, str]:
    """The options that hold a text, with `--context-file` read; empty when none is given."""
    if context_file is not None:
        if context is not None:
            raise BertkitError("--context and --context-file both give the document", hint="give one of the two")
        try:
            context = context_file.read_bytes().decode()  # line ends stay: answers have offsets
        except (OSError, UnicodeDecodeError) as error:
            raise BertkitError(f"--context-file: {context_file} cannot be read ({error})") from None
    given = {"--text": text, "--second": second, "--question": question, "--context": context}
    for name, value in given.items():
        if value is not None and any("\ud800" <= character <= "\udfff" for character in value):
            raise BertkitError(f"{name}: the text is not UTF-8", hint="is the terminal set to UTF-8?")
    return {name: value for name, value in given.items() if value is not None}


def _flags_of(task: Task) -> tuple[str, ...]:
    """The options that give the texts of a task's row."""
    columns = task.reads.text or ("text",)
    return ("--question", "--context") if columns == ("question", "context") else ("--text", "--second")[: len(columns)]


def _check_texts(task: Task, texts: Mapping[str, str]) -> None:
    """Refuse texts of the options that are not what the run reads."""
    flags, columns = _flags_of(task), task.reads.text or ("text",)
    if tuple(texts) != flags:
        raise BertkitError(
            f"{' and '.join(texts)}: this is a run of {task.name}, which reads {' and '.join(columns)}",
            hint=f"give {' and '.join(flags)}",
        )
    if flags[0] == "--question" and not (texts["--question"].strip() and texts["--context"].strip()):
        raise BertkitError("--question and --context must hold some text", hint="one of them is empty")


def report(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of a run or a study.", show_default=False, autocompletion=complete_run
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default: DIR/report.html.")] = None,
    explained: Annotated[int, typer.Option("--explain", min=0, help="So many rows with the words that count.")] = 0,
) -> None:
    """Write a page with scores, figures and rows to read: bertkit report runs/reviews"""
    from bertkit.pages.html import write_report

    more = []
    if explained:
        from bertkit.run import explain

        more.append(explain(directory, explained))
    print(write_report(directory, out, more))


def watch(run: RunFolder, as_json: Json = False) -> None:
    """Follow a run while it trains: bertkit watch runs/reviews

    Waits until the run begins, and ends with it. Ctrl-C stops watching; the run goes on.
    """
    from bertkit.watching import watch

    watch(run, as_json)

"""The verbs of GLUE: run, submit, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from bertkit.cli.shared import Json, Quiet, Settings, say, sayer
from bertkit.errors import BertkitError

app = typer.Typer(
    help="Fine-tune on the nine GLUE tasks, score them as GLUE does beside people, submit, and compare.",
    no_args_is_help=True,
)
Executor = Literal["local", "ray"]


@app.command("run")
def run_glue(
    settings: Settings = (),
    model: Annotated[str, typer.Option("--model", "-m", help="Hub id or folder of the checkpoint.",
                                       show_default=False)] = ...,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the study.", show_default=False)] = ...,
    data: Annotated[str | None, typer.Option("--data", "-d", help="Folder in GLUE's layout; else the Hub.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Some of the nine, such as cola,rte; else all there are.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each task: seed, seed + 1, ...")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time on each device.")] = 1,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs to spread the runs over; else all.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on; what is done is not run again.")] = False,
    executor: Annotated[Executor, typer.Option(help="Where jobs run: here, or on a Ray cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="HOST:PORT of the Ray cluster; else the one of this machine.",
                                                show_default=False)] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Run GLUE: bertkit glue run --model google-bert/bert-base-uncased --data glue_data --out runs/glue

    Settings hold for all tasks (train.epochs=1), for one (rte.train.epochs=10) or for the study: glue.from_mnli=true
    starts MRPC, STS-B and RTE from the MNLI model; glue.held_back=0.1 is the last share of train that stands in for a
    dev file that is not there; glue.published=false leaves published rows out of the report.
    """
    from bertkit.studies import glue
    from bertkit.studies.results import lines

    if address is not None and executor != "ray":
        raise BertkitError("--address is that of a Ray cluster", hint="add --executor ray")
    chosen = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    results = glue.run(
        model, out, data=data, tasks=chosen, seeds=seeds, jobs=jobs, gpus=gpus, resume=resume,
        assignments=settings, quiet=quiet, say=sayer(quiet), executor=executor,
        address=address or "auto",
    )  # fmt: skip
    print(json.dumps(results.to_json()) if as_json else "\n".join([*lines(results), "", results.headline]))
    if not quiet:
        say(f"report: {out / 'report.html'}")


@app.command("submit")
def submit_glue(
    study: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `bertkit glue run` wrote.",
                                          show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The zip; else DIR/submission.zip.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Only the files of these tasks, such as rte,mrpc,ax.")] = None,
    any_size: Annotated[bool, typer.Option("--any-size", help="Take test sets of other sizes, for trials.")] = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write the zip that the GLUE server takes: bertkit glue submit runs/glue"""
    from bertkit.studies.submission import submit

    chosen = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    print(submit(study, out, tasks=chosen, any_size=any_size, say=sayer(quiet)))


@app.command("compare")
def compare_glue(
    first: Annotated[Path, typer.Argument(metavar="DIR_A", help="A study.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="DIR_B", help="Another one.", show_default=False)],
    draws: Annotated[int, typer.Option(min=100, help="Bootstrap draws.")] = 1000,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Say which of two studies is better, and how sure that is: bertkit glue compare runs/a runs/b"""
    from bertkit.studies.compare import compare, table
    from bertkit.studies.results import aligned

    found = compare(first, second, draws)
    if as_json:
        print(json.dumps([entry._asdict() for entry in found]))
        return
    shown = table(found, (str(first), str(second)))
    print("\n".join([*aligned(shown), "", shown.caption]))

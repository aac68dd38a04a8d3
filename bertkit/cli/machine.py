"""The verbs of this machine: doctor, bench."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from bertkit.cli.recipes import read_recipe
from bertkit.cli.shared import Json, Quiet, Settings, say, sayer


def doctor(
    as_json: Json = False,
    emptied: Annotated[bool, typer.Option("--empty-cache", help="Remove the texts' tokens that are kept.")] = False,
) -> None:
    """Say what this machine has: devices, precision, versions, caches, and what is missing for what."""
    from bertkit.doctor import empty_cache, examine

    if emptied:
        print(empty_cache())
        return
    report = examine()
    if as_json:
        print(json.dumps(report, indent=2))
        return
    for section, lines in report.items():
        print(section)
        for name, value in lines.items():
            print(f"  {name:18}{value}")


def bench(
    what: Annotated[str, typer.Argument(metavar="[TASK|RECIPE]", help="A task, a recipe's name, or a YAML file.",
                                        show_default=False)] = "sentiment",
    settings: Settings = (),
    model: Annotated[str | None, typer.Option("--model", "-m", help="Hub id or folder; else a tiny one.")] = None,
    train_file: Annotated[str | None, typer.Option("--train", help="Training rows; else some that come along.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the study; else next in runs/.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each variant, one after the other.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of a turn.")] = 4,
    growth: Annotated[bool, typer.Option("--growth", help="Time and memory as data grow, instead.")] = False,
    largest: Annotated[int, typer.Option(min=1, help="With --growth: most rows, most characters.")] = 1_000_000,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure speed, each switch on and off, on your machine: bertkit bench sentiment --model M --train reviews.csv

    Settings hold for all variants; each variant then puts one switch the other way. With --growth: the time of a step
    against the number of rows, memory of evaluation, and the time of one document against its length.
    """
    from bertkit.findings import Note, Table, from_json
    from bertkit.folders import next_folder
    from bertkit.studies import speed
    from bertkit.studies.base import aligned

    if "=" in what:  # the task is left out, and this is the first setting
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
    for finding in from_json(results["findings"]):
        if isinstance(finding, Table):
            print("\n".join([finding.title, *aligned(finding), ""]))
        elif isinstance(finding, Note):
            print(f"{finding.title}: {finding.text}\n")
        else:
            print("\n".join([finding.title, *aligned(speed.as_table(finding)), ""]))
    if not quiet:
        say(f"report: {folder / 'report.html'}")

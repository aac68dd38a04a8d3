"""The verbs that look at this machine: doctor, bench."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from bertkit.cli.recipes import read_recipe
from bertkit.cli.shared import Json, Quiet, Settings
from bertkit.launch import say, sayer


def doctor(
    as_json: Json = False,
    emptied: Annotated[bool, typer.Option("--empty-cache", help="Delete the cached tokens of texts.")] = False,
) -> None:
    """Show what this machine has: devices, precision, versions, caches, and optional packages."""
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
    what: Annotated[str, typer.Argument(metavar="[TASK|RECIPE]", help="A task, the name of a recipe, or a YAML file.",
                                        show_default=False)] = "sentiment",
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
    from bertkit.findings import Note, from_json
    from bertkit.folders import next_folder
    from bertkit.studies.base import aligned
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
    for finding in from_json(results["findings"]):
        if isinstance(finding, Note):
            print(f"{finding.title}: {finding.text}\n")
        else:
            print("\n".join([finding.title, *aligned(finding), ""]))
    if not quiet:
        say(f"report: {folder / 'report.html'}")

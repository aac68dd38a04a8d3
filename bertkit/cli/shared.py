"""What the verbs share: options, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

What = Annotated[
    str, typer.Argument(metavar="TASK|RECIPE", help="A task, the name of a recipe, or a YAML file.", show_default=False)
]
Settings = Annotated[
    list[str],
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings, such as train.epochs=2.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print device, model and windows, too.")]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="Folder that `bertkit train --out` wrote.", show_default=False)
]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def sayer(quiet: bool) -> Callable[[str], None]:
    """A function that prints a line on stderr, or does nothing."""
    return (lambda text: None) if quiet else say


def print_scores(metrics: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(metrics))
        return
    from bertkit.metrics.shown import describe_scores

    for split, scores in (metrics.get("splits") or {metrics["data"]: metrics}).items():
        shown = {name: value for name, value in scores.items() if value is None or isinstance(value, int | float)}
        print(f"{split}: {describe_scores(shown)}")

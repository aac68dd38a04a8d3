"""What a shell completes: recipes, settings and their values, runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from glob import escape, glob
from pathlib import Path
from typing import get_args

import typer

from bertkit.cli.recipes import read_recipe, shipped_recipes


def complete_recipe(incomplete: str) -> Iterator[tuple[str, str]]:
    """Tasks and recipes that begin like this, with what they are."""
    from bertkit.tasks.base import task_names

    for name in task_names():
        if name.startswith(incomplete):
            yield name, "task"
    for name, path in shipped_recipes().items():
        if name.startswith(incomplete):
            yield name, path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("#").strip()


def complete_setting(call: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Settings of a recipe that begin like this, or the values that one may have."""
    from bertkit.recipe import Recipe
    from bertkit.tasks.base import task_class

    fields = {name: field for name, field in Recipe.model_fields.items() if name != "task"}
    with suppress(Exception):  # a word that is no recipe has no settings of a task
        fields["task"] = task_class(str(read_recipe(call.params["what"]).task["name"]))
    for name, field in fields.items():
        section = field if isinstance(field, type) else field.annotation
        for key, inner in getattr(section, "model_fields", {"": field}).items():
            dotted = f"{name}.{key}".rstrip(".")
            known, _, value = incomplete.partition("=")
            if known == dotted and "=" in incomplete:
                choices = get_args(inner.annotation) or (("true", "false") if inner.annotation is bool else ())
                texts = [choice for choice in choices if isinstance(choice, str) and choice.startswith(value)]
                yield from ((f"{dotted}={text}", "") for text in texts)
            elif dotted.startswith(incomplete):
                yield f"{dotted}=", inner.description or ""


def complete_run(incomplete: str) -> Iterator[str]:
    """Runs and studies in `runs/`, and folders on the way to others."""
    paths = {
        *map(Path, glob(f"{escape(os.path.expanduser(incomplete))}*")),
        *(Path().glob("runs/*") if "runs/".startswith(incomplete) else ()),
    }
    for path in sorted(path for path in paths if path.is_dir()):
        if any((path / name).exists() for name in ("recipe.yaml", "study.json")):
            yield str(path)
        elif str(path).startswith(incomplete) and path != Path("runs"):
            yield f"{path}/"


def complete_run_or_setting(call: typer.Context, incomplete: str) -> Iterator[str | tuple[str, str]]:
    """Runs, and settings of a recipe."""
    yield from complete_run(incomplete)
    yield from complete_setting(call, incomplete)

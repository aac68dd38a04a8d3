"""The recipe that a word of a command line stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import bertkit
from bertkit.errors import BertkitError, did_you_mean

if TYPE_CHECKING:
    from bertkit.recipe import Recipe

SUFFIXES = (".yaml", ".yml")


def read_recipe(what: str, settings: Sequence[str] = (), flags: Mapping[str, str | None] | None = None) -> Recipe:
    """The recipe that a task name, a recipe name or a file stands for.

    Args:
        settings: `key=value`; these win over everything else.
        flags: dotted key -> value of an option; None where the option was not given.
    """
    from bertkit.config import put, read_yaml
    from bertkit.recipe import load_recipe
    from bertkit.tasks.base import task_names

    known, shipped = task_names(), shipped_recipes()
    is_module = what not in shipped and "." in what and all(part.isidentifier() for part in what.split("."))
    if what in known or (is_module and not what.endswith(SUFFIXES)):
        tree = {"task": {"name": what}}
    elif "/" in what or what.endswith(SUFFIXES) or what in shipped:
        tree = read_yaml(recipe_path(what))
    else:
        raise BertkitError(f"there is no task or recipe {what!r}", hint=did_you_mean(what, [*known, *shipped]))
    for dotted, value in (flags or {}).items():
        if value is not None:
            tree = put(tree, dotted, value)
    return load_recipe(tree, settings)


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes, which lie inside an installed package or beside it in a checkout."""
    here = Path(bertkit.__file__).parent
    folder = next((path for path in (here / "recipes", here.parent / "recipes") if path.is_dir()), here)
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    return {name: path for name, path in found.items() if not name.startswith("launch/")}  # accelerate's own


def recipe_path(what: str) -> Path:
    path, shipped = Path(what), shipped_recipes()
    if path.suffix in SUFFIXES or path.is_file():
        return path
    if what not in shipped:
        raise BertkitError(f"there is no recipe {what!r}", hint=did_you_mean(what, shipped))
    return shipped[what]

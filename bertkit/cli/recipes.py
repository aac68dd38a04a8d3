"""What comes with bertkit: its tasks and its recipes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import bertkit
from bertkit.cli.shared import Settings
from bertkit.errors import BertkitError, did_you_mean

if TYPE_CHECKING:
    from bertkit.recipe import Recipe

SUFFIXES = (".yaml", ".yml")

app = typer.Typer(help="List, show, check and copy recipes.", no_args_is_help=True)


def tasks() -> None:
    """List the tasks."""
    import ast

    from bertkit.tasks.base import task_names

    for name in task_names():
        source = (Path(bertkit.__file__).parent / "tasks" / f"{name}.py").read_text(encoding="utf-8")
        print(f"{name:16}{(ast.get_docstring(ast.parse(source)) or '').splitlines()[0]}")


@app.command("list")
def list_recipes() -> None:
    """List the recipes that come with bertkit."""
    for name, path in _shipped().items():
        first = path.read_text(encoding="utf-8").splitlines()[0]
        print(f"{name:24}{first.removeprefix('#').strip()}")


@app.command("show")
def show_recipe(
    what: Annotated[str, typer.Argument(metavar="TASK|RECIPE", show_default=False)], settings: Settings = ()
) -> None:
    """Print a recipe with all defaults filled in."""
    from bertkit.config import dump_yaml
    from bertkit.tasks.base import make_task

    recipe = read_recipe(what, settings)
    print(dump_yaml({**recipe.tree(), "task": make_task(recipe.task).model_dump(mode="json")}), end="")


@app.command("check")
def check_recipe(what: Annotated[list[str], typer.Argument(metavar="RECIPE...", show_default=False)]) -> None:
    """Check the keys, values and task of recipes without running them."""
    from bertkit.tasks.base import make_task

    for name in what:
        make_task(read_recipe(name).task)
        print(f"{name}: fine")


@app.command("copy")
def copy_recipe(
    what: Annotated[str, typer.Argument(metavar="RECIPE", show_default=False)],
    to: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
) -> None:
    """Copy a recipe to a file that you can edit."""
    if to.exists():
        raise BertkitError(f"{to} already exists", hint="give another name")
    from bertkit.disk import write_atomically

    write_atomically(to, _recipe_path(what).read_text(encoding="utf-8"))
    print(to)


@app.command("schema")
def recipe_schema() -> None:
    """Print the JSON schema of recipes; editors complete and check files with it."""
    from bertkit.recipe import Recipe
    from bertkit.tasks.base import task_class, task_names

    schema = Recipe.model_json_schema()
    tasks = {name: task_class(name).model_json_schema() for name in task_names()}
    for name, task in tasks.items():
        task["properties"]["name"] = {"const": name}
        task["required"] = ["name"]
    schema["properties"]["task"] = {"anyOf": [*tasks.values(), {"type": "string", "enum": list(tasks)}]}
    print(json.dumps(schema, indent=2))


def read_recipe(what: str, settings: Sequence[str] = (), flags: Mapping[str, str | None] | None = None) -> Recipe:
    """The recipe that a task name, a recipe name or a file stands for.

    Args:
        settings: `key=value`; these win over everything else.
        flags: dotted key -> value of an option; None where the option was not given.
    """
    from bertkit.config import put, read_yaml
    from bertkit.recipe import load_recipe
    from bertkit.tasks.base import task_names

    known, shipped = task_names(), _shipped()
    is_module = what not in shipped and "." in what and all(part.isidentifier() for part in what.split("."))
    if what in known or (is_module and not what.endswith(SUFFIXES)):
        tree = {"task": {"name": what}}
    elif "/" in what or what.endswith(SUFFIXES) or what in shipped:
        tree = read_yaml(_recipe_path(what))
    else:
        raise BertkitError(f"there is no task or recipe {what!r}", hint=did_you_mean(what, [*known, *shipped]))
    for dotted, value in (flags or {}).items():
        if value is not None:
            tree = put(tree, dotted, value)
    return load_recipe(tree, settings)


def _shipped() -> dict[str, Path]:
    """Name -> file of the recipes, which lie inside an installed package or beside it in a checkout."""
    here = Path(bertkit.__file__).parent
    folder = next((path for path in (here / "recipes", here.parent / "recipes") if path.is_dir()), here)
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    return {name: path for name, path in found.items() if not name.startswith("launch/")}  # accelerate's own


def _recipe_path(what: str) -> Path:
    path, shipped = Path(what), _shipped()
    if path.suffix in SUFFIXES or path.is_file():
        return path
    if what not in shipped:
        raise BertkitError(f"there is no recipe {what!r}", hint=did_you_mean(what, shipped))
    return shipped[what]

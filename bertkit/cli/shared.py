"""What the verbs share: their options, those that start a verb in several processes, and how a recipe is found."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, get_type_hints

import typer

import bertkit
from bertkit.errors import BertkitError, did_you_mean
from bertkit.launch import follow_parent, is_rank, restarts, say
from bertkit.launch.plan import Asked, plan_launch, without_options
from bertkit.launch.start import run_launch

if TYPE_CHECKING:
    from bertkit.recipe import Recipe

SUFFIXES = (".yaml", ".yml")
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


class Launcher(NamedTuple):
    """The launch options of a command, and its whole command line."""

    asked: Asked
    arguments: Sequence[str]

    def runs(self, quiet: bool, takes_all: bool = False, extra: Sequence[str] = ()) -> bool:
        """Run the command in the processes that were asked for; false where this process does the work itself.

        Args:
            takes_all: use all GPUs when no number is given.
            extra: arguments that the processes need beyond the command line.
        """
        if is_rank():
            return False
        command = [*without_options(self.arguments), *extra]
        launch = plan_launch(self.asked, takes_all)
        if self.asked.dry_run:
            print(launch.line(command))
            return True
        if not launch.options:
            os.environ.update(launch.environment)
            return False
        if not quiet:
            say(launch.summary)
        if code := run_launch(launch, command):
            raise typer.Exit(code)
        return True


def launchable(command: Callable) -> Callable:
    """Add the options of `Asked`, which start a command in several processes; it gets them as `launcher`."""

    kinds = get_type_hints(Asked, include_extras=True)
    added = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=Asked._field_defaults[name],
            annotation=Annotated[kind.__origin__, typer.Option(f"--{name.replace('_', '-')}", **kind.__metadata__[0])],
        )
        for name, kind in kinds.items()
    ]
    own = [entry for entry in signature(command, eval_str=True).parameters.values() if entry.name != "launcher"]

    @wraps(command)
    def run(call: typer.Context, **given: object) -> None:
        follow_parent()
        if restarts():
            from bertkit.launch.last_words import check_restart

            check_restart()
        asked = Asked(**{name: given.pop(name) for name in kinds})
        command(**given, launcher=Launcher(asked, call.find_root().obj))

    call = Parameter("call", Parameter.KEYWORD_ONLY, annotation=typer.Context)
    run.__signature__ = Signature([call, *(entry.replace(kind=Parameter.KEYWORD_ONLY) for entry in own), *added])
    run.__annotations__ = {}  # typer reads the signature above; these would be the wrapped command's
    return run


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

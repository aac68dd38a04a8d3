"""What the verbs share: their options, those that start a verb in several processes, and how a recipe is found."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, getdoc, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, get_type_hints

import typer

from bertkit.cli.complete import complete_recipe, complete_run, complete_run_or_setting, complete_setting
from bertkit.launch import follow_parent, is_rank, restarts, say
from bertkit.launch.plan import Asked, plan_launch, without_options
from bertkit.launch.start import run_launch

if TYPE_CHECKING:
    pass


class Verbs(typer.Typer):
    """Commands whose docstrings begin with `what it does: bertkit how to call it`."""

    def command(self, name: str | None = None, panel: str | None = None) -> Callable[[Callable], Callable]:
        """Add a command; `panel` is the group that its help stands in."""

        def add(verb: Callable) -> Callable:
            first, _, rest = getdoc(verb).partition("\n")
            what, _, example = first.partition(": bertkit ")
            lines = re.sub(r"(?<!\n)\n(?!\n)", " ", rest.strip())  # a paragraph is one line
            help_ = f"{what.rstrip('.')}.\n\n{lines}".replace("[", r"\[")
            epilog = f"Example: bertkit {example}".replace("[", r"\[") if example else None
            return super(Verbs, self).command(name, help=help_, epilog=epilog, rich_help_panel=panel)(verb)

        return add


What = Annotated[
    str,
    typer.Argument(
        metavar="TASK|RECIPE", help="A task, the name of a recipe, or a YAML file.", show_default=False,
        autocompletion=complete_recipe,
    ),
]  # fmt: skip
Settings = Annotated[
    list[str],
    typer.Argument(metavar="KEY=VALUE...", help="Settings, such as train.epochs=2.", show_default=False,
                   autocompletion=complete_setting),
]  # fmt: skip
PRINTED, SEVERAL = "Output", "Several processes"  # panels of options
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.", rich_help_panel=PRINTED)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.", rich_help_panel=PRINTED)]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Print device, model and windows, too.", rich_help_panel=PRINTED),
]
RunFolder = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="Folder that `bertkit train --out` wrote.", show_default=False,
                   autocompletion=complete_run),
]  # fmt: skip
# runs that answer together stand before the settings; typer has one list of arguments
More = Annotated[
    list[str],
    typer.Argument(metavar="RUN|KEY=VALUE", help="Runs to answer together with; and settings.",
                   show_default=False, autocompletion=complete_run_or_setting),
]  # fmt: skip


def split_more(run: Path, more: Sequence[str]) -> tuple[Path | list[str], list[str]]:
    """The runs that answer, and the settings; a word without `=` is a run."""
    others, settings = [word for word in more if "=" not in word], [word for word in more if "=" in word]
    return [str(run), *others] if others else run, settings


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
            annotation=Annotated[
                kind.__origin__,
                typer.Option(
                    f"--{name.replace('_', '-')}", rich_help_panel="Several processes", **kind.__metadata__[0]
                ),
            ],
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

"""Verbs that can run in several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from bertkit.launch.plan import Asked


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
        from bertkit.launch import is_rank, say
        from bertkit.launch.plan import plan_launch, without_options
        from bertkit.launch.start import run_launch

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
    """Add the options that start a command in several processes; the command gets them as `launcher`."""

    def options(
        gpus: Annotated[int | None, typer.Option(min=1, help="GPUs to use, one process each.")] = None,
        cpus: Annotated[int | None, typer.Option(min=1, help="CPU processes to use; they share the cores.")] = None,
        hosts: Annotated[int | None, typer.Option(min=1, help="Hosts that run this same command.")] = None,
        host_rank: Annotated[int | None, typer.Option(min=0, help="Number of this host, from 0 on.")] = None,
        main_address: Annotated[str | None, typer.Option(metavar="ADDRESS:PORT", help="Where host 0 listens.")] = None,
        tpu: Annotated[bool, typer.Option("--tpu", help="Run on the TPU of this host.")] = False,
        launch: Annotated[Path | None, typer.Option(metavar="FILE", help="accelerate's YAML file to use.")] = None,
        max_restarts: Annotated[int, typer.Option(min=0, help="Restarts after a process dies.")] = 0,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command that would run.")] = False,
    ) -> None:  # fmt: skip
        """The options; never called."""

    known = signature(options, eval_str=True).parameters
    own = [entry for name, entry in signature(command, eval_str=True).parameters.items() if name != "launcher"]

    @wraps(command)
    def run(call: typer.Context, **given: object) -> None:
        from bertkit.launch import follow_parent, restarts
        from bertkit.launch.plan import Asked

        follow_parent()
        if restarts():
            from bertkit.launch.last_words import check_restart

            check_restart()
        asked = Asked(**{name: given.pop(name) for name in known})
        command(**given, launcher=Launcher(asked, call.find_root().obj))

    call = Parameter("call", Parameter.KEYWORD_ONLY, annotation=typer.Context)
    run.__signature__ = signature(command).replace(
        parameters=[entry.replace(kind=Parameter.KEYWORD_ONLY) for entry in (*own, *known.values())] + [call]
    )
    run.__annotations__ = {}  # typer reads the signature above; these would be the wrapped command's
    return run

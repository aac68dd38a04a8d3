"""Verbs that several processes can share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from bertkit.cli.shared import say

if TYPE_CHECKING:
    from bertkit.launch import Asked


class Launcher(NamedTuple):
    """The launch options of a command, and the command line that they were on."""

    asked: Asked
    arguments: Sequence[str]

    def runs(self, quiet: bool, takes_all: bool = False, extra: Sequence[str] = ()) -> bool:
        """Run the command in the processes that were asked for; false where this one is to do the work.

        Args:
            takes_all: all GPUs are used when nothing is asked for.
            extra: arguments that the processes need beside those of the command line.
        """
        from bertkit.launch import is_rank, plan_launch, run_launch, without_options

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
    """Give a command the options that start it in several processes; it gets them as `launcher`."""

    def options(
        gpus: Annotated[int | None, typer.Option(min=1, help="Processes, one a GPU.")] = None,
        cpus: Annotated[int | None, typer.Option(min=1, help="Processes on the CPU, which share its cores.")] = None,
        hosts: Annotated[int | None, typer.Option(min=1, help="Hosts on which the same command is started.")] = None,
        host_rank: Annotated[int | None, typer.Option(min=0, help="Number of this host, from 0.")] = None,
        main_address: Annotated[str | None, typer.Option(metavar="A:P", help="Where host 0 is reached.")] = None,
        tpu: Annotated[bool, typer.Option("--tpu", help="Run on the TPU of this host.")] = False,
        launch: Annotated[Path | None, typer.Option(metavar="FILE", help="accelerate's YAML file instead.")] = None,
        max_restarts: Annotated[int, typer.Option(min=0, help="Go on so often when a process dies.")] = 0,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run, and end.")] = False,
    ) -> None:  # fmt: skip
        """The options; never called."""

    known = signature(options, eval_str=True).parameters
    own = [entry for name, entry in signature(command, eval_str=True).parameters.items() if name != "launcher"]

    @wraps(command)
    def run(call: typer.Context, **given: object) -> None:
        from bertkit.launch import Asked, check_restart, follow_parent

        follow_parent()
        check_restart()
        asked = Asked(**{name: given.pop(name) for name in known})
        command(**given, launcher=Launcher(asked, call.find_root().obj))

    call = Parameter("call", Parameter.KEYWORD_ONLY, annotation=typer.Context)
    run.__signature__ = signature(command).replace(
        parameters=[entry.replace(kind=Parameter.KEYWORD_ONLY) for entry in (*own, *known.values())] + [call]
    )
    run.__annotations__ = {}  # typer reads the signature, and would look for those of the command here
    return run

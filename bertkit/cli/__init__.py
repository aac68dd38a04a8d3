"""The command line: each verb imports what it needs, and this file alone prints errors and exits."""

from __future__ import annotations

import os
import signal
import sys
import warnings

import typer

from bertkit.cli import glue, machine, recipes, runs
from bertkit.cli.shared import say
from bertkit.errors import BertkitError, Interrupted, one_line

app = typer.Typer(
    name="bertkit",
    help="Fine-tune a pretrained BERT on your own rows: sentiment, NLI, part-of-speech tags, question answering.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
VERBS = (runs.train, runs.evaluate, runs.predict, runs.report, runs.watch, machine.bench, recipes.tasks, machine.doctor)
for verb in VERBS:
    app.command()(verb)
app.add_typer(recipes.app, name="recipe")
app.add_typer(glue.app, name="glue")


def main() -> None:
    """Run the command line; exit 0 done, 1 a bug, 2 the user can mend it, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8")  # as JSON lines are, whatever the terminal says
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    sys.path.append(os.getcwd())  # where the user's own task may lie; last, so that it shadows nothing
    from bertkit.launch import is_rank

    if not is_rank():
        # outside the training loop, which saves a checkpoint first, SIGTERM ends a command as Ctrl-C does; one of
        # several processes just ends, because the launcher that sent the signal knows why
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit((_as_rank if is_rank() else _guarded)(sys.argv[1:]))


def _as_rank(arguments: list[str]) -> int:
    """Run as one of several processes: only the first one speaks, and the launcher reports a failure once."""
    from bertkit.launch import is_first, leave_trace

    if not is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 for the life of this process
        warnings.simplefilter("ignore")
    try:
        code = _guarded(arguments)
    except Exception as error:
        if not leave_trace(error):
            raise
        code = 1
    if code == 0:
        return 0
    # not sys.exit: closing a broken process group may wait for processes that are gone
    sys.stdout.flush()
    os._exit(code)


def _guarded(arguments: list[str]) -> int:
    try:
        code = typer.main.get_command(app)(arguments, prog_name="bertkit", standalone_mode=False, obj=arguments) or 0
        sys.stdout.flush()
        return _fail("interrupted", "", code) if code == 130 else code  # typer's answer to a KeyboardInterrupt
    except BertkitError as error:
        return _fail(error.message, error.hint, 2)
    except Interrupted as error:
        return _fail(error.message, error.hint, 130)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", "", 130)
    except (BrokenPipeError, SystemExit) as error:
        # the reader of our output has gone, as in `| head`; within a command typer raises SystemExit instead
        if not isinstance(error.__context__ if isinstance(error, SystemExit) else error, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # takes what is still buffered
        return 0
    except Exception as error:
        # a usage error of click, whose module differs between versions of typer
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        if message.startswith("Usage:"):  # a command without its subcommand shows its help
            say(message)
            return 2
        return _fail(one_line(message), "see `bertkit --help`, and `bertkit COMMAND --help`", 2)


def _fail(message: str, hint: str, code: int) -> int:
    from bertkit.launch import leave_word

    if leave_word(message, hint, code):
        return code
    say(f"error: {message}")
    if hint:
        say(f"hint: {hint}")
    return code

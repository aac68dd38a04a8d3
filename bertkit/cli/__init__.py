"""The command line: each verb imports what it needs, and this file alone prints errors and exits."""

import os
import signal
import sys
import warnings

import typer

from bertkit.cli import exports, inventory, runs, serving, studies
from bertkit.cli.shared import Verbs
from bertkit.errors import BertkitError, Interrupted
from bertkit.launch import is_rank, leave, say

GREETING = """\
Fine-tune a pretrained BERT on your own rows. To begin, with reviews that come along:

  bertkit train sentiment/reviews --out runs/first
  bertkit predict runs/first --text "I would go again"
  bertkit report runs/first

`bertkit --help` lists all commands, `bertkit COMMAND --help` explains one.
`bertkit --install-completion` lets your shell complete them."""

app = Verbs(
    name="bertkit",
    help="Fine-tune a pretrained BERT on your own rows: sentiment, NLI, part-of-speech tags, named entities, question "
    "answering.",
    pretty_exceptions_enable=False, rich_markup_mode="rich", invoke_without_command=True,
)  # fmt: skip
PANELS = {
    "Learn and answer": (runs.train, runs.evaluate, runs.predict, serving.serve, runs.pretrain),
    "Look": (studies.check, runs.watch, runs.report, studies.bench),
    "Share": (exports.export, exports.push, exports.merge),
    "What there is": (inventory.tasks, inventory.doctor),
}
for panel, verbs in PANELS.items():
    for verb in verbs:
        app.command(panel=panel)(verb)
app.add_typer(inventory.recipe, name="recipe", rich_help_panel="What there is")
app.add_typer(studies.study, name="study", rich_help_panel="Studies")
app.add_typer(studies.glue, name="glue", rich_help_panel="Studies")


@app.callback()
def greet(call: typer.Context) -> None:
    if call.invoked_subcommand is None:
        print(GREETING)


def main() -> None:
    """Run the command line; exit 0 done, 1 a bug, 2 the user can mend it, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8")  # as JSON lines are, whatever the terminal says
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    sys.path.append(os.getcwd())  # where the user's own task may lie; last, so that it shadows nothing
    if not is_rank():
        # outside the training loop, which saves a checkpoint first, SIGTERM ends a command as Ctrl-C does; one of
        # several processes just ends, because the launcher that sent the signal knows why
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    leave(_guarded(sys.argv[1:]))


def _guarded(arguments: list[str]) -> int:
    """Run a command; what the user can mend is said here, or by the launcher for several processes."""
    try:
        if not is_rank():
            return _run(arguments)
        from bertkit.launch.last_words import recorded

        return recorded(lambda: _run(arguments))
    except (BertkitError, Interrupted) as error:
        for line in error.lines():
            say(line)
        return error.exit_code


def _run(arguments: list[str]) -> int:
    try:
        code = typer.main.get_command(app)(arguments, prog_name="bertkit", standalone_mode=False, obj=arguments) or 0
        sys.stdout.flush()
        if code != 130:
            return code
    except (KeyboardInterrupt, typer.Abort):
        pass
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
        if not message:  # a command without its subcommand, which has shown its help
            return 2
        raise BertkitError(message, hint="see `bertkit --help`, and `bertkit COMMAND --help`") from None
    raise Interrupted("interrupted")

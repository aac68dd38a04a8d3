"""Who is told how the run goes: a progress bar on a terminal, plain lines in a log, trackers by name."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from accelerate import Accelerator

from bertkit.errors import BertkitError, did_you_mean
from bertkit.launch import KERNEL, SPAWNED, say
from bertkit.machine import in_notebook
from bertkit.pages.notebook import Cell
from bertkit.recipe import LogConfig
from bertkit.train.loop import Step
from bertkit.watching import sparkline


class Progress:
    """Shows nothing: on other ranks, and to callers that asked for quiet."""

    def __init__(self, total: int = 0, start: int = 0) -> None:
        self.total, self._first = total, start
        self._began, self._tokens = time.monotonic(), 0

    def after(self, steps: Sequence[Step]) -> tuple[str, float]:
        """The loss of these steps and the useful tokens a second of all so far, in words; and the seconds left."""
        self._tokens += sum(step.tokens for step in steps)
        done, seconds = steps[-1].step, max(time.monotonic() - self._began, 1e-9)
        loss = sum(step.loss for step in steps) / len(steps)
        left = seconds / max(1, done - self._first) * (self.total - done)
        return f"loss {loss:.4f}  {self._tokens / seconds:,.0f} tokens/s", left

    def steps(self, steps: Sequence[Step]) -> None:
        """Steps were done."""

    def say(self, text: str) -> None:
        """Something worth a line happened."""

    def close(self) -> None:
        """The run is over."""


class Lines(Progress):
    """Plain lines on stderr, for logs; at most one every few seconds."""

    seconds_between = 5.0
    last = 0.0  # time of the last one

    def steps(self, steps: Sequence[Step]) -> None:
        speed, seconds_left = self.after(steps)
        now = time.monotonic()
        if now - self.last >= self.seconds_between or steps[-1].step == self.total:
            self.last = now
            self.show(f"step {steps[-1].step}/{self.total}  {speed}  {seconds_left:.0f} s left")

    def show(self, text: str) -> None:
        """Show how far the run is."""
        self.say(text)

    say = staticmethod(say)


class OneLine(Lines):
    """One line that is written over, for the processes that a notebook starts."""

    seconds_between = 1.0
    width = 0

    def show(self, text: str) -> None:
        print(text.ljust(self.width), end="\r", file=sys.stderr, flush=True)
        self.width = len(text)

    def say(self, text: str) -> None:
        super().say(text.ljust(self.width))
        self.width = 0

    def close(self) -> None:
        if self.width:
            print(file=sys.stderr, flush=True)


class Live(Lines):
    """One element of a notebook that is written over: a bar, the losses, and what was said last."""

    seconds_between = 0.5
    most = 6  # lines

    def __init__(self, total: int, start: int = 0) -> None:
        super().__init__(total, start)
        self._cell, self._text, self._share, self._losses, self._said = Cell(), "", start / max(total, 1), (), ()

    def steps(self, steps: Sequence[Step]) -> None:
        self._losses += tuple(step.loss for step in steps)
        self._share = steps[-1].step / self.total
        super().steps(steps)

    def show(self, text: str) -> None:
        self._text = text
        losses = {"losses": sparkline(self._losses)} if self._losses else {}
        self._cell.show([("training", self._share, text)], losses, self._said)

    def say(self, text: str) -> None:
        self._said = (*self._said, text)[-self.most :]
        self.show(self._text)


class Bar(Progress):
    """A progress bar on stderr with loss, tokens a second and time left."""

    def __init__(self, total: int, start: int = 0) -> None:
        from rich import progress
        from rich.console import Console

        super().__init__(total, start)
        self._bar = progress.Progress(
            progress.TextColumn("training"), progress.BarColumn(), progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[info]}"), progress.TimeRemainingColumn(),
            console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("training", total=total, completed=start, info="")
        self._bar.start()

    def steps(self, steps: Sequence[Step]) -> None:
        self._bar.update(self._task, completed=steps[-1].step, info=self.after(steps)[0])

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._bar.stop()


def make_progress(total: int, start: int = 0, quiet: bool = False) -> Progress:
    """A bar on a terminal or in a notebook, one line in processes that a notebook starts, lines elsewhere."""
    if quiet:
        return Progress()
    if in_notebook():
        return Live(total, start)
    if SPAWNED in os.environ or KERNEL in os.environ:
        return OneLine(total, start)
    return Bar(total, start) if sys.stderr.isatty() else Lines(total, start)


@contextmanager
def tracked(accelerator: Accelerator, log: LogConfig, settings: Mapping[str, object]) -> Iterator[None]:
    """Let the trackers that a recipe names (tensorboard, wandb, mlflow, trackio, ...) listen while a block runs."""
    if log.trackers and accelerator.is_main_process:
        plain = {
            key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in settings.items()
        }
        accelerator.init_trackers(log.project, config=plain)
    try:
        yield
    finally:
        # not `end_training`, which takes the processes apart as well: they still score, and write what they found
        for tracker in accelerator.trackers:
            tracker.finish()


def check_trackers(names: Sequence[str]) -> Sequence[str]:
    """The tracker names, refused before the run starts when one is unknown or missing."""
    if not names:
        return names
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = [str(getattr(kind, "value", kind)) for kind in LOGGER_TYPE_TO_CLASS]
    installed = {str(getattr(kind, "value", kind)) for kind in get_available_trackers()}
    for name in names:
        if name not in known:
            raise BertkitError(f"log.trackers: unknown tracker {name!r}", hint=did_you_mean(name, known))
        if name not in installed:
            raise BertkitError(f"log.trackers: {name} is not installed", hint=f"pip install {name}")
    return names

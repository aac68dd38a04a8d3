"""What a person sees of the jobs of a study: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertkit.studies.runner.jobs import Job

SETTLING = 15.0  # seconds before an estimate is worth a look: processes start first
Describe = Callable[["Job"], str]  # the scores of a job that is done, in a few words


class Board:
    """Shows nothing; the other boards show what happens.

    Attributes:
        seconds_between: two looks at the histories of the jobs.
    """

    seconds_between = 60.0

    def __init__(self, describe: Describe = lambda job: "") -> None:
        self.describe = describe
        self._looked = 0.0
        self._pace: Pace | None = None

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def show(self, jobs: Sequence[Job]) -> None:
        """Show the jobs as they are now. It is called often, and reads their files only when it shows something."""

    def say(self, text: str) -> None:
        """Show one line about what has just happened."""

    def _left(self, jobs: Sequence[Job], is_urgent: bool = False) -> str | None:
        """The time that is left, from a look at every history; None when it is too soon for another look."""
        if self._pace is not None and not is_urgent and time.monotonic() - self._looked < self.seconds_between:
            return None
        self._looked = time.monotonic()
        for job in jobs:
            job.look()
        self._pace = self._pace or Pace(jobs)
        return self._pace.left(jobs)


class Lines(Board):
    """Plain lines on stderr: every change, and once a minute how far the jobs are."""

    def show(self, jobs: Sequence[Job]) -> None:
        is_first = self._pace is None
        left = self._left(jobs)
        if left is not None and not is_first:
            running = ", ".join(f"{job.name} {job.share:.0%}" for job in jobs if job.state == "running")
            done = sum(job.is_over for job in jobs)
            self.say(f"{done} of {len(jobs)} jobs are over; running: {running or 'none'}; {left}")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Live(Board):
    """A table on the terminal that is kept up to date; it says everything, so that no lines are needed."""

    seconds_between = 0.5

    def __init__(self, describe: Describe) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        super().__init__(describe)
        self._live = RichLive(console=Console(stderr=True), auto_refresh=False)

    def __enter__(self) -> Live:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, jobs: Sequence[Job]) -> None:
        left = self._left(jobs, is_urgent=all(job.is_over for job in jobs))
        if left is not None:
            self._live.update(self._table(jobs, left), refresh=True)

    def _table(self, jobs: Sequence[Job], left: str) -> object:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE, caption=left, caption_justify="left")
        for name in ("job", "state", "done", "loss", "result"):
            table.add_column(name, justify="right" if name in ("done", "loss") else "left")
        styles = {"running": "bold", "done": "green", "failed": "red", "waiting": "dim"}
        for job in jobs:
            is_running = job.state == "running"
            loss = f"{job.loss:.3f}" if is_running and job.loss is not None else ""
            result = self.describe(job) if job.state == "done" else job.note
            share = f"{job.share:.0%}" if is_running else ""
            table.add_row(job.name, job.state, share, loss, Text(result), style=styles[job.state])
        return table


def make_board(describe: Describe, quiet: bool = False) -> Board:
    """A live table on a terminal, lines elsewhere."""
    if quiet:
        return Board(describe)
    return Live(describe) if sys.stderr.isatty() else Lines(describe)


class Pace:
    """How long the jobs still take, judged by what was done since this was made, as of the last looks at them."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._began, self._before = time.monotonic(), self._done(jobs)

    def left(self, jobs: Sequence[Job]) -> str:
        """An estimate in words: the work left on all jobs over the work done a second."""
        done = self._done(jobs)
        left = sum(job.cost * (1 - job.share) for job in jobs if not job.is_over)
        if not left:
            return "nothing is left"
        seconds = time.monotonic() - self._began
        if seconds < SETTLING or done <= self._before:
            return "time left: not known yet"
        seconds *= left / (done - self._before)
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"

    @staticmethod
    def _done(jobs: Sequence[Job]) -> float:
        return sum(job.cost * job.share for job in jobs if job.state != "failed")

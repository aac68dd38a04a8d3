"""What a person sees of the jobs of a study: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from bertkit.launch import KERNEL, say
from bertkit.machine import in_notebook
from bertkit.pages.notebook import Cell
from bertkit.watching import duration

if TYPE_CHECKING:
    from bertkit.studies.runner.jobs import Job

SETTLING = 15.0  # seconds before an estimate is worth a look: processes start first


class Board:
    """Shows nothing; the other boards show what happens."""

    seconds_between = 60.0  # two looks at the histories of the jobs

    def __init__(self, describe: Callable[[Job], str] = lambda job: "") -> None:
        self.describe = describe  # the scores of a job that is done, in a few words
        self._looked = 0.0
        self._first: tuple[float, float] | None = None  # when the first look was, and what was done by then

    def show(self, jobs: Sequence[Job]) -> None:
        """Show the jobs as they are now. It is called often, and reads their files only when it shows something."""

    def say(self, text: str) -> None:
        """Show one line about what has just happened."""

    def close(self) -> None:
        """The jobs are over."""

    def left(self, jobs: Sequence[Job], is_urgent: bool = False) -> str | None:
        """The time that the jobs still take, in words; None when it is too soon for another look at their histories.

        It is the work that is left on all of them, at the pace since the first look.
        """
        now = time.monotonic()
        if self._first is not None and not is_urgent and now - self._looked < self.seconds_between:
            return None
        self._looked = now
        for job in jobs:
            job.look()
        done = sum(job.cost * job.share for job in jobs)
        self._first = began, before = self._first or (now, done)
        left = sum(job.cost * (1 - job.share) for job in jobs if not job.is_over)
        if not left:
            return "nothing is left"
        if now - began < SETTLING or done <= before:
            return "time left: not known yet"
        return f"about {duration((now - began) * left / (done - before))} left"


class Lines(Board):
    """Plain lines on stderr: every change, and once a minute how far the jobs are."""

    def show(self, jobs: Sequence[Job]) -> None:
        is_first = self._first is None
        left = self.left(jobs)
        if left is not None and not is_first:
            running = ", ".join(f"{job.name} {job.share:.0%}" for job in jobs if job.state == "running")
            done = sum(job.is_over for job in jobs)
            self.say(f"{done} of {len(jobs)} jobs are over; running: {running or 'none'}; {left}")

    say = staticmethod(say)


class Live(Board):
    """A table on the terminal that is kept up to date; it says everything, so that no lines are needed."""

    seconds_between = 0.5

    def __init__(self, describe: Callable[[Job], str]) -> None:
        super().__init__(describe)
        self._live = RichLive(console=Console(stderr=True), auto_refresh=False)

    def show(self, jobs: Sequence[Job]) -> None:
        left = self.left(jobs, is_urgent=all(job.is_over for job in jobs))
        if left is not None:
            self._live.start()
            self._live.update(self._table(jobs, left), refresh=True)

    def close(self) -> None:
        self._live.stop()

    def _table(self, jobs: Sequence[Job], left: str) -> Table:
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


class Cells(Board):
    """The same table in a notebook, with a bar for each job."""

    seconds_between = 1.0

    def __init__(self, describe: Callable[[Job], str]) -> None:
        Board.__init__(self, describe)
        self._cell = Cell()

    def show(self, jobs: Sequence[Job]) -> None:
        left = self.left(jobs, is_urgent=all(job.is_over for job in jobs))
        if left is not None:
            bars = [
                (job.name, job.share, self.describe(job) if job.state == "done" else job.note or job.state)
                for job in jobs
            ]
            self._cell.show(bars, {}, [left])


def make_board(describe: Callable[[Job], str], quiet: bool = False) -> Board:
    """A live table on a terminal or in a notebook, lines elsewhere."""
    if quiet:
        return Board(describe)
    if in_notebook():
        return Cells(describe)
    return Live(describe) if sys.stderr.isatty() and KERNEL not in os.environ else Lines(describe)

"""Who is told how a study goes: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bertkit.studies.jobs import Job

SETTLING = 15.0  # seconds before an estimate is worth a look: processes start first
Describe = Callable[["Job"], str]


class Board(Protocol):
    """Shows the jobs of a study to a person."""

    describe: Describe  # the scores of a job that is done, in a few words

    def __enter__(self) -> Board: ...

    def __exit__(self, *error: object) -> None: ...

    def show(self, jobs: Sequence[Job]) -> None:
        """The jobs as they are now; called often."""

    def say(self, text: str) -> None:
        """Something worth a line happened."""


class Silent:
    """Shows nothing."""

    def __init__(self, describe: Describe) -> None:
        self.describe = describe

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def show(self, jobs: Sequence[Job]) -> None:
        return None

    def say(self, text: str) -> None:
        return None


class Lines(Silent):
    """Plain lines on stderr: every change, and once a minute how far it is."""

    seconds_between = 60.0

    def __init__(self, describe: Describe) -> None:
        super().__init__(describe)
        self._last = time.monotonic()
        self._pace = Pace()

    def show(self, jobs: Sequence[Job]) -> None:
        left = self._pace.left(jobs)
        if time.monotonic() - self._last >= self.seconds_between:
            self._last = time.monotonic()
            running = ", ".join(f"{job.name} {job.share():.0%}" for job in jobs if job.state == "running")
            done = sum(job.is_over for job in jobs)
            self.say(f"{done} of {len(jobs)} jobs are over; running: {running or 'none'}; {left}")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Live(Silent):
    """A table that is kept up to date on the terminal."""

    def __init__(self, describe: Describe) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        super().__init__(describe)
        self._live = RichLive(console=Console(stderr=True), auto_refresh=False)
        self._last = 0.0
        self._pace = Pace()

    def __enter__(self) -> Live:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, jobs: Sequence[Job]) -> None:
        if time.monotonic() - self._last < 0.5 and not all(job.is_over for job in jobs):
            return
        self._last = time.monotonic()
        self._live.update(self._table(jobs), refresh=True)

    def _table(self, jobs: Sequence[Job]) -> object:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE, caption=self._pace.left(jobs), caption_justify="left")
        for name in ("job", "state", "done", "loss", "result"):
            table.add_column(name, justify="right" if name in ("done", "loss") else "left")
        styles = {"running": "bold", "done": "green", "failed": "red", "waiting": "dim"}
        for job in jobs:
            last = job.run.last_record() if job.state == "running" else None
            loss = f"{last['loss']:.3f}" if last and "loss" in last else ""
            share = f"{job.share():.0%}" if job.state == "running" else ""
            result = self.describe(job) if job.state == "done" else job.note
            table.add_row(job.name, job.state, share, loss, escaped(result), style=styles[job.state])
        return table

    def say(self, text: str) -> None:
        return None  # the table says it


def escaped(text: str) -> str:
    """Text that rich does not read as markup."""
    from rich.markup import escape

    return escape(text)


def make_board(describe: Describe, quiet: bool = False) -> Board:
    """A live table on a terminal, lines elsewhere."""
    if quiet:
        return Silent(describe)
    return Live(describe) if sys.stderr.isatty() else Lines(describe)


class Pace:
    """How long the jobs still take, from what was done since this was made."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._before = 0.0

    def left(self, jobs: Sequence[Job]) -> str:
        """An estimate in words: the work left on all jobs over the work done a second."""
        done = sum(job.cost * job.share() for job in jobs if job.state != "failed")
        left = sum(job.cost * (1 - job.share()) for job in jobs if not job.is_over)
        if self._began is None:
            self._began, self._before = time.monotonic(), done
        if not left:
            return "nothing is left"
        seconds = time.monotonic() - self._began
        if seconds < SETTLING or done <= self._before:
            return "time left: not known yet"
        seconds *= left / (done - self._before)
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"

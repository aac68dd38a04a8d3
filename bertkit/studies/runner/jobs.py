"""Jobs of a study, one process each: the longest first, none lost and none done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal

from bertkit.errors import BertkitError, Interrupted
from bertkit.launch import FOLLOW, signals_to
from bertkit.rundir import RunDir
from bertkit.studies.runner.board import Board

ATTEMPTS = 2  # a job that dies is tried once more
PATIENCE = 60.0  # seconds that a job gets to save its checkpoint when it is told to stop

State = Literal["waiting", "running", "done", "failed"]


@dataclass(kw_only=True)
class Job:
    """A command in a process of its own, about one run."""

    name: str
    command: Sequence[str]  # what to run; it goes on from where it was when it is run again
    run: RunDir  # what the command writes or reads
    result: Path  # the file that the command writes last
    log: Path
    cost: float  # how long it takes beside the others, in any unit; the longest are begun first
    length: float | None = None  # epochs of the whole run, or steps; None: its history does not tell the progress
    by_steps: bool = False
    needs: Job | None = None  # the job whose model this one uses, and which must be done before
    state: State = "waiting"
    note: str = ""  # why it failed or waits
    attempts: int = 0
    share: float = 0.0  # how much of it was done at the last look, 0 to 1
    loss: float | None = None  # of the last step at the last look
    began: float = 0.0  # the attempt that runs, by time.monotonic
    log_start: int = 0  # where in its log the attempt that runs begins, in bytes

    def look(self) -> None:
        """Read from the history how far the run is."""
        if self.state == "done":
            self.share = 1.0
        elif self.length and (last := self.run.last_record()):
            self.share = min(1.0, last["step" if self.by_steps else "epoch"] / self.length)
            self.loss = last.get("loss")

    @property
    def is_over(self) -> bool:
        """Whether it is done, or failed for good."""
        return self.state in ("done", "failed")


class Process(subprocess.Popen):
    """An attempt at a job on this machine; it ends when the process that started it is gone."""

    lost = ""  # why it is over, when that was not its own doing

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], folder: str) -> None:
        with log.open("ab") as file:
            super().__init__(
                command, stdin=subprocess.PIPE, stdout=file, stderr=file, cwd=folder,
                env={**os.environ, **environment, FOLLOW: "1"},
                start_new_session=True,  # the terminal's Ctrl-C is for us
            )  # fmt: skip

    def release(self) -> None:
        """Give back what the process held; called when it is over."""
        self.stdin.close()


@dataclass
class Slot:
    """Room for one job on this machine."""

    environment: Mapping[str, str]  # variables that its process gets
    job: Job | None = None
    process: Process | None = None

    def start(self, job: Job) -> Process | None:
        """Begin an attempt; None while there is no room for it."""
        return Process(job.command, job.log, self.environment, os.getcwd())


@dataclass
class Runner:
    """Runs jobs to their end."""

    jobs: Sequence[Job]
    slots: Sequence[Slot]
    board: Board
    changed: Callable[[], None] = lambda: None  # brings results on disk up to date when a job has begun or ended
    stop: threading.Event = field(default_factory=threading.Event)
    patience: float = PATIENCE  # a second SIGINT takes it away

    def run(self) -> None:
        """Run what is not done yet; a signal raises Interrupted once the jobs that ran have saved a checkpoint."""
        for job in self.jobs:
            if job.result.exists():
                job.state = "done"
        with signals_to(self._ask_to_stop), closing(self.board):
            try:
                while not all(job.is_over for job in self.jobs) and not self.stop.is_set():
                    self._reap()
                    self._fill()
                    self.board.show(self.jobs)
                    time.sleep(0.2)  # not `stop.wait`: the signal handler sets `stop`, whose lock a wait may hold
                self.board.show(self.jobs)
            finally:
                fate = self._end_all()
        done = sum(job.state == "done" for job in self.jobs)
        if self.stop.is_set() and done < len(self.jobs):
            raise Interrupted(
                f"stopped; {done} of {len(self.jobs)} jobs are done, and those that ran {fate}",
                hint="go on with the same command and --resume",
            )

    def _fill(self) -> None:
        waiting = [job for job in self.jobs if job.state == "waiting"]
        for job in waiting:
            if job.needs and job.needs.state == "failed":
                job.state = "failed"
                self._note(job, f"it needs the model of {job.needs.name}, which failed")
        ready = [job for job in waiting if job.state == "waiting" and (not job.needs or job.needs.state == "done")]
        free = [slot for slot in self.slots if slot.job is None]
        for job in sorted(ready, key=self._urgency, reverse=True):
            if not free:
                return
            if job.run.is_at_work():
                # a job of a runner that was killed is still saving its checkpoint; it holds up no other job
                self._note(job, "waits for its earlier process to end")
                continue
            log_start = job.log.stat().st_size if job.log.exists() else 0
            try:
                process = free[0].start(job)
            except OSError as error:  # such as a full disk, or too many processes
                job.attempts += 1
                self._died(job, f"cannot be started ({error})")
                continue
            if process is None:
                self._note(job, "waits for room on the cluster")
                return  # there is none for the others either
            slot = free.pop(0)
            slot.job, slot.process = job, process
            job.attempts, job.state, job.note = job.attempts + 1, "running", ""
            job.began, job.log_start = time.monotonic(), log_start
            self.board.say(f"{job.name}: {'begins' if job.attempts == 1 else 'is tried again'}")
            self.changed()

    def _urgency(self, job: Job) -> float:
        """The time of this job and of the longest that needs its model."""
        return job.cost + max((other.cost for other in self.jobs if other.needs is job), default=0.0)

    def _note(self, job: Job, note: str) -> None:
        """Say once why a job does not run."""
        if job.note != note:
            job.note = note
            self.board.say(f"{job.name}: {note}")

    def _reap(self) -> None:
        for slot in self.slots:
            process = slot.process
            if process is None or process.poll() is None:
                continue
            job = self._settle(slot)
            if job.state == "done":
                self.board.say(f"{job.name}: done in {time.monotonic() - job.began:.0f} s: {self.board.describe(job)}")
                self.changed()
            else:
                self._died(job, process.lost or why_it_died(job.log, process.returncode, job.log_start))

    def _died(self, job: Job, reason: str) -> None:
        job.note = reason
        if job.attempts >= ATTEMPTS:
            job.state = "failed"
        self.board.say(f"{job.name}: died: {reason}")
        self.changed()

    def _settle(self, slot: Slot) -> Job:
        """Take the job whose process is over out of its slot: it is done, or waits."""
        job, process = slot.job, slot.process
        slot.job = slot.process = None
        process.release()
        job.state = "done" if process.returncode == 0 and job.result.exists() else "waiting"
        return job

    def _end_all(self) -> str:
        """Tell the jobs that run to save and stop, and wait for them; returns what became of them."""
        running = [slot for slot in self.slots if slot.process is not None]
        if running:
            self.board.say("stopping: a run that trains saves a checkpoint first")
        for slot in running:
            slot.process.terminate()
        began = time.monotonic()
        while (late := [slot for slot in running if slot.process.poll() is None]) and (
            time.monotonic() - began < self.patience
        ):
            time.sleep(0.1)
        for slot in late:
            slot.process.kill()
        for slot in running:
            slot.process.wait()
            self._settle(slot)
        return "were killed" if late else "have saved a checkpoint"

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        """SIGINT and SIGTERM end the runner in order; a second SIGINT does not wait for checkpoints."""
        # nothing is raised or printed: the runner may be in the midst of a start or of a line
        if self.stop.is_set() and number == signal.SIGINT:
            self.patience = 0.0
        self.stop.set()


def why_it_died(log: Path, code: int, start: int = 0) -> str:
    """The reason in one line: the last `error:` of the log from byte `start` on, the signal, or its last line."""
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    text = ""
    with suppress(OSError), log.open("rb") as file:  # somebody may have removed it
        file.seek(max(start, log.stat().st_size - 20_000))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error:").strip() for line in lines if line.startswith("error:")]
    return (errors or lines or [f"exit code {code}"])[-1]


def check_done(jobs: Sequence[Job], how: str) -> None:
    """Refuse to go on when jobs failed, naming all of them, and how to try them again."""
    failed = [job for job in jobs if job.state == "failed"]
    if failed:
        log = next(job.log for job in failed if job.attempts)  # a job that needs the model of a failed one has none
        raise BertkitError(
            f"{len(failed)} of {len(jobs)} jobs failed: " + "; ".join(f"{job.name}: {job.note}" for job in failed),
            hint=f"see {log}; {how}",
        )

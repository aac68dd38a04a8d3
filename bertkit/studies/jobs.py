"""Several runs over the devices there are: one process a run, longest first, none lost and none done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from bertkit.errors import Interrupted
from bertkit.launch import FOLLOW, core_count
from bertkit.rundir import RunDir
from bertkit.studies.board import Board

ATTEMPTS = 2  # a job that dies is tried once more
PATIENCE = 60.0  # seconds that a job gets to save its checkpoint when it is told to stop

State = Literal["waiting", "running", "done", "failed"]


@dataclass
class Job:
    """One run, in a process of its own.

    Attributes:
        command: what to run; it goes on from where it was when it is run again, and writes `run`.
        cost: how long it takes beside the others, in any unit; the longest are begun first.
        length: epochs, or steps when `by_steps`, of the whole run; for the progress that its history tells.
        needs: a job that must be done before, whose model this one starts from.
        note: why it failed.
    """

    name: str
    command: Sequence[str]
    run: RunDir
    log: Path
    cost: float
    length: float
    by_steps: bool = False
    needs: Job | None = None
    state: State = "waiting"
    note: str = ""
    attempts: int = 0
    began: float = 0.0  # of the attempt that runs, by time.monotonic
    log_start: int = 0  # where in its log the attempt that runs begins, in bytes

    def share(self) -> float:
        """How much of the run is done, 0 to 1, as its history tells."""
        if self.state == "done":
            return 1.0
        last = self.run.last_record()
        return min(1.0, last["step" if self.by_steps else "epoch"] / self.length) if last else 0.0

    @property
    def is_over(self) -> bool:
        """Whether it is done, or failed for good."""
        return self.state in ("done", "failed")


class Process(Protocol):
    """An attempt at a job, wherever it runs: what `subprocess.Popen` says of it, and two things more.

    Attributes:
        returncode: None while it runs; below zero the signal that killed it.
        lost: why it is over, where that was not its own doing; else empty.
    """

    returncode: int | None
    lost: str

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def release(self) -> None:
        """It is over: give back what it held."""


class Here(subprocess.Popen):
    """A process on this machine."""

    lost = ""

    def release(self) -> None:
        self.stdin.close()


@dataclass
class Slot:
    """A place on this machine where one job can run.

    Attributes:
        environment: what its process gets to see there.
        settings: which settings it needs there.
    """

    environment: Mapping[str, str]
    settings: Sequence[str] = ()
    job: Job | None = None
    process: Process | None = None

    def start(self, job: Job) -> Process | str:
        """Begin an attempt; or why it cannot begin now."""
        if job.run.is_at_work():
            # a job of a runner that was killed is still saving its checkpoint
            return "waits for its earlier process to end"
        with job.log.open("ab") as log:
            return Here(
                [*job.command, *self.settings], stdin=subprocess.PIPE, stdout=log, stderr=log,
                env={**os.environ, **self.environment, FOLLOW: "1"},
                start_new_session=True,  # the terminal's Ctrl-C is for us
            )  # fmt: skip


@dataclass
class Runner:
    """Runs jobs to their end; `board` is told of every change, and often in between."""

    jobs: Sequence[Job]
    slots: Sequence[Slot]
    board: Board
    changed: Callable[[], None] = lambda: None  # a job ended: results on disk may be brought up to date
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Run what is not done yet.

        Raises:
            Interrupted: SIGINT or SIGTERM; the jobs that ran have saved a checkpoint.
        """
        for job in self.jobs:
            if job.run["metrics.json"].exists():
                job.state = "done"
        with self._stop_signals(), self.board:
            try:
                while not all(job.is_over for job in self.jobs) and not self.stop.is_set():
                    self._reap()
                    self._fill()
                    self.board.show(self.jobs)
                    time.sleep(0.2)  # not `stop.wait`: the signal handler sets `stop`, whose lock a wait may hold
                self.board.show(self.jobs)
            finally:
                self._end_all()
        done = sum(job.state == "done" for job in self.jobs)
        if self.stop.is_set() and done < len(self.jobs):
            raise Interrupted(
                f"stopped; {done} of {len(self.jobs)} jobs are done, and those that ran have saved a checkpoint",
                hint="go on with the same command and --resume",
            )

    def _fill(self) -> None:
        for slot in self.slots:
            waiting = [job for job in self.jobs if job.state == "waiting"]
            for job in waiting:
                if job.needs and job.needs.state == "failed":
                    job.state, job.note = "failed", f"it starts from the model of {job.needs.name}, which failed"
                    self.board.say(f"{job.name}: {job.note}")
            ready = [job for job in waiting if job.state == "waiting" and (not job.needs or job.needs.state == "done")]
            if slot.job is None and ready:
                self._start(slot, max(ready, key=self._urgency))

    def _urgency(self, job: Job) -> float:
        """How long what begins with this job takes."""
        return job.cost + max((other.cost for other in self.jobs if other.needs is job), default=0.0)

    def _start(self, slot: Slot, job: Job) -> None:
        log_start = job.log.stat().st_size if job.log.exists() else 0
        process = slot.start(job)
        if isinstance(process, str):
            if job.note != process:
                job.note = process
                self.board.say(f"{job.name}: {job.note}")
            return
        job.attempts, job.state, job.note, job.began = job.attempts + 1, "running", "", time.monotonic()
        slot.job, slot.process, job.log_start = job, process, log_start
        self.board.say(f"{job.name}: {'begins' if job.attempts == 1 else 'is tried again'}")
        self.changed()

    def _reap(self) -> None:
        for slot in self.slots:
            if slot.process is None or slot.process.poll() is None:
                continue
            job = self._release(slot)
            if has_ended_well(slot.process, job):
                job.state = "done"
                self.board.say(f"{job.name}: done in {time.monotonic() - job.began:.0f} s: {self.board.describe(job)}")
            else:
                reason = slot.process.lost or why_it_died(job.log, slot.process.returncode, job.log_start)
                job.state, job.note = ("failed" if job.attempts >= ATTEMPTS else "waiting"), reason
                self.board.say(f"{job.name}: died: {reason}")
            slot.process = None
            self.changed()

    def _release(self, slot: Slot) -> Job:
        job, slot.job = slot.job, None
        slot.process.release()
        assert job is not None, "a process without a job"
        return job

    def _end_all(self) -> None:
        """Tell what runs to save and stop, and wait for it."""
        running = [slot for slot in self.slots if slot.process is not None]
        for slot in running:
            with suppress(ProcessLookupError):
                slot.process.terminate()
        ends = time.monotonic() + PATIENCE
        for slot in running:
            try:
                slot.process.wait(max(0.1, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            except KeyboardInterrupt:
                ends = time.monotonic()  # for the others, too
            if slot.process.poll() is None:
                slot.process.kill()
                slot.process.wait()
            job = self._release(slot)
            job.state = "done" if has_ended_well(slot.process, job) else "waiting"
            slot.process = None

    @contextmanager
    def _stop_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the runner in order; a second SIGINT does not wait for checkpoints."""

        def ask(number: int, frame: object) -> None:
            if self.stop.is_set() and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.stop.set()
            self.board.say("stopping: the jobs that run save a checkpoint first")

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def make_slots(jobs_per_device: int, settings: Sequence[str], gpus: int | None = None) -> list[Slot]:
    """The places there are: so many jobs on each GPU, or on the CPU, whose cores they share.

    Args:
        gpus: use the first so many; None: all.
    """
    import torch

    there = torch.cuda.device_count()
    if there:
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        names = seen if len(seen) == there else [str(number) for number in range(there)]
        return [Slot({"CUDA_VISIBLE_DEVICES": name}) for name in names[:gpus] for _ in range(jobs_per_device)]
    is_set = any(setting.startswith("hardware.threads=") for setting in settings)
    threads = [] if jobs_per_device == 1 or is_set else [f"hardware.threads={max(1, core_count() // jobs_per_device)}"]
    return [Slot({}, threads) for _ in range(jobs_per_device)]


def has_ended_well(process: Process, job: Job) -> bool:
    """Whether a process that is over finished its job."""
    return process.returncode == 0 and job.run["metrics.json"].exists()


def why_it_died(log: Path, code: int, start: int = 0) -> str:
    """The reason in one line: the last `error:` of the log from byte `start` on, the signal, or its last line."""
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - 20_000))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error:").strip() for line in lines if line.startswith("error:")]
    return (errors or lines or [f"exit code {code}"])[-1]

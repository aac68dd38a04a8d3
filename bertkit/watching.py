"""A run seen from outside, while it trains or later, through the files of its folder alone."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from bertkit.disk import parse
from bertkit.errors import BertkitError
from bertkit.metrics.shown import describe_scores
from bertkit.rundir import HISTORY, PACE, Moment, RunDir, latest, shaped

SECONDS = 1.0  # between two looks
SECONDS_OF_LINES = 10.0  # between two lines of a log
RECENT = 12  # lines of pace.jsonl that the speed is taken from
BARS = "▁▂▃▄▅▆▇█"

State = Literal["not begun", "starting", "running", "running elsewhere", "finished", "gone"]


class Look(NamedTuple):
    """What a run's folder says at one moment; None where it says nothing yet."""

    run: str
    # `gone`: the process that trained it is; `running elsewhere`: on another machine, which cannot be seen from here
    state: State
    step: int | None = None
    steps: int | None = None  # of the whole run
    epoch: float | None = None
    losses: tuple[float, ...] = ()  # of every step so far
    learning_rate: float | None = None
    windows_a_second: float | None = None  # over the last lines of pace.jsonl
    seconds_left: float | None = None  # of training
    evaluated: int | None = None  # the step of the last evaluation
    validation: dict[str, float | None] | None = None  # its scores
    checkpoint: str | None = None  # the last one that can be resumed from
    resident_mb: int | None = None  # memory of the process
    micro_batch_tokens: int | None = None  # the size that was found, or halved to

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("finished", "gone")


class Follower:
    """The lines of a growing file, each read once; a file that was replaced is read from its start."""

    def __init__(self, path: Path) -> None:
        self.path, self.records = path, []
        self._offset, self._node = 0, None

    def read(self) -> list[dict]:
        """All whole lines so far; a ValueError where one is broken, or is of no step."""
        try:
            with self.path.open("rb") as file:
                node = os.fstat(file.fileno()).st_ino  # the path may lead to another file by now
                if node != self._node:
                    self.records, self._offset, self._node = [], 0, node
                file.seek(self._offset)
                whole = file.read().rpartition(b"\n")[0]
        except OSError:
            return self.records
        if whole:
            self.records += [shaped(parse(line.decode()), Moment) for line in whole.splitlines()]
            self._offset += len(whole) + 1
        return self.records


class Watcher:
    """Looks at one run, again and again."""

    def __init__(self, run: RunDir) -> None:
        self.run, self._history, self._pace = run, Follower(run[HISTORY]), Follower(run[PACE])

    def look(self) -> Look:
        """The run as it is now; refused where one of its files is broken."""
        # the state comes before the files: a run that ends in between has written all of them
        state = self._state()
        if state == "not begun":
            return Look(str(self.run.path), state)
        try:
            history, pace = self._history.read(), self._pace.read()
        except ValueError as error:
            raise BertkitError(f"{self.run.path}: history.jsonl or pace.jsonl is broken ({error})") from None
        trained = [record for record in history if "loss" in record]
        evaluated = next((record for record in reversed(history) if "validation" in record), {})
        timed = [record for record in pace if "seconds" in record][-RECENT:]
        sizes = [record["micro_batch_tokens"] for record in pace if "micro_batch_tokens" in record]
        last = trained[-1] if trained else {}
        steps, step = self.run.read_json("environment.json").get("steps"), last.get("step")
        speed, left = None, None
        if len(timed) > 1 and (seconds := timed[-1]["seconds"] - timed[0]["seconds"]) > 0:
            done = [record["windows"] for record in trained if timed[0]["step"] < record["step"] <= timed[-1]["step"]]
            speed = sum(done) / seconds
            left = (steps - step) * seconds / len(done) if steps and step and done else None
        checkpoint = latest(self.run.checkpoints)
        return Look(
            run=str(self.run.path), state=state, step=step, steps=steps, epoch=last.get("epoch"),
            losses=tuple(record["loss"] for record in trained), learning_rate=last.get("learning_rate"),
            windows_a_second=speed, seconds_left=left, evaluated=evaluated.get("step"),
            validation=evaluated.get("validation"), checkpoint=checkpoint.name if checkpoint else None,
            resident_mb=timed[-1].get("resident_mb") if timed else None,
            micro_batch_tokens=sizes[-1] if sizes else None,
        )  # fmt: skip

    def looks(self) -> Iterator[Look]:
        """One look after another, until the run is over."""
        while True:
            look = self.look()
            yield look
            if look.is_over:
                return
            time.sleep(SECONDS)

    def _state(self) -> State:
        if self.run["metrics.json"].exists():
            return "finished"
        if not self.run["recipe.yaml"].exists():
            return "not begun"
        at_work = self.run.is_at_work()
        if at_work is False:
            # it may just have written its results
            return "finished" if self.run["metrics.json"].exists() else "gone"
        if at_work is None:
            return "running elsewhere"
        return "running" if self.run[HISTORY].exists() else "starting"


def watch(run: str | Path, as_json: bool = False) -> None:
    """Show a run until it is over: as a live view on a terminal, else as lines; or once, as a JSON object.

    Raises:
        BertkitError: its process ended before the run was finished.
    """
    watcher = Watcher(RunDir(run))
    if watcher.run.path.is_file():
        raise BertkitError(f"{run} is a file, not the folder of a run")
    if as_json:
        values = watcher.look()._asdict()
        losses = values.pop("losses")
        print(json.dumps({**values, "loss": losses[-1] if losses else None}))
        return
    try:
        look = _live(watcher) if sys.stdout.isatty() else _lines(watcher)
    except KeyboardInterrupt:
        print("stopped watching; the run goes on", file=sys.stderr)
        return
    if look.state == "gone":
        raise BertkitError(
            f"{run}: the process that trained it is gone; the last checkpoint is {look.checkpoint or 'none'}",
            hint="continue with the command that started it and --resume",
        )


def sparkline(values: tuple[float, ...], width: int = 40) -> str:
    """Values as a row of bars; each bar is a mean if there are more values than bars."""
    if not values:
        return ""
    count = min(width, len(values))
    parts = [values[len(values) * bar // count : len(values) * (bar + 1) // count] for bar in range(count)]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means), max(means)
    return "".join(BARS[round((mean - low) / (high - low) * 7) if high > low else 0] for mean in means)


def facts(look: Look) -> dict[str, str]:
    """What a look says, in words, without what is not known."""
    found = {
        "step": look.step is not None and f"{look.step:,}" + (f" of {look.steps:,}" if look.steps else ""),
        "epoch": look.epoch is not None and f"{look.epoch:.2f}",
        "loss": look.losses and f"{look.losses[-1]:.4f}",
        "learning rate": look.learning_rate is not None and f"{look.learning_rate:.3g}",
        "speed": look.windows_a_second and f"{look.windows_a_second:,.1f} windows/s",
        "time left": look.seconds_left is not None and not look.is_over and duration(look.seconds_left),
        "validation": look.validation and f"{describe_scores(look.validation)} (step {look.evaluated:,})",
        "checkpoint": look.checkpoint,
        "micro-batch": look.micro_batch_tokens and f"{look.micro_batch_tokens:,} tokens",
        "memory": look.resident_mb and f"{look.resident_mb:,} MB",
    }
    return {name: str(text) for name, text in found.items() if text}


def _live(watcher: Watcher) -> Look:
    from rich import box
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        for look in watcher.looks():
            title = Text(f"{look.run}: {look.state}")
            table = Table(box=box.SIMPLE, show_header=False, title=title, title_justify="left")
            for name, text in facts(look).items():
                table.add_row(name, Text(f"{text}  {sparkline(look.losses)}" if name == "loss" else text))
            live.update(table, refresh=True)
    return look


def _lines(watcher: Watcher) -> Look:
    told, shown = 0.0, None
    for look in watcher.looks():
        # at a new state, at a new evaluation, and every few seconds
        new = (look.state, look.evaluated)
        if new != shown or time.monotonic() - told >= SECONDS_OF_LINES:
            told, shown = time.monotonic(), new
            said = "  ".join(f"{name} {text}" for name, text in facts(look).items())
            print(f"{look.state}  {said}".rstrip(), flush=True)
    return look


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

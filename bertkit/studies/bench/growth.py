"""Time and memory as data grow: of a training step and of evaluation with the rows, of an answer with its document."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, cycle, islice
from typing import Self

import psutil

from bertkit.findings import Finding, Note, Series
from bertkit.launch import Say
from bertkit.prepare import assemble
from bertkit.studies.bench.counting import timed
from bertkit.studies.bench.lanes import Bench, Lane, endless
from bertkit.tasks.base import Row
from bertkit.train.memory import MEGABYTE

SMALLEST = 1000
STEPS, WARM_UP = 20, 3
SECONDS = 300.0  # of each of the three; the next size is left out when it would take longer

Point = dict[str, float]  # what one size came to: `size`, and a value for each line


def sizes(largest: int) -> list[int]:
    """1, 3, 10, 30, ... thousands up to `largest`, which is the last; smaller ones when it is small itself."""
    start = 1
    while start * 10 <= min(SMALLEST, largest // 10):
        start *= 10
    found = [size for power in range(12) for size in (start * 10**power, 3 * start * 10**power) if size < largest]
    return [*found, largest]


def until(
    asked: Sequence[int], measure: Callable[[int], Point], say: Say, what: str, limit: float = SECONDS
) -> tuple[list[Point], list[int]]:
    """The points of size after size, as long as the next can be expected to end in time; and the sizes left out."""
    began, found = time.monotonic(), []
    for index, size in enumerate(asked):
        start = time.monotonic()
        found.append({"size": size, **measure(size)})
        now = time.monotonic()
        say(f"{what}: {size:,} ({now - start:.1f} s)")
        if index + 1 < len(asked) and now - began + (now - start) * asked[index + 1] / size > limit:
            return found, list(asked[index + 1 :])
    return found, []


def repeated(rows: Sequence[Row], count: int) -> list[Row]:
    """`count` rows: the given ones over and over, each with an id of its own."""
    return [{**row, "id": str(index)} for index, row in enumerate(islice(cycle(rows), count))]


def long_row(bench: Bench, length: int) -> Row:
    """A row whose long text has `length` characters: the texts of the given rows, one after the other."""
    reads, rows = bench.material.task.reads, bench.material.splits.train
    column = reads.words[0] if reads.words else reads.text[-1]
    given = chain.from_iterable(row[column] if reads.words else [str(row[column]) or "."] for row in cycle(rows))
    taken, total = [], 0  # with a space behind each
    while total <= length:
        taken.append(next(given))
        total += len(taken[-1]) + 1
    if reads.words:
        return {**rows[0], column: taken if total == length + 1 else taken[:-1]}
    return {**rows[0], column: " ".join(taken)[:length]}


class Memory:
    """The most memory that this process holds during a block, in bytes."""

    def __enter__(self) -> Self:
        self.process, self.ended = psutil.Process(), threading.Event()
        self.most = self.process.memory_info().rss
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        has_ended = False
        while not has_ended:
            has_ended = self.ended.wait(0.02)
            self.most = max(self.most, self.process.memory_info().rss)

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self.thread.join()


def train_on(lane: Lane, count: int) -> Point:
    """Seconds of a step, and of making the windows, with this many training rows."""
    material = lane.bench.material
    with Memory() as memory:
        splits = material.splits._replace(train=repeated(material.splits.train, count))
        material = replace(material, splits=splits)
        cutting = timed(lambda: material.targets)  # windows and targets are made when they are first asked for
        prepared = assemble(material, lane.prepared.recipe, lane.prepared.setup, lane.prepared.built)
        state = replace(lane.state, plan=endless(prepared), objective=prepared.objective)
        measured = replace(lane, prepared=prepared, state=state, done=0)
        first, _ = timed(lambda: measured.train(1))
        measured.train(WARM_UP - 1)
        sample = measured.train(STEPS)
    # the windows that 20 steps draw are longer or shorter than the average
    per_step = float(material.train.store.lengths.mean()) * state.plan.batch_size / sample.tokens
    return {
        "step wall": sample.wall * per_step, "step CPU": sample.cpu * per_step,
        "windows wall": cutting[0], "windows CPU": cutting[1], "first step wall": first,
        "memory": memory.most / MEGABYTE,
    }  # fmt: skip


def evaluate_on(lane: Lane, count: int) -> Point:
    """Memory and seconds of an evaluation of this many rows; windows are made and let go part by part."""
    splits = lane.bench.material.splits
    rows = repeated(splits.validation or splits.train, count)
    return _answering(lane, lambda: lane.answerer.evaluate(lane.answerer.parts(rows)))


def answer(lane: Lane, length: int) -> Point:
    """Memory and seconds of predicting for one document of this many characters."""
    row = long_row(lane.bench, length)
    return _answering(lane, lambda: list(lane.answerer.predict([row])))


def _answering(lane: Lane, work: Callable[[], object]) -> Point:
    lane.enter_answering()
    with Memory() as memory:
        wall, cpu = timed(work)
    return {"memory": memory.most / MEGABYTE, "wall": wall, "CPU": cpu}


# name in the results -> what grows, up to which share of the largest size, and the measurement; evaluation computes on
# every row
WORKS = {
    "document": ("characters of a document", 1, answer),
    "evaluate": ("rows of evaluation", 0.1, evaluate_on),
    "train": ("rows of training", 1, train_on),
}
MOST = "The most that the process held"
FIGURES = (  # title, work, unit of y, lines, caption
    ("A training step", "train", "seconds", ("step wall", "step CPU"),
     f"The mean of {STEPS} steps, their windows of average length; rows are the given ones, repeated."),
    ("Making windows and targets", "train", "seconds", ("windows wall", "windows CPU"),
     "Once a run, before its first step."),
    ("Memory of training", "train", "MB", ("memory",), f"{MOST}, model and rows included."),
    ("Memory of evaluation", "evaluate", "MB", ("memory",),
     f"{MOST}. It has the model, and what earlier and smaller sizes left behind."),
    ("Time of evaluation", "evaluate", "seconds", ("wall", "CPU"), "Windows included."),
    ("One document", "document", "seconds", ("wall", "CPU"), "Predicting for one text, windows included."),
    ("Memory of one document", "document", "MB", ("memory",), f"{MOST}."),
)  # fmt: skip


def measure(lane: Lane, largest: int, say: Say) -> tuple[dict[str, object], list[Finding]]:
    """All works, smallest sizes first, after one turn of each as a warm-up."""
    for _, _, work in WORKS.values():
        work(lane, sizes(largest)[0])
    points, found = {}, []
    for name, (what, share, work) in WORKS.items():
        points[name], left = until(sizes(max(1, int(largest * share))), partial(work, lane), say, what)
        if left:
            text = f"{what}: {', '.join(f'{size:,}' for size in left)}, which would take too long."
            found.append(Note(title="Left out", text=text))
    for title, name, unit, lines, caption in FIGURES:
        x, values = WORKS[name][0].split()[0], {line: tuple(point[line] for point in points[name]) for line in lines}
        at = tuple(float(point["size"]) for point in points[name])
        found.append(Series(title=title, caption=caption, x_label=x, y_label=unit, x=at, lines=values, log_x=True))
    return {"growth": points}, found

"""Is one checkpoint better than another on GLUE? Paired over seeds and rows, with a bootstrap interval."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertkit.errors import BertkitError
from bertkit.findings import Table
from bertkit.metrics.classification import accuracy, f1_of, matthews
from bertkit.metrics.glue import OFFICIAL, TASKS, TITLES, mean, task_score
from bertkit.metrics.regression import regression
from bertkit.studies.glue.results import Results, gather, scored_rows

DRAWS = 1000
INTERVAL = (2.5, 97.5)  # percentiles


class Difference(NamedTuple):
    """Two studies on one task, or on the average; fractions, None where undefined.

    Attributes:
        name: the task, or what the average is called.
        first, second: the two scores, means over the seeds that both have.
        difference: second minus first.
        deviation: of the difference over the seeds; None for fewer than two.
        low, high: the 95 % interval of the difference.
        better: seeds in which the second is better.
        undefined: draws without a defined score; the interval is of the others.
    """

    name: str
    first: float | None
    second: float | None
    difference: float | None
    deviation: float | None
    low: float | None
    high: float | None
    better: int
    seeds: int
    rows: int
    undefined: int


class Answers(NamedTuple):
    """What one run answered on one split.

    Attributes:
        counted: (N,) int64, gold * classes + given, for class names; None for numbers.
        numbers: (2, N) float64, gold and given, for numbers; None for class names.
        classes: how many class names there are.
        positive: index of the class that F1 counts.
    """

    counted: np.ndarray | None
    numbers: np.ndarray | None
    classes: int
    positive: int

    def metric(self, name: str, rows: np.ndarray) -> float | None:
        """One official metric on these rows, with repeats; None where it is undefined."""
        if self.numbers is not None:
            gold, given = self.numbers[:, rows]
            return regression(given, gold)[name]
        counts = np.bincount(self.counted[rows], minlength=self.classes**2).reshape(self.classes, self.classes)
        if name == "f1":
            return f1_of(counts, self.positive)
        return matthews(counts) if name == "matthews" else accuracy(counts)  # MNLI's has the names of its dev sets


def compare(first: str | Path, second: str | Path, draws: int = DRAWS) -> list[Difference]:
    """The paired difference of two studies on each task that both have, and of the mean over those tasks.

    A draw takes, with replacement, seeds (the same ones of both) and rows of each dev split (the same for both, and for
    all seeds), and computes every metric anew. Source: Efron and Tibshirani 1993, chapter 13 (percentile interval);
    Reimers and Gurevych 2017, on why one seed does not tell.

    Raises:
        BertkitError: they share no finished task and seed, or were scored on different rows.
    """
    folders, sides = (Path(first), Path(second)), (gather(first), gather(second))
    shared = {task: sorted(sides[0].seeds.get(task, {}).keys() & sides[1].seeds.get(task, {}).keys()) for task in TASKS}
    shared = {task: seeds for task, seeds in shared.items() if seeds}
    if not shared:
        raise BertkitError(
            f"{first} and {second} share no finished task with the same seed",
            hint="run both with the same --tasks, --seeds and seed",
        )
    found, drawn = [], []
    for task, seeds in shared.items():
        answers = read_answers(task, seeds, folders)
        drawn.append(draw(task, answers, len(seeds), draws))
        scores = [[task_score(task, side.seeds[task][seed]) for seed in seeds] for side in sides]
        rows = sum(size_of(answers[0][0][split]) for split in answers[0][0])
        found.append(difference(TITLES[task], scores, drawn[-1], rows))
    if len(shared) > 1:
        name = f"mean of these {len(shared)} tasks" if len(shared) < len(TASKS) else "mean of the nine tasks"
        averages = [mean_by_seed(side, shared) for side in sides]
        found.append(difference(name, averages, np.mean(drawn, axis=0), sum(entry.rows for entry in found)))
    return found


def read_answers(task: str, seeds: Sequence[int], folders: Sequence[Path]) -> list[list[dict[str, Answers]]]:
    """Side -> seed -> split -> answers.

    Raises:
        BertkitError: not all were asked the same.
    """
    sides, asked = [], {}
    for folder in folders:
        side = []
        for seed in seeds:
            by_split = {}
            for split, records in scored_rows(folder, task, seed).items():
                key = [(record["id"], record["gold"]) for record in records]
                if asked.setdefault(split, key) != key:
                    other = f"seed {seeds[0]} of {folders[0]}"
                    raise BertkitError(
                        f"{folder}: {TITLES[task]}, seed {seed} was scored on other rows than {other}",
                        hint="compare studies of the same data; data.validation_rows draws other rows for each seed",
                    )
                by_split[split] = to_answers(records, f"{folder}, {TITLES[task]}, seed {seed}")
            side.append(by_split)
        sides.append(side)
    if any(by_split.keys() != asked.keys() for side in sides for by_split in side):
        raise BertkitError(f"{TITLES[task]}: one study was scored on {', '.join(asked)}, the other on less")
    return sides


def to_answers(records: Sequence[Mapping], where: str) -> Answers:
    """The records of a predictions file as arrays.

    Raises:
        BertkitError: a label has no probability, or numbers stand among labels.
    """
    try:
        if isinstance(records[0]["gold"], float):
            numbers = [[float(record[name]) for record in records] for name in ("gold", "label")]
            return Answers(None, np.array(numbers), 0, 0)
        names = list(records[0]["probabilities"])  # all classes, in their order
        code = {name: number for number, name in enumerate(names)}
        counted = np.array([code[record["gold"]] * len(names) + code[record["label"]] for record in records])
    except (KeyError, TypeError, ValueError) as error:
        raise BertkitError(
            f"predictions of {where}: labels and probabilities do not belong together ({error})"
        ) from None
    return Answers(counted, None, len(names), 1)  # GLUE counts its second class as positive


def size_of(answers: Answers) -> int:
    return len(answers.counted) if answers.counted is not None else answers.numbers.shape[1]


def draw(task: str, answers: Sequence[Sequence[Mapping[str, Answers]]], seeds: int, draws: int) -> np.ndarray:
    """(draws,) differences of the task score, second minus first; NaN where a draw leaves a metric undefined."""
    rng = np.random.default_rng((0, TASKS.index(task)))
    differences = np.empty(draws)
    for number in range(draws):
        chosen = rng.integers(seeds, size=seeds)
        rows = {split: rng.integers(size_of(one), size=size_of(one)) for split, one in answers[0][0].items()}
        scores = [mean([score(task, side[seed], rows) for seed in chosen]) for side in answers]
        differences[number] = np.nan if None in scores else scores[1] - scores[0]
    return differences


def score(task: str, by_split: Mapping[str, Answers], rows: Mapping[str, np.ndarray]) -> float | None:
    """The task score on drawn rows."""
    if task == "mnli":
        return task_score(task, {split: one.metric(split, rows[split]) for split, one in by_split.items()})
    ((split, one),) = by_split.items()
    return task_score(task, {metric: one.metric(metric, rows[split]) for metric in OFFICIAL[task]})


def mean_by_seed(side: Results, shared: Mapping[str, Sequence[int]]) -> list[float | None]:
    """The mean over the tasks, for each seed that all of them have."""
    seeds = [seed for seed in side.asked.seeds if all(seed in seeds for seeds in shared.values())]
    return [mean([task_score(task, side.seeds[task][seed]) for task in shared]) for seed in seeds]


def difference(name: str, scores: Sequence[Sequence[float | None]], drawn: np.ndarray, rows: int) -> Difference:
    """One line of the comparison."""
    pairs = list(zip(*scores, strict=True))
    known = [second - first for first, second in pairs if first is not None and second is not None]
    is_whole = bool(known) and len(known) == len(pairs)
    defined = drawn[~np.isnan(drawn)]
    low, high = np.percentile(defined, INTERVAL).tolist() if is_whole and len(defined) else (None, None)
    return Difference(
        name=name,
        first=mean(scores[0]),
        second=mean(scores[1]),
        difference=mean(known) if is_whole else None,
        deviation=statistics.stdev(known) if is_whole and len(known) > 1 else None,
        low=low,
        high=high,
        better=sum(value > 0 for value in known),
        seeds=len(pairs),
        rows=rows,
        undefined=int(np.isnan(drawn).sum()),
    )


def table(found: Sequence[Difference], names: tuple[str, str]) -> Table:
    """The comparison as a table."""
    return Table(
        title=f"{names[1]} against {names[0]}",
        caption="On dev. Difference: second minus first, paired by seed; 95 % bootstrap interval over seeds and rows.",
        columns=("task", "first", "second", "difference", "deviation", "low", "high", "better in", "seeds", "rows",
                 "undefined draws"),
        rows=tuple(tuple(entry) for entry in found),
    )  # fmt: skip

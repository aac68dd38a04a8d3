"""Is one checkpoint better than another on GLUE? Paired over seeds and rows, with a bootstrap interval."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertkit.errors import BertkitError
from bertkit.findings import Table, tabulate
from bertkit.metrics.classification import accuracy, f1_of, matthews
from bertkit.metrics.glue import TASKS, TITLES, places, task_score
from bertkit.metrics.regression import regression
from bertkit.metrics.shown import mean
from bertkit.studies.glue.folder import ScoredShape, run_of
from bertkit.studies.glue.results import gather, spread


class Difference(NamedTuple):
    """Two studies on one task, or on the average; fractions, None where undefined."""

    name: str  # the task, or what the average is called
    first: float | None  # its score, the mean over the seeds that both have
    second: float | None
    difference: float | None  # second minus first
    deviation: float | None  # of the difference over the seeds; None for fewer than two
    low: float | None  # the 95 % interval of the difference
    high: float | None
    better: int  # seeds in which the second is better
    seeds: int
    rows: int
    undefined: int  # draws without a defined score; the interval is of the others


class Answers(NamedTuple):
    """What one run answered on one split."""

    values: np.ndarray  # (N,) int64, gold * classes + given; of numbers (2, N) float64, gold and given
    rows: int  # N
    classes: int  # how many class names there are; 0: numbers

    def metric(self, name: str, rows: np.ndarray) -> float | None:
        """One official metric on these rows, with repeats; None where it is undefined."""
        drawn = self.values.take(rows, axis=-1)
        if not self.classes:
            gold, given = drawn
            return regression(given, gold)[name]
        counts = np.bincount(drawn, minlength=self.classes**2).reshape(self.classes, self.classes)
        if name == "f1":
            return f1_of(counts[1, 1], counts[:, 1].sum(), counts[1].sum())  # GLUE counts its second class as positive
        return matthews(counts) if name == "matthews" else accuracy(counts)


def compare(first: str | Path, second: str | Path, draws: int = 1000) -> list[Difference]:
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
        drawn.append(draw(task, answers, draws))
        scores = [[task_score(task, side.seeds[task][seed]) for seed in seeds] for side in sides]
        rows = sum(one.rows for one in answers[0][0].values())
        found.append(difference(TITLES[task], scores, drawn[-1], rows))
    if len(shared) > 1:
        name = f"mean of these {len(shared)} tasks" if len(shared) < len(TASKS) else "mean of the nine tasks"
        seeds = sorted(set.intersection(*map(set, shared.values())))
        scores = [
            [mean([task_score(task, side.seeds[task][seed]) for task in shared]) for seed in seeds] for side in sides
        ]
        found.append(difference(name, scores, np.mean(drawn, axis=0), sum(entry.rows for entry in found)))
    return found


def read_answers(task: str, seeds: Sequence[int], folders: Sequence[Path]) -> list[list[dict[str, Answers]]]:
    """Side -> seed -> split -> answers, all to the same rows."""
    found, asked = [], {}
    for folder, seed in product(folders, seeds):
        found.append({})
        for split, records in scored_rows(folder, task, seed):
            key = [(record["id"], record["gold"]) for record in records]
            if asked.setdefault(split, key) != key:
                other = f"seed {seeds[0]} of {folders[0]}"
                raise BertkitError(
                    f"{folder}: {TITLES[task]}, seed {seed} was scored on other rows than {other}",
                    hint="compare studies of the same data; data.validation_rows draws other rows for each seed",
                )
            found[-1][split] = to_answers(records, f"{folder}, {TITLES[task]}, seed {seed}")
    if any(by_split.keys() != asked.keys() for by_split in found):
        raise BertkitError(f"{TITLES[task]}: one study was scored on {', '.join(asked)}, the other on less")
    return [found[: len(seeds)], found[len(seeds) :]]


def scored_rows(folder: Path, task: str, seed: int) -> Iterator[tuple[str, list[dict]]]:
    """(split, records) of a finished run."""
    run = run_of(folder, task, seed)
    splits = run.read_json("metrics.json")["splits"]
    files = {"validation": "predictions.validation.jsonl", "test": "predictions.jsonl"}
    for split, file in files.items() if "test" in splits else [("validation", "predictions.jsonl")]:
        records = list(run.read_jsonl(file, ScoredShape))
        if len(records) != splits[split]["rows"]:
            raise BertkitError(f"{run[file]} has {len(records)} rows, but {splits[split]['rows']} were scored")
        yield split, records


def to_answers(records: Sequence[Mapping], where: str) -> Answers:
    """The records of a predictions file as arrays; refuses labels without a probability and numbers among labels."""
    try:
        if isinstance(records[0]["gold"], float):
            numbers = [[float(record[name]) for record in records] for name in ("gold", "label")]
            return Answers(np.array(numbers), len(records), 0)
        names = list(records[0]["probabilities"])  # all classes, in their order
        code = {name: number for number, name in enumerate(names)}
        values = np.array([code[record["gold"]] * len(names) + code[record["label"]] for record in records])
    except (KeyError, TypeError, ValueError) as error:
        raise BertkitError(
            f"predictions of {where}: labels and probabilities do not belong together ({error})"
        ) from None
    return Answers(values, len(records), len(names))


def draw(task: str, answers: Sequence[Sequence[Mapping[str, Answers]]], draws: int) -> np.ndarray:
    """(draws,) differences of the task score, second minus first; NaN where a draw leaves a metric undefined."""
    rng, seeds = np.random.default_rng((0, TASKS.index(task))), len(answers[0])
    differences = np.empty(draws)
    for number in range(draws):
        chosen = rng.integers(seeds, size=seeds)
        rows = {split: rng.integers(one.rows, size=one.rows) for split, one in answers[0][0].items()}
        scores = [mean([score(task, side[seed], rows) for seed in chosen]) for side in answers]
        differences[number] = np.nan if None in scores else scores[1] - scores[0]
    return differences


def score(task: str, by_split: Mapping[str, Answers], rows: Mapping[str, np.ndarray]) -> float | None:
    """The task score on drawn rows."""
    of = places(task, by_split).items()
    return task_score(task, {metric: by_split[split].metric(name, rows[split]) for metric, (split, name) in of})


def difference(name: str, scores: Sequence[Sequence[float | None]], drawn: np.ndarray, rows: int) -> Difference:
    """One line of the comparison."""
    differences = [None if None in pair else pair[1] - pair[0] for pair in zip(*scores, strict=True)]
    paired = spread(differences)
    defined = drawn[~np.isnan(drawn)]
    has_interval = paired.mean is not None and len(defined)
    low, high = np.percentile(defined, (2.5, 97.5)).tolist() if has_interval else (None, None)
    better, undefined = sum(value is not None and value > 0 for value in differences), len(drawn) - len(defined)
    first, second = map(mean, scores)
    return Difference(name, first, second, *paired[:2], low, high, better, len(differences), rows, undefined)


def table(found: Sequence[Difference], names: tuple[str, str]) -> Table:
    caption = "On dev. Difference: second minus first, paired by seed; 95 % bootstrap interval over seeds and rows."
    scores = ("first", "second", "difference", "deviation", "low", "high")
    columns = ("task", *scores, "better in", "seeds", "rows", "undefined draws")
    return tabulate(f"{names[1]} against {names[0]}", caption, columns, found)

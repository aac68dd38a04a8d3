"""What a GLUE study came to: read from its folder, averaged over seeds, set beside people."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bertkit.data.glue import LAYOUTS
from bertkit.errors import BertkitError
from bertkit.metrics.classification import classification
from bertkit.metrics.glue import (
    OFFICIAL,
    TITLES,
    Average,
    Scores,
    beside_people,
    glue_score,
    mean,
    other_averages,
    task_score,
)
from bertkit.metrics.shown import counted
from bertkit.rundir import RunDir
from bertkit.studies.glue.folder import (
    ScoredShape,
    SourcesShape,
    answers_of,
    answers_path,
    open_study,
    rows_of,
    rows_path,
    run_of,
)
from bertkit.studies.glue.plan import Asked

DEV = "dev"  # every score of a study; GLUE's test labels are not public


class Spread(NamedTuple):
    """One number over seeds: fractions; `deviation` is the sample's, None for fewer than two seeds."""

    mean: float | None
    deviation: float | None
    best: float | None


@dataclass(frozen=True, kw_only=True)
class Results:
    """The scores of a study.

    Attributes:
        asked: what study.json says was asked.
        seeds: task -> seed -> metric -> fraction; finished runs only.
        rows: task -> rows that it was scored on.
        sources: task -> what sources.json says.
        failed: names of the jobs that failed, with the reason.
        waiting: names of the jobs that are not done yet.
        diagnostics: seed -> Matthews correlation of the MNLI model on the diagnostic set AX.
    """

    asked: Asked
    seeds: Mapping[str, Mapping[int, Scores]]
    rows: Mapping[str, int]
    sources: Mapping[str, Mapping]
    failed: tuple[str, ...]
    waiting: tuple[str, ...]
    diagnostics: Mapping[int, float | None]

    @property
    def scores(self) -> dict[str, Scores]:
        """Task -> metric -> mean over the seeds; None where a seed has it undefined."""
        return {
            task: {metric: mean([scores[metric] for scores in by_seed.values()]) for metric in metrics_of(by_seed)}
            for task, by_seed in self.seeds.items()
            if by_seed
        }

    def spread(self, task: str, metric: str | None = None) -> Spread:
        """The task's score, or one of its metrics, over the seeds."""
        values = [
            task_score(task, scores) if metric is None else scores[metric] for scores in self.seeds[task].values()
        ]
        return spread(values)

    @property
    def unofficial(self) -> list[str]:
        """Tasks that were not scored on GLUE's whole dev set."""
        return [task for task in self.scores if not self.is_official(task)]

    def is_official(self, task: str) -> bool:
        """Whether a task was scored on all of GLUE's dev set: not on held-back rows, nor on a subset."""
        splits = self.sources[task]["splits"]
        whole = sum(LAYOUTS[task].dev_rows.values())
        return self.rows[task] == whole and not splits["validation"]["held_back"]

    @property
    def average(self) -> Average:
        """The mean of the task scores; "GLUE" only for all nine tasks on their whole dev sets."""
        found = glue_score(self.scores)
        if found.name != "GLUE" or not self.unofficial:
            return found
        names = ", ".join(TITLES[task] for task in self.unofficial)
        return Average("mean of 9 of 9 tasks", found.value, f"{found.rule}; not on GLUE's dev set: {names}")

    @property
    def average_spread(self) -> Spread:
        """The average over the seeds for which every task is done."""
        whole = [seed for seed in self.asked.seeds if all(seed in self.seeds[task] for task in self.scores)]
        return spread([glue_score({task: self.seeds[task][seed] for task in self.scores}).value for seed in whole])

    @property
    def headline(self) -> str:
        """What the average is called, with its split and the number of seeds."""
        return f"{self.average.name} ({DEV}, {counted(len(self.asked.seeds), 'seed')})"

    def to_json(self) -> dict[str, object]:
        """What results.json holds."""
        return {
            "model": self.asked.model,
            "split": DEV,
            "label": self.headline,
            "average": {**self.average._asdict(), "over_seeds": self.average_spread._asdict()},
            "other_averages": [other._asdict() for other in other_averages(self.scores)],
            "relative_to_human": beside_people(self.scores),
            "tasks": {
                task: {
                    "score": self.spread(task)._asdict(),
                    "metrics": {metric: self.spread(task, metric)._asdict() for metric in scores},
                    "seeds": {str(seed): dict(values) for seed, values in self.seeds[task].items()},
                    "is_official_dev": self.is_official(task),
                }
                for task, scores in self.scores.items()
            },
            "diagnostics": spread(list(self.diagnostics.values()))._asdict() if self.diagnostics else None,
            "failed": list(self.failed),
            "waiting": list(self.waiting),
        }


def spread(values: Sequence[float | None]) -> Spread:
    """Mean, standard deviation and best of one number over seeds; an undefined one makes the first two undefined."""
    known = [value for value in values if value is not None]
    whole = bool(known) and len(known) == len(values)
    return Spread(
        mean(values), statistics.stdev(known) if whole and len(known) > 1 else None, max(known) if known else None
    )


def metrics_of(by_seed: Mapping[int, Scores]) -> list[str]:
    """The metrics that every seed has."""
    return [metric for metric in next(iter(by_seed.values())) if all(metric in scores for scores in by_seed.values())]


def gather(folder: str | Path) -> Results:
    """Read the finished runs of a study.

    Raises:
        BertkitError: it is no GLUE study, or a file of it is broken.
    """
    folder = Path(folder)
    study = open_study(folder)
    seeds: dict[str, dict[int, Scores]] = {task: {} for task in study.asked.tasks}
    rows = {}
    for task in seeds:
        for seed in study.asked.seeds:
            run = run_of(folder, task, seed)
            if run["metrics.json"].exists():
                metrics = run.open().read_json("metrics.json")
                seeds[task][seed] = scores_of(task, metrics, str(run["metrics.json"]))
                rows[task] = scored_count(metrics)
    sources = {
        task: RunDir(folder / "data" / task).read_json("sources.json", SourcesShape)
        for task in seeds
        if seeds[task] or (folder / "data" / task / "sources.json").exists()
    }
    states: dict[str, list[str]] = {"failed": [], "waiting": [], "running": [], "done": []}
    for run in study.runs:
        states[run.state].append(f"{run.name}: {run.note}" if run.note else run.name)
    return Results(
        asked=study.asked,
        seeds=seeds,
        rows=rows,
        sources=sources,
        failed=tuple(states["failed"]),
        waiting=tuple(states["waiting"] + states["running"]),
        diagnostics=diagnostics_of(folder, list(seeds.get("mnli", ()))),
    )


def has_labels(folder: Path) -> bool:
    """Whether the study has the diagnostic set with its labels; GLUE's own file has none."""
    is_there = rows_path(folder, "ax", "test").exists()
    return is_there and all(row["label"] is not None for row in rows_of(folder, "ax", "test"))


def diagnostics_of(folder: Path, seeds: Sequence[int]) -> dict[int, float | None]:
    """Seed -> Matthews correlation of the MNLI model on the diagnostic set, where it has answered that."""
    answered = [seed for seed in seeds if answers_path(run_of(folder, "mnli", seed), "ax", "test").exists()]
    if not answered or not has_labels(folder):
        return {}
    gold = [row["label"] for row in rows_of(folder, "ax", "test")]
    given = {seed: answers_of(folder, run_of(folder, "mnli", seed), "ax", "test") for seed in answered}
    return {
        seed: classification([answer["label"] for answer in answers], gold)["matthews"]
        for seed, answers in given.items()
    }


def scores_of(task: str, metrics: Mapping, where: str) -> dict[str, float | None]:
    """The official metrics of a finished run, from its metrics.json.

    Args:
        where: that file, for the message.
    Raises:
        BertkitError: a metric or the number of rows is not in it.
    """
    splits = metrics["splits"]
    found = {metric: ("validation", metric) for metric in OFFICIAL[task]}
    if task == "mnli":  # the run's test split is the mismatched dev set
        found = {"matched": ("validation", "accuracy")}
        if "test" in splits:
            found["mismatched"] = ("test", "accuracy")
    for split, metric in found.values():
        scores = splits.get(split, {})
        if type(scores.get("rows")) is not int or not isinstance(scores.get(metric, ""), float | int | None):
            raise BertkitError(f"{where}: it has no {metric} of {split}, with its rows", hint="train that run again")
    return {name: splits[split][metric] for name, (split, metric) in found.items()}


def scored_count(metrics: Mapping) -> int:
    """How many rows a run was scored on, as its metrics.json says."""
    return sum(split["rows"] for split in metrics["splits"].values() if isinstance(split.get("rows"), int))


def scored_rows(folder: Path, task: str, seed: int) -> dict[str, list[dict]]:
    """Split -> records of a finished run; MNLI's are called by its metrics, `matched` and `mismatched`.

    Raises:
        BertkitError: a predictions file is missing, broken, or does not hold the rows that were scored.
    """
    run = run_of(folder, task, seed)
    splits = run.read_json("metrics.json")["splits"]
    names = {"validation": "matched", "test": "mismatched"} if task == "mnli" else {}
    files = {"test": "predictions.jsonl", "validation": "predictions.validation.jsonl"}
    if "test" not in splits:
        files = {"validation": "predictions.jsonl"}
    answers = {}
    for split, file in sorted(files.items(), reverse=True):
        answers[names.get(split, split)] = records = list(run.read_jsonl(file, ScoredShape))
        if len(records) != splits[split]["rows"]:
            raise BertkitError(f"{run[file]} has {len(records)} rows, but {splits[split]['rows']} were scored")
    return answers

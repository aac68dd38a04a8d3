"""What a GLUE study came to: read from its folder, averaged over seeds, set beside people."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bertkit.data.glue import LAYOUTS
from bertkit.errors import BertkitError
from bertkit.metrics import glue
from bertkit.metrics.classification import classification
from bertkit.metrics.glue import OFFICIAL, TITLES, Average, Scores, glue_score, places, task_score
from bertkit.metrics.shown import counted, mean
from bertkit.rundir import RunDir
from bertkit.studies.glue.folder import (
    Asked,
    SourcesShape,
    answers_of,
    answers_path,
    diagnostic_labels,
    open_study,
    run_of,
)

DEV = "dev"  # every score of a study; GLUE's test labels are not public


class Spread(NamedTuple):
    """One number over seeds: fractions; `deviation` is the sample's, None for fewer than two seeds."""

    mean: float | None
    deviation: float | None
    best: float | None


def spread(values: Sequence[float | None]) -> Spread:
    """Mean, standard deviation and best of one number over seeds; an undefined one makes the first two undefined."""
    known = [value for value in values if value is not None]
    deviation = statistics.stdev(known) if len(known) == len(values) > 1 else None
    return Spread(mean(values), deviation, max(known, default=None))


@dataclass(frozen=True, kw_only=True)
class Results:
    """The scores of a study."""

    asked: Asked
    seeds: Mapping[str, Mapping[int, Scores]]  # task -> seed -> metric -> fraction; finished runs only
    rows: Mapping[str, int]  # task -> rows that it was scored on
    sources: Mapping[str, Mapping]  # task -> what sources.json says
    failed: Sequence[str]  # names of the jobs that failed, with the reason
    waiting: Sequence[str]  # names of the jobs that are not done yet
    diagnostics: Mapping[int, float | None]  # seed -> Matthews correlation of the MNLI model on the diagnostic set AX

    @property
    def scores(self) -> dict[str, Scores]:
        """Task -> metric that every seed has -> mean over the seeds; None where a seed has it undefined."""
        return {
            task: {
                metric: mean([scores[metric] for scores in by_seed.values()])
                for metric in OFFICIAL[task]
                if all(metric in scores for scores in by_seed.values())
            }
            for task, by_seed in self.seeds.items()
            if by_seed
        }

    def spread(self, task: str, metric: str | None = None) -> Spread:
        """The task's score, or one of its metrics, over the seeds."""
        runs = self.seeds[task].values()
        return spread([task_score(task, scores) if metric is None else scores[metric] for scores in runs])

    @property
    def unofficial(self) -> list[str]:
        """Tasks that were not scored on all of GLUE's dev set: on held-back rows, or on a subset."""
        return [
            task
            for task in self.scores
            if self.rows[task] != sum(LAYOUTS[task].dev_rows.values())
            or self.sources[task]["splits"]["validation"]["held_back"]
        ]

    @property
    def average(self) -> Average:
        """The mean of the task scores; "GLUE" only for all nine tasks on their whole dev sets."""
        found = glue_score(self.scores)
        if not self.unofficial:
            return found
        name = "mean of 9 of 9 tasks" if found.name == "GLUE" else found.name
        elsewhere = ", ".join(TITLES[task] for task in self.unofficial)
        return Average(name, found.value, f"{found.rule}; not on GLUE's dev set: {elsewhere}")

    @property
    def whole_seeds(self) -> list[int]:
        """The seeds for which every task is done."""
        return [seed for seed in self.asked.seeds if all(seed in self.seeds[task] for task in self.scores)]

    @property
    def average_spread(self) -> Spread:
        """The average over the whole seeds."""
        return spread(
            [glue_score({task: self.seeds[task][seed] for task in self.scores}).value for seed in self.whole_seeds]
        )

    @property
    def headline(self) -> str:
        """What the average is called, with its split and the number of seeds, from the least to the most of a task."""
        counts = sorted(len(self.seeds[task]) for task in self.scores) or [len(self.asked.seeds)]
        least = f"{counts[0]} to " if counts[0] < counts[-1] else ""
        return f"{self.average.name} ({DEV}, {least}{counted(counts[-1], 'seed')})"

    def to_json(self) -> dict[str, object]:
        """What results.json holds."""
        unofficial = self.unofficial
        return {
            "model": self.asked.model,
            "split": DEV,
            "label": self.headline,
            "average": {**self.average._asdict(), "over_seeds": self.average_spread._asdict()},
            "other_averages": [other._asdict() for other in glue.other_averages(self.scores)],
            "relative_to_human": glue.beside_people(self.scores),
            "tasks": {
                task: {
                    "score": self.spread(task)._asdict(),
                    "metrics": {metric: self.spread(task, metric)._asdict() for metric in scores},
                    "seeds": {str(seed): dict(values) for seed, values in self.seeds[task].items()},
                    "is_official_dev": task not in unofficial,
                }
                for task, scores in self.scores.items()
            },
            "diagnostics": spread(list(self.diagnostics.values()))._asdict() if self.diagnostics else None,
            "failed": list(self.failed),
            "waiting": list(self.waiting),
        }


def gather(folder: str | Path) -> Results:
    """Read the finished runs of a study; refuses a folder that is no GLUE study, or has a broken file."""
    folder = Path(folder)
    study = open_study(folder)
    seeds: dict[str, dict[int, Scores]] = {task: {} for task in study.asked.tasks}
    rows, sources = {}, {}
    for task in seeds:
        for seed in study.asked.seeds:
            run = run_of(folder, task, seed)
            if run["metrics.json"].exists():
                seeds[task][seed], rows[task] = read_scores(task, run)
        kept = RunDir(folder / "data" / task)
        if seeds[task] or kept["sources.json"].exists():
            sources[task] = kept.read_json("sources.json", SourcesShape)
    states = defaultdict(list)
    for run in study.runs:
        states[run.state].append(f"{run.name}: {run.note}" if run.note else run.name)
    return Results(
        asked=study.asked,
        seeds=seeds,
        rows=rows,
        sources=sources,
        failed=states["failed"],
        waiting=[*states["waiting"], *states["running"]],
        diagnostics=score_diagnostics(folder, list(seeds.get("mnli", ()))),
    )


def read_scores(task: str, run: RunDir) -> tuple[dict[str, float | None], int]:
    """The official metrics of a finished run, and how many rows they are of; refuses a run that lacks either."""
    splits = run.open().read_json("metrics.json")["splits"]
    found = places(task, splits)
    for split, metric in found.values():
        scores = splits.get(split, {})
        if type(scores.get("rows")) is not int or not isinstance(scores.get(metric, ""), float | int | None):
            where = run["metrics.json"]
            raise BertkitError(f"{where}: it has no {metric} of {split}, with its rows", hint="train that run again")
    rows = sum(splits[split]["rows"] for split in {split for split, _ in found.values()})
    return {name: splits[split][metric] for name, (split, metric) in found.items()}, rows


def score_diagnostics(folder: Path, seeds: Sequence[int]) -> dict[int, float | None]:
    """Seed -> Matthews correlation of the MNLI model on the diagnostic set, where it has answered that."""
    scores, gold = {}, diagnostic_labels(folder) if seeds else []
    for seed in seeds if gold else ():
        run = run_of(folder, "mnli", seed)
        if answers_path(run, "ax", "test").exists():
            given = [answer["label"] for answer in answers_of(folder, run, "ax", "test")]
            scores[seed] = classification(given, gold)["matthews"]
    return scores

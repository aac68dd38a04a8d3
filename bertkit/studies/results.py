"""What a GLUE study came to: read from its folder, averaged over seeds, set beside people."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, Field, JsonValue, field_validator

from bertkit.data.glue import LAYOUTS
from bertkit.errors import BertkitError, did_you_mean
from bertkit.findings import Dots, Finding, Note, Table, to_json
from bertkit.metrics.glue import (
    HUMAN,
    OFFICIAL,
    PUBLISHED,
    TASKS,
    TITLES,
    WNLI_MAJORITY,
    Average,
    Scores,
    beside_people,
    glue_score,
    human_score,
    is_complete,
    mean,
    other_averages,
    task_score,
)
from bertkit.metrics.shown import describe_scores, short_name
from bertkit.rundir import RunDir

SCHEMA = 1  # of study.json
DIAGNOSTICS = "ax.json"  # of an MNLI run: its scores on the diagnostic set
SPREAD = ("deviation", "best", "seeds")  # columns that tell nothing of one seed
DEV = "dev"  # every score of a study; GLUE's test labels are not public


class AskedShape(BaseModel):
    """`asked` in study.json, as far as readers rely on it."""

    model: str
    tasks: list[str]
    seeds: list[int] = Field(min_length=1)
    glue: dict[str, JsonValue]

    @field_validator("tasks")
    @classmethod
    def _are_known(cls, tasks: list[str]) -> list[str]:
        if unknown := set(tasks) - set(TASKS):
            raise ValueError(f"there is no task {min(unknown)!r}")
        return tasks


class RunShape(BaseModel):
    """One of `runs` in study.json."""

    name: str
    state: str
    note: str


class StudyShape(BaseModel):
    """study.json."""

    asked: AskedShape
    runs: list[RunShape]


class SplitShape(BaseModel):
    """One of `splits` in sources.json."""

    rows: int
    source: str
    held_back: bool
    skipped: list[str] = []
    sha256: str | None = None


class SourcesShape(BaseModel):
    """sources.json of a task."""

    missing: list[str]
    characters: int
    splits: dict[str, SplitShape]


class RowShape(BaseModel):
    """A row of a task, as the study keeps it."""

    id: str
    text: str
    second: str = ""
    label: str | float | None


class AnswerShape(BaseModel):
    """A line of predictions.jsonl."""

    id: str
    gold: str | float
    label: str | float


class DiagnosticsShape(BaseModel):
    """ax.json of an MNLI run."""

    matthews: float | None


class Spread(NamedTuple):
    """One number over seeds: fractions; `deviation` is the sample's, None for fewer than two seeds."""

    mean: float | None
    deviation: float | None
    best: float | None


class Results(NamedTuple):
    """The scores of a study.

    Attributes:
        model: the checkpoint.
        seeds: task -> seed -> metric -> fraction; finished runs only.
        rows: task -> rows that it was scored on.
        sources: task -> what sources.json says.
        failed: names of the jobs that failed, with the reason.
        waiting: names of the jobs that are not done yet.
        asked: what study.json says was asked.
        diagnostics: seed -> Matthews correlation of the MNLI model on the diagnostic set AX.
    """

    model: str
    seeds: Mapping[str, Mapping[int, Scores]]
    rows: Mapping[str, int]
    sources: Mapping[str, Mapping]
    failed: tuple[str, ...]
    waiting: tuple[str, ...]
    asked: Mapping
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
        whole = [seed for seed in self.asked["seeds"] if all(seed in self.seeds[task] for task in self.scores)]
        return spread([glue_score({task: self.seeds[task][seed] for task in self.scores}).value for seed in whole])

    @property
    def headline(self) -> str:
        """What the average is called, with its split and the number of seeds."""
        count = len(self.asked["seeds"])
        return f"{self.average.name} ({DEV}, {count} seed{'s' if count > 1 else ''})"

    def to_json(self) -> dict[str, object]:
        """What results.json holds."""
        return {
            "model": self.model,
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


def open_study(folder: Path) -> dict:
    """What study.json says.

    Raises:
        BertkitError: this is no GLUE study, or one of another schema.
    """
    if not (folder / "study.json").exists():
        what = "is not a GLUE study (it has no study.json)" if folder.is_dir() else "does not exist"
        raise BertkitError(f"{folder} {what}", hint="give the folder that `bertkit glue run --out` wrote")
    study = RunDir(folder).read_json("study.json")
    if study.get("study") != "glue" or study.get("schema") != SCHEMA:
        raise BertkitError(f"{folder}: study {study.get('study')!r} of schema {study.get('schema')!r} is not read here")
    return RunDir(folder).read_json("study.json", StudyShape)


def named_tasks(asked: Sequence[str], known: Sequence[str]) -> set[str]:
    """The tasks that `--tasks` names, by their titles or short names, whatever the case."""
    names = {**{LAYOUTS[task].title.lower(): task for task in known}, **{task: task for task in known}}
    for name in asked:
        if name.lower() not in names:
            raise BertkitError(f"--tasks: there is no task {name!r}", hint=did_you_mean(name, known))
    return {names[name.lower()] for name in asked}


def run_name(task: str, seed: int) -> str:
    """Name of a job's files and of its run directory."""
    return f"{task}-{seed}"


def run_of(folder: Path, task: str, seed: int) -> RunDir:
    """The run directory of a job."""
    return RunDir(folder / "runs" / run_name(task, seed))


def gather(folder: str | Path) -> Results:
    """Read the finished runs of a study.

    Raises:
        BertkitError: it is no GLUE study, or a file of it is broken.
    """
    folder = Path(folder)
    study = open_study(folder)
    asked = study["asked"]
    seeds: dict[str, dict[int, Scores]] = {task: {} for task in asked["tasks"]}
    rows = {}
    for task in seeds:
        for seed in asked["seeds"]:
            run = run_of(folder, task, seed)
            if run["metrics.json"].exists():
                metrics = run.open().read_json("metrics.json")
                seeds[task][seed] = scores_of(task, metrics, str(run["metrics.json"]))
                rows[task] = rows_of(metrics)
    sources = {
        task: RunDir(folder / "data" / task).read_json("sources.json", SourcesShape)
        for task in seeds
        if seeds[task] or (folder / "data" / task / "sources.json").exists()
    }
    states = {
        state: tuple(f"{run['name']}: {run['note']}" if run["note"] else run["name"]
                     for run in study["runs"] if run["state"] in names)
        for state, names in (("failed", ("failed",)), ("waiting", ("waiting", "running")))
    }  # fmt: skip
    diagnostics = {
        seed: run.read_json(DIAGNOSTICS, DiagnosticsShape)["matthews"]
        for seed in seeds.get("mnli", {})
        if (run := run_of(folder, "mnli", seed))[DIAGNOSTICS].exists()
    }
    return Results(asked["model"], seeds, rows, sources, states["failed"], states["waiting"], asked, diagnostics)


def scores_of(task: str, metrics: Mapping, where: str) -> dict[str, float | None]:
    """The official metrics of a finished run, from its metrics.json.

    Args:
        where: that file, for the message.
    Raises:
        BertkitError: a metric or the number of rows is not in it.
    """
    splits = metrics["splits"]
    places = {metric: ("validation", metric) for metric in OFFICIAL[task]}
    if task == "mnli":  # the run's test split is the mismatched dev set
        places = {"matched": ("validation", "accuracy")}
        if "test" in splits:
            places["mismatched"] = ("test", "accuracy")
    for split, metric in places.values():
        scores = splits.get(split, {})
        if type(scores.get("rows")) is not int or not isinstance(scores.get(metric, ""), float | int | None):
            raise BertkitError(f"{where}: it has no {metric} of {split}, with its rows", hint="train that run again")
    return {name: splits[split][metric] for name, (split, metric) in places.items()}


def rows_of(metrics: Mapping) -> int:
    """How many rows a run was scored on, as its metrics.json says."""
    return sum(split["rows"] for split in metrics["splits"].values() if isinstance(split.get("rows"), int))


def answers_of(folder: Path, task: str, seed: int) -> dict[str, list[dict]]:
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
        answers[names.get(split, split)] = records = list(run.read_jsonl(file, AnswerShape))
        if len(records) != splits[split]["rows"]:
            raise BertkitError(f"{run[file]} has {len(records)} rows, but {splits[split]['rows']} were scored")
    return answers


def describe_run(run: RunDir) -> str:
    """The headline score of a finished run, in a few words."""
    metrics = run.read_json("metrics.json")
    headline = str(metrics["headline"])
    return describe_scores({headline: metrics["splits"]["validation"][headline]})


def findings(results: Results, published: bool) -> list[Finding]:
    """What a reader would look at."""
    notes = [Note(title=title, text=text) for title, text in notes_of(results)]
    if not results.scores:
        return [*notes, Note(title="No results yet", text="No job is done.")]
    return [*notes, tasks_table(results), dots(results, published), metrics_table(results), averages_table(results),
            *([published_table()] if published else []), data_table(results)]  # fmt: skip


def notes_of(results: Results) -> list[tuple[str, str]]:
    """(title, text) of what a reader must not miss."""
    scores, notes = results.scores, []
    if results.average.name != "GLUE" and scores:
        notes.append(("Not the GLUE score", f"This is the {results.average.name}: {results.average.rule}."))
    missing = [text for task in results.unofficial for text in results.sources[task]["missing"] if "test" not in text]
    if missing:
        notes.append(("Data", f"{'. '.join(missing)}."))
    if undefined := [TITLES[task] for task, found in scores.items() if None in found.values()]:
        text = f"{', '.join(undefined)}: a metric is undefined, for all predictions or all labels are the same."
        notes.append(("Undefined", f"{text} The average is undefined with it."))
    wnli = results.spread("wnli").mean if "wnli" in scores else None
    if wnli is not None and wnli <= WNLI_MAJORITY[DEV] + 0.001:
        text = f"WNLI at {100 * wnli:.1f} is not above the most frequent label ({100 * WNLI_MAJORITY[DEV]:.1f} on dev)."
        notes.append(("WNLI", f"{text} Its dev set shares premises with train, with the other label."))
    if results.asked["glue"]["from_mnli"]:
        notes.append(("From MNLI", "MRPC, STS-B and RTE started from the MNLI model of the same seed."))
    if results.diagnostics:
        value = spread(list(results.diagnostics.values())).mean
        text = f"Matthews correlation {'undefined' if value is None else f'{100 * value:.1f}'}, by the MNLI model"
        notes.append(("Diagnostic set (AX)", f"{text}; it enters no average."))
    if results.failed:
        notes.append(("Failed jobs", "; ".join(results.failed)))
    if results.waiting:
        notes.append(("Unfinished", f"Not done yet: {'; '.join(results.waiting)}."))
    if scores:
        notes.append(("Dev and test", "Our scores are on dev; people and published rows were scored on test."))
    return notes


def tasks_table(results: Results) -> Table:
    """One row a task: its score, its spread over seeds, and people."""
    relative = beside_people(results.scores)
    rows = []
    for task, scores in results.scores.items():
        found = results.spread(task)
        name = TITLES[task] if is_complete(task, scores) else f"{TITLES[task]} ({', '.join(scores)} only)"
        rows.append((name, *found, human_score(task, scores), fixed(relative[task]), " / ".join(scores),
                     results.rows[task], len(results.seeds[task])))  # fmt: skip
    average = results.average_spread
    rows.append((results.average.name, results.average.value, *average[1:],
                 mean([human_score(task, scores) for task, scores in results.scores.items()]),
                 fixed(relative["average"]), "mean of the above", None, len(results.asked["seeds"])))  # fmt: skip
    table = Table(
        title="Scores by task",
        caption="Task score: the unweighted mean of the task's metrics, on dev. Human: on test, Nangia and Bowman "
        "2019, by the same metrics; relative: human = 1.",
        columns=("task", "score", "deviation", "best", "human", "relative", "metrics", "dev rows", "seeds"),
        rows=tuple(rows),
        plain=("relative",),
    )
    return table if len(results.asked["seeds"]) > 1 else without(table, SPREAD)


def without(table: Table, names: Sequence[str]) -> Table:
    """The table without some of its columns."""
    kept = [place for place, name in enumerate(table.columns) if name not in names]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return table.model_copy(update={"columns": tuple(table.columns[place] for place in kept), "rows": rows})


def fixed(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def metrics_table(results: Results) -> Table:
    """One row for each official metric."""
    table = Table(
        title="Official metrics",
        caption="On dev; the mean over the seeds.",
        columns=("task", "metric", "mean", "deviation", "best"),
        rows=tuple(
            (TITLES[task], metric, *results.spread(task, metric))
            for task, scores in results.scores.items()
            for metric in scores
        ),
    )
    return table if len(results.asked["seeds"]) > 1 else without(table, SPREAD)


def averages_table(results: Results) -> Table:
    """The other numbers that are printed as a GLUE average."""
    rows = [results.average, *other_averages(results.scores)]
    return Table(
        title="Averages in print",
        caption="Compare a number only with one of the same rule, on the same split.",
        columns=("name", "value", "rule"),
        rows=tuple((row.name, row.value, row.rule) for row in rows),
    )


def dots(results: Results, published: bool) -> Dots:
    """Models along x, a dot a task, people at 1, the average as a curve."""
    rows = {row.name: row.scores for row in PUBLISHED if row.split == "test" and glue_score(row.scores).name == "GLUE"}
    rows = dict(sorted(rows.items(), key=lambda row: glue_score(row[1]).value)) if published else {}
    names = {f"{name} (test)": beside_people(scores) for name, scores in rows.items()}
    ours = f"{short_name(results.model)} (dev)"
    relative = {**names, ours: beside_people(results.scores)}
    return Dots(
        title="Beside people",
        caption="Task scores relative to people (human = 1). Hollow: published, scored on test; filled: this study, on "
        "dev. The average is of the tasks that are there, relative to people on the same tasks.",
        y_label="score / human score",
        x=tuple(relative),
        groups={TITLES[task]: tuple(row.get(task) for row in relative.values()) for task in TASKS},
        curve_label="average",
        curve=tuple(row["average"] for row in relative.values()),
        reference=1.0,
        reference_label="human",
        published=tuple(names),
    )


def published_table() -> Table:
    """The rows that others have printed, for comparison."""
    return Table(
        title="Published rows",
        caption="As printed; where two metrics are printed, the task score is their mean. Undefined: not printed.",
        columns=("model", "split", *(TITLES[task] for task in TASKS), "GLUE", "source"),
        rows=tuple(
            (row.name, row.split,
             *(task_score(task, row.scores[task]) if is_complete(task, row.scores.get(task, {})) else None
               for task in TASKS),
             found.value if (found := glue_score(row.scores)).name == "GLUE" else None, row.source)
            for row in (*PUBLISHED, HUMAN)
        ),
    )  # fmt: skip


def data_table(results: Results) -> Table:
    """Where the rows came from."""
    return Table(
        title="Data",
        caption="Rows as read; skipped rows are named in data/TASK/sources.json.",
        columns=("task", "split", "rows", "skipped", "held back", "source", "sha256"),
        rows=tuple(
            (TITLES[task], name, split["rows"], len(split["skipped"]), "yes" if split["held_back"] else "",
             split["source"], (split["sha256"] or "")[:12])
            for task, sources in results.sources.items()
            for name, split in sources["splits"].items()
        ),
    )  # fmt: skip


def conclude(folder: Path, study: Mapping[str, object]) -> None:
    """Write study.json, results.json and findings.json from what is on disk."""
    place = RunDir(folder)
    place.write_json("study.json", study)
    results = gather(folder)
    place.write_json("results.json", results.to_json())
    place.write_json("findings.json", to_json(findings(results, bool(results.asked["glue"]["published"]))))
    facts = {
        "model": results.model,
        "data": str(results.asked["data"] or "nyu-mll/glue (Hub)"),
        "seeds": ", ".join(map(str, results.asked["seeds"])),
        "settings": " ".join(results.asked["settings"]) or "the recommended ones of each task",
        "split": f"{DEV}; the labels of GLUE's test sets are not public",
    }
    headline = {"label": results.headline, "value": results.average.value}
    place.write_json("study.json", {**study, "headline": headline, "facts": facts})


def lines(results: Results) -> list[str]:
    """The results as lines for a terminal."""
    return aligned(without(tasks_table(results), ("metrics", "dev rows", "seeds")))


def aligned(table: Table) -> list[str]:
    """A table as aligned lines: fractions times 100, undefined ones as `-`."""
    body = [list(table.columns)]
    body += [
        [shown(cell, name in table.plain) for cell, name in zip(row, table.columns, strict=True)] for row in table.rows
    ]
    widths = [max(map(len, column)) for column in zip(*body, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in body
    ]


def shown(value: object, is_plain: bool) -> str:
    """A cell as people read it."""
    if isinstance(value, float):
        return f"{value:.3f}" if is_plain else f"{100 * value:.2f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)

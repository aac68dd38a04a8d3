"""Where a GLUE study keeps its files, and what a reader relies on in them.

`study.json` (what was asked, and the state of its jobs), `data/TASK/SPLIT.jsonl` (the rows as they were read, with
their `sources.json`), `recipes/JOB.yaml`, `runs/JOB/` (run directories), `logs/JOB.log`, `answers/JOB/` (what a run
predicts for rows without labels), `results.json`, `findings.json`, `report.html`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from bertkit.errors import BertkitError
from bertkit.rundir import RunDir
from bertkit.studies.glue.plan import Asked
from bertkit.studies.runner.jobs import State


class RunShape(BaseModel):
    """One of `runs` in study.json."""

    name: str
    state: State
    note: str


class StudyShape(BaseModel):
    """study.json."""

    schema_: Literal[1] = Field(alias="schema")
    study: Literal["glue"]
    asked: Asked
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


class PredictionShape(BaseModel):
    """A line of the file that `bertkit predict` writes."""

    id: str
    label: str | float


class ScoredShape(PredictionShape):
    """A line of predictions.jsonl."""

    gold: str | float


def open_study(folder: Path) -> StudyShape:
    """What study.json says.

    Raises:
        BertkitError: this is no GLUE study, or one of another schema.
    """
    if not (folder / "study.json").exists():
        what = "is not a GLUE study (it has no study.json)" if folder.is_dir() else "does not exist"
        raise BertkitError(f"{folder} {what}", hint="give the folder that `bertkit glue run --out` wrote")
    return StudyShape.model_validate(RunDir(folder).read_json("study.json", StudyShape))


def run_of(folder: Path, task: str, seed: int) -> RunDir:
    """The run directory of a job; its name is that of the job's other files, too."""
    return RunDir(folder / "runs" / f"{task}-{seed}")


def rows_path(folder: Path, task: str, split: str) -> Path:
    """The rows of a task as the study keeps them."""
    return folder / "data" / task / f"{split}.jsonl"


def rows_of(folder: Path, task: str, split: str) -> Iterator[dict]:
    """The rows of a task, checked one by one."""
    path = rows_path(folder, task, split)
    return RunDir(path.parent).read_jsonl(path.name, RowShape)


def answers_path(run: RunDir, task: str, split: str) -> Path:
    """What a run predicts for rows that are not its own."""
    return run.path.parent.parent / "answers" / run.path.name / f"{task}.{split}.jsonl"


def answers_of(folder: Path, run: RunDir, task: str, split: str) -> list[dict]:
    """The answers of a run to the rows of a split, in their order.

    Raises:
        BertkitError: the answers are missing or broken, or are not to these rows.
    """
    path = answers_path(run, task, split)
    answers = list(RunDir(path.parent).read_jsonl(path.name, PredictionShape))
    if [answer["id"] for answer in answers] != [row["id"] for row in rows_of(folder, task, split)]:
        raise BertkitError(f"{path} does not answer the rows of {rows_path(folder, task, split)}", hint="remove it")
    return answers

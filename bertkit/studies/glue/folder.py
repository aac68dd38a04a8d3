"""Where a GLUE study keeps its files, and what a reader relies on in them.

`study.json` (what was asked, and the state of its jobs), `data/TASK/SPLIT.jsonl` (the rows as they were read, with
their `sources.json`), `recipes/JOB.yaml`, `runs/JOB/` (run directories), `logs/JOB.log`, `answers/JOB/` (what a run
predicts for rows without labels), `results.json`, `findings.json`, `report.html`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bertkit.config import Section, knob
from bertkit.errors import BertkitError
from bertkit.metrics.glue import TASKS
from bertkit.pages.html import Study
from bertkit.rundir import RunDir


class GlueConfig(Section):
    """What is asked of the study as a whole: `glue.KEY=VALUE`."""

    from_mnli: bool = knob(False, "MRPC, STS-B and RTE start from the model of MNLI with the same seed")
    held_back: Annotated[float, Field(gt=0, lt=1)] = knob(
        0.1, "last share of train that stands in for a dev file that is not there"
    )
    published: bool = knob(True, "draw published rows (test) beside ours (dev)")


class Asked(BaseModel):
    """What a study was asked to do, as study.json keeps it; a study goes on only with the same."""

    model_config = ConfigDict(frozen=True)

    model: str
    data: str | None = None
    tasks: list[Literal[*TASKS]]
    seeds: list[int] = Field(min_length=1)
    settings: list[str] = []
    glue: GlueConfig


class StudyShape(Study):  # study.json, as far as a reader relies on it; so are those below
    study: Literal["glue"]
    asked: Asked


class SplitShape(BaseModel):
    rows: int
    source: str
    held_back: bool
    skipped: list[str] = []
    sha256: str | None = None


class SourcesShape(BaseModel):  # sources.json of a task
    missing: list[str]
    characters: int
    splits: dict[str, SplitShape]


class RowShape(BaseModel):  # a line of data/TASK/SPLIT.jsonl
    id: str
    text: str
    second: str = ""
    label: str | float | None


class PredictionShape(BaseModel):  # a line of the file that `bertkit predict` writes
    id: str
    label: str | float


class ScoredShape(PredictionShape):  # a line of predictions.jsonl
    gold: str | float


def open_study(folder: Path) -> StudyShape:
    """What study.json says; refuses what is no GLUE study, or one of another schema."""
    if not (folder / "study.json").exists():
        what = "is not a GLUE study (it has no study.json)" if folder.is_dir() else "does not exist"
        raise BertkitError(f"{folder} {what}", hint="give the folder that `bertkit glue run --out` wrote")
    return StudyShape.model_validate(RunDir(folder).read_json("study.json", StudyShape))


def run_of(folder: Path, task: str, seed: int) -> RunDir:
    """The run directory of a job; its name is that of the job's other files, too."""
    return RunDir(folder / "runs" / f"{task}-{seed}")


def rows_path(folder: Path, task: str, split: str) -> Path:
    return folder / "data" / task / f"{split}.jsonl"


def rows_of(folder: Path, task: str, split: str) -> Iterator[dict]:
    """The rows of a task, checked one by one."""
    path = rows_path(folder, task, split)
    return RunDir(path.parent).read_jsonl(path.name, RowShape)


def answers_path(run: RunDir, task: str, split: str) -> Path:
    return run.path.parent.parent / "answers" / run.path.name / f"{task}.{split}.jsonl"


def answers_of(folder: Path, run: RunDir, task: str, split: str) -> list[dict]:
    """The answers of a run to the rows of a split, in their order; refuses answers to other rows."""
    path = answers_path(run, task, split)
    answers = list(RunDir(path.parent).read_jsonl(path.name, PredictionShape))
    if [answer["id"] for answer in answers] != [row["id"] for row in rows_of(folder, task, split)]:
        raise BertkitError(f"{path} does not answer the rows of {rows_path(folder, task, split)}", hint="remove it")
    return answers


def diagnostic_labels(folder: Path) -> list[str]:
    """The right labels of the diagnostic set; none where the study lacks it, or its labels, as GLUE's own file does."""
    is_there = rows_path(folder, "ax", "test").exists()
    labels = [row["label"] for row in rows_of(folder, "ax", "test")] if is_there else []
    return [] if None in labels else labels

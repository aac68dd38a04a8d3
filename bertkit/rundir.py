"""A run on disk: the names of its files, how they are written, and what a reader relies on in them."""

import json
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, Field, JsonValue, ValidationError

from bertkit import disk
from bertkit.errors import BertkitError

SCHEMA = 1  # of the run directory; a reader refuses any other
OPENING = {"checkpoints", "environment.json", "task.json", "recipe.yaml"}  # what a run holds before its first step
HISTORY, PACE = "history.jsonl", "pace.jsonl"

Whole = Annotated[int, Field(ge=0, lt=2**63)]  # JSON has larger ones, which no float can follow
Scores = dict[str, Whole | float | None]  # metric -> fraction or None, and `rows`


class Metrics(BaseModel):
    """metrics.json, as far as readers rely on it."""

    headline: str
    split: str | None = None
    splits: dict[str, Scores] = {}
    train: Scores = {}  # rows, steps and seconds of the training
    best: dict[str, JsonValue] | None = None


class Environment(BaseModel):
    """environment.json, as far as readers rely on it."""

    schema_: int = Field(alias="schema")
    packages: dict[str, str] = {}
    data: dict[str, str] = {}


class Moment(BaseModel):
    """A line of history.jsonl or pace.jsonl, as far as readers rely on it."""

    step: Whole
    epoch: float = 0.0
    loss: float | None = None


SHAPES: Mapping[str, type[BaseModel]] = {
    "metrics.json": Metrics,
    "environment.json": Environment,
    HISTORY: Moment,
    PACE: Moment,
}


class RunDir:
    """The contract between a run and those who read it later.

    `recipe.yaml` (fully resolved), `task.json` (the task with its labels), `environment.json`, `history.jsonl` (what
    was learned, to the same digits in every run), `pace.jsonl` (seconds, memory, micro-batches, which differ),
    `metrics.json`, `predictions.jsonl` (of the last split; `predictions.validation.jsonl` beside it when there is a
    test split too), `findings.json`, `checkpoints/step-000500/`, `model/` (plain `save_pretrained`),
    `onnx/` (what `bertkit export` wrote).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __getitem__(self, name: str) -> Path:
        return self.path / name

    @property
    def checkpoints(self) -> Path:
        """Folder of the resumable checkpoints and of the best weights."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """Folder that any Hugging Face program loads."""
        return self.path / "model"

    def trained(self) -> Path:
        """The folder `model`; a BertkitError where the run is not finished."""
        if not self.model.is_dir():
            raise BertkitError(f"{self.path} has no model yet", hint="finish it with `bertkit train ... --resume`")
        return self.model

    @contextmanager
    def claim(self, resume: bool) -> Iterator[Self]:
        """Hold the folder for this process while the block runs; a new folder that stays empty is removed.

        A finished run where nothing can be written is not held: it has nothing left to do.

        Raises:
            BertkitError: the path is a file, holds another run, or holds files that are no run; or another process is
                at work in it.
        """
        is_settled = resume and self["metrics.json"].exists() and not os.access(self.path, os.W_OK)
        with nullcontext() if is_settled else disk.held(self.path, is_needed=False):
            self._refuse(resume)
            yield self

    def _refuse(self, resume: bool) -> None:
        """Refuse what the folder holds, where a run must not begin or go on there."""
        there = {entry.name.removeprefix(disk.TEMPORARY) for entry in self.path.iterdir()} - {disk.LOCK}
        if not there:
            return
        if not self["recipe.yaml"].exists():
            if resume and there <= OPENING:
                return  # a process was killed while it opened the run
            raise BertkitError(f"{self.path} is not empty and holds no run", hint="give --out a new name")
        if not resume:
            raise BertkitError(
                f"{self.path} holds a run already, which is never overwritten",
                hint="continue it with --resume, or give --out a new name",
            )

    def is_at_work(self) -> bool | None:
        """Whether a process trains this run; None when that cannot be known from this machine."""
        with suppress(BertkitError):
            if disk.is_held(self.path):
                return True
            if self.read_json("environment.json").get("host") == platform.node():
                return False
        return None  # a disk may keep locks to each machine

    def sweep(self) -> None:
        """Remove what killed processes left half-written, and the best weights once `model/` holds them for good."""
        patterns = [f"{disk.TEMPORARY}*", f"{disk.REPLACED}*"]
        for folder in (self.path, self.checkpoints):
            for pattern in [*patterns, "best-*"] if self["metrics.json"].exists() else patterns:
                for left in folder.glob(pattern):
                    disk.remove(left)

    def open(self) -> Self:
        """Check that this is a run that can be read.

        Raises:
            BertkitError: the folder is missing, is no run, or is of another schema.
        """
        if not self["recipe.yaml"].exists():
            what = "is not a run (it has no recipe.yaml)" if self.path.is_dir() else "does not exist"
            raise BertkitError(f"{self.path} {what}", hint="give the folder that `bertkit train --out` wrote")
        schema = self.read_json("environment.json").get("schema")
        if schema != SCHEMA:
            raise BertkitError(
                f"{self.path} has schema {schema!r}, this version reads {SCHEMA}",
                hint="train it again, or use the version in its environment.json",
            )
        return self

    def write_json(self, name: str, value: object) -> None:
        """Write one JSON file atomically, readable by people."""
        disk.write_atomically(self[name], json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def read_json(self, name: str, shape: type[BaseModel] | None = None) -> dict:
        """Read one JSON file of the run.

        Args:
            shape: what it must hold; else as SHAPES has it.
        Raises:
            BertkitError: the file is missing or broken, or does not hold what it should.
        """
        try:
            return shaped(disk.parse(disk.read_whole(self[name])), shape or SHAPES.get(name))
        except FileNotFoundError:
            raise BertkitError(f"{self[name]} is missing", hint="the run did not finish; go on with --resume") from None
        except (OSError, ValueError) as error:
            raise BertkitError(f"{self[name]} cannot be read ({error})") from None

    def append_history(self, records: Iterable[Mapping[str, object]], name: str = HISTORY) -> None:
        """Add lines to history.jsonl, or to pace.jsonl; a reader may follow it while the run goes on."""
        with disk.disk_errors(self[name]), self[name].open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)

    def read_history(self, name: str = HISTORY) -> list[dict]:
        """Every complete line of history.jsonl, or of pace.jsonl; a last line cut by a crash is left out.

        Raises:
            BertkitError: a line is broken.
        """
        return list(self.read_jsonl(name, only_whole=True)) if self[name].exists() else []

    def sync_history(self) -> None:
        """Put history.jsonl on the disk itself, so that no checkpoint outlives the lines before it."""
        if self[HISTORY].exists():
            with disk.disk_errors(self[HISTORY]):
                disk.sync(self[HISTORY])

    def last_record(self) -> dict | None:
        """The newest step of history.jsonl, from the end of the file; None while there is none."""
        try:
            with self[HISTORY].open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))  # a pipe cannot
                lines = file.read().decode(errors="replace").split("\n")[:-1]
        except OSError:
            return None
        for line in reversed(lines):
            with suppress(ValueError):
                return shaped(disk.parse(line), Moment)
        return None

    def rewind_history(self, step: int) -> None:
        """Forget what came after `step`: a resumed run writes it again, the history to the same digits."""
        for name in (HISTORY, PACE):
            if self[name].exists():
                kept = [json.dumps(record) + "\n" for record in self.read_history(name) if record["step"] <= step]
                disk.write_atomically(self[name], "".join(kept))

    def write_jsonl(self, name: str, records: Iterable[Mapping[str, object]]) -> None:
        """Write one JSON-lines file atomically, a record at a time."""
        with disk.written_atomically(self[name]) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

    def read_jsonl(self, name: str, shape: type[BaseModel] | None = None, only_whole: bool = False) -> Iterator[dict]:
        """The records of one JSON-lines file.

        Args:
            shape: what each must hold; else as SHAPES has it.
            only_whole: leave out a last line without its line feed.
        Raises:
            BertkitError: the file is missing, or a line of it is broken or does not hold what it should.
        """
        number = 1
        try:
            for line in disk.read_lines(self[name]):
                if only_whole and not line.endswith("\n"):
                    return
                yield shaped(disk.parse(line), shape or SHAPES.get(name))
                number += 1
        except FileNotFoundError:
            raise BertkitError(f"{self[name]} is missing") from None
        except (OSError, ValueError) as error:
            raise BertkitError(f"{self[name]}:{number}: cannot be read ({error})") from None


def shaped(value: object, shape: type[BaseModel] | None = None) -> dict:
    """The value, which must be an object and hold what `shape` says; else a ValueError."""
    if not isinstance(value, dict):
        raise ValueError("it holds no object")
    try:
        if shape is not None:
            shape.model_validate(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return value


def checkpoints_of(folder: Path) -> list[Path]:
    """All resumable checkpoints in the folder `checkpoints` of a run, oldest first."""
    found = [entry for entry in folder.glob("step-*") if re.fullmatch(r"step-\d+", entry.name)]
    # not by name: step 1,000,000 has more digits than the others
    return sorted(found, key=lambda entry: int(entry.name.removeprefix("step-")))


def latest(folder: Path) -> Path | None:
    """The newest of these checkpoints."""
    return next(reversed(checkpoints_of(folder)), None)

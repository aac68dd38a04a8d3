"""A run on disk: the names of its files, atomic writes, and reading them back."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, JsonValue, ValidationError

from bertkit.bounded import parse, read_lines, read_whole
from bertkit.errors import BertkitError

if TYPE_CHECKING:
    from filelock import FileLock

SCHEMA = 1  # of the run directory; a reader refuses any other
OPENING = {"checkpoints", "environment.json", "task.json", "recipe.yaml"}  # what a run holds before its first step
TEMPORARY, REPLACED = ".tmp-", ".old-"  # how names begin: of what is not whole yet, of what is about to be removed
HISTORY, PACE = "history.jsonl", "pace.jsonl"
LOCK = ".lock"  # in a folder where a process is at work
SOON = 1.0  # seconds to wait for a lock: who only looks at it takes it for a moment
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # what a disk without locks answers


Scores = dict[str, JsonValue]  # metric -> fraction or None, and `rows`


class Trained(BaseModel):
    """`train` in metrics.json."""

    rows: int | None = None
    steps: int | None = None
    seconds: float | None = None


class Metrics(BaseModel):
    """metrics.json, as far as readers rely on it."""

    headline: str
    split: str | None = None
    splits: dict[str, Scores] = {}
    train: Trained = Trained()
    best: dict[str, JsonValue] | None = None


class Environment(BaseModel):
    """environment.json, as far as readers rely on it."""

    schema_: int = Field(alias="schema")
    packages: dict[str, str] = {}
    data: dict[str, str] = {}


class Moment(BaseModel):
    """A line of history.jsonl, as far as readers rely on it."""

    step: int
    epoch: float = 0.0
    loss: float | None = None


SHAPES: Mapping[str, type[BaseModel]] = {
    "metrics.json": Metrics,
    "environment.json": Environment,
    "history.jsonl": Moment,
}


class RunDir:
    """The contract between a run and whoever reads it later.

    `recipe.yaml` (fully resolved), `task.json` (the task with its labels), `environment.json`, `history.jsonl` (what
    was learned, to the same digits in every run), `pace.jsonl` (seconds, memory, micro-batches, which differ),
    `metrics.json`, `predictions.jsonl` (of the last split; `predictions.validation.jsonl` beside it when there is a
    test split too), `findings.json`, `checkpoints/step-000500/`, `model/` (plain `save_pretrained`).
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

    @contextmanager
    def claim(self, resume: bool) -> Iterator[RunDir]:
        """Hold the folder for this process while the block runs; where it was made for that and stays empty, it goes.

        Raises:
            BertkitError: the path is a file, holds another run, or holds files that are no run; or another process is
                at work in it.
        """
        with held(self.path):
            self._refuse(resume)
            yield self

    def _refuse(self, resume: bool) -> None:
        """Refuse what the folder holds, where a run must not begin or go on there."""
        there = {entry.name.removeprefix(TEMPORARY) for entry in self.path.iterdir()} - {LOCK}
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
            if is_held(self.path):
                return True
            if self.read_json("environment.json").get("host") == platform.node():
                return False
        return None  # a disk may keep locks to each machine

    def sweep(self) -> None:
        """Remove what killed processes left half-written; and the best weights, once `model/` holds them for good."""
        patterns = [f"{TEMPORARY}*", f"{REPLACED}*"]
        for folder in (self.path, self.checkpoints):
            for pattern in [*patterns, "best-*"] if self["metrics.json"].exists() else patterns:
                for left in folder.glob(pattern):
                    _remove(left)

    def open(self) -> RunDir:
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
        write_atomically(self[name], json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def read_json(self, name: str, shape: type[BaseModel] | None = None) -> dict:
        """Read one JSON file of the run.

        Args:
            shape: what it must hold; else as SHAPES has it.
        Raises:
            BertkitError: the file is missing or broken, or does not hold what it should.
        """
        try:
            return shaped(parse(read_whole(self[name])), shape or SHAPES.get(name))
        except FileNotFoundError:
            raise BertkitError(f"{self[name]} is missing", hint="the run did not finish; go on with --resume") from None
        except (OSError, ValueError) as error:
            raise BertkitError(f"{self[name]} cannot be read ({error})") from None

    def append_history(self, records: Iterable[Mapping[str, object]]) -> None:
        """Add lines to history.jsonl; a reader may follow it while the run goes on."""
        self._append(HISTORY, records)

    def append_pace(self, record: Mapping[str, object]) -> None:
        """Add a line to pace.jsonl."""
        self._append(PACE, [record])

    def _append(self, name: str, records: Iterable[Mapping[str, object]]) -> None:
        with disk_errors(self[name]), self[name].open("a", encoding="utf-8") as file:
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
            with disk_errors(self[HISTORY]):
                _sync(self[HISTORY])

    def last_record(self) -> dict | None:
        """The newest step of history.jsonl, without reading all of it; None while there is none."""
        try:
            with self[HISTORY].open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))  # a pipe cannot
                lines = file.read().decode(errors="replace").split("\n")[:-1]
        except OSError:
            return None
        for line in reversed(lines):
            with suppress(ValueError):
                return shaped(parse(line), Moment)
        return None

    def rewind_history(self, step: int) -> None:
        """Forget what came after `step`: a resumed run writes it again, the history to the same digits."""
        for name in (HISTORY, PACE):
            if self[name].exists():
                kept = [json.dumps(record) + "\n" for record in self.read_history(name) if record["step"] <= step]
                write_atomically(self[name], "".join(kept))

    def write_jsonl(self, name: str, records: Iterable[Mapping[str, object]]) -> None:
        """Write one JSON-lines file atomically, a record at a time."""
        with written_atomically(self[name]) as temporary, temporary.open("w", encoding="utf-8") as file:
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
            for line in read_lines(self[name]):
                if only_whole and not line.endswith("\n"):
                    return
                yield shaped(parse(line), shape or SHAPES.get(name))
                number += 1
        except FileNotFoundError:
            raise BertkitError(f"{self[name]} is missing") from None
        except (OSError, ValueError) as error:
            raise BertkitError(f"{self[name]}:{number}: cannot be read ({error})") from None


def shaped(value: object, shape: type[BaseModel] | None) -> dict:
    """The value, which must be an object and hold what `shape` says.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(value, dict):
        raise ValueError("it holds no object")
    try:
        if shape is not None:
            shape.model_validate(value, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return value


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, for a file or a folder: synced and renamed at the end, removed on failure."""
    temporary, old = path.with_name(f"{TEMPORARY}{path.name}"), path.with_name(f"{REPLACED}{path.name}")
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove(temporary)
            yield temporary
            for file in [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]:
                _sync(file)
            _remove(old)
            if path.is_dir():
                os.replace(path, old)  # a folder cannot be renamed over one that is not empty
            os.replace(temporary, path)
            _sync(path.parent)
            _remove(old)
    except BaseException:
        with suppress(OSError):
            _remove(temporary)
        raise


def write_atomically(path: Path, text: str) -> None:
    """Write one text file so that a reader sees the old or the new content, never half of it."""
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Turn a full or forbidden disk into an error that names the path."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space, then go on with --resume" if full else "check the path and its permissions"
        raise BertkitError(f"{path} cannot be written ({error.strerror or error})", hint=hint) from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make a folder, and keep other processes out of it while the block runs.

    Raises:
        BertkitError: another process is at work there; or the folder cannot be written, or its disk has no locks.
    """
    with made(folder):
        lock = _locked(folder, SOON)
        if lock is None:
            raise BertkitError(
                f"{folder}: another process is at work here", hint="wait for it, or stop it: it saves a checkpoint"
            )
        try:
            yield
        finally:
            _let_go(lock)


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder.

    Raises:
        BertkitError: its disk has no locks, or they cannot be read.
    """
    if not (folder / LOCK).exists():
        return False
    lock = _locked(folder, 0.0)
    if lock is not None:
        _let_go(lock)
    return lock is None


def _locked(folder: Path, patience: float) -> FileLock | None:
    """The lock of a folder, which ends with the process that holds it; None when another one does."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, fallback_to_soft=False)  # a soft lock would outlive a process that is killed
    try:
        lock.acquire(timeout=patience, poll_interval=0.02)
    except Timeout:
        return None
    except OSError as error:
        with disk_errors(lock.lock_file):
            if error.errno in NO_LOCKS:
                raise BertkitError(
                    f"{lock.lock_file} cannot be locked ({error.strerror})",
                    hint="use a disk with file locks (on Lustre: -o flock)",
                ) from None
            raise
    return lock


def _let_go(lock: FileLock) -> None:
    with suppress(OSError):
        os.unlink(lock.lock_file)  # while it is held: a process that waits for it sees this, and takes a new one
    lock.release()


@contextmanager
def made(folder: Path) -> Iterator[None]:
    """Make a folder with its parents; those that are new and still empty after the block are removed."""
    with disk_errors(folder):
        if folder.is_file():
            raise BertkitError(f"{folder} is a file, not a folder", hint="give --out a new name")
        new = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for path in new:
            with suppress(OSError):
                path.rmdir()


def steps(checkpoints: Path) -> list[Path]:
    """All resumable checkpoints of a run, oldest first."""
    found = [entry for entry in checkpoints.glob("step-*") if re.fullmatch(r"step-\d+", entry.name)]
    return sorted(found, key=step_of)  # not by name: step 1,000,000 has more digits than the others


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written, by its name."""
    return int(checkpoint.name.removeprefix("step-"))


def discard(folder: Path) -> None:
    """Remove a folder so that, whatever happens, nobody takes a part of it for the whole."""
    old = folder.with_name(f"{REPLACED}{folder.name}")
    with disk_errors(folder):
        _remove(old)
        os.replace(folder, old)
        _remove(old)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():  # what a link leads to is not ours
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def next_folder(stem: str, parent: Path = Path("runs")) -> Iterator[Path]:
    """Take the first free name of the form `parent/stem-001`; the folder goes when it is empty after the block."""
    with made(parent):
        with disk_errors(parent):
            folder = next(folder for number in count(1) if _is_new(folder := parent / f"{stem}-{number:03d}"))
        try:
            yield folder
        finally:
            with suppress(OSError):
                folder.rmdir()


def _is_new(folder: Path) -> bool:
    """Make a folder; false when it is there already."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def next_run(task: str) -> AbstractContextManager[Path]:
    """The next folder in `runs` for a run of that task, or of the module that holds it."""
    return next_folder(task.rsplit(".", 1)[-1])

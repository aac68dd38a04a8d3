"""Files and folders that are whole or not there, even when the process is killed; folders that one process holds.

Text files are read whole if they are regular ones of a bounded size, whose JSON is of a bounded depth: a pipe makes a
reader wait, a device never ends, and a file of another kind fills the memory.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from bertkit.errors import BertkitError

if TYPE_CHECKING:
    from filelock import FileLock

LARGEST = 256 << 20  # bytes; parsed they take ten times as much memory
TEMPORARY, REPLACED = ".tmp-", ".old-"  # how names begin: of what is not whole yet, of what is about to be removed
LOCK = ".lock"  # in a folder where a process is at work
SOON = 1.0  # seconds to wait for a lock: a process that only looks at it takes it for a moment
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # what a disk without locks answers


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, for a file or a folder: synced and renamed at the end, removed on failure."""
    temporary, old = path.with_name(f"{TEMPORARY}{path.name}"), path.with_name(f"{REPLACED}{path.name}")
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove(temporary)
            yield temporary
            for file in [temporary, *temporary.rglob("*")] if temporary.is_dir() else [temporary]:
                sync(file)
            remove(old)
            if path.is_dir():
                os.replace(path, old)  # a folder cannot be renamed over one that is not empty
            os.replace(temporary, path)
            sync(path.parent)
            remove(old)
    except BaseException:
        with suppress(OSError):
            remove(temporary)
        raise


def checksum(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def discard(folder: Path) -> None:
    """Remove a folder; when that is cut short, nobody takes the part that is left for the whole."""
    old = folder.with_name(f"{REPLACED}{folder.name}")
    with disk_errors(folder):
        remove(old)
        os.replace(folder, old)
        remove(old)


def sync(path: Path) -> None:
    """Put a file or a folder on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; a missing one is no error."""
    if path.is_dir() and not path.is_symlink():  # what a link leads to is not ours
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_regular(path: str | Path) -> None:
    """Refuse what cannot be read to its end, with an OSError: a pipe, a device or a folder, or what is missing."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")


def read_whole(path: str | Path, largest: int = LARGEST) -> str:
    """The text of a UTF-8 file.

    Raises:
        OSError: it cannot be read, is not a regular file or is larger than `largest` bytes.
        ValueError: it is not UTF-8.
    """
    check_regular(path)
    if os.stat(path).st_size > largest:
        raise OSError(errno.EFBIG, f"larger than {largest >> 20} MiB")
    return Path(path).read_bytes().decode()


def read_lines(path: str | Path, largest: int = LARGEST) -> Iterator[str]:
    """The lines of a UTF-8 file, which may be larger than memory; each is bounded, and has its line feed."""
    check_regular(path)
    with open(path, "rb") as file:
        while raw := file.readline(largest + 1):
            if len(raw) > largest:
                raise OSError(errno.EFBIG, f"a line larger than {largest >> 20} MiB")
            yield raw.decode()


def parse(text: str) -> object:
    """The value of a JSON text; a ValueError where it is none, or is nested deeper than a reader can follow."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


@contextmanager
def held(folder: Path, is_needed: bool = True) -> Iterator[None]:
    """Make a folder, and keep other processes out of it while the block runs; refused where another is at work there.

    A disk without locks is refused as well where they are needed; else there is a warning.
    """
    with made(folder):
        lock = _locked(folder, SOON, is_needed)
        if lock is None:
            raise BertkitError(
                f"{folder}: another process is at work here", hint="wait for it, or stop it: it saves a checkpoint"
            )
        try:
            yield
        finally:
            _let_go(lock)


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder; an error where its disk has no locks."""
    if not (folder / LOCK).exists():
        return False
    lock = _locked(folder, 0.0)
    if lock is not None:
        _let_go(lock)
    return lock is None


def _locked(folder: Path, patience: float, is_needed: bool = True) -> FileLock | None:
    """The lock of a folder, which ends with the process that holds it; None when another one does."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, fallback_to_soft=False)  # a soft lock would outlive a process that is killed
    try:
        lock.acquire(timeout=patience, poll_interval=0.02)
    except Timeout:
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            with disk_errors(lock.lock_file):
                raise
        with suppress(OSError):
            os.unlink(lock.lock_file)
        message = f"{lock.lock_file} cannot be locked ({error.strerror})"
        if is_needed:
            raise BertkitError(message, hint="use a disk with file locks (on Lustre: -o flock)") from None
        warnings.warn(f"{message}: start no second process in this folder", stacklevel=2)
    return lock


def _let_go(lock: FileLock) -> None:
    with suppress(OSError):
        os.unlink(lock.lock_file)  # before the release: filelock then opens a new one
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


@contextmanager
def next_folder(name: str, parent: Path = Path("runs")) -> Iterator[Path]:
    """Take the first free folder `parent/name-001`, by the last part of a dotted name; it goes if it stays empty."""
    with made(parent):
        for number in count(1):
            folder = parent / f"{name.rsplit('.', 1)[-1]}-{number:03d}"
            with disk_errors(parent), suppress(FileExistsError):
                folder.mkdir()
                break
        try:
            yield folder
        finally:
            with suppress(OSError):
                folder.rmdir()

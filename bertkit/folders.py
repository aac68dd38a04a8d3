"""Folders that one process makes and holds: no other works there, and a folder that stays empty is removed."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from bertkit.disk import disk_errors
from bertkit.errors import BertkitError

if TYPE_CHECKING:
    from filelock import FileLock

LOCK = ".lock"  # in a folder where a process is at work
SOON = 1.0  # seconds to wait for a lock: a process that only looks at it takes it for a moment
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # what a disk without locks answers


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

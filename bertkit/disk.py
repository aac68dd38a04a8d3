"""Files and folders that are whole or not there, even when the process is killed while it writes or removes them."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bertkit.errors import BertkitError

TEMPORARY, REPLACED = ".tmp-", ".old-"  # how names begin: of what is not whole yet, of what is about to be removed


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

"""Files and folders that are whole or not there, even when the process is killed while it writes or removes them.

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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bertkit.errors import BertkitError

LARGEST = 256 << 20  # bytes; parsed they take ten times as much memory
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

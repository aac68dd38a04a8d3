"""Text files read whole: regular files only, of a bounded size, whose JSON is of a bounded depth.

A pipe makes a reader wait, a device never ends, and a file of another kind fills the memory.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

LARGEST = 256 << 20  # bytes; parsed they take ten times as much memory


def check_regular(path: str | Path) -> None:
    """Refuse what cannot be read to its end.

    Raises:
        OSError: it is a pipe, a device or a folder, or it is missing.
    """
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
    """The lines of a UTF-8 file, which may be larger than memory; each with its line feed.

    Raises:
        OSError: as `read_whole`, of one line.
        ValueError: it is not UTF-8.
    """
    check_regular(path)
    with open(path, "rb") as file:
        while raw := file.readline(largest + 1):
            if len(raw) > largest:
                raise OSError(errno.EFBIG, f"a line larger than {largest >> 20} MiB")
            yield raw.decode()


def parse(text: str) -> object:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, or is nested deeper than a reader can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None

"""Files as bytes, lines and faults: maybe packed, of a bounded size, and what is said of one that cannot be read."""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import os
import reprlib
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from bertkit.errors import BertkitError, one_line

LINE_BYTES = 64 << 20  # of one line or csv field; longer than this is a file of another kind
WHOLE_BYTES = 1 << 30  # of a file that is parsed as a whole: JSON; its values take ten times as much memory
UNPACKED_BYTES = 4 << 30  # of a packed file: above any task's data, below what fills a machine
SHOWN = 60  # characters of a value in a message
# the longer ones first, for UTF-32's begins with UTF-16's; UTF-8's is a matter of `decoded`
BYTE_ORDER_MARKS = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
# of the one format: looking for others, lzma takes zeros for empty files of a kind of its own, one after the other
PACKINGS = {".gz": gzip.open, ".xz": partial(lzma.open, format=lzma.FORMAT_XZ)}


class BadRow(Exception):
    """One row that cannot be used, and what to do about it other than leaving it out."""

    def __init__(self, reason: str, hint: str = "mend it") -> None:
        super().__init__(reason)
        self.hint = hint


class File(NamedTuple):
    """What a reader is told: what to open, and what will be asked of it."""

    name: str  # as the user gave it
    path: str
    ending: str  # which reader reads it: its own, or what it should have been named, such as ".tsv"
    packing: str  # "", ".gz" or ".xz"
    wanted: Mapping[str, str]  # task column -> column of the source
    header: bool | None  # csv, tsv: does the first line name the columns (else they are "0", "1", ...)
    stream: io.RawIOBase | None = None  # standard input, or another pipe: read once, as it comes
    is_kept: bool = False  # whether records hold all columns, not only the wanted ones


class Table(NamedTuple):
    """What a reader gives back; each record with its line from 1, or 0 where the source has no lines."""

    names: list[str]
    records: Iterator[tuple[int, object]]  # a dict; else it is a BadRow, or what stands where an object is due
    class_names: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    notes: Sequence[str] = ()  # what was left out or read otherwise, a sentence each; whole once all records are read


def name_parts(path: str) -> tuple[str, str, str]:
    """`train`, `.tsv` and `.gz` of `some/train.tsv.gz`."""
    stem, packing = os.path.splitext(os.path.basename(path))
    if packing.lower() not in PACKINGS:
        stem, packing = stem + packing, ""
    stem, ending = os.path.splitext(stem)
    return stem, ending.lower(), packing.lower()


def decoded_lines(file: File) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers. Only a line feed ends a line: U+2028 and the like are text."""
    size = 0
    with opened(file) as stream:
        for line, raw in enumerate(iter(partial(stream.readline, LINE_BYTES + 1), b""), start=1):
            size += len(raw)
            if file.packing:
                check_size(file, size)
            if len(raw) > LINE_BYTES:
                raise BertkitError(f"{file.name}:{line}: a line of more than {LINE_BYTES >> 20} MiB", hint="split it")
            yield line, decoded(file, raw, line)


def decoded(file: File, raw: bytes, line: int) -> str:
    try:
        text = raw.decode()
        if "\0" not in text:
            return text.removeprefix("\ufeff") if line == 1 else text
        fault, position = "a NUL character", raw.index(0)
    except UnicodeDecodeError as error:
        fault, position = f"byte {raw[error.start]:#04x} is not UTF-8", error.start
    line += raw.count(b"\n", 0, position)
    raise BertkitError(f"{file.name}:{line}: {fault} (byte {position})", hint="save the file as UTF-8 text")


def read_all(file: File) -> bytes:
    parts, size = [], 0
    with opened(file) as stream:
        known = os.path.getsize(file.path) if file.stream is None else 0
        while max(size, known) <= WHOLE_BYTES and (part := stream.read(1 << 20)):
            parts.append(part)
            size += len(part)
    if max(size, known) > WHOLE_BYTES:
        message = f"{file.name}: more than {WHOLE_BYTES >> 20} MiB that must be read at once"
        raise BertkitError(message, hint="write JSON lines to a file")
    return b"".join(parts)


@contextmanager
def opened(file: File) -> Iterator[io.BufferedReader | Recoded]:
    """The file unpacked, its faults as BertkitErrors; what its byte-order mark calls UTF-16 or UTF-32 is UTF-8."""
    encoding = None
    try:
        stream = PACKINGS.get(file.packing, open)(file.path, "rb") if file.stream is None else file.stream
        with io.BufferedReader(stream, 1 << 18) as unpacked:
            begin = unpacked.peek(4)
            encoding = next((name for name, marks in BYTE_ORDER_MARKS.items() if begin.startswith(marks)), None)
            if encoding:
                warnings.warn(f"{file.name}: is read as {encoding}, as its byte-order mark says", stacklevel=2)
            yield Recoded(unpacked, encoding, newline="\n") if encoding else unpacked
    except UnicodeDecodeError as error:
        message = f"{file.name}: is not {encoding} throughout: {shorten(error)}"
        raise BertkitError(message, hint="save the file as UTF-8 text") from None
    except (OSError, ValueError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:
        raise unreadable(file.name, error) from None


class Begun(io.RawIOBase):
    """A stream whose begin was read already; gives what there is, without waiting for more."""

    def __init__(self, begin: bytes, rest: io.BufferedReader) -> None:
        super().__init__()
        self.begin, self.rest = begin, rest

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.rest.close()
        super().close()

    def readinto(self, buffer: memoryview) -> int:
        found = self.begin[: len(buffer)] or self.rest.read1(len(buffer))
        self.begin = self.begin[len(buffer) :]
        buffer[: len(found)] = found
        return len(found)


class Recoded(io.TextIOWrapper):
    """Text of another encoding as UTF-8."""

    def read(self, size: int) -> bytes:
        return super().read(size).encode()

    def readline(self, size: int) -> bytes:
        return super().readline(size).encode()


# How faults are said.


def unreadable(name: str, error: Exception) -> BertkitError:
    return BertkitError(f"{name}: cannot be read: {shorten(error)}", hint="is it whole, and what its ending says?")


def check_size(file: File, size: int) -> None:
    if size > UNPACKED_BYTES:
        raise BertkitError(f"{file.name}: unpacks to more than {UNPACKED_BYTES >> 20} MiB", hint="split it")


def no_rows(file: File) -> BertkitError:
    return BertkitError(f"{file.name}: there are no rows", hint="is it the right file, and is it whole?")


def shorten(error: Exception) -> str:
    """An error of another library in one line."""
    text = one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)
    return text if len(text) <= 300 else text[:297] + "..."


def show(value: object) -> str:
    """A value's repr, cut."""
    return cut(repr(value[: SHOWN + 1]) if isinstance(value, str) else reprlib.repr(value))


def cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."

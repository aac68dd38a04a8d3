"""What files hold, as records: lines, csv, JSON, SQuAD and CoNLL-U, maybe packed; no value is guessed at.

The readers are our own where the common ones guess: no `NA` becomes a missing value, no `01` becomes 1, no lone quote
opens a field.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import os
import re
import reprlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, count, islice
from types import MappingProxyType
from typing import NamedTuple

from bertkit.errors import BertkitError, one_line

LINE_BYTES = 64 << 20  # of one line or csv field; longer than this is a file of another kind
WHOLE_BYTES = 1 << 30  # of a file that is parsed as a whole: JSON; its values take ten times as much memory
UNPACKED_BYTES = 4 << 30  # of a packed file: above any task's data, below what fills a machine
PEEKED_ROWS = 100  # JSON has no header line: these first objects say which keys there are
SHOWN = 60  # characters of a value in a message


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


class Table(NamedTuple):
    """What a reader gives back; each record with its line from 1, or 0 where the source has no lines."""

    names: list[str]
    records: Iterator[tuple[int, dict[str, object] | BadRow]]
    class_names: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def name_parts(path: str) -> tuple[str, str, str]:
    """`train`, `.tsv` and `.gz` of `some/train.tsv.gz`."""
    stem, packing = os.path.splitext(os.path.basename(path))
    if packing.lower() not in PACKINGS:
        stem, packing = stem + packing, ""
    stem, ending = os.path.splitext(stem)
    return stem, ending.lower(), packing.lower()


# Files of lines.


def read_delimited(file: File) -> Table:
    """csv, or tsv: the latter has no quoting at all, so a lone quote is text. Blank lines are left out."""
    lines = decoded_lines(file)
    if file.ending == ".tsv":
        fields = ((line, text.rstrip("\r\n").split("\t")) for line, text in lines if text.strip("\r\n"))
    else:
        fields = csv_fields(file, lines)
    first = next(fields, None)
    if first is None:
        raise no_rows(file)
    width = len(first[1])
    names = [name.strip() for name in first[1]] if file.header else [str(place) for place in range(width)]

    def records() -> Iterator[tuple[int, dict[str, object] | BadRow]]:
        for line, values in fields if file.header else chain([first], fields):
            if len(values) == width:
                yield line, dict(zip(names, values, strict=True))
            else:
                yield line, BadRow(f"has {len(values)} fields, but the first line has {width}")

    return Table(names, records())


def csv_fields(file: File, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row with the line it begins in; the first line tells comma, semicolon or tab."""
    first = next(lines, (1, ""))

    def found(mark: str) -> tuple[int, int]:
        names = [name.strip().strip('"') for name in first[1].split(mark)]
        places = set(names) if file.header else {str(place) for place in range(len(names))}
        return len(places.intersection(file.wanted.values())), len(names) if file.header else 0

    csv.field_size_limit(max(LINE_BYTES, csv.field_size_limit()))  # the module's one limit; only ever raised
    # strict: otherwise a quote that is never closed swallows the rest of the file without a word
    reader = csv.reader((text for _, text in chain([first], lines)), delimiter=max(",;\t", key=found), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "a field that begins with a quote must end with one, and quotes inside are doubled; or use tsv"
            if "new-line" in str(error):
                error, hint = "a carriage return outside quotes", "end lines with LF or CRLF"
            raise BertkitError(f"{file.name}:{line}: {error}", hint=hint) from None
        if fields:
            yield line, fields


def read_json_lines(file: File) -> Table:
    return from_objects(file, json_lines(decoded_lines(file)))


def read_json(file: File) -> Table:
    """A list of objects, maybe under `data`; SQuAD; or JSON lines by another name."""
    text = decoded(file, read_all(file), 1)
    try:
        value = parse_json(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data":  # after the first value: more lines
            return from_objects(file, json_lines(enumerate(text.split("\n"), start=1)))
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BertkitError(
            f"{file.name}{line}: {json_fault(error)}",
            hint="write a list of objects, SQuAD's layout, or one object a line",
        ) from None
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
        if any(isinstance(article, dict) and "paragraphs" in article for article in value):
            return from_objects(file, ((0, question) for question in squad_questions(file, value)))
    value = value if isinstance(value, list) else [value]
    return from_objects(file, ((0, item if isinstance(item, dict) else not_an_object(item)) for item in value))


def json_lines(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, dict[str, object] | BadRow]]:
    for line, text in lines:
        if text.strip():
            try:
                value = parse_json(text.rstrip())
                yield line, value if isinstance(value, dict) else not_an_object(value)
            except (ValueError, RecursionError) as error:
                yield line, BadRow(json_fault(error))


def parse_json(text: str) -> object:
    """Raises ValueError also for half a surrogate pair, which no tokenizer and no output file can take."""
    value = json.loads(text)
    if "\\ud" in text or "\\uD" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def json_fault(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):  # its own text counts lines from where we began
        return f"not JSON: {error.msg} (character {error.colno})"
    return f"not JSON: {shorten(error)}"


def not_an_object(value: object) -> BadRow:
    return BadRow(f"{show(value)} is not an object", hint='write rows as {"column": value, ...}')


def from_objects(file: File, records: Iterator[tuple[int, dict[str, object] | BadRow]]) -> Table:
    first = list(islice(records, PEEKED_ROWS))
    objects = [record for _, record in first if isinstance(record, dict)]
    if not objects:  # nothing to find columns in
        if not first:
            raise no_rows(file)
        line, reason = first[0]
        where = f"{file.name}:{line}" if line else f"{file.name}: row 0"
        raise BertkitError(f"{where}: {reason}", hint=reason.hint)
    return Table(list(dict.fromkeys(chain.from_iterable(objects))), chain(first, records))


def squad_questions(file: File, articles: list[object]) -> Iterator[dict[str, object] | BadRow]:
    """Source: Rajpurkar et al. 2016, 2018; data > paragraphs > qas > answers, with `is_impossible` since 2.0."""
    for number, article in enumerate(articles):
        where = f"{file.name}: data[{number}]"
        for index, paragraph in enumerate(listed(article, "paragraphs", where)):
            for question in listed(paragraph, "qas", f"{where}.paragraphs[{index}]"):
                if not isinstance(question, dict):
                    yield not_an_object(question)
                elif question.get("is_impossible") is not True:
                    yield {"context": paragraph.get("context"), **question}
                elif question.get("answers"):
                    yield BadRow("is_impossible is true, but it has answers")
                else:
                    yield {"context": paragraph.get("context"), **question, "answers": []}


def listed(value: object, key: str, where: str) -> list[object]:
    inner = value.get(key) if isinstance(value, dict) else None
    if not isinstance(inner, list):
        raise BertkitError(f"{where} has no list {key!r}", hint="SQuAD's layout is data > paragraphs > qas > answers")
    return inner


def read_text(file: File) -> Table:
    """A text a line; blank lines are left out."""
    lines = decoded_lines(file)
    return Table(["text"], ((line, {"text": text.rstrip("\r\n")}) for line, text in lines if text.strip()))


def read_conllu(file: File) -> Table:
    return Table(["id", "form", "upos", "xpos"], conllu_sentences(file))


def conllu_sentences(file: File) -> Iterator[tuple[int, dict[str, object]]]:
    """Source: universaldependencies.org/format.html. Multi-word ranges (1-2) and empty nodes (8.1) are not words."""
    words: list[tuple[int, list[str]]] = []
    name = None
    for line, text in chain(decoded_lines(file), [(0, "")]):
        if text.startswith("#"):
            found = re.match(r"#\s*sent_id\s*=\s*(.*\S)", text)
            name = found[1] if found else name
        elif text.strip():
            fields = text.rstrip("\r\n").split("\t")
            check_conllu_word(f"{file.name}:{line}", fields, len(words) + 1)
            if fields[0].isdecimal():
                words.append((line, fields))
        else:
            if words:
                tags = {"upos": column_of_tags(file, words, "upos", 3), "xpos": column_of_tags(file, words, "xpos", 4)}
                yield words[0][0], {"id": name, "form": [fields[1] for _, fields in words], **tags}
            words, name = [], None


def check_conllu_word(where: str, fields: list[str], expected: int) -> None:
    if len(fields) != 10:
        hint = "a word line has ten columns with tabs between them"
        if len(fields) == 1:
            hint = "put tabs between the columns, not spaces"
        elif len(fields) == 9:
            hint = "a column is missing; an empty one is written _"
        raise BertkitError(f"{where}: {len(fields)} columns instead of 10: {show(' '.join(fields))}", hint=hint)
    if not re.fullmatch(r"\d+-\d+|\d+\.\d+", fields[0], re.ASCII) and fields[0] != str(expected):
        raise BertkitError(
            f"{where}: word ID {show(fields[0])} where {expected} is due",
            hint="words count from 1 in each sentence, and a blank line ends a sentence",
        )
    if not fields[1]:
        raise BertkitError(f"{where}: the word (FORM) is empty", hint="a word line has ten columns, none of them empty")


def column_of_tags(file: File, words: list[tuple[int, list[str]]], column: str, place: int) -> list[str] | None:
    """A sentence's tags, or None when it has none."""
    tags = [fields[place] for _, fields in words]
    if "_" not in tags or column not in file.wanted.values():
        return tags
    if any(tag != "_" for tag in tags):
        line, fields = words[tags.index("_")]
        raise BertkitError(
            f"{file.name}:{line}: {show(fields[1])} has no {column.upper()}, but other words of the sentence have one",
            hint="tag every word of a sentence, or none",
        )
    return None


def decoded_lines(file: File) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers. Only a line feed ends a line: U+2028 and the like are text."""
    with opened(file) as stream:
        for line in count(1):
            raw = stream.readline(LINE_BYTES + 1)
            if not raw:
                return
            if len(raw) > LINE_BYTES:
                raise BertkitError(f"{file.name}:{line}: a line of more than {LINE_BYTES >> 20} MiB", hint="split it")
            yield line, decoded(file, raw, line)


def decoded(file: File, raw: bytes, line: int) -> str:
    try:
        text = raw.decode()
        if "\0" not in text:
            return text.removeprefix("\ufeff") if line == 1 else text
        fault, place = "a NUL character", raw.index(0)
    except UnicodeDecodeError as error:
        fault, place = f"byte {raw[error.start]:#04x} is not UTF-8", error.start
    line += raw.count(b"\n", 0, place)
    raise BertkitError(f"{file.name}:{line}: {fault} (byte {place})", hint="save the file as UTF-8 text")


def read_all(file: File) -> bytes:
    parts = []
    with opened(file) as stream:
        size = 0 if file.packing else os.path.getsize(file.path)
        while size <= WHOLE_BYTES and (part := stream.read(1 << 20)):
            parts.append(part)
            size += len(part) if file.packing else 0
    if size > WHOLE_BYTES:
        raise BertkitError(f"{file.name}: more than {WHOLE_BYTES >> 20} MiB in one value", hint="write JSON lines")
    return b"".join(parts)


def opened(file: File) -> io.BufferedReader:
    try:
        return io.BufferedReader(Guarded(file, PACKINGS.get(file.packing, open)(file.path, "rb")), 1 << 18)
    except (OSError, ValueError) as error:
        raise unreadable(file.name, error) from None


class Guarded(io.RawIOBase):
    """A stream whose faults become BertkitErrors, and which does not unpack without end."""

    def __init__(self, file: File, stream: io.BufferedIOBase) -> None:
        self.file, self.stream = file, stream
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        try:
            size = self.stream.readinto(buffer)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:
            raise unreadable(self.file.name, error) from None
        self.size += size
        if self.file.packing:
            check_size(self.file, self.size)
        return size

    def close(self) -> None:
        self.stream.close()
        super().close()


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


# of the one format: looking for others, lzma takes zeros for empty files of a kind of its own, one after the other
PACKINGS = {".gz": gzip.open, ".xz": partial(lzma.open, format=lzma.FORMAT_XZ)}

"""What files hold, as records: lines, csv, JSON, SQuAD; no value is guessed at.

The readers are our own where the common ones guess: no `NA` becomes a missing value, no `01` becomes 1, no lone quote
opens a field.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice, repeat

from bertkit.data import files
from bertkit.data.files import BadRow, File, Table, decoded, decoded_lines, no_rows, read_all, shorten, show
from bertkit.errors import BertkitError

PEEKED_ROWS = 100  # JSON has no header line: these first objects say which keys there are


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
    names = [name.strip() for name in first[1]] if file.header else [str(position) for position in range(width)]

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
        known = set(names) if file.header else {str(position) for position in range(len(names))}
        return len(known.intersection(file.wanted.values())), len(names) if file.header else 0

    csv.field_size_limit(max(files.LINE_BYTES, csv.field_size_limit()))  # the module's one limit; only ever raised
    # strict: otherwise a quote that is never closed swallows the rest of the file without a word
    reader = csv.reader((text for _, text in chain([first], lines)), delimiter=max(",;\t", key=found), strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        hint = "a field that begins with a quote must end with one, and quotes inside are doubled; or use tsv"
        if "new-line" in str(error):
            error, hint = "a carriage return outside quotes", "end lines with LF or CRLF"
        raise BertkitError(f"{file.name}:{line}: {error}", hint=hint) from None


def read_json_lines(file: File) -> Table:
    return from_objects(file, json_lines(decoded_lines(file)))


def read_json(file: File) -> Table:
    """A list of objects, a table as pandas writes it, SQuAD, or JSON lines by another name."""
    text = decoded(file, read_all(file), 1)
    try:
        value = parse_json(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data":  # after the first value: more lines
            return from_objects(file, json_lines(enumerate(text.split("\n"), start=1)))
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        hint = "write a list of objects, SQuAD's layout, or one object a line"
        raise BertkitError(f"{file.name}{line}: {json_fault(error)}", hint=hint) from None
    items = listed_rows(value, file.wanted.values()) if isinstance(value, dict) else value
    items = items if isinstance(items, list) else [items]
    if any(isinstance(article, dict) and "paragraphs" in article for article in items):
        items = squad_questions(file, items)
    return from_objects(file, zip(repeat(0), items))


def listed_rows(value: dict[str, object], wanted: Collection[str]) -> object:
    """The rows of an object: its list `data`, what pandas writes (`orient` split, columns or index), or itself."""
    names, rows = value.get("columns"), value.get("data")
    if isinstance(rows, list) and isinstance(names, list):
        return [
            dict(zip(map(str, names), row, strict=True))
            if isinstance(row, list) and len(row) == len(names)
            else BadRow(f"{show(row)} is no list of {len(names)} values, one for each of `columns`")
            for row in rows
        ]
    if isinstance(rows, list):
        return rows
    if not value or not all(isinstance(part, dict) for part in value.values()):
        return value
    if value.keys().isdisjoint(wanted):
        return list(value.values())
    keys = dict.fromkeys(chain.from_iterable(value.values()))
    return [{name: cells.get(key) for name, cells in value.items()} for key in keys]


def json_lines(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, object]]:
    for line, text in lines:
        if text.strip():
            try:
                yield line, parse_json(text.rstrip())
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


def from_objects(file: File, values: Iterable[tuple[int, object]]) -> Table:
    """The first objects say which columns there are; a value that is none is a bad row."""
    hint = 'write rows as {"column": value, ...}'
    records = (
        (line, value if isinstance(value, dict | BadRow) else BadRow(f"{show(value)} is not an object", hint))
        for line, value in values
    )
    first = list(islice(records, PEEKED_ROWS))
    objects = [record for _, record in first if isinstance(record, dict)]
    if not first:
        raise no_rows(file)
    if not objects:  # nothing to find columns in
        line, reason = first[0]
        where = f"{file.name}:{line}" if line else f"{file.name}: row 0"
        raise BertkitError(f"{where}: {reason}", hint=reason.hint)
    return Table(list(dict.fromkeys(chain.from_iterable(objects))), chain(first, records))


def squad_questions(file: File, articles: list[object]) -> Iterator[object]:
    """Source: Rajpurkar et al. 2016, 2018; data > paragraphs > qas > answers, with `is_impossible` since 2.0."""
    for number, article in enumerate(articles):
        where = f"{file.name}: data[{number}]"
        for index, paragraph in enumerate(listed(article, "paragraphs", where)):
            for question in listed(paragraph, "qas", f"{where}.paragraphs[{index}]"):
                if not isinstance(question, dict):
                    yield question
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

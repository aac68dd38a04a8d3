"""Answers beside what they were asked of, written as the name of a file says: csv, tsv, JSON or JSON lines."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TextIO

from bertkit.disk import written_atomically
from bertkit.errors import BertkitError

Record = Mapping[str, object]


def beside(given: Record, answer: Record) -> dict[str, object]:
    """What was given and what was answered, in one record.

    Where both have a name, it is the answer's, and the given value becomes `given_NAME` if it is another one.
    """
    kept = {
        f"given_{name}" if name in answer and str(value).strip() != str(answer[name]) else name: value
        for name, value in given.items()
    }
    return {**kept, **answer}


def as_json(value: object) -> str:
    """One line; what JSON has no word for, such as a date, is its text."""
    return json.dumps(value, ensure_ascii=False, default=str)


def check_out(path: Path) -> None:
    """Refuse a folder, and a name with an ending that is not written, before there are any answers."""
    if path.is_dir():
        raise BertkitError(f"--out: {path} is a folder", hint="give the name of a .jsonl file")
    if path.suffix.lower() not in WRITERS:
        endings = " ".join(filter(None, WRITERS))
        message = f"--out: {path}: files that end in {path.suffix!r} are not written"
        raise BertkitError(message, hint=f"name it {endings}")


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a file whole or not at all; JSON lines if its name has no ending."""
    with written_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        WRITERS[path.suffix.lower()](file, records)


def write_lines(file: TextIO, records: Iterable[Record]) -> None:
    file.writelines(as_json(record) + "\n" for record in records)


def write_list(file: TextIO, records: Iterable[Record]) -> None:
    begin = "["
    for record in records:
        file.write(f"{begin}\n{as_json(record)}")
        begin = ","
    file.write("[]\n" if begin == "[" else "\n]\n")


def write_table(file: TextIO, records: Iterable[Record], delimiter: str) -> None:
    """A column a value, with quotes where they are needed; lists are JSON, and a mapping has a column for each key."""
    rows = [dict(cells_of(record)) for record in records]
    names = dict.fromkeys(chain.from_iterable(rows))
    # csv puts no quotes around a carriage return, and whoever reads it would take it for the end of a line
    has_return = any("\r" in cell and "\n" not in cell for row in rows for cell in row.values())
    quoting = csv.QUOTE_ALL if has_return else csv.QUOTE_MINIMAL
    writer = csv.DictWriter(file, names, delimiter=delimiter, lineterminator="\n", quoting=quoting)
    writer.writeheader()
    writer.writerows(rows)


def cells_of(record: Record) -> Iterator[tuple[str, object]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from cells_of({f"{name}.{key}": inner for key, inner in value.items()})
        elif isinstance(value, str):
            yield name, value
        else:
            yield name, "" if value is None else as_json(value)


WRITERS: Mapping[str, Callable[[TextIO, Iterable[Record]], None]] = {
    "": write_lines,
    ".jsonl": write_lines,
    ".ndjson": write_lines,
    ".json": write_list,
    ".csv": partial(write_table, delimiter=","),
    ".tsv": partial(write_table, delimiter="\t"),
}

"""Answers beside what they were asked of, written as the name of a file says: a table, JSON, Parquet, CoNLL-U."""

import csv
import json
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path

from bertkit.disk import disk_errors, parse, read_lines, written_atomically
from bertkit.errors import BertkitError, one_line
from bertkit.metrics.shown import counted

Record = Mapping[str, object]
PROGRESS = 10.0  # seconds between lines that say how many answers there are
CHUNK = 1000  # records of a Parquet row group


def beside(given: Record, answer: Record, read: Collection[str] = ("id",)) -> dict[str, object]:
    """What was given and what was answered, in one record.

    Where both have a name, it is the answer's, and the given value becomes `given_NAME`; names in `read` are what was
    asked of, and stand once where both have the same.
    """

    def name_of(name: str, value: object) -> str:
        is_once = name not in answer or (name in read and str(value).strip() == str(answer[name]))
        return name if is_once else f"given_{name}"

    return {**{name_of(name, value): value for name, value in given.items()}, **answer}


def as_json(value: object) -> str:
    """One line; what JSON has no word for, such as a date, is its text, and what is not a number is null."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(finite(value), ensure_ascii=False, default=str)


def finite(value: object) -> object:
    """A value without the floats that JSON lacks."""
    if isinstance(value, Mapping):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [*map(finite, value)]
    is_odd = isinstance(value, float) and not math.isfinite(value)
    return (None if value != value else str(value)) if is_odd else value


def check_out(path: Path) -> None:
    """Refuse a folder, and a name with an ending that is not written, before there are any answers."""
    if path.is_dir():
        raise BertkitError(f"--out: {path} is a folder", hint="give the name of a .jsonl file")
    if path.suffix.lower() not in WRITERS:
        endings = " ".join(filter(None, WRITERS))
        message = f"--out: {path}: files that end in {path.suffix!r} are not written"
        raise BertkitError(message, hint=f"name it {endings}")


def partial_of(path: Path) -> Path:
    """Where the answers lie that are to become a file."""
    return path.with_name(f"{path.name}.partial")


class Answers:
    """Answers on their way to a file: JSON lines in `NAME.partial`, which becomes the file once all are there.

    So a file that is there is whole, no number of rows is held in memory, and an interrupted prediction goes on.
    """

    def __init__(self, path: Path, mark: Record, resume: bool = False) -> None:
        """Of a file; `mark` is what an interrupted attempt must share with the one that goes on.

        Raises:
            BertkitError: something is left of another attempt.
        """
        self.path, self.partial, self.mark = path, partial_of(path), as_json(mark)
        self.count, self.resume = 0, resume  # answers that are there already
        if resume and self.partial.exists():
            self.count = self._left()
        elif self.partial.exists():
            message = f"--out: {self.partial} holds the answers of an interrupted prediction"
            raise BertkitError(message, hint="add --resume to go on with it, or remove it")

    def _left(self) -> int:
        """How many answers an interrupted attempt left; a line that is not whole goes."""
        size = count = 0
        with disk_errors(self.partial), self.partial.open("rb+") as file:
            for count, line in enumerate(file):
                if count == 0 and line.decode(errors="replace").rstrip("\n") != self.mark:
                    message = f"--resume: {self.partial} was begun with another run, input or setting"
                    began = line[:200].decode(errors="replace")
                    raise BertkitError(message, hint=f"remove it, or give --out another name; it began with {began}")
                if not line.endswith(b"\n"):
                    count -= 1
                    break
                size += len(line)
            file.truncate(size)
        return max(count, 0)

    def records(self) -> Iterator[dict[str, object]]:
        """The answers so far."""
        yield from map(parse, islice(read_lines(self.partial, largest=1 << 60), 1, None))

    def write(self, found: Iterable[Record], say: Callable[[str], None] = print) -> None:
        """Take all answers that come, then write the file, whole or not at all."""
        found = iter(found)
        first = next(found, None)
        needs = NEEDS.get(self.path.suffix.lower())
        if first is not None and needs and needs not in first:
            message = f"--out: {self.path}: an answer of this run has no {needs}, which {self.path.suffix} files hold"
            raise BertkitError(message, hint="name it .jsonl, .csv or .parquet")
        with disk_errors(self.path):
            self.partial.parent.mkdir(parents=True, exist_ok=True)
            # another prediction may have begun meanwhile
            with self.partial.open("a" if self.resume else "x", encoding="utf-8", newline="") as file:
                if file.tell() == 0:
                    file.write(self.mark + "\n")
                began = said = time.monotonic()
                for number, record in enumerate(chain(() if first is None else (first,), found), start=1):
                    file.write(as_json(record) + "\n")
                    if time.monotonic() - said > PROGRESS:
                        file.flush()
                        said = time.monotonic()
                        say(f"{counted(self.count + number, 'answer')}, {number / (said - began):,.0f} a second")
            try:
                with written_atomically(self.path) as temporary:
                    WRITERS[self.path.suffix.lower()](temporary, self.records)
            except BertkitError as error:
                lines = self.path.with_suffix(".jsonl")
                way = f"call {self.partial} {partial_of(lines).name}, and add --resume to write {lines.name} of it"
                raise BertkitError(error.message, hint=f"{error.hint}: {way}" if error.hint else way) from None
            self.partial.unlink()


Reader = Callable[[], Iterator[Record]]  # reads all records, as often as it is called


def write_lines(path: Path, read: Reader) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(as_json(record) + "\n" for record in read())


def write_json(path: Path, read: Reader) -> None:
    """A list of objects; answers to questions as SQuAD's script reads them, an object with the text for each id."""
    with path.open("w", encoding="utf-8", newline="") as file:
        seen: set[str] = set()
        marks = "[]"
        for record in read():
            if "n_best" in record:
                name, marks = str(record["id"]), "{}"
                if name in seen:
                    raise BertkitError(f"--out: two questions have the id {name!r}", hint="name the file .jsonl")
                seen.add(name)
                line = f"{as_json(name)}: {as_json(record['answer'])}"
            else:
                line = as_json(record)
            file.write(f"{',' if file.tell() else marks[0]}\n{line}")
        file.write(f"\n{marks[1]}\n" if file.tell() else "[]\n")


def write_table(path: Path, read: Reader, delimiter: str) -> None:
    """A column a value, with quotes where they are needed; lists are JSON, and a mapping has a column for each key."""
    names: dict[str, None] = {}
    quoting = csv.QUOTE_MINIMAL
    for record in read():
        for name, cell in cells_of(record):
            names[name] = None
            if "\r" in cell and "\n" not in cell:
                # csv puts no quotes around a carriage return, and whoever reads it would take it for the end of a line
                quoting = csv.QUOTE_ALL
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, delimiter=delimiter, lineterminator="\n", quoting=quoting)
        writer.writeheader()
        writer.writerows(dict(cells_of(record)) for record in read())


def cells_of(record: Record) -> Iterator[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from cells_of({f"{name}.{key}": inner for key, inner in value.items()})
        elif isinstance(value, str):
            yield name, value
        else:
            yield name, "" if value is None else as_json(value)


def write_parquet(path: Path, read: Reader) -> None:
    import pyarrow
    import pyarrow.parquet

    def tables(schema: pyarrow.Schema | None = None) -> Iterator[pyarrow.Table]:
        records = read()
        while some := list(islice(records, CHUNK)):
            # without a schema, columns are those of the first record
            first = {**dict.fromkeys(chain.from_iterable(some)), **some[0]}
            yield pyarrow.Table.from_pylist([first, *some[1:]], schema)

    try:
        schemas = [table.schema for table in tables()]
        schema = pyarrow.unify_schemas(schemas, promote_options="permissive") if schemas else pyarrow.schema([])
        with pyarrow.parquet.ParquetWriter(path, schema) as writer:
            for table in tables(schema):
                writer.write_table(table)
    except pyarrow.ArrowException as error:
        message = f"--out: Parquet has one type a column, and these records have several: {error}"
        raise BertkitError(message, hint="name the file .jsonl") from None


def write_conllu(path: Path, read: Reader) -> None:
    """The tags as UPOS, those of entities in MISC; what else a sentence came with is not known.

    Source: universaldependencies.org/format.html
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        for record in read():
            words, xpos = record["words"], record.get("xpos")
            odd = [word for word in words if not word or set(word) & set("\t\n\r")]
            if odd:
                message = f"--out: sentence {record['id']} has the word {odd[0]!r}, which a line of CoNLL-U cannot hold"
                raise BertkitError(message, hint="name the file .jsonl")
            if not (isinstance(xpos, list) and len(xpos) == len(words)):
                xpos = ["_"] * len(words)
            file.write(f"# sent_id = {one_line(record['id'])}\n# text = {' '.join(words)}\n")
            for number, (word, tag, other) in enumerate(zip(words, record["tags"], xpos, strict=True), start=1):
                tags = (
                    ("_", other, "_", "_", "_", "_", f"NER={tag}") if "entities" in record else (tag, other, *"_____")
                )
                file.write("\t".join((str(number), word, "_", *tags)) + "\n")
            file.write("\n")


NEEDS = {".conllu": "words"}  # what a record must hold for a file of this ending
WRITERS: Mapping[str, Callable[[Path, Reader], None]] = {
    "": write_lines,
    ".jsonl": write_lines,
    ".ndjson": write_lines,
    ".json": write_json,
    ".csv": partial(write_table, delimiter=","),
    ".tsv": partial(write_table, delimiter="\t"),
    ".parquet": write_parquet,
    ".conllu": write_conllu,
}

"""What files of text hold, as records: csv, JSON, SQuAD, lines, a word a line with its tags; no value is guessed at.

The readers are our own where the common ones guess: no `NA` becomes a missing value, no `01` becomes 1, no lone quote
opens a field.
"""

import csv
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, groupby, islice, repeat

from bertkit.data import files
from bertkit.data.exports import unwrapped
from bertkit.data.files import BadRow, File, Table, decoded, decoded_lines, no_rows, read_all, shorten, show
from bertkit.errors import BertkitError

PEEKED_ROWS = 100  # JSON has no header line: these first objects say which keys there are
Line = tuple[int, str]
COLUMN_ENDINGS = (".conll", ".annotated", ".bio", ".iob", ".iob2", ".train", ".testa", ".testb")


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
    # of columns with one name that nobody wants each is kept: note, note.1
    keys = [f"{name}.{names[:n].count(name)}" if name in names[:n] else name for n, name in enumerate(names)]

    def records() -> Iterator[tuple[int, dict[str, object] | BadRow]]:
        for line, values in fields if file.header else chain([first], fields):
            if len(values) == width:
                yield line, dict(zip(keys, values, strict=True))
            else:
                yield line, BadRow(f"has {len(values)} fields, but the first line has {width}")

    return Table(names, records())


def csv_fields(file: File, lines: Iterator[Line]) -> Iterator[tuple[int, list[str]]]:
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


def read_json_lines(file: File, lines: Iterable[Line] | None = None) -> Table:
    def values() -> Iterator[tuple[int, object]]:
        for line, text in lines or decoded_lines(file):
            if text.strip():
                try:
                    yield line, parse_json(text.rstrip())
                except (ValueError, RecursionError) as error:
                    yield line, BadRow(json_fault(error))

    return from_objects(file, values())


def read_json(file: File) -> Table:
    """A list of objects, a table as pandas writes it, SQuAD, or JSON lines by another name."""
    text = decoded(file, read_all(file), 1)
    try:
        value = parse_json(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data":  # after the first value: more lines
            return read_json_lines(file, enumerate(text.split("\n"), start=1))
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
    if isinstance(value, BadRow):
        return value
    return BadRow(f"{show(value)} is not an object", hint='write rows as {"column": value, ...}')


def from_objects(file: File, records: Iterator[tuple[int, object]]) -> Table:
    notes: list[str] = []
    records = unwrapped(file, records, notes)
    first = list(islice(records, PEEKED_ROWS if file.stream is None else 1))  # whoever writes a pipe waits for answers
    objects = [record for _, record in first if isinstance(record, dict)]
    if not first:
        raise no_rows(file)
    if not objects:  # nothing to find columns in
        line, reason = first[0][0], not_an_object(first[0][1])
        where = f"{file.name}:{line}" if line else f"{file.name}: row 0"
        raise BertkitError(f"{where}: {reason}", hint=reason.hint)
    return Table(list(dict.fromkeys(chain.from_iterable(objects))), chain(first, records), notes=notes)


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


# A word a line, and a blank line between sentences.


def is_column_file(file: File) -> bool:
    """Whether a file for a task with tags has a word a line: by its ending; a .txt or .tsv by its first lines."""
    if file.ending not in (".txt", ".tsv") or not os.path.isfile(file.path):
        return file.ending in COLUMN_ENDINGS
    lines = [text.rstrip("\r\n") for _, text in islice(decoded_lines(file), PEEKED_ROWS)]
    rows = [split_line(line, "\t" in line) for line in lines if is_word(line)]
    if len(rows) == len(lines) or not rows or set(rows[0]) & set(file.wanted.values()):
        return False  # no sentence ends, or the columns have names
    is_even = len(rows[0]) > 1 and all(len(row) == len(rows[0]) for row in rows)
    return is_even and (file.ending == ".tsv" or any(re.fullmatch("O|[BIESLUM]-.+", row[-1]) for row in rows))


def is_word(line: str) -> bool:
    return bool(line.strip(" \t")) and not line.startswith("-DOCSTART-")


def split_line(line: str, by_tab: bool) -> list[str]:
    # not `split()`: a word may be a white space of another kind
    return line.split("\t") if by_tab else re.split("[ \t]+", line.strip(" \t"))


def sentences(lines: Iterable[Line], belongs: Callable[[str], object]) -> Iterator[Iterator[Line]]:
    return (some for is_sentence, some in groupby(lines, lambda entry: bool(belongs(entry[1]))) if is_sentence)


def read_columns(file: File) -> Table:
    """Columns named by their position, "0" and so on, and the last one also "-1"; tabs, or any number of blanks.

    A line that begins with # and has another number of columns than the words is a comment.
    Source: Tjong Kim Sang and De Meulder 2003, https://www.clips.uantwerpen.be/conll2003/ner/ (`-DOCSTART-`).
    """
    lines = ((line, text.rstrip("\r\n")) for line, text in decoded_lines(file))
    peeked = list(islice(lines, PEEKED_ROWS))
    first = next((text for _, text in sorted(peeked, key=lambda entry: entry[1].startswith("#")) if is_word(text)), "")
    if not first:
        raise no_rows(file)
    by_tab = "\t" in first
    width = len(split_line(first, by_tab))
    names = [*map(str, range(width)), *(["-1"] if width > 1 else [])]
    wanted = [name for name in names if name in file.wanted.values()]

    def records() -> Iterator[tuple[int, dict[str, object] | BadRow]]:
        for sentence in sentences(chain(peeked, lines), is_word):
            words, faults = [], []
            for line, text in sentence:
                fields = split_line(text, by_tab)
                if len(fields) == width and fields[0]:
                    words.append((line, fields))
                elif len(fields) == width:
                    faults.append((line, BadRow("has no word before the tab")))
                elif not text.startswith("#"):
                    faults.append((line, BadRow(f"has {len(fields)} columns, but the first word has {width}")))
            if faults:
                yield faults[0]
            elif words:
                found = {name: [fields[int(name)] for _, fields in words] for name in wanted}
                if len(words) > 1 and found.get("0") == [str(number + 1) for number in range(len(words))]:
                    message = f"{file.name}:{words[0][0]}: the first column counts the words"
                    hint = "name the column of the words: data.columns.words=1; CoNLL-U (ten columns) is named .conllu"
                    raise BertkitError(message, hint=hint)
                yield words[0][0], found

    return Table(names, records())


def read_conllu(file: File) -> Table:
    """CoNLL-U, where multi-word ranges (1-2) and empty nodes (8.1) are not words.

    Source: universaldependencies.org/format.html
    """

    def records() -> Iterator[tuple[int, dict[str, object]]]:
        for sentence in sentences(decoded_lines(file), str.strip):
            name, words = None, []
            for line, text in sentence:
                if text.startswith("#"):
                    found = re.match(r"#\s*sent_id\s*=\s*(.*\S)", text)
                    name = found[1] if found else name
                    continue
                fields = text.rstrip("\r\n").split("\t")
                check_conllu_word(f"{file.name}:{line}", fields, len(words) + 1)
                if fields[0].isdecimal():
                    words.append((line, fields))
            if words:
                tags = {"upos": column_of_tags(file, words, "upos", 3), "xpos": column_of_tags(file, words, "xpos", 4)}
                yield words[0][0], {"id": name, "form": [fields[1] for _, fields in words], **tags}

    return Table(["id", "form", "upos", "xpos"], records())


def check_conllu_word(where: str, fields: list[str], expected: int) -> None:
    if len(fields) != 10:
        hints = {1: "put tabs between the columns, not spaces", 9: "a column is missing; an empty one is written _"}
        hint = hints.get(len(fields), "a word line has ten columns with tabs between them")
        raise BertkitError(f"{where}: {len(fields)} columns instead of 10: {show(' '.join(fields))}", hint=hint)
    if not re.fullmatch(r"\d+-\d+|\d+\.\d+", fields[0], re.ASCII) and fields[0] != str(expected):
        hint = "words count from 1 in each sentence, and a blank line ends a sentence"
        raise BertkitError(f"{where}: word ID {show(fields[0])} where {expected} is due", hint=hint)
    if not fields[1]:
        raise BertkitError(f"{where}: the word (FORM) is empty", hint="a word line has ten columns, none of them empty")


def column_of_tags(file: File, words: list[tuple[int, list[str]]], column: str, position: int) -> list[str] | None:
    """A sentence's tags, or None when it has none."""
    tags = [fields[position] for _, fields in words]
    if "_" not in tags or column not in file.wanted.values():
        return tags
    if all(tag == "_" for tag in tags):
        return None
    line, fields = words[tags.index("_")]
    fault = f"{show(fields[1])} has no {column.upper()}, but other words of the sentence have one"
    raise BertkitError(f"{file.name}:{line}: {fault}", hint="tag every word of a sentence, or none")

"""A word a line with its tags, and a blank line between sentences: CoNLL-U, and the columns of CoNLL's shared tasks.

Source: universaldependencies.org/format.html; Tjong Kim Sang and De Meulder 2003,
https://www.clips.uantwerpen.be/conll2003/ner/ (`-DOCSTART-`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby, islice

from bertkit.data.files import BadRow, File, Table, decoded_lines, no_rows, show
from bertkit.data.formats import PEEKED_ROWS
from bertkit.errors import BertkitError

COLUMN_ENDINGS = (".conll", ".annotated", ".bio", ".iob", ".iob2", ".train", ".testa", ".testb")
Line = tuple[int, str]


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
    """Lines in a row that belong to a sentence."""
    return (some for is_sentence, some in groupby(lines, lambda entry: bool(belongs(entry[1]))) if is_sentence)


def read_columns(file: File) -> Table:
    """Columns named by their position, "0" and so on, and the last one also "-1"; tabs, or any number of blanks.

    A line that begins with # and has another number of columns than the words is a comment.
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
    """Multi-word ranges (1-2) and empty nodes (8.1) are not words."""

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

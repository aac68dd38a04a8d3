"""A word a line with its tags, and a blank line between sentences: the columns of CoNLL's shared tasks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from bertkit.data.files import BadRow, File, Table, decoded_lines, no_rows
from bertkit.data.formats import PEEKED_ROWS
from bertkit.errors import BertkitError

COLUMN_ENDINGS = (".conll", ".annotated", ".bio", ".iob", ".iob2", ".train", ".testa", ".testb")
MAY_BE_COLUMNS = (".txt", ".tsv")


def is_column_file(file: File) -> bool:
    """Whether a file for a task with tags has a word a line: by its ending; a .txt or .tsv by its first lines."""
    if file.ending not in MAY_BE_COLUMNS or not os.path.isfile(file.path):
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
    return Table(names, sentences(file, chain(peeked, lines), by_tab, width, wanted))


def sentences(
    file: File, lines: Iterator[tuple[int, str]], by_tab: bool, width: int, wanted: Sequence[str]
) -> Iterator[tuple[int, dict[str, object] | BadRow]]:
    words: list[list[str]] = []
    begin, fault = 0, None
    for line, text in chain(lines, [(0, "")]):
        if is_word(text):
            fields = split_line(text, by_tab)
            if len(fields) != width:
                if not text.startswith("#"):
                    fault = fault or (line, f"has {len(fields)} columns, but the first word has {width}")
            elif not fields[0]:
                fault = fault or (line, "has no word before the tab")
            else:
                begin = begin or line
                words.append(fields)
            continue
        if fault:
            yield fault[0], BadRow(fault[1])
        elif words:
            found = {name: [fields[int(name)] for fields in words] for name in wanted}
            if len(words) > 1 and found.get("0") == [str(number + 1) for number in range(len(words))]:
                raise BertkitError(
                    f"{file.name}:{begin}: the first column counts the words",
                    hint="name the column of the words: data.columns.words=1; CoNLL-U (ten columns) is named .conllu",
                )
            yield begin, found
        words, begin, fault = [], 0, None

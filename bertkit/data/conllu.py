"""CoNLL-U: a word a line in ten columns, a blank line behind each sentence.

Source: universaldependencies.org/format.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

from bertkit.data.files import File, Table, decoded_lines, show
from bertkit.errors import BertkitError


def read_conllu(file: File) -> Table:
    return Table(["id", "form", "upos", "xpos"], conllu_sentences(file))


def conllu_sentences(file: File) -> Iterator[tuple[int, dict[str, object]]]:
    """Multi-word ranges (1-2) and empty nodes (8.1) are not words."""
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


def column_of_tags(file: File, words: list[tuple[int, list[str]]], column: str, position: int) -> list[str] | None:
    """A sentence's tags, or None when it has none."""
    tags = [fields[position] for _, fields in words]
    if "_" not in tags or column not in file.wanted.values():
        return tags
    if any(tag != "_" for tag in tags):
        line, fields = words[tags.index("_")]
        raise BertkitError(
            f"{file.name}:{line}: {show(fields[1])} has no {column.upper()}, but other words of the sentence have one",
            hint="tag every word of a sentence, or none",
        )
    return None

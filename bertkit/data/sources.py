"""Rows with a task's columns, read from a source and checked.

Files end in .csv .tsv .jsonl .ndjson .json .parquet .conllu .conll .txt, maybe packed as .gz or .xz; folders and Hub
data sets are read as well.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from types import MappingProxyType
from typing import NamedTuple

from bertkit.data.files import BadRow, File, Table, cut, name_parts, no_rows, show
from bertkit.data.formats import is_column_file, not_an_object
from bertkit.data.opening import ending_of, find, open_pipe, open_table, table_of
from bertkit.data.rules import EMPTY, IGNORED, SEVERAL, Columns, Rules, Unused
from bertkit.data.words import entity_names
from bertkit.errors import BertkitError, did_you_mean, nearest, one_line

GROUP = "data.group_by"  # what rows call the column that they are grouped by: no task has one of this name
USUAL_NAMES = {  # what other people call our columns: for hints only
    "text": ("sentence", "review", "content", "text_a"),
    "premise": ("sentence1", "sentence_A", "text_a"),
    "hypothesis": ("sentence2", "sentence_B", "text_b"),
    "label": ("gold_label", "sentiment", "class", "category", "labels"),
    "words": ("tokens",),
    "tags": ("upos", "pos_tags", "pos"),
}


class NoColumn(BertkitError):
    """A source lacks a column of the task."""

    def __init__(self, message: str, hint: str, column: str) -> None:
        super().__init__(message, hint)
        self.column = column


@dataclass
class LeftOut:
    """What is left out of a source, as it is read."""

    bad: list[str] = field(default_factory=list)  # `FILE:LINE: reason`
    hint: str = ""  # what to do about the first bad row
    # why a row is not used -> `FILE:LINE` of each
    unused: dict[str, list[str]] = field(default_factory=lambda: {IGNORED: [], EMPTY: []})

    def nothing(self, file: File) -> BertkitError:
        """That no row is left, and why."""
        if not (self.bad or any(self.unused.values())):
            return no_rows(file)
        counts = ", ".join([f"{len(self.bad)} bad", *(f"{len(some)} {why}" for why, some in self.unused.items())])
        message = f"{file.name}: no row is left: {counts}" + (f"; the first: {self.bad[0]}" if self.bad else "")
        return BertkitError(message, hint="look at data.columns, data.skip_bad_rows and data.ignore_labels")


class Rows(NamedTuple):
    """What `read_rows` read, and what it left out."""

    # or an iterator: `id` (the source's own, else the row's number from 0) and the task's columns
    rows: list[dict[str, object]]
    label_names: tuple[str, ...] | None  # the classes in order, where the source declares them (ClassLabel)
    left: LeftOut
    given: list[dict[str, object]]  # for prediction: what the source holds of each row
    notes: tuple[str, ...]  # what else was done to the rows, a sentence each
    unused: frozenset[str] = frozenset()  # keys of `data.labels` that no row has
    columns: Mapping[str, str | None] = MappingProxyType({})  # task column -> column of the source
    unread: tuple[str, ...] = ()  # the source's other columns


def read_rows(
    source: str | object,
    columns: Columns,
    *,
    mapping: Mapping[str, str | int] = MappingProxyType({}),  # task column (or `id`) -> column, or position from 0
    split: str = "train",  # of a folder or a Hub id; a file is its own split
    config: str | None = None,  # of a Hub id
    require_gold: bool = True,  # or gold may be missing, is None then, and `given` holds the source's other columns
    ignore_labels: Sequence[str] = (),  # leave out rows with this gold; "" is an empty one, "-1" also ClassLabel's
    skip_bad_rows: bool = False,
    unanswerable: bool = False,  # question answering: a row without an answer, or with an empty context, is right
    tag_names: Sequence[str] = (),  # what tags that are numbers stand for, where the source does not say it
    group_by: str = "none",  # a column of the source that each row gets as GROUP, unless the task reads it anyway
    as_stream: bool = False,  # `rows` is then an iterator of (row, what the source holds of it), read as it is asked
) -> Rows:
    """Read and check every row of a source: a row is right, or it is named with its line; none is quietly changed.

    A source is a file; `-` or a pipe of the shell; a folder (with a file `{split}.tsv` or the like, of `save_to_disk`,
    or as `load_dataset` takes it); any other string is a Hub id. Or it is rows in memory, as `opening.table_of` takes
    them, which messages call by the split. A position in the mapping says that a csv or tsv file has no header line.

    Raises:
        BertkitError: the source, the mapping or a row is wrong, two rows share an id, or no row is left. A stream
            raises it where it meets a wrong row, and does not look whether rows share an id.
    """
    gold = [name for name in columns[2:-1] if name]
    known = ["id", *gold, *columns.text, *columns.words]  # gold first: an ignored label is never a bad row
    for column in mapping:
        if column not in known:
            raise BertkitError(f"data.columns: the task has no column {column!r}", hint=did_you_mean(column, known))
    if group_by not in ("auto", "none", *known):
        known, mapping = [*known, GROUP], {**mapping, GROUP: group_by}
    file = to_file(source, columns, known, mapping, split)._replace(is_kept=not require_gold)
    table = open_table(file, split, config) if isinstance(source, str) else table_of(file, source)
    if columns.entities:
        names = entity_names(table.names, mapping, (*columns.words, columns.tags))
        file = file._replace(wanted={**file.wanted, **names})
    located = locate(file, table, columns, () if require_gold else gold)
    class_names = next((table.class_names[located[name]] for name in gold if located[name] in table.class_names), None)
    rules = Rules(
        columns=columns, class_names=class_names, required=require_gold, unanswerable=unanswerable,
        ignored=frozenset(ignore_labels if require_gold else ()), tag_names=tuple(tag_names),
    )  # fmt: skip
    if as_stream:
        left = LeftOut()
        rows = streamed(file, checked(file, table, rules, located, left), left, skip_bad_rows)
        return Rows(rows, class_names, left, [], table.notes)
    found = collect(file, table, rules, located)
    check_rows(file, found, columns.label if require_gold else None, skip_bad_rows)
    return found


def to_file(
    source: str | object, columns: Columns, known: Sequence[str], mapping: Mapping[str, str | int], split: str
) -> File:
    """The source, and under which names its kind of file has the task's columns."""
    wanted = {column: str(mapping.get(column, column)) for column in known}
    if not isinstance(source, str):
        return File(split, "", "", "", wanted, None)
    name, path = find(source, split)
    _, ending, packing = name_parts(path)
    header, stream, pipe = None, None, open_pipe(name, path)
    if pipe is not None:
        begin, stream = pipe
        ending = ending_of(begin, [wanted[column] for column in (*columns.text, *columns.words)])
    if ending == ".conllu":
        own = {**dict.fromkeys(columns.words, "form"), columns.tags: "upos"}
        wanted = {column: str(mapping.get(column, own.get(column, column))).lower() for column in known}
    elif ending == ".txt" and len(columns.text) == 1:
        wanted[columns.text[0]] = "text"  # its one column needs no mapping, and a recipe's mapping is for other files
    elif ending in (".csv", ".tsv"):
        header = not any(name.isdecimal() for name in wanted.values())
    file = File(name, path, ending, packing, wanted, header, stream)
    if columns.words and is_column_file(file):
        own = {**dict.fromkeys(columns.words, "0"), columns.tags: "-1"}
        # a position that the user names stays; -1 is the last one
        unnamed = [column for column in own if column and not wanted[column].removeprefix("-").isdecimal()]
        return file._replace(ending=".conll", wanted={**wanted, **{column: own[column] for column in unnamed}})
    return file


def checked(
    file: File, table: Table, rules: Rules, located: Mapping[str, str | None], left: LeftOut
) -> Iterator[tuple[dict[str, object], dict[str, object]]]:
    """Each row that is right, and its record; the others are noted in `left`."""
    plan = [(column, name, rules.converter(column)) for column, name in located.items()]
    for number, (line, record) in enumerate(table.records):
        row: dict[str, object] = {}
        name = None
        where = f"{file.name}:{line}" if line else f"{file.name}: row {number}"
        try:
            if not isinstance(record, dict):
                raise not_an_object(record)
            for column, name, convert in plan:
                row[column] = convert(record.get(name))
            name = None
            row["id"] = row["id"] or str(number)
            rules.check(row)
        except Unused as why:
            left.unused[str(why)].append(where)
        except BadRow as reason:
            left.hint = left.hint or reason.hint
            if rules.columns.answers:
                where = f"{where if line else file.name}: question {cut(row.get('id') or str(number))}"
            left.bad.append(one_line(f"{where}: column {name!r} {reason}" if name else f"{where}: {reason}"))
        else:
            yield row, record


def streamed(file: File, pairs: Iterator[tuple], left: LeftOut, skip_bad_rows: bool) -> Iterator[tuple]:
    """Rows as they are read; the first bad one ends it, unless it may be skipped."""
    is_empty = True
    for pair in chain(pairs, [None]):
        if left.bad and not skip_bad_rows:
            raise BertkitError(left.bad[0], hint=f"{left.hint}, or leave such rows out with data.skip_bad_rows=true")
        if pair is not None:
            is_empty = False
            yield pair
    if is_empty:
        raise left.nothing(file)


def collect(file: File, table: Table, rules: Rules, located: Mapping[str, str | None]) -> Rows:
    """All rows of a source."""
    rows, given, left = [], [], LeftOut()
    for row, record in checked(file, table, rules, located, left):
        rows.append(row)
        if file.is_kept:
            given.append(record)
    notes = tuple(table.notes)
    if rules.trimmed:
        some = ", ".join(map(repr, islice(rules.trimmed, 3))) + (", ..." if len(rules.trimmed) > 3 else "")
        notes += (f"{rules.trimmed.total():,} labels are read without their extra white space: {some}",)
    last = {"-1": str(len(table.names) - 2)} if file.ending == ".conll" else {}  # two names of one column
    read = {last.get(name, name) for name in located.values()}
    unread = tuple(name for name in table.names if last.get(name, name) not in read)
    return Rows(rows, rules.class_names, left, given, notes, columns=located, unread=unread)


def check_rows(file: File, found: Rows, label: str | None, skip_bad_rows: bool) -> None:
    """Refuse bad rows unless they may be skipped, no rows, and ids of several; warn where a class looks like more."""
    left, bad = found.left, found.left.bad
    joined = next((row[label] for row in found.rows if "|" in row[label]), None) if label else None
    if bad and not skip_bad_rows:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        hint = f"{SEVERAL if joined else left.hint}, or leave such rows out with data.skip_bad_rows=true"
        raise BertkitError(bad[0] + more, hint=hint)
    if not found.rows:
        raise left.nothing(file)
    if joined:
        warnings.warn(f"{file.name}: {show(joined)} is read as one class; {SEVERAL}", stacklevel=2)
    # predictions are gathered by id
    if twice := [name for name, times in Counter(row["id"] for row in found.rows).items() if times > 1]:
        some = ", ".join(map(cut, twice[:5])) + (", ..." if len(twice) > 5 else "")
        hint = "make the ids unique, or name a column in which they are: data.columns.id=NAME"
        raise BertkitError(f"{file.name}: {len(twice)} ids belong to more than one row: {some}", hint=hint)


def locate(file: File, table: Table, columns: Columns, optional: Sequence[str]) -> dict[str, str | None]:
    """Task column -> column of the source; None where the source may lack it."""
    located: dict[str, str | None] = {}
    taken = {"id", *file.wanted.values(), *(["text"] if columns.words else [])}
    unused = [name for name in table.names if name not in taken]
    running = [name for name in (("tokens", "text", "data") if columns.entities else ("text",)) if name in table.names]
    for column, name in file.wanted.items():
        if table.names.count(name) > 1:
            raise BertkitError(f"{file.name}: two columns are named {name!r}", hint="give each its own name")
        if name in table.names:
            located[column] = name
        elif column in optional or column == name == "id":
            located[column] = None
        elif column == GROUP:
            message = f"{GROUP}: {file.name} has no column {name!r}"
            raise BertkitError(message, hint=did_you_mean(name, [*map(cut, table.names[:50]), "auto", "none"]))
        elif column in columns.words and columns.tags in optional and running:
            located[column] = running[0]  # prediction, also on running text: `words.words_of` finds its words
        else:
            has = ", ".join(cut(other) for other in table.names[:50]) or "none"
            message = f"{file.name}: no column {name!r} for the task's {column!r}; it has: {has}"
            raise NoColumn(message, column_hint(file, columns, column, unused), column)
    return located


def column_hint(file: File, columns: Columns, column: str, unused: Sequence[str]) -> str:
    """What to do about a column that is not there; `unused` are those that no other column of the task takes."""
    if file.ending == ".txt":
        return "lines of text have no columns; csv, tsv and JSON lines have"
    if file.ending in (".conllu", ".conll") and not columns.words:
        return f"{file.ending} files hold words and their tags, for tasks such as pos"
    if {"annotations", "data"} <= set(unused):
        return "this is all that Label Studio knows of its tasks; export JSON-MIN or CSV instead"
    usual = [other for other in unused if other in USUAL_NAMES.get(column, ())]
    name = nearest(file.wanted[column], unused) or nearest(column, unused)
    guess = next(iter(usual or unused[: len(unused) == 1]), name) or "NAME"
    hint = f"add data.columns.{column}={cut(guess)}" if unused else "no column is left for it"
    if file.header:
        hint += f", or a position if the file has no header line: data.columns.{column}=0"
    return f"{hint}; {SEVERAL}" if column == columns.label and guess == "labels" else hint

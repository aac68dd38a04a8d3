"""Rows with a task's columns: what a right row is, whatever kind of source it comes from.

Files end in .csv .tsv .jsonl .ndjson .json .parquet .conllu .txt, maybe packed as .gz or .xz; folders and Hub data sets
are read as well.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from bertkit.data.formats import BadRow, File, Table, cut, name_parts, no_rows, parse_json, show
from bertkit.data.opening import READERS, find, open_table
from bertkit.errors import BertkitError, did_you_mean, nearest, one_line

__all__ = ["READERS", "Columns", "Rows", "read_rows", "words_of"]

USUAL_NAMES = {  # what other people call our columns: for hints only
    "text": ("sentence", "review", "content", "text_a"),
    "premise": ("sentence1", "sentence_A", "text_a"),
    "hypothesis": ("sentence2", "sentence_B", "text_b"),
    "label": ("gold_label", "sentiment", "class", "category"),
    "words": ("tokens",),
    "tags": ("upos", "pos_tags", "pos"),
}
SKIP = "leave such rows out with data.skip_bad_rows=true"
UNANSWERABLE = "set task.unanswerable=true"


class Columns(NamedTuple):
    """Which columns a task reads, by kind; the reader checks them and gives each row these keys and `id`."""

    text: tuple[str, ...] = ()  # a str, maybe empty
    words: tuple[str, ...] = ()  # a list of str
    label: str | None = None  # one class name
    labels: str | None = None  # multi-label: a tuple of class names; `|` separates them where they come as one string
    number: str | None = None  # a finite float
    tags: str | None = None  # a str for each word
    answers: str | None = None  # [{"text": str, "start": int}, ...]; `text` is then (question, context)


class Rows(NamedTuple):
    """What `read_rows` read, and what it left out."""

    rows: list[dict[str, object]]  # `id` (the source's own, else the row's number from 0) and the task's columns
    label_names: tuple[str, ...] | None  # the classes in order, where the source declares them (ClassLabel)
    skipped: tuple[str, ...]  # `FILE:LINE: reason`, one for each bad row that was left out
    ignored_labels: int  # rows left out because their label is in `ignore_labels`


class IgnoredLabel(Exception):
    """The row has a label that the user wants left out."""


def read_rows(
    source: str,
    columns: Columns,
    *,
    mapping: Mapping[str, str | int] = MappingProxyType({}),
    split: str = "train",
    config: str | None = None,
    require_gold: bool = True,
    ignore_labels: Sequence[str] = (),
    skip_bad_rows: bool = False,
    unanswerable: bool = False,
) -> Rows:
    """Read and check every row of a source: a row is right, or it is named with its line; none is quietly changed.

    Args:
        source: a file; a folder (with a file `{split}.tsv` or the like, of `save_to_disk`, or as `load_dataset` takes
            it); anything else is a Hub id.
        columns: what the task reads.
        mapping: task column (or `id`) -> column of the source. A number in it, `3` or `"3"`, says that a csv or tsv
            file has no header line; positions count from 0.
        split: of a folder or a Hub id. A file is its own split.
        require_gold: False for prediction: gold columns may be missing, and a row without gold holds None.
        ignore_labels: rows with these labels are left out and counted; `""` is an empty one, `"-1"` also ClassLabel's.
        skip_bad_rows: leave bad rows out and list them.
        unanswerable: question answering: a row without an answer, or with an empty context, is right.
    Raises:
        BertkitError: the source, the mapping or a row is wrong, two rows share an id, or no row is left.
    """
    gold = [name for name in columns[2:] if name]
    known = ["id", *gold, *columns.text, *columns.words]  # gold first: an ignored label is never a bad row
    for column in mapping:
        if column not in known:
            raise BertkitError(f"data.columns: the task has no column {column!r}", hint=did_you_mean(column, known))
    file = to_file(source, columns, known, mapping, split)
    table = open_table(file, split, config)
    places = locate(file, table, columns, () if require_gold else gold)
    class_names = next((table.class_names[places[name]] for name in gold if places[name] in table.class_names), None)
    rules = Rules(columns, class_names, require_gold, frozenset(ignore_labels), unanswerable)
    rows, bad, hint, ignored = collect(file, table, rules, places)
    if bad and not skip_bad_rows:
        raise BertkitError(bad[0] + (f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""), hint=f"{hint}, or {SKIP}")
    if not rows and not bad and not ignored:
        raise no_rows(file)
    if not rows:
        first = f"; the first: {bad[0]}" if bad else ""
        raise BertkitError(
            f"{file.name}: no row is left: {len(bad)} bad, {ignored} with an ignored label{first}",
            hint="look at data.columns, data.skip_bad_rows and data.ignore_labels",
        )
    if places["id"] is not None:
        check_ids(file, rows)
    return Rows(rows, class_names, tuple(bad), ignored)


def to_file(source: str, columns: Columns, known: Sequence[str], mapping: Mapping[str, str | int], split: str) -> File:
    """The source, and under which names its kind of file has the task's columns."""
    name, path = find(source, split)
    _, ending, packing = name_parts(path)
    wanted = {column: str(mapping.get(column, column)) for column in known}
    header = None
    if ending == ".conllu":
        own = {**dict.fromkeys(columns.words, "form"), columns.tags: "upos"}
        wanted = {column: str(mapping.get(column, own.get(column, column))).lower() for column in known}
    elif ending == ".txt" and len(columns.text) == 1:
        wanted[columns.text[0]] = "text"  # its one column needs no mapping, and a recipe's mapping is for other files
    elif ending in (".csv", ".tsv"):
        header = not any(place.isdecimal() for place in wanted.values())
    return File(name, path, ending, packing, wanted, header)


def collect(
    file: File, table: Table, rules: Rules, places: Mapping[str, str | None]
) -> tuple[list[dict[str, object]], list[str], str, int]:
    """The good rows, a line for each bad one, the hint of the first of these, and how many labels were ignored."""
    plan = [(column, place, rules.converter(column)) for column, place in places.items()]
    rows, bad, hint, ignored = [], [], "", 0
    for number, (line, record) in enumerate(table.records):
        row: dict[str, object] = {}
        place = None
        try:
            if isinstance(record, BadRow):
                raise record
            for column, place, convert in plan:
                row[column] = convert(record.get(place))
            place = None
            row["id"] = row["id"] or str(number)
            rules.check(row)
            rows.append(row)
        except IgnoredLabel:
            ignored += 1
        except BadRow as reason:
            hint = hint or reason.hint
            where = f"{file.name}:{line}" if line else file.name
            if rules.columns.answers:
                where += f": question {cut(row.get('id') or str(number))}"
            elif not line:
                where += f": row {number}"
            bad.append(one_line(f"{where}: column {place!r} {reason}" if place else f"{where}: {reason}"))
    return rows, bad, hint, ignored


def locate(file: File, table: Table, columns: Columns, optional: Sequence[str]) -> dict[str, str | None]:
    """Task column -> column of the source; None where the source may lack it."""
    places: dict[str, str | None] = {}
    taken = {"id", *file.wanted.values(), *(["text"] if columns.words else [])}
    unused = [name for name in table.names if name not in taken]
    for column, name in file.wanted.items():
        if table.names.count(name) > 1:
            raise BertkitError(f"{file.name}: two columns are named {name!r}", hint="give each its own name")
        if name in table.names:
            places[column] = name
        elif column in optional or column == name == "id":
            places[column] = None
        elif column in columns.words and columns.tags in optional and "text" in table.names:
            places[column] = "text"  # prediction on running text: `words_of` finds its words
        else:
            usual = [other for other in unused if other in USUAL_NAMES.get(column, ())]
            guess = next(iter(usual or unused[: len(unused) == 1]), nearest(name, unused) or nearest(column, unused))
            guess = guess and cut(guess)
            hint = f"add data.columns.{column}={guess or 'NAME'}" if unused else "no column is left for it"
            if file.ending == ".conllu" and not columns.words:
                hint = "CoNLL-U holds words and their tags, for tasks such as pos"
            if file.header:
                hint += f", or a position if the file has no header line: data.columns.{column}=0"
            has = ", ".join(cut(other) for other in table.names[:50]) or "none"
            raise BertkitError(f"{file.name}: no column {name!r} for the task's {column!r}; it has: {has}", hint=hint)
    return places


def check_ids(file: File, rows: list[dict[str, object]]) -> None:
    """Predictions are gathered by id, so two rows must not share one."""
    twice = [name for name, times in Counter(row["id"] for row in rows).items() if times > 1]
    if twice:
        some = ", ".join(cut(name) for name in twice[:5]) + (", ..." if len(twice) > 5 else "")
        raise BertkitError(
            f"{file.name}: {len(twice)} ids belong to more than one row: {some}",
            hint="make the ids unique, or name a column in which they are: data.columns.id=NAME",
        )


@dataclass(frozen=True)
class Rules:
    """What makes a row right for one task. The reasons that converters raise read on after "column 'x' ..."."""

    columns: Columns
    class_names: tuple[str, ...] | None
    required: bool
    ignored: frozenset[str]
    unanswerable: bool

    def converter(self, column: str) -> Callable[[object], object]:
        """The function that checks one column's values."""
        kinds = dict.fromkeys(self.columns.text, as_text)
        kinds |= {self.columns.label: self.label, self.columns.labels: self.labels, self.columns.number: self.number}
        return {"id": name_of, self.columns.answers: as_answers, **kinds}.get(column, lambda value: value)

    def class_name(self, value: object) -> str | None:
        """A ClassLabel's number becomes its name, and its -1 (unlabelled test sets of the Hub) becomes None."""
        if self.class_names is None or type(value) is not int:
            return name_of(value)
        if not -1 <= value < len(self.class_names):
            raise BadRow(f"holds {value}, but the classes are 0 to {len(self.class_names) - 1}")
        return self.class_names[value] if value >= 0 else None

    def label(self, value: object) -> str | None:
        name = self.class_name(value)
        if self.ignored and ((name or "") in self.ignored or (name is None and value == -1 and "-1" in self.ignored)):
            raise IgnoredLabel
        if name is None and self.required:
            raise BadRow("has no label")
        return name

    def labels(self, value: object) -> tuple[str, ...] | None:
        """Class names without doubles; an empty list or string is a row that no class fits."""
        if value is None and not self.required:
            return None
        if isinstance(value, str):
            value = [name for name in value.split("|") if name.strip()]
        if not isinstance(value, list):
            raise BadRow(f"holds {show(value)}, not a list of class names")
        names = [self.class_name(item) for item in value]
        if None in names:
            raise BadRow(f"holds an empty class name: {show(value)}")
        return tuple(dict.fromkeys(names))

    def number(self, value: object) -> float | None:
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            if self.required:
                raise BadRow("has no number")
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise BadRow(f"holds {show(value)}, not a finite number")
        return number

    def check(self, row: dict[str, object]) -> None:
        """What a column alone does not tell: tags count like words, answers stand in their context."""
        if self.columns.answers:
            self.check_question(row, *self.columns.text)
        for name in self.columns.words:
            self.check_words(row, name)

    def check_question(self, row: dict[str, object], question: str, context: str) -> None:
        answers = row[self.columns.answers]
        if not row[question].strip():
            raise BadRow(f"column {question!r} is empty")
        if not (self.unanswerable or row[context].strip()):
            raise BadRow(f"column {context!r} is empty", hint=UNANSWERABLE)
        if self.required and not answers:
            if not self.unanswerable:
                raise BadRow("has no answer", hint=UNANSWERABLE)
            row[self.columns.answers] = []
        for answer in answers or ():
            text, start = answer["text"], answer["start"]
            if start < 0 or not row[context].startswith(text, start):
                raise BadRow(f"answer {show(text)} does not stand at character {start}")

    def check_words(self, row: dict[str, object], name: str) -> None:
        """Strings are split at spaces where tags go with them, and otherwise by `words_of`."""
        words, tags = row[name], row.get(self.columns.tags)
        if isinstance(tags, str):
            tags = [tag for tag in tags.split(" ") if tag] or None
        if isinstance(words, str):
            words = words_of(words) if tags is None else [word for word in words.split(" ") if word]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise BadRow(f"column {name!r} holds {show(words)}, not a list of words")
        if not words:
            raise BadRow("has no words")
        if tags is None and self.columns.tags and self.required:
            raise BadRow("has no tags")
        if tags is not None:
            if not isinstance(tags, list):
                raise BadRow(f"column {self.columns.tags!r} holds {show(tags)}, not a list of tags")
            tags = [self.class_name(tag) for tag in tags]
            if None in tags:
                raise BadRow(f"word {tags.index(None) + 1} has no tag")
            if len(tags) != len(words):
                raise BadRow(f"has {len(words)} words but {len(tags)} tags")
        row[name] = words
        if self.columns.tags:
            row[self.columns.tags] = tags


def as_text(value: object) -> str:
    if type(value) is str:
        return value
    raise BadRow("is missing" if value is None else f"holds {show(value)}, not text")


def name_of(value: object) -> str | None:
    """A class name or an id as a str: 1, 1.0 and True are "1"; nothing is None."""
    if isinstance(value, str):
        return value.strip() or None
    if value is None or value != value:  # NaN: how pandas writes a missing value
        return None
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    raise BadRow(f"holds {show(value)}, not a name")


def as_answers(value: object) -> list[dict[str, object]] | None:
    """Answers without doubles, from [{text, answer_start or start}, ...] or {text: [...], answer_start: [...]}.

    An empty text is left out: that is how some files write that there is no answer.
    """
    if isinstance(value, str):  # a cell of a csv file
        try:
            value = parse_json(value) if value.strip() else None
        except (ValueError, RecursionError):
            raise BadRow(f"holds {show(value)}, not JSON") from None
    if value is None:
        return None
    if isinstance(value, dict):
        texts, starts = value.get("text"), value.get("answer_start", value.get("start"))
        if not (isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)):
            raise BadRow(f"holds {show(value)}, not lists `text` and `answer_start` of one length")
        pairs = list(zip(texts, starts, strict=True))
    elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
        pairs = [(item.get("text"), item.get("answer_start", item.get("start"))) for item in value]
    else:
        raise BadRow(f"holds {show(value)}, not a list of answers")
    for text, start in pairs:
        if not isinstance(text, str) or type(start) is not int:
            raise BadRow(f"holds an answer {show(text)} at {show(start)}; it needs a text and its first character")
    return [{"text": text, "start": start} for text, start in dict.fromkeys(pairs) if text]


JOINED_SCRIPTS = re.compile(  # Han and kana, written without spaces: every character is a word
    "[\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)


def words_of(text: str) -> list[str]:
    """Running text as words for tagging: punctuation marks and symbols apart, Han and kana by the character.

    Accents and joiners stay with what they follow, and so does an apostrophe between two letters (doesn't, l'eau).
    Other scripts without spaces (Thai, Khmer) stay runs.
    """
    words: list[str] = []
    attached = in_word = False  # does a word end right here; does it end in a letter
    for place, character in enumerate(text):
        category = unicodedata.category(character)
        if character.isspace() or category in ("Cc", "Cs") or character in "\u200b\ufeff":
            attached = in_word = False
            continue
        is_letter = character.isalnum() and not JOINED_SCRIPTS.match(character)
        is_inner = character in "'\u2019" and in_word and is_spaced_letter(text[place + 1 : place + 2])
        if attached and (category.startswith("M") or category == "Cf" or (in_word and is_letter) or is_inner):
            words[-1] += character
        else:
            words.append(character)
            attached, in_word = True, is_letter
    return words


def is_spaced_letter(character: str) -> bool:
    """A letter of a script that is written with spaces."""
    return character.isalpha() and not JOINED_SCRIPTS.match(character)

"""What makes a row right for a task, column by column, whatever kind of source it comes from."""

import ast
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from bertkit.data.files import BadRow, show
from bertkit.data.formats import parse_json
from bertkit.data.words import words_and_tags, words_of

UNANSWERABLE = "set task.unanswerable=true"
IGNORED, EMPTY = "with an ignored label", "with an empty text"  # why a row is not used
SEVERAL = "for several labels a row, or none, train the task classification with task.kind=labels"
LIST_ITEM = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+)"""
PYTHON_LIST = re.compile(rf"\[\s*({LIST_ITEM}\s*(,\s*{LIST_ITEM}\s*)*,?\s*)?\]")  # 'a' 'b' would be read as 'ab'


class Columns(NamedTuple):
    """Which columns a task reads, by kind; the reader checks them and gives each row these keys and `id`."""

    text: tuple[str, ...] = ()  # a str; empty ones are left out where there are answers to learn or to score
    words: tuple[str, ...] = ()  # a list of str
    label: str | None = None  # one class name
    labels: str | None = None  # multi-label: a tuple of class names; also `[a, b]` or `a|b` in one string
    number: str | None = None  # a finite float
    tags: str | None = None  # a str for each word
    answers: str | None = None  # [{"text": str, "start": int}, ...]; `text` is then (question, context)
    entities: bool = False  # tags mark entities, and may come as spans of characters


class Unused(Exception):
    """A row is right, and left out: it has a label that the user ignores, or an answer and no text to learn it from."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What makes a row right for one task; the reasons that converters raise read on after "column 'x' ..."."""

    columns: Columns
    class_names: tuple[str, ...] | None
    required: bool
    ignored: frozenset[str] = frozenset()
    unanswerable: bool = False
    tag_names: tuple[str, ...] = ()
    trimmed: Counter[str] = field(default_factory=Counter)

    def converter(self, column: str) -> Callable[[object], object]:
        """The function that checks one column's values."""
        kinds = dict.fromkeys(self.columns.text, as_text)
        kinds |= {self.columns.label: self.label, self.columns.labels: self.labels, self.columns.number: self.number}
        return {"id": name_of, self.columns.answers: as_answers, **kinds}.get(column, lambda value: value)

    def class_name(self, value: object) -> str | None:
        """A ClassLabel's number becomes its name, and its -1 (unlabelled test sets of the Hub) becomes None.

        White space around a name goes, inside it becomes one blank; `trimmed` counts where that joins spellings.
        """
        if self.class_names is None or type(value) is not int:
            name = name_of(value)
            name = name and " ".join(name.split())
            if name and isinstance(value, str) and value != name:
                self.trimmed[name] += 1
            return name
        if not -1 <= value < len(self.class_names):
            raise BadRow(f"holds {value}, but the classes are 0 to {len(self.class_names) - 1}")
        return self.class_names[value] if value >= 0 else None

    def tag(self, value: object) -> str | None:
        name = self.class_name(value)
        is_number = self.class_names is None and name and name.isdecimal() and name not in self.tag_names
        return self.tag_names[int(name)] if is_number and int(name) < len(self.tag_names) else name

    def label(self, value: object) -> str | None:
        names = listed_names(value)
        if names is not None and len(names) > 1:
            raise BadRow(f"holds {show(value)}, several names", hint=SEVERAL)
        if names is not None:
            value = names[0] if names else None
        name = self.class_name(value)
        self.check_ignored(["-1", name] if name is None and value == -1 else [name])
        if name is None and self.required:
            raise BadRow("has no label")
        return name

    def check_ignored(self, names: Iterable[str | None]) -> None:
        """One ignored label leaves the whole row out."""
        if self.ignored and not self.ignored.isdisjoint(name or "" for name in names):
            raise Unused(IGNORED)

    def labels(self, value: object) -> tuple[str, ...] | None:
        """Class names without repeats; an empty list or string means that no class fits."""
        if value is None and not self.required:
            return None
        listed = listed_names(value)
        if listed is None and isinstance(value, str) and not value.startswith(("['", '["')):
            listed = [name for name in value.split("|") if name.strip()]
        if listed is None:
            raise BadRow(f"holds {show(value)}, not a list of class names")
        names = [self.class_name(item) for item in listed]
        self.check_ignored(names or [None])
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
        elif self.required and not all(row[name].strip() for name in self.columns.text):
            raise Unused(EMPTY)
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
        if self.columns.entities and isinstance(words, dict):  # Label Studio keeps the text in `data`
            words = words.get("text")
        is_spans = self.columns.entities and isinstance(tags, list) and not any(isinstance(t, str | int) for t in tags)
        if isinstance(words, str) and (tags is None or is_spans):
            row |= {"text": words} if self.columns.entities else {}  # entities have their characters in it
            words, tags = (words_of(words), None) if tags is None else words_and_tags(words, tags)
        elif isinstance(words, str):
            words = [word for word in words.split(" ") if word]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise BadRow(f"column {name!r} holds {show(words)}, not a list of words")
        if not words:
            raise BadRow("has no words")
        if tags is None and self.columns.tags and self.required:
            raise BadRow("has no tags")
        if tags is not None:
            if not isinstance(tags, list):
                raise BadRow(f"column {self.columns.tags!r} holds {show(tags)}, not a list of tags")
            tags = [self.tag(tag) for tag in tags]
            self.check_ignored(tags)
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


def listed_names(value: object) -> list[object] | None:
    """Names in a list, in the text of one (JSON or Python), or in the object that Label Studio writes; else None."""
    if isinstance(value, dict) and value.keys() == {"choices"}:
        value = value["choices"]
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        try:
            value = parse_json(value.strip())
        except (ValueError, RecursionError):
            if PYTHON_LIST.fullmatch(value.strip()):
                with suppress(ValueError, SyntaxError):
                    value = ast.literal_eval(value.strip())
    return value if isinstance(value, list) else None


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
    """Answers without repeats, from [{text, answer_start or start}, ...] or {text: [...], answer_start: [...]}.

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

"""Predictions as people read them: an answer marked in its document, tags over a sentence, a bar for each class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import NamedTuple
from zlib import crc32

from bertkit.errors import BertkitError
from bertkit.findings import Passage, Span
from bertkit.metrics.shown import percent
from bertkit.pages.html import fill

BARS = 6  # of classes, or of other answers
COLUMNS = ("text", "second", "premise", "hypothesis", "question", "context")
# tags that share a colour of the page; others take one by their name, so that it is the same in every sentence
HUES = (
    "NOUN PROPN PRON PER", "VERB AUX LOC", "ADJ ORG", "ADV MISC", "DET NUM", "ADP", "CCONJ SCONJ", "PART INTJ",
    "PUNCT SYM X",
)  # fmt: skip
HUE_OF = {tag: number for number, tags in enumerate(HUES) for tag in tags.split()}
NO_ANSWER = "no answer"

Record = Mapping[str, object]


class Bar(NamedTuple):
    """A class or an answer, and how sure the model is of it."""

    name: str
    share: float
    is_chosen: bool


class Answer(NamedTuple):
    """What is drawn of one prediction."""

    passage: Passage  # what was read, and the answer in words
    tagged: Sequence[tuple[str, str, int]] = ()  # (piece of the text, its tag or nothing, its colour)
    by_word: bool = False  # whether each word has a tag
    bars: Sequence[Bar] = ()
    more: int = 0  # classes or answers beyond the bars


class Answers(tuple[Answer, ...]):
    """Predictions that a notebook draws."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return fill("fragment.html", "answer", findings=(), answers=self)

    def __repr__(self) -> str:
        return "\n".join(
            ", ".join(f"{name}: {value}" for name, value in one.passage.facts.items())
            or " ".join(f"{piece}/{tag}" for piece, tag, _ in one.tagged if tag)
            for one in self
        )


def show(predictions: Record | Iterable[Record], rows: Iterable[Record | str | Sequence[str]] = ()) -> Answers:
    """Predictions as a notebook draws them: `bertkit.show(bertkit.predict("runs/qa", rows))`.

    Args:
        predictions: of any task; one or several.
        rows: what was read, one a prediction, where the predictions do not hold it: those of plain texts do not.
    Raises:
        BertkitError: something is no prediction, or there are more or fewer rows than predictions.
    """
    records, texts = [predictions] if isinstance(predictions, Mapping) else [*predictions], [*rows]
    if texts and len(texts) != len(records):
        raise BertkitError(f"show: {len(records)} predictions and {len(texts)} rows", hint="give one row a prediction")
    return Answers(answer_of(record, row) for record, row in zip(records, texts or repeat(()), strict=False))


def answer_html(prediction: Record) -> str:
    """One prediction as elements for a page that has the style of `style.css`; all its texts are escaped."""
    return fill("answer.html", "answer", answer=answer_of(prediction))


def answer_of(prediction: Record, row: Record | str | Sequence[str] = ()) -> Answer:
    """What there is to draw of a prediction, which may hold the columns of its row."""
    if not isinstance(row, Mapping):
        names = ("question", "context") if "n_best" in prediction else ("text", "second")
        row = dict(zip(names, [row] if isinstance(row, str) else row, strict=False))
    record = {**row, **prediction}
    texts = {name: value for name, value in record.items() if isinstance(value, str)}
    if "n_best" in record:
        return _span(record, {name: texts[name] for name in texts if name not in ("id", "answer", "best_span")})
    if "tags" in record:
        return _tags(record)
    if "label" not in record:
        raise BertkitError(f"show: no prediction of bertkit has these keys only: {', '.join(map(str, record))}")
    unread = ("id", "label", "given_label")
    read = {name: texts[name] for name in COLUMNS if name in texts}
    return _class(record, read or {name: texts[name] for name in texts if name not in unread})


def _span(record: Record, texts: Mapping[str, str]) -> Answer:
    start, end, found = record["start"], record["end"], record["answer"]
    column = next((name for name in reversed(texts) if start is not None and texts[name][start:end] == found), None)
    if column is None and texts and start is None:  # the longest is the document
        column = max(texts, key=lambda name: len(texts[name]))
    marks = {column: (Span(kind="predicted", start=start, end=end),)} if column and start is not None else {}
    question = " ".join(text for name, text in texts.items() if name != column and not name.startswith("given_"))
    facts = {"answer": found or NO_ANSWER, "probability": percent(record["probability"])}
    passage = Passage(title=question, facts=facts, texts={column: texts[column]} if column else {}, spans=marks)
    bars = [
        Bar(one["answer"] or NO_ANSWER, one["probability"], (one["start"], one["end"]) == (start, end))
        for one in record["n_best"]
    ]
    return Answer(passage, bars=bars[:BARS] if len(bars) > 1 else (), more=len(bars[BARS:]))


def _tags(record: Record) -> Answer:
    entities = record.get("entities")
    if entities is None:
        pieces = chain.from_iterable(
            ((word, tag, hue(tag)), (" ", "", 0)) for word, tag in zip(record["words"], record["tags"], strict=True)
        )
        return Answer(Passage(title="", texts={}), tuple(pieces), by_word=True)
    text, at, pieces = record["text"], 0, []
    for one in sorted(entities, key=lambda one: one["start"]):
        pieces += [(text[at : one["start"]], "", 0), (one["text"], one["type"], hue(one["type"]))]
        at = one["end"]
    bars = [Bar(f"{one['text']}, {one['type']}", one["probability"], True) for one in entities]
    return Answer(Passage(title="", texts={}), (*pieces, (text[at:], "", 0)), False, bars[:BARS], len(bars[BARS:]))


def _class(record: Record, texts: Mapping[str, str]) -> Answer:
    label, shares = record["label"], record.get("probabilities")
    chosen = label if isinstance(label, list | tuple) else [label]
    answer = f"{label:.3f}" if isinstance(label, float) else ", ".join(map(str, chosen)) or "no label"
    ranked = sorted(shares.items(), key=lambda entry: -entry[1]) if isinstance(shares, Mapping) else []
    bars = [Bar(name, share, name in chosen) for name, share in ranked]
    return Answer(Passage(title="", facts={"predicted": answer}, texts=texts), (), False, bars[:BARS], len(bars[BARS:]))


def hue(tag: str) -> int:
    """The number of a tag's colour."""
    return HUE_OF.get(tag, crc32(tag.encode(errors="replace")) % len(HUES))

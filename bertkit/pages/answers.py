"""Predictions as people read them: an answer marked in its document, tags over a sentence, a bar for each class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from bertkit.errors import BertkitError
from bertkit.findings import Passage, Span
from bertkit.metrics.shown import counted, percent
from bertkit.pages.html import fill

if TYPE_CHECKING:
    from bertkit.data.rules import Columns

COLUMNS = ("text", "second", "premise", "hypothesis")
# tags that share a colour of the page; others take one by their name, so that it is the same in every sentence
HUES = (
    "NOUN PROPN PRON PER", "VERB AUX LOC", "ADJ ORG", "ADV MISC", "DET NUM", "ADP", "CCONJ SCONJ", "PART INTJ",
    "PUNCT SYM X",
)  # fmt: skip
HUE_OF = {tag: number for number, tags in enumerate(HUES) for tag in tags.split()}
NO_ANSWER = "no answer"

Record = Mapping[str, object]


class Answer(NamedTuple):
    """What is drawn of one prediction."""

    passage: Passage  # what was read, and the answer in words
    bars: Sequence[tuple[str, float, bool]] = ()  # (class or answer, its probability, whether it was chosen)
    tagged: Sequence[tuple[str, str, int]] = ()  # (piece of the text, its tag or nothing, its colour)


class Answers(tuple[Answer, ...]):
    """Predictions that a notebook draws."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return fill("fragment.html", "answer", findings=(), answers=self)

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'prediction')}, drawn in a notebook>"


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


def answer_html(prediction: Record, why: Passage | None = None) -> str:
    """One prediction as elements for a page that has the style of `style.css`; all its texts are escaped.

    Args:
        why: the row with the words marked that the answer stands on; it takes the place of a text without marks.
    """
    answer = answer_of(prediction)
    if why is None:
        return fill("answer.html", "answer", answer=answer)
    is_bare = not (answer.tagged or any(answer.passage.spans.values()))
    answer, why = (answer._replace(passage=why), None) if is_bare else (answer, Answer(why))
    return "".join(fill("answer.html", "answer", answer=one) for one in (answer, why) if one)


def serve_html(task: str, reads: Columns, runs: Sequence[str], explains: bool) -> str:
    """The page of `bertkit serve`, which asks for what a task reads.

    Args:
        runs: what they are called; each has a column for its answers.
        explains: whether reasons may be asked for.
    """
    names = [*reads.text, *reads.words]
    fields = [(name, name == "context" or len(names) == 1) for name in names]
    title = f"Ask a run of {task}" if len(runs) == 1 else f"Ask {len(runs)} runs of {task}"
    return fill("serve.html", "page", title=title, names=list(map(str, runs)), fields=fields, explains=explains)


def script() -> bytes:
    """The script of that page."""
    return (Path(__file__).parent / "serve.js").read_bytes()


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
    read = [name for name in COLUMNS if name in texts] or [*texts.keys() - {"id", "label", "given_label"}]
    return _class(record, {name: texts[name] for name in texts if name in read})


def _span(record: Record, texts: Mapping[str, str]) -> Answer:
    start, end, found = record["start"], record["end"], record["answer"]
    # the document, whatever its column is called: what holds the answer there, or else the longest text
    there = [name for name in texts if start is not None and texts[name][start:end] == found]
    column = max(there or texts, key=lambda name: len(texts[name]), default=None)
    marks = {column: (Span(kind="predicted", start=start, end=end),)} if there else {}
    question = texts.get("question") or " ".join(text for name, text in texts.items() if name != column)
    facts = {"answer": found or NO_ANSWER, "probability": percent(record["probability"])}
    passage = Passage(title=question, facts=facts, texts={column: texts[column]} if column else {}, spans=marks)
    found = [(one["answer"] or NO_ANSWER, one["probability"], one["start"], one["end"]) for one in record["n_best"]]
    return Answer(passage, [(text, share, span == [start, end]) for text, share, *span in found] if found[1:] else ())


def _tags(record: Record) -> Answer:
    entities = record.get("entities")
    nothing = Passage(title="", facts={"entities": "none"} if entities == [] else {}, texts={})
    if entities is None:
        words = zip(record["words"], record["tags"], strict=True)
        pieces = chain.from_iterable(((word, tag, hue(tag)), (" ", "", 0)) for word, tag in words)
        return Answer(nothing, tagged=[*pieces])
    text, at, pieces = record["text"], 0, []
    for one in sorted(entities, key=lambda one: one["start"]):
        pieces += [(text[at : one["start"]], "", 0), (one["text"], one["type"], hue(one["type"]))]
        at = one["end"]
    bars = [(f"{one['text']}, {one['type']}", one["probability"], True) for one in entities]
    return Answer(nothing, bars, [*pieces, (text[at:], "", 0)])


def _class(record: Record, texts: Mapping[str, str]) -> Answer:
    label, shares = record["label"], record.get("probabilities")
    chosen = label if isinstance(label, list | tuple) else [label]
    answer = f"{label:.3f}" if isinstance(label, float) else ", ".join(map(str, chosen)) or "no label"
    ranked = sorted(shares.items(), key=lambda entry: -entry[1]) if isinstance(shares, Mapping) else []
    bars = [(name, share, name in chosen) for name, share in ranked]
    return Answer(Passage(title="", facts={"predicted": answer}, texts=texts), bars)


def hue(tag: str) -> int:
    """The number of a tag's colour."""
    return HUE_OF.get(tag, crc32(tag.encode(errors="replace")) % len(HUES))

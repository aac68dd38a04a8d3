"""Which names stand in a text, and of what type? Tags stay as they are: IOB1, IOB2, BIOES, BILOU or BMES."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from bertkit.data.sources import Columns
from bertkit.data.words import starts_in
from bertkit.findings import Finding, Passage, Passages, Span, Table
from bertkit.metrics import tagging
from bertkit.tasks.base import Output, Prediction, Row, Scores
from bertkit.tasks.pos import Tagging

LETTERS = {"LU": "BILU", "M": "BMES", "ES": "BIES"}  # letters that only one scheme has -> all that it has beside O
WORST = 20  # texts to read


class NER(Tagging):
    """Words -> entities: spans of characters with a type, scored by those that are found whole."""

    name: str = "ner"

    columns = Columns(words=("words",), tags="tags", entities=True)

    @property
    def headline(self) -> str:
        return "f1"

    def labels_of(self, row: Row) -> Sequence[str]:
        """The row's tags; and, where the data decide the labels, all tags that entities of these types can have."""
        tags = row["tags"]
        if self.labels:
            return tags
        letters = {tag.partition("-")[0] for tag in tags}
        scheme = next((all_of_it for own, all_of_it in LETTERS.items() if letters & set(own)), "BI")
        ends = {tag[1:] for tag in tags if tag != "O"}
        return [*tags, *(letter + end for end in sorted(ends) for letter in scheme)]

    def describe(self, rows: Sequence[Row], where: str) -> str:
        if not rows:
            return ""
        tags = [row["tags"] for row in rows]
        found, scheme = tagging.find_spans(tags, where), tagging.scheme_of(tags, where)
        odd = tagging.ill_formed_count(found, scheme)
        text = f"{len(found.first):,} entities in {scheme} tags"
        return f"{text}; {odd:,} of them are ill-formed, and are read as CoNLL's evaluation does" if odd else text

    def decode(self, row: Row, outputs: Sequence[Output]) -> Prediction:
        tagged = super().decode(row, outputs)
        text, starts = text_of(row)
        entities = entities_in(tagged["tags"], row["words"], starts, tagged["probabilities"])
        return {"text": text, "entities": [{"text": text[e["start"] : e["end"]], **e} for e in entities], **tagged}

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row]) -> Scores:
        given, right = [prediction["tags"] for prediction in predictions], [row["tags"] for row in rows]
        return {**tagging.spans(given, right), "accuracy": tagging.tagging(given, right)["accuracy"]}

    def breakdowns(self, predictions: Sequence[Prediction], rows: Sequence[Row], where: str) -> Sequence[Finding]:
        return [by_type(predictions, rows, where), most_wrong(predictions, rows, where)]


def text_of(row: Row) -> tuple[str, Sequence[int]]:
    """The text that a row's words come from, or else the words with spaces between; and where each word begins."""
    words, text = row["words"], row.get("text")
    starts = starts_in(words, text) if isinstance(text, str) else None
    if starts is not None:
        return text, starts
    return " ".join(words), [*accumulate((len(word) + 1 for word in words), initial=0)]


def entities_in(
    tags: Sequence[str], words: Sequence[str], starts: Sequence[int], probabilities: Sequence[float]
) -> list[dict[str, object]]:
    """The entities of one row, ill-formed ones too, with their characters.

    The probability of an entity is the product over its words, whose tags the model gives independently of each other.
    """
    found = tagging.find_spans([tags], "tags")
    return [
        {
            "type": name,
            "start": starts[first],
            "end": starts[last] + len(words[last]),
            "probability": math.prod(probabilities[first : last + 1]),
        }
        for first, last, name in zip((found.first - 1).tolist(), (found.last - 1).tolist(), found.type, strict=True)
    ]


def by_type(predictions: Sequence[Prediction], rows: Sequence[Row], where: str) -> Table:
    """Precision, recall and F1 of each type of entity."""
    golds, given = [row["tags"] for row in rows], [prediction["tags"] for prediction in predictions]
    scheme = tagging.scheme_of(golds, where)
    odd = [tagging.ill_formed_count(tagging.find_spans(tags, where), scheme) for tags in (golds, given)]
    return Table(
        title="By type",
        caption=(
            "An entity is right when its first word, its last word and its type are. Of the entities in "
            f"{scheme} tags, {odd[0]:,} gold and {odd[1]:,} predicted ones are ill-formed, and are read as CoNLL's "
            f"evaluation does. On {where}."
        ),
        columns=("type", "count", "predicted", "precision", "recall", "f1"),
        rows=tuple(
            (name, true, found, right / found if found else None, right / true if true else None,
             2 * right / (found + true))
            for name, (right, found, true) in tagging.spans_by_type(given, golds).items()
        ),
    )  # fmt: skip


def most_wrong(predictions: Sequence[Prediction], rows: Sequence[Row], where: str) -> Passages:
    """The texts with most entities that are missed or wrong; gold and predicted ones are marked."""
    wrong: list[tuple[int, Passage]] = []
    for row, prediction in zip(rows, predictions, strict=True):
        text, starts = text_of(row)
        sides = {"gold": row["tags"], "predicted": prediction["tags"]}
        found = {
            side: {
                (e["start"], e["end"], e["type"]) for e in entities_in(tags, row["words"], starts, [1.0] * len(tags))
            }
            for side, tags in sides.items()
        }
        missed, extra = found["gold"] - found["predicted"], found["predicted"] - found["gold"]
        if missed or extra:
            facts = {"missed": shown(text, missed), "found instead": shown(text, extra)}
            marks = [Span(kind=side, start=e[0], end=e[1]) for side in sides for e in sorted(found[side])]
            passage = Passage(title=str(row["id"]), facts=facts, texts={"text": text}, spans={"text": tuple(marks)})
            wrong.append((len(missed) + len(extra), passage))
    wrong.sort(key=lambda entry: -entry[0])
    return Passages(
        title="Most wrong",
        caption=f"{len(wrong[:WORST])} of {len(wrong):,} rows with wrong entities ({where}), most wrong first.",
        passages=tuple(passage for _, passage in wrong[:WORST]),
    )


def shown(text: str, entities: set[tuple[int, int, str]]) -> str:
    return ", ".join(f"{text[start:end]} ({name})" for start, end, name in sorted(entities)) or "nothing"

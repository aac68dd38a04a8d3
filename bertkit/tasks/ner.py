"""Which names stand in a text, and of what type? Tags stay as they are: IOB1, IOB2, BIOES, BILOU or BMES."""

import math
from collections.abc import Collection, Sequence
from itertools import accumulate

from bertkit.data.sources import Columns
from bertkit.data.words import starts_in
from bertkit.findings import Finding, Passage, Passages, Span, label_table, worst_first
from bertkit.metrics import tagging
from bertkit.tasks.base import Output, Prediction, Row, Scores
from bertkit.tasks.pos import Tagging


class NER(Tagging):
    """Words -> entities: spans of characters with a type, scored by those that are found whole."""

    name: str = "ner"

    reads = Columns(words=("words",), tags="tags", entities=True)
    headline = "f1"

    def implied(self, labels: Collection[str]) -> Collection[str]:
        """The tags that stand in the data, and all others of their scheme that entities of these types can have."""
        letters, ends = {tag.partition("-")[0] for tag in labels}, {tag[1:] for tag in labels if tag != "O"}
        scheme = next((name for name, own in tagging.SCHEMES.items() if letters & set(own)), "BIO").replace("O", "")
        return {*labels, *(letter + end for end in ends for letter in scheme)}

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
        entities = entities_in(row, tagged["tags"], tagged["probabilities"])
        return {"text": text_of(row)[0], "entities": entities, **tagged}

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row]) -> Scores:
        given, right = [prediction["tags"] for prediction in predictions], [row["tags"] for row in rows]
        return {**tagging.spans(given, right), "accuracy": tagging.tagging(given, right)["accuracy"]}

    def breakdowns(self, predictions: Sequence[Prediction], rows: Sequence[Row], where: str) -> Sequence[Finding]:
        golds, given = [row["tags"] for row in rows], [prediction["tags"] for prediction in predictions]
        scheme = tagging.scheme_of(golds, where)
        odd = [tagging.ill_formed_count(tagging.find_spans(tags, where), scheme) for tags in (golds, given)]
        caption = (
            "An entity is right when its first word, its last word and its type are. Of the entities in "
            f"{scheme} tags, {odd[0]:,} gold and {odd[1]:,} predicted ones are ill-formed, and are read as CoNLL's "
            f"evaluation does. On {where}."
        )
        return [
            label_table("type", caption, tagging.spans_by_type(given, golds)),
            most_wrong(rows, [golds, given], where),
        ]


def text_of(row: Row) -> tuple[str, Sequence[int]]:
    """The text that a row's words come from, or else the words with spaces between; and where each word begins."""
    words, text = row["words"], row.get("text")
    starts = starts_in(words, text) if isinstance(text, str) else None
    if starts is not None:
        return text, starts
    return " ".join(words), [*accumulate((len(word) + 1 for word in words), initial=0)]


def entities_in(row: Row, tags: Sequence[str], probabilities: Sequence[float] = ()) -> list[dict[str, object]]:
    """The entities that tags mark in a row, ill-formed ones too, with their characters in its text.

    The probability of an entity is the product over its words, whose tags the model gives independently of each other.
    """
    (text, starts), words, found = text_of(row), row["words"], tagging.find_spans([tags], "tags")
    entities = []
    # `find_spans` counts an O before the first word
    for first, last, name in zip((found.first - 1).tolist(), (found.last - 1).tolist(), found.type, strict=True):
        start, end, share = starts[first], starts[last] + len(words[last]), math.prod(probabilities[first : last + 1])
        entities.append({"text": text[start:end], "type": name, "start": start, "end": end, "probability": share})
    return entities


def most_wrong(rows: Sequence[Row], sides: Sequence[Sequence[Sequence[str]]], where: str) -> Passages:
    """The texts with most entities that are missed or wrong; gold and predicted ones, the two sides, are marked."""
    found = [
        [{(entity["start"], entity["end"], entity["type"]) for entity in entities_in(row, tags)} for tags in both]
        for row, *both in zip(rows, *sides, strict=True)
    ]

    def passage(number: int) -> Passage:
        (text, _), (gold, given) = text_of(rows[number]), found[number]
        facts = {"missed": shown(text, gold - given), "found instead": shown(text, given - gold)}
        marks = [Span(kind="gold", start=start, end=end) for start, end, _ in sorted(gold)]
        marks += [Span(kind="predicted", start=start, end=end) for start, end, _ in sorted(given)]
        return Passage(title=str(rows[number]["id"]), facts=facts, texts={"text": text}, spans={"text": tuple(marks)})

    badness = {number: len(gold ^ given) for number, (gold, given) in enumerate(found) if gold != given}
    return worst_first(f"rows with wrong entities ({where}), most wrong first.", badness, passage)


def shown(text: str, entities: set[tuple[int, int, str]]) -> str:
    return ", ".join(f"{text[start:end]} ({name})" for start, end, name in sorted(entities)) or "nothing"

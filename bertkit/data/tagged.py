"""Entities as annotation tools write them: spans of characters become tags of words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from bertkit.data.files import BadRow, show
from bertkit.data.words import starts_in, words_of

# what words and tags of entities are called in JSON lines and data sets: the first pair that a source has
ENTITY_NAMES = (
    ("words", "tags"), ("tokens", "ner_tags"), ("tokens", "tags"), ("tokens", "labels"), ("text", "label"),
    ("text", "labels"), ("text", "entities"), ("text", "spans"), ("text", "annotations"), ("data", "annotations"),
)  # fmt: skip
STARTS, ENDS = ("start", "start_offset"), ("end", "end_offset")  # in the spans of annotation tools
TYPES = ("label", "labels", "type", "tag")
MEND_SPAN = "a word has one tag: mend the span"


def entity_names(names: Collection[str], mapping: Mapping[str, object], columns: tuple[str, str]) -> dict[str, str]:
    """Task column -> column of the source, for words and tags of entities; empty where the source has no such pair."""
    pairs = ([str(mapping.get(*entry)) for entry in zip(columns, pair, strict=True)] for pair in ENTITY_NAMES)
    return next((dict(zip(columns, pair, strict=True)) for pair in pairs if set(pair) <= set(names)), {})


def words_and_tags(text: str, spans: object) -> tuple[list[str], list[str]]:
    """A text's words, and IOB2 tags of the spans in it.

    Args:
        text: running text.
        spans: each [start, end, type], or an object that says so as doccano, Label Studio, Prodigy or spaCy do.
    Raises:
        BadRow: a span is none, cuts a word, or shares words with another.
    """
    words = words_of(text)
    starts = starts_in(words, text) or []
    ends = {start + len(word): number for number, (start, word) in enumerate(zip(starts, words, strict=True))}
    numbers = {start: number for number, start in enumerate(starts)}
    tags = ["O"] * len(words)
    for start, end, name in map(read_span, flat(spans)):
        inner = text[start:end]
        begin, stop = start + len(inner) - len(inner.lstrip()), start + len(inner.rstrip())
        if not 0 <= start <= begin < stop <= end <= len(text):
            raise BadRow(f"has a span {name!r} from {start} to {end}, which holds no text")
        if begin not in numbers or stop not in ends:
            raise BadRow(f"has a span {name!r} from {start} to {end}, {show(inner)}, that cuts a word", MEND_SPAN)
        inside = slice(numbers[begin], ends[stop] + 1)
        if set(tags[inside]) != {"O"}:
            raise BadRow(f"has a span {name!r} from {start} to {end} that shares words with another", MEND_SPAN)
        tags[inside] = [f"B-{name}", *[f"I-{name}"] * (inside.stop - inside.start - 1)]
    return words, tags


def flat(spans: object) -> Iterator[object]:
    """Spans without what Label Studio puts around them."""
    for item in spans if isinstance(spans, list) else [spans]:
        if isinstance(item, dict) and isinstance(item.get("result"), list):
            if len(spans) > 1:
                raise BadRow(f"has {len(spans)} annotations", hint="keep one of them")
            yield from item["result"]
        else:
            yield item


def read_span(item: object) -> tuple[int, int, str]:
    values = item
    if isinstance(item, dict):
        inner = item["value"] if isinstance(item.get("value"), dict) else item
        values = [next((inner[key] for key in keys if key in inner), None) for keys in (STARTS, ENDS, TYPES)]
    if isinstance(values, list | tuple) and len(values) == 3:
        start, end, name = values
        name = name[0] if isinstance(name, list) and len(name) == 1 else name
        if type(start) is type(end) is int and isinstance(name, str) and name.strip():
            return start, end, name.strip()
    raise BadRow(f"holds {show(item)}, not a span: its first character, its end and its type")

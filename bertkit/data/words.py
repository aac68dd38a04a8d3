"""Running text as words, and entities as annotation tools write them: spans of characters become tags of words."""

from collections.abc import Collection, Iterator, Mapping, Sequence

import regex

from bertkit.data.files import BadRow, show

# Han and kana, written without spaces: every character is a word
_JOINED = (
    r"\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    r"\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_LETTER, _MARK = rf"[\p{{L}}\p{{N}}--[{_JOINED}]]", r"[\p{M}\p{Cf}--[\u200b\ufeff]]"
_IS_INNER = rf"(?=[\p{{L}}--[{_JOINED}]])(?![sS](?![\p{{L}}\p{{N}}]))"  # what follows an apostrophe within a word
_REST = rf"(?:{_LETTER}|{_MARK}|['\u2019]{_IS_INNER})*"
WORD = regex.compile(
    rf"(?V1){_LETTER}{_REST}"
    rf"|(?<={_LETTER}{_MARK}*)['\u2019][sS]{_REST}"  # 's behind a word
    rf"|[^\s\p{{Cc}}\p{{Cs}}\u200b\ufeff]{_MARK}*"
)
# what words and tags of entities are called in JSON lines and data sets: the first pair that a source has
ENTITY_NAMES = (
    ("words", "tags"), ("tokens", "ner_tags"), ("tokens", "tags"), ("tokens", "labels"), ("text", "label"),
    ("text", "labels"), ("text", "entities"), ("text", "spans"), ("text", "annotations"), ("data", "annotations"),
)  # fmt: skip
SPAN_KEYS = (("start", "start_offset"), ("end", "end_offset"), ("label", "labels", "type", "tag"))  # of such tools
MEND_SPAN = "a word has one tag: mend the span"


def words_of(text: str) -> list[str]:
    """Running text as words for tagging: punctuation marks and symbols apart, Han and kana by the character.

    Accents and joiners stay with what they follow, and so does an apostrophe between two letters (doesn't, l'eau);
    but 's at the end is a word, as it is in treebanks. Other scripts without spaces (Thai, Khmer) stay runs.
    """
    return WORD.findall(text)


def starts_in(words: Sequence[str], text: str) -> list[int] | None:
    """The character that each word begins at; None where the text does not hold the words in this order."""
    starts, end = [], 0
    for word in words:
        start = text.find(word, end)
        if start < 0:
            return None
        starts.append(start)
        end = start + len(word)
    return starts


def entity_names(names: Collection[str], mapping: Mapping[str, object], columns: tuple[str, str]) -> dict[str, str]:
    """Task column -> column of the source, for words and tags of entities; empty where the source has no such pair."""
    pairs = ([str(mapping.get(*entry)) for entry in zip(columns, pair, strict=True)] for pair in ENTITY_NAMES)
    return next((dict(zip(columns, pair, strict=True)) for pair in pairs if set(pair) <= set(names)), {})


def words_and_tags(text: str, spans: list[object]) -> tuple[list[str], list[str]]:
    """A text's words, and IOB2 tags of the spans in it.

    A span is [start, end, type], or an object that says so as doccano, Label Studio, Prodigy or spaCy do.
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


def flat(spans: list[object]) -> Iterator[object]:
    """Spans without what Label Studio puts around them."""
    spans = [item for item in spans if not (isinstance(item, dict) and item.get("was_cancelled"))]
    for item in spans:
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
        values = [next((inner[key] for key in keys if key in inner), None) for keys in SPAN_KEYS]
    if isinstance(values, list | tuple) and len(values) == 3:
        start, end, name = values
        name = name[0] if isinstance(name, list) and len(name) == 1 else name
        if type(start) is type(end) is int and isinstance(name, str) and name.strip():
            return start, end, name.strip()
    raise BadRow(f"holds {show(item)}, not a span: its first character, its end and its type")

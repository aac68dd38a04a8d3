"""Rows become overlapping token windows: every token is read, and each is owned by exactly one window."""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bertkit.errors import BertkitError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from bertkit.recipe import WindowsConfig


class Pair(NamedTuple):
    """Two texts read together; windows slide over the `long` side, the other is repeated in each window."""

    first: str
    second: str
    long: Literal["first", "second", "longer"] = "longer"


class Words(NamedTuple):
    """A text that comes as words, each of which gets a label."""

    words: Sequence[str]


Inputs = str | Pair | Words


class Window(NamedTuple):
    """One window of a row, as a task sees it; S tokens, no padding.

    Attributes:
        row: number of the row it belongs to.
        number: its place among the windows of the row, from 0.
        count: how many windows the row has.
        spans: (S, 2) int32 character offsets in the long side; (-1, -1) off that side.
        words: (S,) int32 index of the word whose first piece stands here and is owned by this window; else -1.
    """

    row: int
    number: int
    count: int
    spans: np.ndarray
    words: np.ndarray


def is_answerable(spans: np.ndarray) -> np.ndarray:
    """(...) bool: which tokens, by their (..., 2) spans, can begin or end an answer: not white space, nor specials."""
    return spans[..., 1] > spans[..., 0]


@dataclass(frozen=True)
class WindowStore:
    """All windows of some rows as flat arrays; T tokens over N windows and R rows.

    Attributes:
        input_ids: (T,) int32.
        token_type_ids: (T,) int8.
        offsets: (N + 1,) int64; window i is `[offsets[i], offsets[i + 1])` of the token arrays.
        rows: (N,) int32 row of each window, ascending.
        numbers: (N,) int32 place of each window in its row.
        counts: (R,) int32 windows of each row.
        spans: (T, 2) int32 or None; see `Window`.
        words: (T,) int32 or None; see `Window`.
        shortened: rows whose short side was cut to fit, ascending.
        crowded: rows that took a smaller overlap than asked, ascending.
        pieceless: words without any piece, over all rows (empty, zero-width and the like).
    """

    input_ids: np.ndarray
    token_type_ids: np.ndarray
    offsets: np.ndarray
    rows: np.ndarray
    numbers: np.ndarray
    counts: np.ndarray
    spans: np.ndarray | None
    words: np.ndarray | None
    shortened: tuple[int, ...]
    crowded: tuple[int, ...]
    pieceless: int

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) int64 tokens of each window; made once, for every batch asks."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> Window:
        tokens = slice(self.offsets[index], self.offsets[index + 1])
        row = int(self.rows[index])
        return Window(
            row,
            int(self.numbers[index]),
            int(self.counts[row]),
            _NO_SPANS if self.spans is None else self.spans[tokens],
            _NO_WORDS if self.words is None else self.words[tokens],
        )


_NO_SPANS = np.full((0, 2), -1, np.int32)
_NO_WORDS = np.full(0, -1, np.int32)


class Special(NamedTuple):
    """The tokens that a tokenizer puts around one or two texts, and the type of each place."""

    ids: tuple[list[int], list[int], list[int]]  # before the first text, between the two, at the end
    types: tuple[list[int], list[int], list[int]]
    first_type: int
    second_type: int

    @property
    def count(self) -> int:
        return sum(map(len, self.ids))


class _Side(NamedTuple):
    """The tokens of one text before windows are cut."""

    ids: list[int]
    spans: np.ndarray | None = None
    words: np.ndarray | None = None
    pieceless: int = 0


class WindowMaker:
    """Cuts rows into windows with a fast tokenizer.

    A text is tokenised once, whole, without truncation, and the windows are cut from its tokens here. That keeps
    the tokenizer's own truncation out (it panics on large strides, and one long question fails a whole batch),
    tokenises a document once for all its questions, and gives the same windows (`tests/peers`).
    """

    def __init__(self, tokenizer: Tokenizer, config: WindowsConfig, keep: bool = False) -> None:
        """
        Args:
            tokenizer: the `tokenizers` backend; its own truncation and padding are switched off.
            config: windows as resolved by `recipe.check_windows`.
            keep: let `data/token_cache.py` keep the windows of many rows.
        """
        assert config.stride is not None, "windows are resolved before they are made"
        self._tokenizer = tokenizer
        self._config = config
        self.keep = keep
        self._read_whole()
        self._single = _probe(tokenizer, pair=False)
        self._pair = _probe(tokenizer, pair=True)

    def __call__(self, inputs: Iterable[Inputs], spans: bool = False) -> WindowStore:
        """Cut all rows.

        Args:
            inputs: one entry a row, all of one type.
            spans: keep character offsets, for tasks that answer with text.
        Raises:
            BertkitError: an overlap, or a text, that no row has room for.
        """
        self._read_whole()
        build = _Builder(spans)
        for batch in _batches(inputs):
            kind = type(batch[0])
            assert all(type(entry) is kind for entry in batch), "the inputs of one task are of one type"
            self._check_room(kind is Pair)
            if kind is Pair:
                self._add_pairs(batch, build)
            elif kind is Words:
                for entry in batch:
                    self._add(build, self._single, self._words(entry.words))
            else:
                for side in self._texts(batch, spans):
                    self._add(build, self._single, side)
        return build.finish()

    @property
    def identity(self) -> tuple[str, str]:
        """All that decides what becomes of a text: tokenizer and settings."""
        return self._tokenizer.to_str(), self._config.model_dump_json()

    def _read_whole(self) -> None:
        # tokenizer.json may carry a truncation, and whoever shares the tokenizer may set one: it would cut silently
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def _check_room(self, pair: bool) -> None:
        special = (self._pair if pair else self._single).count
        # a pair repeats one token of its short side at the least
        room = self._config.max_length - special - pair
        if room < 1:
            raise BertkitError(
                f"windows.max_length: {self._config.max_length} tokens leave no room beside {special} special ones",
                hint=f"raise windows.max_length to {special + pair + 1} or more",
            )
        if self._config.stride >= room:
            raise BertkitError(
                f"windows.stride: no row has room for an overlap of {self._config.stride} tokens in windows of "
                f"{self._config.max_length} (at most {room - 1} fits)",
                hint="raise windows.max_length, or lower windows.stride",
            )

    def _add_pairs(self, batch: Sequence[Pair], build: _Builder) -> None:
        unique = list(dict.fromkeys(text for pair in batch for text in pair[:2]))
        sides = dict(zip(unique, self._texts(unique, build.with_spans), strict=True))
        for pair in batch:
            first, second = sides[pair.first], sides[pair.second]
            long = pair.long
            if long == "longer":
                long = "first" if len(first.ids) > len(second.ids) else "second"
            self._add(build, self._pair, *((first, second) if long == "first" else (second, first)), long=long)

    def _texts(self, texts: Sequence[str], spans: bool) -> Iterator[_Side]:
        # encode_batch_fast leaves offsets out and takes half the time
        encode = self._tokenizer.encode_batch if spans else self._tokenizer.encode_batch_fast
        encodings = encode(list(texts), add_special_tokens=False)
        for number, text in enumerate(texts):
            encoding, encodings[number] = encodings[number], None  # a large document is let go as soon as it is read
            yield _Side(encoding.ids, _trimmed_spans(encoding, text) if spans else None)

    def _words(self, words: Sequence[str]) -> _Side:
        encoding = self._tokenizer.encode(list(words), is_pretokenized=True, add_special_tokens=False)
        index = np.fromiter((-1 if word is None else word for word in encoding.word_ids), np.int32, len(encoding.ids))
        is_first_piece = np.diff(index, prepend=-1) != 0
        first_pieces = np.where(is_first_piece, index, -1).astype(np.int32)
        return _Side(encoding.ids, None, first_pieces, len(words) - int((first_pieces >= 0).sum()))

    def _add(
        self, build: _Builder, special: Special, side: _Side, other: _Side | None = None, long: str = "first"
    ) -> None:
        """Cut one row: `side` slides, `other` is repeated."""
        config, short, is_shortened = self._config, other.ids if other else [], False
        total = config.max_length - special.count
        if short and len(short) + len(side.ids) > total:
            limit = total // 2 if config.max_short_length is None else min(config.max_short_length, total - 1)
            is_shortened = len(short) > limit
            short = short[:limit]
        room = total - len(short)
        overlap = min(config.stride, room - 1)
        is_crowded = overlap < config.stride and len(side.ids) > room
        build.add_row(side, is_shortened, is_crowded)
        before, between, after = special.ids
        types_before, types_between, types_after = special.types
        first_type, second_type = special.first_type, special.second_type
        for start, stop, own_start, own_stop in cut(len(side.ids), room, overlap):
            piece = side.ids[start:stop]
            first, second = (piece, short) if long == "first" else (short, piece)
            ids = [*before, *first, *between, *second, *after]
            types = [
                *types_before, *[first_type] * len(first), *types_between, *[second_type] * len(second), *types_after
            ]  # fmt: skip
            lead = len(before) if long == "first" else len(before) + len(first) + len(between)
            build.add_window(ids, types, side, slice(start, stop), slice(own_start, own_stop), lead)


def cut(length: int, room: int, overlap: int) -> Iterator[tuple[int, int, int, int]]:
    """Windows over `length` tokens: (start, stop, own_start, own_stop) of each.

    Starts are multiples of `room - overlap`. The owned ranges cover every token once: of two windows that share
    tokens, each owns the half on its own side, which gives every token the window with most context around it.
    """
    step = room - overlap
    assert step >= 1, "the overlap leaves no step"
    start, own_start = 0, 0
    while True:
        stop = min(start + room, length)
        if stop == length:
            yield start, stop, own_start, length
            return
        # the next window starts `step` further on, so the two share [start + step, stop)
        own_stop = (start + step + stop + 1) // 2
        yield start, stop, own_start, own_stop
        start, own_start = start + step, own_stop


class _Builder:
    """Grows the flat arrays of a store."""

    def __init__(self, with_spans: bool) -> None:
        self.with_spans = with_spans
        self.ids, self.types = array("i"), array("b")
        self.lengths, self.rows, self.numbers = array("q"), array("i"), array("i")
        self.counts: list[int] = []
        self.spans: list[np.ndarray] = []
        self.words: list[np.ndarray] = []
        self.shortened: list[int] = []
        self.crowded: list[int] = []
        self.pieceless = 0

    def add_row(self, side: _Side, is_shortened: bool, is_crowded: bool) -> None:
        if is_shortened:
            self.shortened.append(len(self.counts))
        if is_crowded:
            self.crowded.append(len(self.counts))
        self.pieceless += side.pieceless
        self.counts.append(0)

    def add_window(self, ids: list[int], types: list[int], side: _Side, at: slice, own: slice, lead: int) -> None:
        self.ids.extend(ids)
        self.types.extend(types)
        self.lengths.append(len(ids))
        self.rows.append(len(self.counts) - 1)
        self.numbers.append(self.counts[-1])
        self.counts[-1] += 1
        if side.spans is not None:
            spans = np.full((len(ids), 2), -1, np.int32)
            spans[lead : lead + at.stop - at.start] = side.spans[at]
            self.spans.append(spans)
        if side.words is not None:
            words = np.full(len(ids), -1, np.int32)
            words[lead + own.start - at.start : lead + own.stop - at.start] = side.words[own]
            self.words.append(words)

    def finish(self) -> WindowStore:
        return WindowStore(
            input_ids=np.frombuffer(self.ids, np.int32) if self.ids else np.zeros(0, np.int32),
            token_type_ids=np.frombuffer(self.types, np.int8) if self.types else np.zeros(0, np.int8),
            offsets=np.concatenate([[0], np.cumsum(np.array(self.lengths, np.int64))]).astype(np.int64),
            rows=np.array(self.rows, np.int32),
            numbers=np.array(self.numbers, np.int32),
            counts=np.array(self.counts, np.int32),
            spans=np.concatenate(self.spans) if self.spans else None,
            words=np.concatenate(self.words) if self.words else None,
            shortened=tuple(self.shortened),
            crowded=tuple(self.crowded),
            pieceless=self.pieceless,
        )


def _probe(tokenizer: Tokenizer, pair: bool) -> Special:
    """Learn where a tokenizer puts special tokens by letting it encode letters."""
    encoding: Encoding = tokenizer.encode("a", "a") if pair else tokenizer.encode("a")
    ids: tuple[list[int], list[int], list[int]] = ([], [], [])
    types: tuple[list[int], list[int], list[int]] = ([], [], [])
    side_types = [0, 0]
    place = 0
    for token, kind, side in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
        if side is not None:
            place, side_types[side] = side + 1, kind
        else:
            # with one text, what follows it is the end
            at = 2 if place == 1 and not pair else place
            ids[at].append(token)
            types[at].append(kind)
    return Special(ids, types, *side_types)


def _trimmed_spans(encoding: Encoding, text: str) -> np.ndarray:
    """(S, 2) character offsets of what a reader would call the piece.

    Some tokenizers count the white space before a piece to it. Others drop combining marks (accents apart from their
    letter, vowel signs) or count only the letter: a mark that no piece covers belongs to the piece before it.
    """
    spans = np.array(encoding.offsets, np.int32).reshape(-1, 2)
    is_space = np.fromiter(map(str.isspace, text), bool, len(text))
    if is_space.any():
        spans[:, 0] = np.minimum(_skip(is_space)[spans[:, 0]], spans[:, 1])
    if not text.isascii():
        is_mark = np.fromiter((unicodedata.category(character)[0] == "M" for character in text), bool, len(text))
        # +1 where a piece begins, -1 where it ends: the sum up to a character counts the pieces that cover it
        edges = np.bincount(spans[:, 0], minlength=len(text) + 1) - np.bincount(spans[:, 1], minlength=len(text) + 1)
        is_loose = is_mark & (np.cumsum(edges)[:-1] == 0)
        if is_loose.any():
            spans[:, 1] = np.where(spans[:, 1] > spans[:, 0], _skip(is_loose)[spans[:, 1]], spans[:, 1])
    return spans


def _skip(is_skipped: np.ndarray) -> np.ndarray:
    """(N + 1,) for each place, the next one from there on that is not skipped; N beyond the last."""
    count = np.int32(len(is_skipped))
    place = np.append(np.where(is_skipped, count, np.arange(count, dtype=np.int32)), count)
    return np.minimum.accumulate(place[::-1])[::-1]


_BATCH_ROWS, _BATCH_CHARACTERS = 1000, 1_000_000  # what the tokenizer holds at once


def size_of(entry: Inputs) -> int:
    """Characters that an entry makes the tokenizer read."""
    if isinstance(entry, str):
        return len(entry)
    return sum(map(len, entry.words if isinstance(entry, Words) else entry[:2]))


def _batches(inputs: Iterable[Inputs]) -> Iterator[list[Inputs]]:
    batch: list[Inputs] = []
    size = 0
    for entry in inputs:
        batch.append(entry)
        size += size_of(entry)
        if len(batch) == _BATCH_ROWS or size > _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch

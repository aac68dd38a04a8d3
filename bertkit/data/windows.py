"""Rows become overlapping token windows: every token is read, and each is owned by exactly one window."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bertkit.data.window_store import Builder, Side, Window, WindowStore, is_answerable
from bertkit.errors import BertkitError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

    from bertkit.recipe import WindowsConfig


__all__ = ["Inputs", "Pair", "Window", "WindowMaker", "WindowStore", "Words", "cut", "is_answerable", "size_of"]


class Pair(NamedTuple):
    """Two texts read together; windows slide over the `long` side, the other is repeated in each window."""

    first: str
    second: str
    long: Literal["first", "second", "longer"] = "longer"


class Words(NamedTuple):
    """A text that comes as words, each of which gets a label."""

    words: Sequence[str]


Inputs = str | Pair | Words


class Special(NamedTuple):
    """The tokens that a tokenizer puts around one or two texts, and the type of each position."""

    ids: tuple[list[int], list[int], list[int]]  # before the first text, between the two, at the end
    types: tuple[list[int], list[int], list[int]]
    first_type: int
    second_type: int

    @property
    def count(self) -> int:
        return sum(map(len, self.ids))


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
        build = Builder(spans)
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

    def _add_pairs(self, batch: Sequence[Pair], build: Builder) -> None:
        unique = list(dict.fromkeys(text for pair in batch for text in pair[:2]))
        sides = dict(zip(unique, self._texts(unique, build.with_spans), strict=True))
        for pair in batch:
            first, second = sides[pair.first], sides[pair.second]
            long = pair.long
            if long == "longer":
                long = "first" if len(first.ids) > len(second.ids) else "second"
            self._add(build, self._pair, *((first, second) if long == "first" else (second, first)), long=long)

    def _texts(self, texts: Sequence[str], spans: bool) -> Iterator[Side]:
        # encode_batch_fast leaves offsets out and takes half the time
        encode = self._tokenizer.encode_batch if spans else self._tokenizer.encode_batch_fast
        encodings = encode(list(texts), add_special_tokens=False)
        for number, text in enumerate(texts):
            encoding, encodings[number] = encodings[number], None  # a large document is let go as soon as it is read
            yield Side(encoding.ids, _trimmed_spans(encoding, text) if spans else None)

    def _words(self, words: Sequence[str]) -> Side:
        encoding = self._tokenizer.encode(list(words), is_pretokenized=True, add_special_tokens=False)
        index = np.fromiter((-1 if word is None else word for word in encoding.word_ids), np.int32, len(encoding.ids))
        is_first_piece = np.diff(index, prepend=-1) != 0
        first_pieces = np.where(is_first_piece, index, -1).astype(np.int32)
        return Side(encoding.ids, None, first_pieces, len(words) - int((first_pieces >= 0).sum()))

    def _add(
        self, build: Builder, special: Special, side: Side, other: Side | None = None, long: str = "first"
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


def _probe(tokenizer: Tokenizer, pair: bool) -> Special:
    """Learn where a tokenizer puts special tokens by letting it encode letters."""
    encoding: Encoding = tokenizer.encode("a", "a") if pair else tokenizer.encode("a")
    ids: tuple[list[int], list[int], list[int]] = ([], [], [])
    types: tuple[list[int], list[int], list[int]] = ([], [], [])
    side_types = [0, 0]
    position = 0
    for token, kind, side in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
        if side is not None:
            position, side_types[side] = side + 1, kind
        else:
            # with one text, what follows it is the end
            at = 2 if position == 1 and not pair else position
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
    """(N + 1,) for each position, the next one from there on that is not skipped; N beyond the last."""
    count = np.int32(len(is_skipped))
    position = np.append(np.where(is_skipped, count, np.arange(count, dtype=np.int32)), count)
    return np.minimum.accumulate(position[::-1])[::-1]


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

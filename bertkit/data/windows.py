"""Rows become overlapping token windows: every token is read, and each is owned by exactly one window."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

import numpy as np

from bertkit.data.window_store import Builder, Side, Window, WindowStore, is_answerable
from bertkit.errors import BertkitError
from bertkit.recipe import WindowsConfig

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

__all__ = ["Inputs", "Pair", "Window", "WindowMaker", "WindowStore", "Words", "batched", "cut", "is_answerable"]

T = TypeVar("T")
_BATCH_ROWS, _BATCH_CHARACTERS = 1000, 1_000_000  # what the tokenizer holds at once


class Pair(NamedTuple):
    """Two texts read together; windows slide over the `long` side, the other is repeated in each window."""

    first: str
    second: str
    long: Literal["first", "second", "longer"] = "longer"


class Words(NamedTuple):
    """A text that comes as words, each of which gets a label."""

    words: Sequence[str]


Inputs = str | Pair | Words


class WindowMaker:
    """Cuts rows into windows with a fast tokenizer.

    A text is tokenised once, whole, without truncation, and the windows are cut from its tokens here. That keeps
    the tokenizer's own truncation out (it panics on large strides, and one long question fails a whole batch),
    tokenises a document once for all its questions, and gives the same windows (`tests/peers`).
    """

    def __init__(self, tokenizer: Tokenizer, config: WindowsConfig, keep: bool = False) -> None:
        """Take the `tokenizers` backend, and windows as `recipe.check_windows` resolves them.

        `keep` lets `data/token_cache.py` keep the windows of many rows.
        """
        assert config.stride is not None, "windows are resolved before they are made"
        self.tokenizer, self.config, self.keep = tokenizer, config, keep
        self._read_whole()
        # a tokenizer without a token for what is unknown drops letters
        letters = chain("a", filter(None, map(tokenizer.id_to_token, range(tokenizer.get_vocab_size()))))
        letter = next(one for one in letters if tokenizer.encode(one, add_special_tokens=False).ids)
        self.frames = {1: _frame(tokenizer.encode(letter)), 2: _frame(tokenizer.encode(letter, letter))}

    def __call__(self, inputs: Iterable[Inputs], spans: bool = False, origins: bool = False) -> WindowStore:
        """Cut all rows, one entry each and all of one type.

        `spans` keeps character offsets, for answers that are text; `origins` says which piece each token is.

        Raises:
            BertkitError: an overlap, or a text, that no row has room for.
        """
        self._read_whole()
        build = Builder(origins)
        for batch in batched(inputs, size_of, _BATCH_ROWS, _BATCH_CHARACTERS):
            kind = type(batch[0])
            assert all(type(entry) is kind for entry in batch), "the inputs of one task are of one type"
            total = self._total(kind is Pair)
            for sides, long in self._sides(batch, spans):
                self._add(build, sides, long, total)
        return build.finish()

    def _read_whole(self) -> None:
        # tokenizer.json may carry a truncation, and whoever shares the tokenizer may set one: it would cut silently
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def _total(self, pair: bool) -> int:
        """Tokens of a window that are not special."""
        special = sum(text is None for _, _, text in self.frames[1 + pair])
        # a pair repeats one token of its short side at the least
        room = self.config.max_length - special - pair
        if room < 1:
            raise BertkitError(
                f"windows.max_length: {self.config.max_length} tokens leave no room beside {special} special ones",
                hint=f"raise windows.max_length to {special + pair + 1} or more",
            )
        if self.config.stride >= room:
            raise BertkitError(
                f"windows.stride: no row has room for an overlap of {self.config.stride} tokens in windows of "
                f"{self.config.max_length} (at most {room - 1} fits)",
                hint="raise windows.max_length, or lower windows.stride",
            )
        return self.config.max_length - special

    def _sides(self, batch: Sequence[Inputs], spans: bool) -> Iterator[tuple[tuple[Side, ...], int]]:
        """The one or two texts of each row, and the number of the one that windows slide over."""
        if isinstance(batch[0], Words):
            yield from (((self._words(entry.words),), 0) for entry in batch)
        elif isinstance(batch[0], Pair):
            unique = list(dict.fromkeys(text for pair in batch for text in pair[:2]))
            known = dict(zip(unique, self._texts(unique, spans), strict=True))
            for pair in batch:
                first, second = known[pair.first], known[pair.second]
                is_longer = len(first.ids) > len(second.ids)
                yield (first, second), 0 if pair.long == "first" or (pair.long == "longer" and is_longer) else 1
        else:
            yield from (((side,), 0) for side in self._texts(batch, spans))

    def _texts(self, texts: Sequence[str], spans: bool) -> Iterator[Side]:
        # encode_batch_fast leaves offsets out and takes half the time
        encode = self.tokenizer.encode_batch if spans else self.tokenizer.encode_batch_fast
        encodings = encode(list(texts), add_special_tokens=False)
        for number, text in enumerate(texts):
            encoding, encodings[number] = encodings[number], None  # a large document is let go as soon as it is read
            yield Side(encoding.ids, trimmed_spans(encoding, text) if spans else None)

    def _words(self, words: Sequence[str]) -> Side:
        encoding = self.tokenizer.encode(list(words), is_pretokenized=True, add_special_tokens=False)
        index = np.fromiter((-1 if word is None else word for word in encoding.word_ids), np.int32, len(encoding.ids))
        is_first_piece = np.diff(index, prepend=-1) != 0
        first_pieces = np.where(is_first_piece, index, -1).astype(np.int32)
        return Side(encoding.ids, None, first_pieces, len(words) - int((first_pieces >= 0).sum()))

    def _add(self, build: Builder, sides: Sequence[Side], long: int, total: int) -> None:
        """Cut one row: windows slide over the side `long`, the other is repeated."""
        config, frame, side, row = self.config, self.frames[len(sides)], sides[long], len(build.counts)
        build.counts.append(0)
        build.pieceless += side.pieceless
        pieces = [side.ids for side in sides]
        short_count = sum(map(len, pieces)) - len(side.ids)
        if short_count and short_count + len(side.ids) > total:
            limit = total // 2 if config.max_short_length is None else min(config.max_short_length, total - 1)
            if short_count > limit:
                build.shortened.append(row)
                pieces[1 - long] = pieces[1 - long][:limit]
                short_count = limit
        room = total - short_count
        begins = 0, len(sides[0].ids)  # where each text begins among the pieces of the row
        overlap = min(config.stride, room - 1)
        if overlap < config.stride and len(side.ids) > room:
            build.crowded.append(row)
        for start, stop, own_start, own_stop in cut(len(side.ids), room, overlap):
            pieces[long] = side.ids[start:stop]
            ids, types, lead = [], [], 0
            for token, kind, text in frame:
                piece = [token] if text is None else pieces[text]
                lead = len(ids) if text == long else lead
                ids += piece
                types += [kind] * len(piece)
                if build.origins is not None:
                    begin = -1 if text is None else begins[text] + (start if text == long else 0)
                    build.origins.extend(range(begin, begin + len(piece)))
            build.add_window(ids, types, side, slice(start, stop), slice(own_start, own_stop), lead)


def cut(length: int, room: int, overlap: int) -> Iterator[tuple[int, int, int, int]]:
    """Windows over `length` tokens: (start, stop, own_start, own_stop) of each.

    Starts are multiples of `room - overlap`. The owned ranges cover every token once: of two windows that share
    tokens, each owns the half on its own side, which gives every token the window with most context around it.
    """
    step, own_start = room - overlap, 0
    assert step >= 1, "the overlap leaves no step"
    for start in range(0, max(1, length - overlap), step):
        stop = min(start + room, length)
        # the next window starts `step` further on, so the two share [start + step, stop)
        own_stop = length if stop == length else (start + step + stop + 1) // 2
        yield start, stop, own_start, own_stop
        own_start = own_stop


def _frame(encoding: Encoding) -> list[tuple[int, int, int | None]]:
    """How a tokenizer lays texts out: id, type and None of each special token; id, type and number of each letter."""
    texts = encoding.sequence_ids
    tokens = zip(encoding.ids, encoding.type_ids, texts, [None, *texts], strict=False)
    return [(token, kind, text) for token, kind, text, before in tokens if text is None or text != before]


def trimmed_spans(encoding: Encoding, text: str) -> np.ndarray:
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


def texts_of(entry: Inputs) -> Sequence[str]:
    """What of an entry the tokenizer reads."""
    if isinstance(entry, str):
        return (entry,)
    return entry.words if isinstance(entry, Words) else entry[:2]


def size_of(entry: Inputs) -> int:
    """Characters that an entry makes the tokenizer read."""
    return sum(map(len, texts_of(entry)))


def batched(entries: Iterable[T], size: Callable[[T], int], most: int, largest: int) -> Iterator[list[T]]:
    """Lists of `most` entries, or of fewer as soon as their sizes add up to more than `largest`."""
    batch, total = [], 0
    for entry in entries:
        batch.append(entry)
        total += size(entry)
        if len(batch) == most or total > largest:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch

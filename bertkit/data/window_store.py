"""Windows of many rows, as flat arrays."""

from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """One window of a row, as a task sees it; S tokens, no padding."""

    number: int  # its index among the windows of the row
    count: int  # how many windows the row has
    spans: np.ndarray  # (S, 2) int32 character offsets in the long side; (-1, -1) off that side
    words: np.ndarray  # (S,) int32 index of the word whose first piece stands here and is owned by this window; else -1


def is_answerable(spans: np.ndarray) -> np.ndarray:
    """(...) bool: which tokens, by their (..., 2) spans, can begin or end an answer: not white space, nor specials."""
    return spans[..., 1] > spans[..., 0]


@dataclass(frozen=True)
class WindowStore:
    """All windows of some rows as flat arrays; T tokens over N windows and R rows."""

    input_ids: np.ndarray  # (T,) int32
    token_type_ids: np.ndarray  # (T,) int8
    offsets: np.ndarray  # (N + 1,) int64; window i is `[offsets[i], offsets[i + 1])` of the token arrays
    rows: np.ndarray  # (N,) int32 row of each window, ascending
    numbers: np.ndarray  # (N,) int32 index of each window in its row
    counts: np.ndarray  # (R,) int32 windows of each row
    shortened: tuple[int, ...]  # rows whose short side was cut to fit, ascending
    crowded: tuple[int, ...]  # rows that took a smaller overlap than asked, ascending
    pieceless: int  # words without any piece, over all rows (empty, zero-width and the like)
    spans: np.ndarray | None = None  # (T, 2) int32; see `Window`
    words: np.ndarray | None = None  # (T,) int32; see `Window`
    origins: np.ndarray | None = None  # (T,) int32 index among the pieces of the row's texts; -1 of special tokens

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) int64 tokens of each window; made once, for every batch asks."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> Window:
        tokens = slice(self.offsets[index], self.offsets[index + 1])
        return Window(
            int(self.numbers[index]),
            int(self.counts[self.rows[index]]),
            _NO_SPANS if self.spans is None else self.spans[tokens],
            _NO_WORDS if self.words is None else self.words[tokens],
        )


_NO_SPANS = np.full((0, 2), -1, np.int32)
_NO_WORDS = np.full(0, -1, np.int32)


class Side(NamedTuple):
    """The tokens of one text before windows are cut."""

    ids: list[int]
    spans: np.ndarray | None = None
    words: np.ndarray | None = None
    pieceless: int = 0


class Builder:
    """Grows the flat arrays of a store."""

    def __init__(self, origins: bool = False) -> None:
        self.origins = array("i") if origins else None
        self.ids, self.types, self.offsets = array("i"), array("b"), array("q", [0])
        self.rows, self.numbers, self.counts = array("i"), array("i"), array("i")
        self.shortened, self.crowded, self.pieceless = array("i"), array("i"), 0
        self.spans: list[np.ndarray] = []
        self.words: list[np.ndarray] = []

    def add_window(self, ids: list[int], types: list[int], side: Side, at: slice, own: slice, lead: int) -> None:
        """`side` stands in this window of the last row from `lead` on, with its tokens `at`; `own` is what it owns."""
        self.ids.extend(ids)
        self.types.extend(types)
        self.offsets.append(len(self.ids))
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
        grown = self.ids, self.types, self.offsets, self.rows, self.numbers, self.counts
        return WindowStore(
            *map(np.asarray, grown),
            shortened=tuple(self.shortened),
            crowded=tuple(self.crowded),
            pieceless=self.pieceless,
            spans=np.concatenate(self.spans) if self.spans else None,
            words=np.concatenate(self.words) if self.words else None,
            origins=None if self.origins is None else np.asarray(self.origins),
        )

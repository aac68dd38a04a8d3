"""Windows of many rows, as flat arrays."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np


class Window(NamedTuple):
    """One window of a row, as a task sees it; S tokens, no padding.

    Attributes:
        row: number of the row it belongs to.
        number: its index among the windows of the row.
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
        numbers: (N,) int32 index of each window in its row.
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


class Side(NamedTuple):
    """The tokens of one text before windows are cut."""

    ids: list[int]
    spans: np.ndarray | None = None
    words: np.ndarray | None = None
    pieceless: int = 0


class Builder:
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

    def add_row(self, side: Side, is_shortened: bool, is_crowded: bool) -> None:
        if is_shortened:
            self.shortened.append(len(self.counts))
        if is_crowded:
            self.crowded.append(len(self.counts))
        self.pieceless += side.pieceless
        self.counts.append(0)

    def add_window(self, ids: list[int], types: list[int], side: Side, at: slice, own: slice, lead: int) -> None:
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

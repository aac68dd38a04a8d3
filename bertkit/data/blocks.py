"""Stretches of a corpus as what a model reads: special tokens around one or two texts, padded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from bertkit.data.corpus import Corpus

Frame = Sequence[tuple[int | None, int, int | None]]  # (special token or None, type, text or None), in order


class Cut:
    """Documents cut into stretches of some tokens at most, none of which crosses a document; of one, all alike."""

    def __init__(self, corpus: Corpus, size: int, chosen: np.ndarray | None = None) -> None:
        """Cut the documents of these numbers, or all."""
        self.corpus = corpus
        ends = np.asarray(corpus.documents)
        begins = np.concatenate([[0], ends[:-1]])
        if chosen is not None:
            begins, ends = begins[chosen], ends[chosen]
        counts = -(-(ends - begins) // size)
        document = np.repeat(np.arange(len(ends)), counts)
        number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
        lengths = (ends - begins)[document]
        self.document = document  # (N,) int64, the number of each stretch's document
        self.begins, self.ends = (
            begins[document] + lengths * (number + more) // counts[document] for more in (0, 1)
        )  # (N,) int64 each, in the tokens of the corpus

    @property
    def sizes(self) -> np.ndarray:
        """(N,) tokens of each stretch."""
        return self.ends - self.begins

    def hash(self) -> str:
        """What tells these stretches from others."""
        ends = hashlib.sha256(self.corpus.key.encode())
        for array in (self.begins, self.ends):
            ends.update(memoryview(np.ascontiguousarray(array)).cast("B"))
        return ends.hexdigest()[:16]


class Read(NamedTuple):
    """What a batch of windows holds, (B, S) each."""

    ids: np.ndarray  # int64
    types: np.ndarray  # int64
    is_text: np.ndarray  # bool, false on special tokens and padding
    lengths: np.ndarray  # (B,) tokens, special ones included


def framed(
    tokens: np.ndarray, texts: Sequence[tuple[np.ndarray, np.ndarray]], frame: Frame, pad_id: int, width: int = 0
) -> Read:
    """Put special tokens around texts.

    Args:
        tokens: (T,) of a corpus.
        texts: one or two, as (B,) begins and (B,) ends in `tokens`.
        frame: as `WindowMaker.frames` has it.
        width: S; 0 for the longest.
    """
    count = len(texts[0][0])
    sizes = [ends - begins for begins, ends in texts]
    lengths = sum(sizes) + sum(text is None for _, _, text in frame)
    shape = count, max(width, int(lengths.max()))
    ids, types, is_text = np.full(shape, pad_id), np.zeros(shape, np.int64), np.zeros(shape, bool)
    rows, at = np.arange(count), np.zeros(count, np.int64)
    for token, kind, text in frame:
        if text is None:
            ids[rows, at], types[rows, at] = token, kind
            at = at + 1
            continue
        begins, size = texts[text][0], sizes[text]
        offsets = np.arange(int(size.max(initial=0)))
        row, offset = np.nonzero(offsets < size[:, None])
        column = at[row] + offset
        ids[row, column], types[row, column] = tokens[begins[row] + offset], kind
        is_text[row, column] = True
        at = at + size
    return Read(ids, types, is_text, lengths)

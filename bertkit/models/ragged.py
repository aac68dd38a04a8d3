"""A batch without its padding: where its tokens lie in the padded grid, and the way there and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Groups(NamedTuple):
    """The sequences of a batch by their length.

    Attributes:
        shapes: sequences and tokens of each group, the longest first.
        order: (T,) int64, the tokens group by group; None when they come so already.
        back: (T,) int64, the inverse of `order`.
    """

    shapes: tuple[tuple[int, int], ...]
    order: Tensor | None
    back: Tensor | None


@dataclass(eq=False)
class Ragged:
    """The layout of B sequences of T tokens in all, made once a batch and read by every layer.

    Attributes:
        mask: (B, S) bool, true on tokens.
        lengths: tokens of each sequence, on the host.
        index: (T,) int64, position of each token in the flattened (B * S) grid.
        readers: calls of the attention that have read this layout.
    """

    mask: Tensor
    lengths: Sequence[int]
    index: Tensor
    readers: int = 0

    @cached_property
    def cu_seq_lens(self) -> Tensor:
        """(B + 1,) int32: where each sequence begins, and where the last one ends."""
        return functional.pad(self.mask.sum(1).cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def groups(self) -> Groups:
        """The sequences by length; batches that are dealt from long to short need no reordering."""
        filled = [length for length in self.lengths if length]
        shapes = tuple((count, length) for length, count in sorted(Counter(filled).items(), reverse=True))
        if filled == sorted(filled, reverse=True):
            return Groups(shapes, None, None)
        lengths = torch.tensor(filled)
        order = torch.repeat_interleave(lengths, lengths).argsort(descending=True, stable=True)
        return Groups(shapes, order.to(self.index.device), order.argsort().to(self.index.device))


def ragged_of(mask: Tensor) -> Ragged | None:
    """The layout of a batch, or None when nothing is padded.

    Nothing waits for the device when the mask has its `lengths` with it (`bertkit.data.collate.move` sees to that);
    without them they are read from the device, once a batch.

    Args:
        mask: (B, S), 1 on tokens and 0 on padding, wherever that is.
    """
    is_token = mask != 0
    lengths = getattr(mask, "lengths", None)
    if lengths is None:
        lengths = is_token.sum(1).tolist()
    count = sum(lengths)
    if count == mask.numel():
        return None
    # int64 index of a size that is known, not a bool mask: a mask would sync the device
    return Ragged(is_token, lengths, torch.nonzero_static(is_token.view(-1), size=count).view(-1))


def unpad(grid: Tensor, index: Tensor) -> Tensor:
    """Take the tokens out of the padded grid.

    Args:
        grid: (B, S, ...), padding included.
        index: (T,) int64, position of each token in the flattened (B * S) grid.
    Returns:
        (T, ...) tokens in row order.
    """
    return grid.flatten(0, 1).index_select(0, index)


def repad(tokens: Tensor, index: Tensor, batch: int, length: int) -> Tensor:
    """Put ragged tokens back on the padded grid; padding becomes zero.

    Args:
        tokens: (T, ...) tokens in row order, no padding.
        index: (T,) int64, position of each token in the flattened (B * S) grid.
    Returns:
        (B, S, ...), same dtype and device as `tokens`.
    """
    grid = tokens.new_zeros(batch * length, *tokens.shape[1:])
    return grid.index_copy(0, index, tokens).unflatten(0, (batch, length))

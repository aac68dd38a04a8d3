"""Sequences that lie one behind the other, unpadded: where they lie in the padded grid, and attention within them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

FEW_LENGTHS = 8  # up to here, one dense product a length was faster than padding to the longest; at 18 it was not

# query, key, value (B, A, S, D), a mask that broadcasts to (B, A, S, S) or None -> (B, S, A, D)
Dense = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


class Groups(NamedTuple):
    """The sequences of a batch by their length."""

    shapes: tuple[tuple[int, int], ...]  # sequences and tokens of each group, the longest first
    order: Tensor | None  # (T,) int64, the tokens group by group; None when they come so already
    back: Tensor | None  # (T,) int64, the inverse of `order`


@dataclass(eq=False)
class Ragged:
    """The layout of B sequences of T tokens in all, made once a batch and read by every layer."""

    mask: Tensor  # (B, S) bool, true on tokens
    lengths: Sequence[int]  # tokens of each sequence, on the host
    index: Tensor  # (T,) int64, position of each token in the flattened (B * S) grid
    readers: int = 0  # calls of the attention that have read this layout

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

    def unpad(self, grid: Tensor) -> Tensor:
        """(B, S, ...), padding included -> (T, ...) tokens in row order."""
        return grid.flatten(0, 1).index_select(0, self.index)

    def repad(self, tokens: Tensor) -> Tensor:
        """(T, ...) tokens in row order -> (B, S, ...); padding becomes zero."""
        grid = tokens.new_zeros(self.mask.numel(), *tokens.shape[1:])
        return grid.index_copy(0, self.index, tokens).unflatten(0, self.mask.shape)


def ragged_of(mask: Tensor) -> Ragged | None:
    """The layout of a batch by its mask, (B, S), 1 on tokens and 0 on padding; None when nothing is padded.

    Nothing waits for the device when the mask has its `lengths` with it (`bertkit.data.collate.move` sees to that);
    without them they are read from the device, once a batch.
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


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, ragged: Ragged, scaling: float, dropout: float, dense: Dense
) -> Tensor:
    """Every token attends to the tokens of its own sequence, by the way that is cheapest for this batch.

    Args:
        query: (T, A, D), as `key` and `value` are.
        scaling: factor of the scores, usually D ** -0.5.
        dropout: rate of the attention probabilities; 0 outside of training.
        dense: attention over a dense batch, with that factor and that rate, for the ways that need one.
    Returns:
        (T, A, D).
    """
    size = query.shape[-1]
    # FlashAttention over sequences of any length; torch's has no dropout, and wants multiples of 8 up to 256
    if dropout == 0 and size % 8 == 0 and size <= 256 and has_kernel(query.device, query.dtype):
        from torch.nn.attention import varlen

        ends, longest = ragged.cu_seq_lens, max(ragged.lengths)
        return varlen.varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling)
    attend = grouped_attention if len(ragged.groups.shapes) <= FEW_LENGTHS else padded_attention
    return attend(query, key, value, ragged, dense)


def has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch's variable-length kernel runs on this device in this arithmetic: NVIDIA from sm80, 16 bits."""
    is_16_bit = dtype in (torch.float16, torch.bfloat16)
    return device.type == "cuda" and is_16_bit and torch.cuda.get_device_capability(device) >= (8, 0)


def grouped_attention(query: Tensor, key: Tensor, value: Tensor, ragged: Ragged, dense: Dense) -> Tensor:
    """One dense product for the sequences of each length. Arguments as of `varlen_attention`."""
    shapes, order, back = ragged.groups
    if order is not None:
        query, key, value = (states.index_select(0, order) for states in (query, key, value))
    sizes = [count * length for count, length in shapes]
    found = []
    for shape, *states in zip(shapes, *(states.split(sizes) for states in (query, key, value)), strict=True):
        heads = (part.unflatten(0, shape).transpose(1, 2) for part in states)
        found.append(dense(*heads, None).flatten(0, 1))
    tokens = torch.cat(found)
    return tokens if back is None else tokens.index_select(0, back)


def padded_attention(query: Tensor, key: Tensor, value: Tensor, ragged: Ragged, dense: Dense) -> Tensor:
    """The reference: on the padded grid, with padding masked as a key. Arguments as of `varlen_attention`."""
    heads = (ragged.repad(states).transpose(1, 2) for states in (query, key, value))
    return ragged.unpad(dense(*heads, ragged.mask[:, None, None, :]))

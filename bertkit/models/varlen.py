"""Attention within sequences that lie one behind the other, unpadded: one signature, three ways."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from bertkit.models.ragged import Ragged, repad, unpad

# query, key, value (B, A, S, D), a mask that broadcasts to (B, A, S, S) or None, scaling=, dropout= -> (B, S, A, D)
Dense = Callable[..., Tensor]

FEW_LENGTHS = 8  # up to here, one dense product a length was faster than padding to the longest; at 18 it was not


def sdpa(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, dropout: float = 0.0
) -> Tensor:
    """torch's attention over a dense batch; see `Dense`."""
    found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    return found.transpose(1, 2)


def varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, ragged: Ragged, scaling: float, dropout: float = 0.0, dense: Dense = sdpa
) -> Tensor:
    """Every token attends to the tokens of its own sequence, by the way that is cheapest for this batch.

    Args:
        query: (T, A, D), as `key` and `value` are.
        scaling: factor of the scores, usually D ** -0.5.
        dropout: rate of the attention probabilities; 0 outside of training.
        dense: attention over a dense batch, for the ways that need one.
    Returns:
        (T, A, D).
    """
    if takes_kernel(query, dropout):
        return kernel_attention(query, key, value, ragged, scaling)
    if len(ragged.groups.shapes) <= FEW_LENGTHS:
        return grouped_attention(query, key, value, ragged, scaling, dropout, dense)
    return padded_attention(query, key, value, ragged, scaling, dropout, dense)


def has_kernel(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch's variable-length kernel runs on this device in this arithmetic: NVIDIA from sm80, 16 bits."""
    is_16_bit = dtype in (torch.float16, torch.bfloat16)
    return device.type == "cuda" and is_16_bit and torch.cuda.get_device_capability(device) >= (8, 0)


def takes_kernel(query: Tensor, dropout: float) -> bool:
    """Whether the kernel can do this call: it has no dropout, and its head sizes are multiples of 8 up to 256."""
    size = query.shape[-1]
    return dropout == 0 and size % 8 == 0 and size <= 256 and has_kernel(query.device, query.dtype)


def kernel_attention(
    query: Tensor, key: Tensor, value: Tensor, ragged: Ragged, scaling: float, dropout: float = 0.0, dense: Dense = sdpa
) -> Tensor:
    """FlashAttention over sequences of any length (`torch.nn.attention.varlen`). Arguments as of `varlen_attention`."""
    from torch.nn.attention import varlen

    assert dropout == 0, "torch's varlen_attn has no dropout"
    ends, longest = ragged.cu_seq_lens, max(ragged.lengths)
    return varlen.varlen_attn(query, key, value, ends, ends, longest, longest, scale=scaling)


def grouped_attention(
    query: Tensor, key: Tensor, value: Tensor, ragged: Ragged, scaling: float, dropout: float = 0.0, dense: Dense = sdpa
) -> Tensor:
    """One dense product for the sequences of each length. Arguments as of `varlen_attention`."""
    shapes, order, back = ragged.groups
    if order is not None:
        query, key, value = (states.index_select(0, order) for states in (query, key, value))
    sizes = [count * length for count, length in shapes]
    found = []
    for shape, *states in zip(shapes, *(states.split(sizes) for states in (query, key, value)), strict=True):
        heads = (part.unflatten(0, shape).transpose(1, 2) for part in states)
        found.append(dense(*heads, None, scaling=scaling, dropout=dropout).flatten(0, 1))
    tokens = torch.cat(found)
    return tokens if back is None else tokens.index_select(0, back)


def padded_attention(
    query: Tensor, key: Tensor, value: Tensor, ragged: Ragged, scaling: float, dropout: float = 0.0, dense: Dense = sdpa
) -> Tensor:
    """The reference: on the padded grid, with padding masked as a key. Arguments as of `varlen_attention`."""
    heads = (repad(states, ragged.index, *ragged.mask.shape).transpose(1, 2) for states in (query, key, value))
    return unpad(dense(*heads, ragged.mask[:, None, None, :], scaling=scaling, dropout=dropout), ragged.index)

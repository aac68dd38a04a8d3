"""Unpad, then pad again: tokens come back to their places, padding becomes zero, whatever the lengths."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from bertkit.models.padding_free import Ragged, grouped_attention, padded_attention, ragged_of
from tests.families import dense_attention

lengths = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)


def mask_of(lengths: list[int], width: int, on_the_left: bool = False) -> torch.Tensor:
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    return mask.flip(1) if on_the_left else mask


def layout_of(mask: torch.Tensor) -> Ragged:
    return ragged_of(mask) or Ragged(mask != 0, mask.sum(1).tolist(), torch.arange(mask.numel()))


@given(lengths, st.integers(0, 3), st.booleans(), st.sampled_from([(), (4,), (2, 3)]))
def test_unpad_then_repad_is_identity_on_tokens_and_zero_on_padding(lengths, more, on_the_left, shape):
    mask = mask_of(lengths, max(lengths) + more, on_the_left)
    grid = torch.randn(*mask.shape, *shape)
    layout = layout_of(mask)
    tokens = layout.unpad(grid)
    assert tokens.shape == (sum(lengths), *shape)
    again = layout.repad(tokens)
    is_token = mask.bool().view(*mask.shape, *(1 for _ in shape))
    assert torch.equal(again, torch.where(is_token, grid, 0.0))
    assert torch.equal(layout.unpad(again), tokens)


@given(lengths, st.integers(0, 3), st.booleans())
def test_a_layout_says_where_each_sequence_lies(lengths, more, on_the_left):
    mask = mask_of(lengths, max(lengths) + more, on_the_left)
    layout = ragged_of(mask)
    if mask.all():
        assert layout is None
        return
    assert list(layout.lengths) == lengths
    assert layout.index.tolist() == mask.flatten().nonzero().flatten().tolist()
    assert layout.index.dtype == torch.int64
    assert layout.cu_seq_lens.tolist() == [sum(lengths[:place]) for place in range(len(lengths) + 1)]
    assert layout.cu_seq_lens.dtype == torch.int32
    shapes, order, back = layout.groups
    assert sum(count * length for count, length in shapes) == sum(lengths)
    numbers = torch.arange(sum(lengths))
    if order is not None:
        assert torch.equal(numbers[order][back], numbers)


@given(lengths, st.booleans())
def test_grouped_attention_is_padded_attention_and_stays_within_its_sequence(lengths, on_the_left):
    layout = layout_of(mask_of(lengths, max(lengths) + 1, on_the_left))
    query, key, value = torch.randn(3, sum(lengths), 2, 4)
    grouped, padded = (
        attend(query, key, value, layout, dense_attention(0.5)) for attend in (grouped_attention, padded_attention)
    )
    torch.testing.assert_close(grouped, padded, atol=1e-6, rtol=0)
    start = 0
    for length in lengths:  # one sequence at a time, with nothing but softmax
        mine = slice(start, start := start + length)
        scores = torch.einsum("qad,kad->aqk", query[mine], key[mine]) * 0.5
        alone = torch.einsum("aqk,kad->qad", scores.softmax(-1), value[mine])
        torch.testing.assert_close(padded[mine], alone, atol=1e-6, rtol=0)

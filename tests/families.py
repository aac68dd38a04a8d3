"""Three families of tokenizers as bertkit opens them, and what windows say of them in plain words."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedTokenizerBase

from bertkit.data.windows import WindowMaker
from bertkit.models.load import load_tokenizer
from bertkit.recipe import ModelConfig, WindowsConfig

FAMILIES = {"wordpiece": "bert", "byte-level": "roberta", "metaspace": "xlm-roberta"}
_opened: dict[tuple[Path, bool], PreTrainedTokenizerBase] = {}


def tokenizer_of(
    tiny: Callable[[str], Path], family: str, words: bool = False, fresh: bool = False
) -> PreTrainedTokenizerBase:
    """A tokenizer of the family; `fresh` gives one of its own to tests that change its settings."""
    key = tiny(FAMILIES.get(family, family)), words
    if fresh or key not in _opened:
        opened = load_tokenizer(ModelConfig(checkpoint=str(key[0])), words=words)
        if fresh:
            return opened
        _opened[key] = opened
    return _opened[key]


def maker_of(
    tiny: Callable[[str], Path], family: str = "wordpiece", max_length: int = 32, stride: int = 8, words: bool = False
) -> WindowMaker:
    """A window maker over the family's shared tokenizer."""
    config = WindowsConfig(max_length=max_length, stride=stride)
    return WindowMaker(tokenizer_of(tiny, family, words).backend_tokenizer, config)


def plain_spans(
    text: str, offsets: list[tuple[int, int]], whole: list[tuple[int, int]] | None = None
) -> list[tuple[int, int]]:
    """The tokenizer's offsets as windows keep them, character by character; `whole` are those of the whole text.

    White space before a piece is no part of it; a combining mark that no piece covers belongs to the piece before it.
    """
    covered = {place for start, end in whole or offsets for place in range(start, end)}
    spans = []
    for start, end in offsets:
        while start < end and text[start].isspace():
            start += 1
        while start < end < len(text) and end not in covered and unicodedata.category(text[end])[0] == "M":
            end += 1
        spans.append((start, end))
    return spans


def dense_attention(scaling: float) -> Callable[..., Tensor]:
    """torch's attention over a dense batch, as `varlen_attention` wants it: (B, A, S, D) -> (B, S, A, D)."""

    def dense(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling).transpose(1, 2)

    return dense

"""A model on an XLA device: its weights are there before an optimiser sees them, and no mask is waited for."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import PreTrainedModel

NAME = "bertkit_xla"  # of the attention function, among transformers' own


def fit_xla(model: PreTrainedModel, device: torch.device) -> None:
    """Put a model there, in place; its parameters become others, and are tied anew."""
    model.to(device)
    model.tie_weights()
    if model._supports_attention_backend and model.config._attn_implementation == "sdpa":
        AttentionInterface.register(NAME, sdpa_attention_forward)
        ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, mask)
        model.set_attn_implementation(NAME)


def mask(*given: object, **named: object) -> Tensor | None:
    """transformers' mask for `sdpa`, made in any case.

    Whether a batch needs one depends on its values: to ask is to wait for the device, and either answer is a graph.
    """
    return sdpa_mask(*given, **{**named, "allow_is_bidirectional_skip": False})

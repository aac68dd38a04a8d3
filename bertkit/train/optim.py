"""AdamW with weight-decay groups, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from bertkit.recipe import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), without decay on biases and norms (Devlin et al. 2019, appendix A.2)."""
    decayed, free = [], []
    for parameter in model.parameters():
        if parameter.requires_grad:
            # biases and the gains of norms are vectors, everything else is a matrix
            (decayed if parameter.ndim >= 2 else free).append(parameter)
    device = next(model.parameters()).device.type
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=config.adam_betas,
        eps=config.adam_epsilon,
        fused=device in ("cpu", "cuda", "mps"),  # on CPU seven times faster than the loop; XLA refuses it
        capturable=device == "xla",  # counts steps on the device: the count would be another constant each step
    )


def learning_rate_at(step: int, step_count: int, config: TrainConfig) -> float:
    """The learning rate of step `step` (from 0) out of `step_count`: a linear warm-up, then the schedule."""
    warmup = config.warmup * step_count if config.warmup < 1 else config.warmup
    if step < warmup:
        # the first step moves as well
        return config.learning_rate * min(1.0, (step + 1) / (warmup + 1))
    progress = (step - warmup) / max(1.0, step_count - warmup)
    if config.schedule == "linear":
        return config.learning_rate * max(0.0, 1 - progress)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate

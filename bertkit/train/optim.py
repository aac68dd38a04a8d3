"""How weights change: AdamW with weight-decay groups, the learning rate of a step, and the scale of losses in fp16."""

import math

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from bertkit.depth import rate_factors
from bertkit.recipe import TrainConfig


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), without decay on biases and norms (Devlin et al. 2019, appendix A.2).

    A group's `factor` is that of its learning rate; a frozen weight is in none.
    """
    factors, groups = rate_factors(model, config), {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            # biases and the gains of norms are vectors, everything else is a matrix; IA3's factors begin at 1
            decay = config.weight_decay if parameter.ndim >= 2 and ".ia3_" not in name else 0.0
            groups.setdefault((decay, factors.get(name, 1.0)), []).append(parameter)
    device = next(iter(groups.values()))[0].device.type
    return torch.optim.AdamW(
        [{"params": some, "weight_decay": decay, "factor": factor} for (decay, factor), some in groups.items()],
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


class LossScale(GradScaler):
    """What losses are multiplied by in fp16, so that small gradients survive; elsewhere by nothing.

    A gradient that overflows is left out. Source: Micikevicius et al. 2018, section 3.2.

    Attributes:
        skipped: steps so far whose gradient overflowed, so that they changed no weight.
    """

    skipped = 0

    def is_update(self, norm: Tensor) -> bool:
        """Whether the gradient of a step is finite and may change the weights; settles the scale of the next step.

        Args:
            norm: of the unscaled gradient. It is read here: the learning rate of the next step depends on it.
        """
        if not self.is_enabled():
            return True
        self.update()
        is_finite = bool(norm.isfinite())
        self.skipped += not is_finite
        return is_finite

    def state(self) -> dict[str, object] | None:
        """What a checkpoint keeps."""
        return {**self.state_dict(), "skipped": self.skipped} if self.is_enabled() else None

    def load(self, state: dict | None) -> None:
        """Go on from what a checkpoint kept."""
        if state:
            self.load_state_dict(state)
            self.skipped = state.get("skipped", 0)

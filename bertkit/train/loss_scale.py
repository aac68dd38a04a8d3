"""Training in float16: losses are scaled so that small gradients survive, and a gradient that overflows is left out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.amp import GradScaler


def make_scaler(precision: str, device: torch.device) -> GradScaler | None:
    """torch's scaler, where the precision of training needs one."""
    return GradScaler(device.type) if precision == "fp16" else None


class LossScale:
    """What losses are multiplied by; without a scaler by nothing, and no step is skipped.

    Source: Micikevicius et al. 2018, section 3.2.

    Attributes:
        skipped: steps so far whose gradient overflowed, so that they changed no weight.
    """

    def __init__(self, scaler: GradScaler | None = None) -> None:
        self._scaler, self.skipped = scaler, 0

    @property
    def value(self) -> float | None:
        """The factor of the next step's losses; None without a scaler."""
        return self._scaler.get_scale() if self._scaler else None

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss whose gradient is taken."""
        return self._scaler.scale(loss) if self._scaler else loss

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients of a step by the scale, before they are clipped."""
        if self._scaler:
            self._scaler.unscale_(optimizer)

    def is_update(self, norm: Tensor) -> bool:
        """Whether the gradient of a step is finite and may change the weights; settles the scale of the next step.

        Args:
            norm: of the unscaled gradient. It is read here: the learning rate of the next step depends on it.
        """
        if self._scaler is None:
            return True
        self._scaler.update()
        is_finite = bool(norm.isfinite())
        self.skipped += not is_finite
        return is_finite

    def state(self) -> dict[str, object] | None:
        """What a checkpoint keeps."""
        return {**self._scaler.state_dict(), "skipped": self.skipped} if self._scaler else None

    def load(self, state: dict | None) -> None:
        """Go on from what a checkpoint kept."""
        if state and self._scaler:
            self._scaler.load_state_dict(state)
            self.skipped = state.get("skipped", 0)

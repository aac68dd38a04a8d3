"""A number a text, such as a similarity: squared error, on [CLS]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bertkit.heads.base import Head, LossSettings, add_up, given

if TYPE_CHECKING:
    from torch import Tensor

    from bertkit.data.windows import Window


class NumberHead(Head):
    """Logits (B, 1), labels (B,) float32."""

    name = "number"

    def loss(self, logits: Sequence[Tensor], targets: Mapping[str, Tensor], settings: LossSettings) -> Tensor:
        wanted, is_given = given(targets["labels"])
        return add_up((logits[0].float().squeeze(-1) - wanted).square() * is_given, targets)

    def oracle(self, target: tuple, window: Window, class_count: int) -> tuple[np.ndarray, ...]:
        return (np.array([target[0]], np.float32),)

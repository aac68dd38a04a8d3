"""One class a text: a linear layer on [CLS], through the pooler where the architecture has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bertkit.heads.base import CERTAIN, Head, LossSettings, cross_entropy, label_weights

if TYPE_CHECKING:
    from torch import Tensor

    from bertkit.data.windows import Window, WindowStore


class ClassHead(Head):
    """Logits (B, C), labels (B,)."""

    name = "class"
    honours = frozenset({"label_smoothing", "class_weights"})

    def weights(self, targets: Mapping[str, np.ndarray], store: WindowStore, settings: LossSettings) -> np.ndarray:
        return label_weights(targets["labels"], settings) * super().weights(targets, store, settings)

    def loss(self, logits: Sequence[Tensor], targets: Mapping[str, Tensor], settings: LossSettings) -> Tensor:
        return cross_entropy(logits[0], targets, settings)

    def oracle(self, target: tuple, window: Window, class_count: int) -> tuple[np.ndarray, ...]:
        return (CERTAIN * np.eye(class_count, dtype=np.float32)[target[0]],)

"""A label a word: a linear layer on each token, of which the first piece of each word counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bertkit.heads.base import CERTAIN, Head, LossSettings, cross_entropy, label_weights

if TYPE_CHECKING:
    from torch import Tensor

    from bertkit.data.windows import Window, WindowStore


class TokenHead(Head):
    """Logits (B, S, C), labels (B, S); each word is owned by one window, so no row weighs more for having several."""

    name = "token"
    auto_class = "AutoModelForTokenClassification"
    per_token = per_token_targets = True
    honours = frozenset({"label_smoothing", "class_weights"})

    def stack(self, targets: Sequence[tuple], store: WindowStore) -> dict[str, np.ndarray]:
        return {"labels": np.concatenate([target[0] for target in targets]).astype(np.int64)}

    def weights(self, targets: Mapping[str, np.ndarray], store: WindowStore, settings: LossSettings) -> np.ndarray:
        each = label_weights(targets["labels"], settings)
        return np.diff(np.concatenate([[0.0], np.cumsum(each)])[store.offsets])

    def loss(self, logits: Sequence[Tensor], targets: Mapping[str, Tensor], settings: LossSettings) -> Tensor:
        return cross_entropy(logits[0], targets, settings)

    def kept(self, logits: np.ndarray, window: Window) -> np.ndarray:
        return logits[np.flatnonzero(window.words >= 0)]

    def oracle(self, target: tuple, window: Window, class_count: int) -> tuple[np.ndarray, ...]:
        return (CERTAIN * np.eye(class_count, dtype=np.float32)[np.asarray(target[0])[window.words >= 0]],)

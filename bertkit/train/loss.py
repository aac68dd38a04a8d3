"""Losses as sums; they are divided once, by the count of the global batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bertkit.data.collate import IGNORED
from bertkit.heads import HEADS, HeadName

if TYPE_CHECKING:
    from bertkit.recipe import TrainConfig


class Loss(Protocol):
    """(logits of the head, targets of the collator) -> the summed loss, a float32 scalar."""

    def __call__(self, logits: Sequence[Tensor], targets: Mapping[str, Tensor]) -> Tensor: ...


def make_loss(head: HeadName, config: TrainConfig, class_weights: Sequence[float] | None = None) -> Loss:
    """The loss of a head.

    Args:
        class_weights: one weight a class; the mass of an example is then the weight of its class.
    """
    weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)

    def cross_entropy(logits: Sequence[Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        scores = logits[0].float()
        return functional.cross_entropy(
            scores.reshape(-1, scores.shape[-1]),
            targets["labels"].reshape(-1),
            weight=None if weights is None else weights.to(scores.device),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=config.label_smoothing,
        )

    def binary(logits: Sequence[Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        scores = logits[0].float()
        wanted, is_given = _given(targets["labels"])
        each = functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
        return (each * is_given).mean(-1).sum()

    def squared(logits: Sequence[Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        wanted, is_given = _given(targets["labels"])
        return ((logits[0].float().squeeze(-1) - wanted).square() * is_given).sum()

    def span(logits: Sequence[Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        # only places that can answer compete, as in decoding: the loss does not depend on the padding;
        # a window that has no target at all has IGNORED, which cross entropy leaves out
        closed = ~targets["answerable"]
        start, end = (scores.float().masked_fill(closed, float("-inf")) for scores in logits)
        return 0.5 * (
            functional.cross_entropy(start, targets["start_positions"], reduction="sum")
            + functional.cross_entropy(end, targets["end_positions"], reduction="sum")
        )

    return {"cross_entropy": cross_entropy, "binary": binary, "squared": squared, "span": span}[HEADS[head].loss]


def _given(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers with zeros where there are none, and where they are."""
    is_missing = numbers.isnan()
    return numbers.masked_fill(is_missing, 0.0), ~is_missing


def masses(
    head: HeadName, targets: Mapping[str, np.ndarray], offsets: np.ndarray, class_weights: Sequence[float] | None = None
) -> np.ndarray:
    """(N,) float64: what each window counts in the denominator of the loss.

    Known before the step, so that no rank waits for another to divide.

    Args:
        targets: as the collator has them.
        offsets: (N + 1,) of the window store.
    """
    if HEADS[head].loss != "cross_entropy":
        return np.ones(len(offsets) - 1)
    labels = targets["labels"]
    weights = np.append(np.ones(labels.max(initial=0) + 1) if class_weights is None else class_weights, 0.0)
    each = weights[np.where(labels == IGNORED, -1, labels)]
    if not HEADS[head].per_token:
        return each
    return np.diff(np.concatenate([[0.0], np.cumsum(each)])[offsets])


def balanced_weights(labels: np.ndarray, class_count: int) -> list[float]:
    """Inverse class frequencies with mean 1 over the examples, as scikit-learn's "balanced"."""
    counts = np.bincount(labels[labels != IGNORED], minlength=class_count)
    return (counts.sum() / (class_count * np.maximum(counts, 1))).tolist()

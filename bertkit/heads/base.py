"""A head on top of the encoder; losses are sums, divided once by the weight of the global batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from bertkit.data.windows import Window, WindowStore

IGNORED = -100  # target of a token that has none, as in torch's cross entropy; NaN among numbers
CERTAIN = 20.0  # logit of an oracle


class LossSettings(NamedTuple):
    """What a recipe says of the loss, for heads that honour it.

    Attributes:
        label_smoothing: share of the target spread over all classes.
        class_weights: one a class; the weight of an example is that of its class.
    """

    label_smoothing: float = 0.0
    class_weights: Sequence[float] | None = None


class Head:
    """One kind of head.

    Attributes:
        name: what a task's `head` says; empty for what is not to be used by itself.
        auto_class: name of the transformers Auto class whose model carries it.
        outputs: names of the model's output fields, in the order that `decode` receives them.
        targets: names of the target arrays, as transformers calls them.
        per_token: whether outputs have one entry a token; otherwise one a window.
        per_token_targets: whether targets have.
        honours: fields of `LossSettings` that change this loss.
    """

    name: str = ""
    auto_class: str = "AutoModelForSequenceClassification"
    outputs: tuple[str, ...] = ("logits",)
    targets: tuple[str, ...] = ("labels",)
    per_token: bool = False
    per_token_targets: bool = False
    honours: frozenset[str] = frozenset()

    def stack(self, targets: Sequence[tuple], store: WindowStore) -> dict[str, np.ndarray]:
        """Target arrays by name, over windows; over the tokens of all windows where targets are `per_token`.

        A row weighs 1, however many windows it needs: with rows in several, `share` holds what each window has of it.

        Args:
            targets: what `Task.target` gives for each window.
        """
        arrays = {}
        for position, name in enumerate(self.targets):
            values = [target[position] for target in targets]
            array = np.stack(values) if values else np.zeros(0)
            arrays[name] = array if array.dtype == np.float32 else array.astype(np.int64)
        if (store.counts > 1).any():
            arrays["share"] = (1 / store.counts[store.rows]).astype(np.float32)
        return arrays

    def weights(self, targets: Mapping[str, np.ndarray], store: WindowStore, settings: LossSettings) -> np.ndarray:
        """(N,) float64: what each window counts in the denominator of the loss.

        Known before the step, so that no rank waits for another to divide.

        Args:
            targets: as `stack` gives them.
        """
        return np.ones(len(store)) if "share" not in targets else 1 / store.counts[store.rows]

    def loss(self, logits: Sequence[Tensor], targets: Mapping[str, Tensor], settings: LossSettings) -> Tensor:
        """The summed loss of a batch, a float32 scalar.

        Args:
            logits: the `outputs`, (B, ...) or (B, S, ...) each.
            targets: as the collator has them.
        """
        raise NotImplementedError

    def kept(self, logits: np.ndarray, window: Window) -> np.ndarray:
        """What decoding needs of the logits of one window, without padding."""
        return logits.copy()

    def oracle(self, target: tuple, window: Window, class_count: int) -> tuple[np.ndarray, ...]:
        """The logits of a model that knows what is right in a window."""
        raise NotImplementedError


def cross_entropy(logits: Tensor, targets: Mapping[str, Tensor], settings: LossSettings) -> Tensor:
    """Summed over labels that are not IGNORED, each window with its share."""
    import torch
    from torch.nn import functional

    scores, weights, share = logits.float(), settings.class_weights, targets.get("share")
    each = functional.cross_entropy(
        scores.reshape(-1, scores.shape[-1]),
        targets["labels"].reshape(-1),
        weight=None if weights is None else torch.tensor(weights, dtype=torch.float32, device=scores.device),
        ignore_index=IGNORED,
        reduction="sum" if share is None else "none",
        label_smoothing=settings.label_smoothing,
    )
    return each if share is None else add_up(each, targets)


def add_up(each: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    """The sum of the (B,) losses of windows, each with its share; rows that only fill a batch have none."""
    share = targets.get("share")
    return each.sum() if share is None else (each * share.nan_to_num()).sum()


def given(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers with zeros where there are none, and where they are."""
    is_missing = numbers.isnan()
    return numbers.masked_fill(is_missing, 0.0), ~is_missing


def label_weights(labels: np.ndarray, settings: LossSettings) -> np.ndarray:
    """float64: the weight of each label's class; 0 of IGNORED ones."""
    weights = np.ones(labels.max(initial=0) + 1) if settings.class_weights is None else settings.class_weights
    return np.append(weights, 0.0)[np.where(labels == IGNORED, -1, labels)]


def balanced_weights(labels: np.ndarray, class_count: int) -> list[float]:
    """Inverse class frequencies with mean 1 over the examples, as scikit-learn's "balanced"."""
    counts = np.bincount(labels[labels != IGNORED], minlength=class_count)
    return (counts.sum() / (class_count * np.maximum(counts, 1))).tolist()

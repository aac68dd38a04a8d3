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
    """What a recipe says of the loss, for heads that honour it."""

    label_smoothing: float = 0.0  # share of the target spread over all classes
    class_weights: Sequence[float] | None = None  # one a class; the weight of an example is that of its class
    teacher: str | None = None  # the run whose outputs are learned as well
    distillation_temperature: float = 2.0
    distillation_share: float = 0.5  # of the teacher's part in the loss


TAUGHT = frozenset({"teacher", "distillation_temperature", "distillation_share"})


class Head:
    """One kind of head. What it overrides has the types that stand here."""

    name: str = ""  # what a task's `head` says; empty for what is not to be used by itself
    auto_class: str = "AutoModelForSequenceClassification"  # of transformers, whose model carries this head
    outputs: tuple[str, ...] = ("logits",)  # the model's output fields, in the order that `decode` receives them
    targets: tuple[str, ...] = ("labels",)  # names of the target arrays, as transformers calls them
    per_token: bool = False  # whether outputs have one entry a token; otherwise one a window
    per_token_targets: bool = False  # whether targets have
    dtype: type[np.generic] = np.int64  # of the target arrays
    honours: frozenset[str] = frozenset()  # fields of `LossSettings` that change this loss

    def stack(self, targets: Sequence[tuple], store: WindowStore) -> dict[str, np.ndarray]:
        """Target arrays by name, over windows; over the tokens of all windows where targets are `per_token`.

        A row weighs 1, however many windows it needs: with rows in several, `share` holds what each window has of it.
        `targets` are what `Task.target` gives for each window.
        """
        columns = zip(self.targets, zip(*targets, strict=True), strict=True)
        # a fraction where a class is wanted is an error, never rounded
        arrays = {name: np.array(values).astype(self.dtype, casting="same_kind") for name, values in columns}
        if (store.counts > 1).any():
            arrays["share"] = (1 / store.counts[store.rows]).astype(np.float32)
        return arrays

    def weights(self, targets: Mapping[str, np.ndarray], store: WindowStore, settings: LossSettings) -> np.ndarray:
        """(N,) float64: what each window counts in the denominator of the loss, by the targets that `stack` gives.

        Known before the step, so that no rank waits for another to divide.
        """
        return np.ones(len(store)) if "share" not in targets else 1 / store.counts[store.rows]

    def loss(self, logits: Sequence[Tensor], targets: Mapping[str, Tensor], settings: LossSettings) -> Tensor:
        """The summed loss of a batch, a float32 scalar, by its targets and `outputs`, (B, ...) or (B, S, ...) each."""
        raise NotImplementedError

    def evidence(self, logits: Sequence[Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """What a batch says for its targets, summed, a float32 scalar: the log-odds of each, where it is a class.

        Odds go on to grow where a probability is as good as 1, so that a sure answer has reasons, too.
        """
        return -self.loss(logits, targets, LossSettings())

    def holders(self, targets: Mapping[str, np.ndarray], store: WindowStore) -> np.ndarray:
        """(N,) bool: which windows of one row say its answer; all of them, for most heads."""
        return np.ones(len(store), bool)

    def distance(self, logits: Sequence[Tensor], taught: Tensor, temperature: float) -> Tensor:
        """(B,) or (B, S): how far each output is from a teacher's, (B, C) or (B, S, C)."""
        raise NotImplementedError

    def averaged(self, logits: Sequence[Tensor]) -> Tensor:
        """One output of several models, (B, ...) or (B, S, ...) each, float32, as that of one.

        The mean of their probabilities, where outputs give a probability each; else of the outputs.
        """
        return sum(logits) / len(logits)

    def kept(self, logits: np.ndarray, window: Window) -> np.ndarray:
        """What decoding needs of the logits of one window, without padding."""
        return logits.copy()

    def oracle(self, target: tuple, window: Window, class_count: int) -> tuple[np.ndarray, ...]:
        """The logits of a model that knows what is right in a window."""
        raise NotImplementedError


def add_up(each: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
    """The sum of the (B,) losses of windows, each with its share; rows that only fill a batch have none."""
    share = targets.get("share")
    return each.sum() if share is None else (each * share.nan_to_num()).sum()


def log_odds(scores: Tensor, classes: Tensor) -> Tensor:
    """(...) log-odds of each class of (...) against all others, by logits (..., C); 0 where it is IGNORED."""
    index = classes.clamp(min=0)[..., None]
    others = scores.scatter(-1, index, float("-inf")).logsumexp(-1)
    return (scores.gather(-1, index).squeeze(-1) - others).masked_fill(classes == IGNORED, 0.0)


def divergence(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """(...) the divergence of (..., C) logits from a teacher's, both softened; gradients keep their size.

    Source: Hinton et al. 2015, Distilling the Knowledge in a Neural Network, section 2.
    """
    ours, its = ((scores.float() / temperature).log_softmax(-1) for scores in (logits, taught))
    return temperature**2 * (its.exp() * (its - ours)).sum(-1)


def given(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers with zeros where there are none, and where they are."""
    is_missing = numbers.isnan()
    return numbers.masked_fill(is_missing, 0.0), ~is_missing


def balanced_weights(labels: np.ndarray, class_count: int) -> list[float]:
    """Inverse class frequencies with mean 1 over the examples, as scikit-learn's "balanced"."""
    counts = np.bincount(labels[labels != IGNORED], minlength=class_count)
    return (counts.sum() / (class_count * np.maximum(counts, 1))).tolist()


def label_weights(labels: np.ndarray, settings: LossSettings) -> np.ndarray:
    """float64: the weight of each label's class; 0 of IGNORED ones."""
    weights = np.ones(labels.max(initial=0) + 1) if settings.class_weights is None else settings.class_weights
    return np.append(weights, 0.0)[np.where(labels == IGNORED, -1, labels)]

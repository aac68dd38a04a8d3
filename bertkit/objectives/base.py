"""An objective: what goes into the model in a step, what is right, what it weighs and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bertkit.errors import BertkitError
from bertkit.tasks.base import Prediction, Scores

if TYPE_CHECKING:
    from torch import Tensor
    from transformers.utils import ModelOutput

    from bertkit.data.plan import Budget
    from bertkit.inference import Predictor
    from bertkit.prepare import Material
    from bertkit.recipe import Recipe


class Objective:
    """What a step learns.

    Everything is a pure function of the step and its windows, so that resuming and the number of ranks change nothing.
    What an objective overrides has the types that stand here.
    """

    head: str  # of those that read running text: what the model puts out
    texts: int = 1  # of those: how many texts stand in a window
    best_by: str  # the score that picks the best weights
    lower_is_better: bool = False  # whether a low one is
    has_scores: bool = False  # whether there is anything to evaluate on

    def __init__(self, material: Material, recipe: Recipe, predictor: Predictor) -> None:
        """Of a run: the recipe is that of `prepare.build`, the predictor holds the model that trains."""
        raise NotImplementedError

    @classmethod
    def ids_of(cls, material: Material) -> np.ndarray:
        """Every token id that `batch` may feed, repeats allowed: the embeddings of others are not trained."""
        return np.append(material.train.store.input_ids, material.tokenizer.pad_token_id)

    def follow(self, taught: np.ndarray) -> None:
        """Learn from what a teacher says of the training windows as well; see `bertkit.reopen.lessons`."""
        raise BertkitError(f"train.teacher: {type(self).__name__} learns from no teacher", hint="leave it out")

    def batch(self, step: int, windows: np.ndarray, budget: Budget) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Inputs (B, S) and targets (B, ...) or (B, S) of windows of step `step` (from 0), in the budget's shapes."""
        raise NotImplementedError

    def weight(self, step: int, windows: np.ndarray) -> np.ndarray:
        """(B,) float64: what each window counts in the denominator of the step's loss, known before the step."""
        raise NotImplementedError

    def loss(self, outputs: ModelOutput, targets: Mapping[str, Tensor]) -> Tensor:
        """The summed loss of a batch, a float32 scalar."""
        raise NotImplementedError

    def evaluate(self) -> tuple[Scores, list[Prediction]]:
        """Scores on the validation rows, and the answers behind them."""
        raise NotImplementedError

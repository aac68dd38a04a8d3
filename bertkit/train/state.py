"""What the loop works on: a model, its optimiser, a plan and an objective; and who is told of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from bertkit.data.plan import Budget, Plan

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertkit.objectives.base import Objective
    from bertkit.recipe import TrainConfig
    from bertkit.train.device import Device
    from bertkit.train.optim import LossScale


class Step(NamedTuple):
    """What one step did."""

    step: int  # steps done so far, this one included
    epoch: float  # passes over the data so far, in fractions
    loss: float  # the mean over the global batch
    learning_rate: float
    gradient_norm: float | None  # before clipping; None where it is not finite
    windows: int  # of the global batch
    tokens: int  # of these windows, without padding
    padded: int  # tokens on this rank, padding included
    skipped: bool = False  # the gradient overflowed in fp16, and changed no weight

    def record(self) -> dict[str, object]:
        """The line of history.jsonl; `skipped` is there where it is true."""
        return {name: value for name, value in self._asdict().items() if name != "skipped" or value}


class StepObserver:
    """Told of finished steps, in order; this one saves nothing."""

    last_saved = "there is none"  # name of the last good checkpoint, for messages

    def __call__(self, steps: list[Step]) -> bool:
        """The steps since the last call; returns true to stop training after the newest of them."""
        raise NotImplementedError

    def is_due(self, step: int) -> bool:
        """Whether to be called right after this step, to evaluate."""
        raise NotImplementedError

    def is_checkpoint(self, step: int) -> bool:
        """Whether to save after this step."""
        return False

    def save(self, step: int) -> None:
        """Write a checkpoint of the state after this step."""

    def resized(self, step: int, tokens: int, reason: str) -> None:
        """Micro-batches have another token budget from this step on."""


@dataclass(kw_only=True)
class TrainState:
    """All that the loop works on."""

    accelerator: Accelerator
    device: Device
    loss_scale: LossScale
    model: nn.Module
    optimizer: torch.optim.Optimizer
    plan: Plan
    objective: Objective
    budget: Budget  # what a pass may hold
    config: TrainConfig
    log_every: int  # steps between two calls of the observer, at most
    observer: StepObserver
    # steps that the observer has not been told of, with their losses and norms on the device
    buffer: list[tuple[Step, Tensor, Tensor]] = field(default_factory=list)

    @property
    def saved(self) -> str:
        """Which checkpoint there is to go on from, for messages."""
        return f"the last good checkpoint is {self.observer.last_saved}"

    def resize(self, tokens: int) -> None:
        """Let passes hold so many padded tokens from now on."""
        self.budget = self.budget._replace(tokens=tokens)

    def shape(self, windows: np.ndarray) -> tuple[int, int]:
        """Rows of a micro-batch, those included that only fill it, and tokens of each."""
        return self.budget.shape(len(windows), int(self.plan.lengths[windows].max()))

    def padded_size(self, windows: np.ndarray) -> int:
        """Tokens of a micro-batch, padding included."""
        return math.prod(self.shape(windows))

    def forward(self, step: int, windows: np.ndarray) -> Tensor:
        """The summed loss of some windows of a step."""
        inputs, targets = self.objective.batch(step, windows, self.budget)
        with self.accelerator.autocast():
            outputs = self.model(**inputs)
        return self.objective.loss(outputs, targets)

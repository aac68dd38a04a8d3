"""The loop: what a step sees is a pure function of (seed, step); what it learns is an exact sum over the step."""

from __future__ import annotations

import hashlib
import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from bertkit.data.plan import Budget, Plan, deal
from bertkit.errors import BertkitError, Interrupted
from bertkit.launch import signals_to
from bertkit.machine import bound_threads
from bertkit.recipe import TrainConfig
from bertkit.train import memory
from bertkit.train.device import Device, at_hand
from bertkit.train.optim import LossScale, learning_rate_at
from bertkit.train.ranks import Stop

if TYPE_CHECKING:
    from bertkit.objectives.base import Objective


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

    last_saved: str | None = None  # name of the last good checkpoint

    @property
    def saved(self) -> str:
        """Which checkpoint there is to go on from, for messages."""
        last = self.last_saved
        return f"the last good checkpoint is {last}" if last else "no checkpoint has been written yet"

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


def train(state: TrainState, observer: StepObserver, start: int) -> int:
    """Train from step `start` to the end of the plan, or until the observer says stop.

    Returns:
        The number of steps done, from the beginning of the run.
    Raises:
        BertkitError: the loss is not finite, nor its gradient at any scale; or one window does not fit in memory.
        Interrupted: SIGINT or SIGTERM came; a checkpoint of the last whole step was written.
    """
    state.model.train()
    total, device = state.plan.step_count, state.accelerator.device
    stop = Stop(state.accelerator.num_processes, device)
    # steps that the observer has not been told of, with their losses and norms on the device
    waiting: list[tuple[Step, Tensor, Tensor]] = []
    with signals_to(stop.tell), bound_threads(device.type):
        for step in range(start, total):
            waiting.append(_one_step(state, observer, step, stop))
            done = step + 1
            # read once: a signal that comes while this step is observed or saved stops the run after the next one
            is_asked = stop.is_agreed()
            is_last, is_checkpoint, wants_stop = done == total, observer.is_checkpoint(done), False
            # the losses are read before anything is saved, so that no checkpoint holds a broken model
            if is_last or is_asked or is_checkpoint or done % state.log_every == 0 or observer.is_due(done):
                wants_stop = observer(_read(waiting, state, observer))
                state.model.train()
            if is_last or is_asked or is_checkpoint or wants_stop:
                observer.save(done)
            if is_asked and not is_last:
                raise Interrupted(
                    f"stopped at step {done} of {total}; checkpoint {observer.last_saved} is saved",
                    hint="go on with the same command and --resume",
                )
            if wants_stop:
                return done
    return total


def _one_step(state: TrainState, observer: StepObserver, step: int, stop: Stop) -> tuple[Step, Tensor, Tensor]:
    accelerator, plan = state.accelerator, state.plan
    windows = plan.batch(step)
    weight = float(state.objective.weight(step, windows).sum())
    while True:
        # one key for all randomness of the step (dropout): a resumed run sees the same without any saved state
        state.device.seed(key_of(plan.seed, step, accelerator.process_index))
        try:
            loss_sum, padded = _add_up(state, step, windows, weight)
            break
        except memory.OutOfMemory as full:
            failed = full.args
        # out of the `except`, for the exception holds the activations
        memory.halve(state, observer, step + 1, *failed)
    # a step that changed no weight is none for the schedule either
    rate = learning_rate_at(step - state.loss_scale.skipped, plan.step_count, state.config)
    norm, is_update = _update(state, observer, step, rate)
    if accelerator.num_processes > 1:
        # one exchange for both: the loss, and whether a rank was told to stop
        told = torch.tensor(float(stop.is_told), device=accelerator.device)
        loss_sum, asked = accelerator.reduce(torch.stack([loss_sum, told]), "sum")
        stop.add(asked)
    record = Step(
        step=step + 1,
        epoch=(step + 1) / plan.steps_per_epoch,
        loss=weight,
        learning_rate=rate,
        gradient_norm=None,
        windows=len(windows),
        tokens=int(plan.lengths[windows].sum()),
        padded=padded,
        skipped=not is_update,
    )
    # loss and norm stay on the device: reading them here would wait for the step to end
    return record, loss_sum, norm


def _update(state: TrainState, observer: StepObserver, step: int, rate: float) -> tuple[Tensor, bool]:
    """Change the weights, unless their gradient overflowed; returns its norm, and whether they changed."""
    state.loss_scale.unscale_(state.optimizer)
    clip = state.config.gradient_clip or math.inf
    norm = torch.as_tensor(state.accelerator.clip_grad_norm_(state.model.parameters(), clip))
    is_update = state.loss_scale.is_update(norm)
    if is_update:
        for group in state.optimizer.param_groups:
            group["lr"] = state.device.number(rate * group.get("factor", 1.0))
        with memory.or_else(
            lambda: f"out of memory as step {step + 1} changed the weights; {observer.saved}",
            hint="AdamW holds two numbers beside each weight: take a smaller model, or a device with more memory",
        ):
            state.optimizer.step()
    state.optimizer.zero_grad()
    state.device.cut()
    return norm, is_update


def _add_up(state: TrainState, step: int, windows: np.ndarray, weight: float) -> tuple[Tensor, int]:
    """Add up this rank's share of a step: the gradients in the parameters, the loss, the padded tokens.

    Each rank exchanges gradients once a step, in the backward pass of its last micro-batch; until then it is alone, and
    may begin again with other micro-batches than the other ranks have.

    Raises:
        OutOfMemory: what was added up so far is of no use.
    """
    accelerator = state.accelerator
    world = accelerator.num_processes
    micro_batches = deal(windows, state.plan.lengths, world, state.budget)[accelerator.process_index]
    loss_sum = torch.zeros((), device=accelerator.device)
    share = state.device.number(world / max(weight, 1e-12))
    padded = 0
    for position, chosen in enumerate(micro_batches):
        is_empty, is_last = len(chosen) == 0, position == len(micro_batches) - 1
        # a rank without windows still takes part in the gradient exchange, with a weight of nothing
        part = windows[:1] if is_empty else chosen
        is_shared = False
        try:
            with nullcontext() if is_last else accelerator.no_sync(state.model):
                summed = state.forward(step, part)
                summed = summed * 0.0 if is_empty else summed
                is_shared = is_last and world > 1
                # data-parallel training averages gradients over the ranks, while the loss is a sum
                accelerator.backward(state.loss_scale.scale(summed * share))
            loss_sum += summed.detach()
            state.device.cut()
        except (RuntimeError, MemoryError) as error:
            if not memory.is_exhausted(error):
                raise
            raise memory.OutOfMemory(*state.shape(part), is_shared) from error
        padded += 0 if is_empty else state.padded_size(chosen)
    return loss_sum, padded


def _read(waiting: list[tuple[Step, Tensor, Tensor]], state: TrainState, observer: StepObserver) -> list[Step]:
    """Bring the losses since the last call to the host, at once."""
    pairs = [(at_hand(loss), at_hand(norm)) for _, loss, norm in waiting]
    numbers = torch.stack([torch.stack([loss.float(), norm.float()]) for loss, norm in pairs]).tolist()
    # until here `loss` held the weight, which divides the sum
    steps = [
        record._replace(loss=loss / max(record.loss, 1e-12), gradient_norm=norm if math.isfinite(norm) else None)
        for (record, *_), (loss, norm) in zip(waiting, numbers, strict=True)
    ]
    waiting.clear()
    for record in steps:
        if not math.isfinite(record.loss):
            raise BertkitError(
                f"the loss of step {record.step} is {record.loss}; {observer.saved}",
                hint="lower train.learning_rate, or use hardware.precision=fp32",
            )
    if steps[-1].skipped and state.loss_scale.get_scale() < 1:
        raise BertkitError(
            f"the gradient of step {steps[-1].step} overflows in fp16 whatever its loss is scaled by; {observer.saved}",
            hint="use hardware.precision=fp32, or lower train.learning_rate",
        )
    return steps


def key_of(*parts: object) -> int:
    """A 63-bit seed from the parts, well mixed and the same everywhere."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1

"""The loop: what a step sees is a pure function of (seed, step); what it learns is an exact sum over the step."""

from __future__ import annotations

import hashlib
import math
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bertkit.data.collate import Collator
from bertkit.data.plan import Budget, Plan, deal
from bertkit.errors import BertkitError, Interrupted
from bertkit.train.loss import Loss
from bertkit.train.optim import learning_rate_at

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertkit.recipe import TrainConfig


class Step(NamedTuple):
    """What one step did.

    Attributes:
        step: steps done so far, this one included.
        epoch: passes over the data so far, in fractions.
        loss: mean loss of the step, over the global batch.
        learning_rate: of this step.
        gradient_norm: before clipping.
        windows: windows of the global batch.
        tokens: their tokens, without padding.
        padded: their tokens, padding included, on this rank.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float
    windows: int
    tokens: int
    padded: int


class Observe(Protocol):
    """Told of finished steps in order; returns true to stop training after the newest of them."""

    def __call__(self, steps: list[Step]) -> bool: ...


@dataclass
class Run:
    """All that the loop works on.

    Attributes:
        observe: called with the steps done since the last call, every `log_every` steps and whenever one is due.
        is_due: whether the observer wants to be called right after this step, to evaluate.
        is_checkpoint: whether to save after this step, beside the last one.
        save: writes a checkpoint of the state after this step and returns its name.
        last_saved: name of the last good checkpoint, for messages.
    """

    accelerator: Accelerator
    model: nn.Module
    optimizer: torch.optim.Optimizer
    plan: Plan
    collate: Collator
    masses: np.ndarray
    loss: Loss
    outputs: tuple[str, ...]
    config: TrainConfig
    budget: Budget
    log_every: int
    observe: Observe
    is_due: Callable[[int], bool]
    is_checkpoint: Callable[[int], bool]
    save: Callable[[int], str]
    last_saved: str = "there is none"
    buffer: list[tuple[Step, Tensor, Tensor]] = field(default_factory=list)
    asked: deque[Tensor] = field(default_factory=deque)


def train(run: Run, start: int) -> int:
    """Train from step `start` to the end of the plan, or until an observer says stop.

    Returns:
        The number of steps done, from the beginning of the run.
    Raises:
        BertkitError: the loss is not finite.
        Interrupted: SIGINT or SIGTERM came; a checkpoint of the last whole step was written.
    """
    run.model.train()
    total = run.plan.step_count
    with _stop_signals() as stop:
        for step in range(start, total):
            run.buffer.append(_one_step(run, step, total, stop))
            done = step + 1
            is_asked = _is_asked(run, stop)  # alone, also by a signal that comes while this step is observed or saved
            is_last = done == total
            wants_stop = False
            # the losses are read before anything is saved, so that no checkpoint holds a broken model
            if is_last or is_asked() or done % run.log_every == 0 or run.is_due(done) or run.is_checkpoint(done):
                wants_stop = run.observe(_read_buffer(run))
                run.model.train()
            if is_last or wants_stop or is_asked() or run.is_checkpoint(done):
                run.last_saved = run.save(done)
            if is_asked() and not is_last:
                raise Interrupted(
                    f"stopped at step {done} of {total}; checkpoint {run.last_saved} is saved",
                    hint="go on with the same command and --resume",
                )
            if wants_stop:
                return done
    return total


def _is_asked(run: Run, stop: threading.Event) -> Callable[[], bool]:
    """Whether to stop after this step: all ranks after the same one, whichever of them a signal reached."""
    if run.accelerator.num_processes == 1:
        return stop.is_set
    # the sum over the ranks is on the device; of this step, reading it would wait for the step to end
    is_at_hand = run.accelerator.device.type == "cpu"
    agreed = len(run.asked) > (not is_at_hand) and bool(run.asked.popleft() > 0)
    return lambda: agreed


def _one_step(run: Run, step: int, total: int, stop: threading.Event) -> tuple[Step, Tensor, Tensor]:
    accelerator, plan, device = run.accelerator, run.plan, run.accelerator.device
    rank, world = accelerator.process_index, accelerator.num_processes
    windows = plan.batch(step)
    mass = float(run.masses[windows].sum())
    # one key for all randomness of the step (dropout): a resumed run sees the same without any saved state
    torch.manual_seed(key_of(plan.seed, step, rank))
    micro_batches = deal(windows, plan.lengths, world, run.budget)[rank]
    loss_sum = torch.zeros((), device=device)
    padded = 0
    for place, chosen in enumerate(micro_batches):
        is_empty = len(chosen) == 0
        # a rank without windows still takes part in the gradient exchange, with a weight of nothing
        inputs, targets = run.collate(windows[:1] if is_empty else chosen)
        padded += 0 if is_empty else inputs["input_ids"].numel()
        is_last = place == len(micro_batches) - 1
        with nullcontext() if is_last else accelerator.no_sync(run.model):
            with accelerator.autocast():
                outputs = run.model(**inputs)
            summed = run.loss([getattr(outputs, name) for name in run.outputs], targets)
            summed = summed * 0.0 if is_empty else summed
            # data-parallel training averages gradients over the ranks, while the loss is a sum
            accelerator.backward(summed * (world / max(mass, 1e-12)))
        loss_sum += summed.detach()
    clip = run.config.gradient_clip or math.inf
    norm = accelerator.clip_grad_norm_(run.model.parameters(), clip)
    rate = learning_rate_at(step, total, run.config)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    run.optimizer.zero_grad()
    if world > 1:
        # one exchange for both: the loss, and whether a rank was told to stop
        told = torch.tensor(float(stop.is_set()), device=device)
        loss_sum, asked = accelerator.reduce(torch.stack([loss_sum, told]), "sum")
        run.asked.append(asked)
    record = Step(
        step + 1,
        (step + 1) / plan.steps_per_epoch,
        mass,
        rate,
        0.0,
        len(windows),
        int(plan.lengths[windows].sum()),
        padded,
    )
    # loss and norm stay on the device: reading them here would wait for the step to end
    return record, loss_sum, torch.as_tensor(norm)


def _read_buffer(run: Run) -> list[Step]:
    """Bring the losses since the last call to the host, at once."""
    numbers = torch.stack([torch.stack([loss.float(), norm.float()]) for _, loss, norm in run.buffer]).tolist()
    # until here `loss` held the mass, which divides the sum
    steps = [
        record._replace(loss=loss / max(record.loss, 1e-12), gradient_norm=norm)
        for (record, *_), (loss, norm) in zip(run.buffer, numbers, strict=True)
    ]
    run.buffer.clear()
    for record in steps:
        if not math.isfinite(record.loss):
            raise BertkitError(
                f"the loss of step {record.step} is {record.loss}; the last good checkpoint is {run.last_saved}",
                hint="lower train.learning_rate, or use hardware.precision=fp32",
            )
    return steps


def key_of(*parts: object) -> int:
    """A 63-bit seed from the parts, well mixed and the same everywhere."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set an event and let the step finish; a second SIGINT stops at once."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked  # signals reach the main thread only, as in some notebooks
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

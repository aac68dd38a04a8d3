"""The loop: what a step sees is a pure function of (seed, step); what it learns is an exact sum over the step."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bertkit.data.collate import Collator
from bertkit.data.plan import Budget, Plan, deal
from bertkit.errors import BertkitError, Interrupted
from bertkit.train import memory, xla
from bertkit.train.loss import Loss
from bertkit.train.optim import learning_rate_at
from bertkit.train.stop import Stop, listening

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertkit.recipe import TrainConfig

WORTHWHILE = 1.05  # times the speed: less is no reason to take more memory


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
        resized: told of a step from which on micro-batches have another token budget, the budget and why.
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
    log_every: int
    observe: Observe
    is_due: Callable[[int], bool]
    is_checkpoint: Callable[[int], bool]
    save: Callable[[int], str]
    resized: Callable[[int, int, str], None]
    last_saved: str = "there is none"
    buffer: list[tuple[Step, Tensor, Tensor]] = field(default_factory=list)

    @property
    def budget(self) -> Budget:
        """What a pass may hold."""
        return self.collate.budget

    def resize(self, tokens: int) -> None:
        """Let passes hold so many padded tokens from now on."""
        self.collate = replace(self.collate, budget=self.budget._replace(tokens=tokens))


def train(run: Run, start: int) -> int:
    """Train from step `start` to the end of the plan, or until an observer says stop.

    Returns:
        The number of steps done, from the beginning of the run.
    Raises:
        BertkitError: the loss is not finite, or one window alone does not fit into memory.
        Interrupted: SIGINT or SIGTERM came; a checkpoint of the last whole step was written.
    """
    run.model.train()
    total = run.plan.step_count
    with listening(run.accelerator.num_processes, run.accelerator.device) as stop:
        for step in range(start, total):
            run.buffer.append(_one_step(run, step, total, stop))
            done = step + 1
            # read once: a signal that comes while this step is observed or saved stops the run after the next one
            is_asked = stop.is_agreed()
            is_last = done == total
            wants_stop = False
            # the losses are read before anything is saved, so that no checkpoint holds a broken model
            if is_last or is_asked or done % run.log_every == 0 or run.is_due(done) or run.is_checkpoint(done):
                wants_stop = run.observe(_read_buffer(run))
                run.model.train()
            if is_last or wants_stop or is_asked or run.is_checkpoint(done):
                run.last_saved = run.save(done)
            if is_asked and not is_last:
                raise Interrupted(
                    f"stopped at step {done} of {total}; checkpoint {run.last_saved} is saved",
                    hint="go on with the same command and --resume",
                )
            if wants_stop:
                return done
    return total


def _one_step(run: Run, step: int, total: int, stop: Stop) -> tuple[Step, Tensor, Tensor]:
    accelerator, plan = run.accelerator, run.plan
    windows = plan.batch(step)
    mass = float(run.masses[windows].sum())
    while True:
        # one key for all randomness of the step (dropout): a resumed run sees the same without any saved state
        xla.seed(key_of(plan.seed, step, accelerator.process_index), accelerator.device)
        try:
            loss_sum, padded = _add_up(run, windows, mass)
            break
        except memory.OutOfMemory as full:
            rows, tokens, is_shared = full.rows, full.tokens, full.is_shared
        # out of the `except`, for the exception holds the activations
        _halve(run, step + 1, rows, tokens, is_shared)
    clip = run.config.gradient_clip or math.inf
    norm = accelerator.clip_grad_norm_(run.model.parameters(), clip)
    rate = learning_rate_at(step, total, run.config)
    for group in run.optimizer.param_groups:
        group["lr"] = xla.number(rate, accelerator.device)
    with memory.or_else(
        lambda: f"out of memory as step {step + 1} changed the weights; the last good checkpoint is {run.last_saved}",
        hint="AdamW holds two numbers beside each weight: take a smaller model, or a device with more memory",
    ):
        run.optimizer.step()
    run.optimizer.zero_grad()
    xla.cut(accelerator.device)
    if accelerator.num_processes > 1:
        # one exchange for both: the loss, and whether a rank was told to stop
        told = torch.tensor(float(stop.is_told), device=accelerator.device)
        loss_sum, asked = accelerator.reduce(torch.stack([loss_sum, told]), "sum")
        stop.add(asked)
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


def _add_up(run: Run, windows: np.ndarray, mass: float) -> tuple[Tensor, int]:
    """Add up this rank's share of a step: the gradients in the parameters, the loss, the padded tokens.

    Each rank exchanges gradients once a step, in the backward pass of its last micro-batch; until then it is alone, and
    may begin again with other micro-batches than the other ranks have.

    Raises:
        OutOfMemory: what was added up so far is of no use.
    """
    accelerator, device = run.accelerator, run.accelerator.device
    world = accelerator.num_processes
    micro_batches = deal(windows, run.plan.lengths, world, run.budget)[accelerator.process_index]
    loss_sum = torch.zeros((), device=device)
    share = xla.number(world / max(mass, 1e-12), device)
    padded = 0
    for place, chosen in enumerate(micro_batches):
        is_empty, is_last = len(chosen) == 0, place == len(micro_batches) - 1
        # a rank without windows still takes part in the gradient exchange, with a weight of nothing
        part = windows[:1] if is_empty else chosen
        is_shared = False
        try:
            with nullcontext() if is_last else accelerator.no_sync(run.model):
                summed = _forward(run, part)
                summed = summed * 0.0 if is_empty else summed
                is_shared = is_last and world > 1
                # data-parallel training averages gradients over the ranks, while the loss is a sum
                accelerator.backward(summed * share)
            loss_sum += summed.detach()
            xla.cut(device)
        except (RuntimeError, MemoryError) as error:
            if not memory.is_exhausted(error):
                raise
            raise memory.OutOfMemory(len(part), padded_size(run, part), is_shared) from error
        padded += 0 if is_empty else padded_size(run, chosen)
    return loss_sum, padded


def _forward(run: Run, windows: np.ndarray) -> Tensor:
    """The summed loss of some windows."""
    inputs, targets = run.collate(windows)
    with run.accelerator.autocast():
        outputs = run.model(**inputs)
    return run.loss([getattr(outputs, name) for name in run.outputs], targets)


def _halve(run: Run, step: int, rows: int, tokens: int, is_shared: bool) -> None:
    """Halve the micro-batch that did not fit, for good, and make ready to do the step again from its start.

    Raises:
        BertkitError: it is one window already; or other ranks have gradients of the step that failed.
    """
    budget = min(run.budget.tokens, tokens) // 2
    saved = f"the last good checkpoint is {run.last_saved}"
    if rows == 1:
        raise BertkitError(
            f"out of memory in step {step}, with a micro-batch of one window of {tokens} tokens; {saved}",
            hint="lower windows.max_length, or set hardware.gradient_checkpointing=true",
        )
    if is_shared:
        raise BertkitError(
            f"out of memory in step {step} while processes exchanged gradients; {saved}",
            hint=f"go on with --resume hardware.micro_batch_tokens={budget}",
        )
    run.optimizer.zero_grad()
    memory.release()
    run.resize(budget)
    run.resized(step, budget, f"{rows} windows of {tokens // rows} tokens did not fit into memory")


def find_token_budget(run: Run) -> int:
    """The micro-batch that this device likes best: budgets are doubled until one does not fit or is no faster.

    The longest windows are tried, for their attention takes most, with as much memory held as AdamW will; nothing is
    learned from them. No rank waits for another: each finds its own.

    Returns:
        padded tokens of a micro-batch, no more than a step has.
    """
    longest_first = np.argsort(-run.plan.lengths, kind="stable")
    most = -(-run.plan.batch_size // run.accelerator.num_processes)
    held = [] if run.optimizer.state else [torch.empty_like(weight) for weight in run.model.parameters() for _ in "mv"]
    rows, best, speed = 1, 1, 0.0
    run.model.train()
    while True:
        try:
            # from the start again where there are too few
            found = _tokens_a_second(run, np.resize(longest_first, rows))
        except (RuntimeError, MemoryError) as error:
            if not memory.is_exhausted(error):
                raise
            found = 0.0
        run.optimizer.zero_grad()
        if found <= WORTHWHILE * speed:
            break
        best, speed = rows, found
        if rows == most:
            break
        rows = min(2 * rows, most)
    del held
    memory.release()
    return best * run.collate.shape(longest_first[:1])[1]


def _tokens_a_second(run: Run, windows: np.ndarray) -> float:
    seconds = 0.0
    for _ in range(2):  # the first makes room and picks kernels
        began = time.perf_counter()
        with run.accelerator.no_sync(run.model):
            summed = _forward(run, windows)
            run.accelerator.backward(summed * 0.0)
        summed.item()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return padded_size(run, windows) / seconds


def padded_size(run: Run, windows: np.ndarray) -> int:
    """Tokens of a micro-batch, padding included."""
    return math.prod(run.collate.shape(windows))


def _read_buffer(run: Run) -> list[Step]:
    """Bring the losses since the last call to the host, at once."""
    pairs = [(xla.at_hand(loss), xla.at_hand(norm)) for _, loss, norm in run.buffer]
    numbers = torch.stack([torch.stack([loss.float(), norm.float()]) for loss, norm in pairs]).tolist()
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

"""The loop: what a step sees is a pure function of (seed, step); what it learns is an exact sum over the step."""

from __future__ import annotations

import hashlib
import math
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from bertkit.data.plan import deal
from bertkit.errors import BertkitError, Interrupted
from bertkit.machine import bound_threads
from bertkit.train import memory, xla
from bertkit.train.fit import halve
from bertkit.train.optim import learning_rate_at
from bertkit.train.state import Step, TrainState
from bertkit.train.stop import Stop, listening


def train(state: TrainState, start: int) -> int:
    """Train from step `start` to the end of the plan, or until the observer says stop.

    Returns:
        The number of steps done, from the beginning of the state.
    Raises:
        BertkitError: the loss is not finite, or one window alone does not fit into memory.
        Interrupted: SIGINT or SIGTERM came; a checkpoint of the last whole step was written.
    """
    state.model.train()
    total, observer = state.plan.step_count, state.observer
    device = state.accelerator.device
    with listening(state.accelerator.num_processes, device) as stop, bound_threads(device.type):
        for step in range(start, total):
            state.buffer.append(_one_step(state, step, total, stop))
            done = step + 1
            # read once: a signal that comes while this step is observed or saved stops the run after the next one
            is_asked = stop.is_agreed()
            is_last, is_checkpoint, wants_stop = done == total, observer.is_checkpoint(done), False
            # the losses are read before anything is saved, so that no checkpoint holds a broken model
            if is_last or is_asked or is_checkpoint or done % state.log_every == 0 or observer.is_due(done):
                wants_stop = observer(_read_buffer(state))
                state.model.train()
            if is_last or is_asked or is_checkpoint or wants_stop:
                state.last_saved = observer.save(done)
            if is_asked and not is_last:
                raise Interrupted(
                    f"stopped at step {done} of {total}; checkpoint {state.last_saved} is saved",
                    hint="go on with the same command and --resume",
                )
            if wants_stop:
                return done
    return total


def _one_step(state: TrainState, step: int, total: int, stop: Stop) -> tuple[Step, Tensor, Tensor]:
    accelerator, plan = state.accelerator, state.plan
    windows = plan.batch(step)
    weight = float(state.objective.weight(step, windows).sum())
    while True:
        # one key for all randomness of the step (dropout): a resumed run sees the same without any saved state
        xla.seed(key_of(plan.seed, step, accelerator.process_index), accelerator.device)
        try:
            loss_sum, padded = _add_up(state, step, windows, weight)
            break
        except memory.OutOfMemory as full:
            rows, tokens, is_shared = full.rows, full.tokens, full.is_shared
        # out of the `except`, for the exception holds the activations
        halve(state, step + 1, rows, tokens, is_shared)
    clip = state.config.gradient_clip or math.inf
    norm = accelerator.clip_grad_norm_(state.model.parameters(), clip)
    rate = learning_rate_at(step, total, state.config)
    for group in state.optimizer.param_groups:
        group["lr"] = xla.number(rate, accelerator.device)
    with memory.or_else(
        lambda: f"out of memory as step {step + 1} changed the weights; the last good checkpoint is {state.last_saved}",
        hint="AdamW holds two numbers beside each weight: take a smaller model, or a device with more memory",
    ):
        state.optimizer.step()
    state.optimizer.zero_grad()
    xla.cut(accelerator.device)
    if accelerator.num_processes > 1:
        # one exchange for both: the loss, and whether a rank was told to stop
        told = torch.tensor(float(stop.is_told), device=accelerator.device)
        loss_sum, asked = accelerator.reduce(torch.stack([loss_sum, told]), "sum")
        stop.add(asked)
    record = Step(
        step + 1,
        (step + 1) / plan.steps_per_epoch,
        weight,
        rate,
        0.0,
        len(windows),
        int(plan.lengths[windows].sum()),
        padded,
    )
    # loss and norm stay on the device: reading them here would wait for the step to end
    return record, loss_sum, torch.as_tensor(norm)


def _add_up(state: TrainState, step: int, windows: np.ndarray, weight: float) -> tuple[Tensor, int]:
    """Add up this rank's share of a step: the gradients in the parameters, the loss, the padded tokens.

    Each rank exchanges gradients once a step, in the backward pass of its last micro-batch; until then it is alone, and
    may begin again with other micro-batches than the other ranks have.

    Raises:
        OutOfMemory: what was added up so far is of no use.
    """
    accelerator, device = state.accelerator, state.accelerator.device
    world = accelerator.num_processes
    micro_batches = deal(windows, state.plan.lengths, world, state.budget)[accelerator.process_index]
    loss_sum = torch.zeros((), device=device)
    share = xla.number(world / max(weight, 1e-12), device)
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
                accelerator.backward(summed * share)
            loss_sum += summed.detach()
            xla.cut(device)
        except (RuntimeError, MemoryError) as error:
            if not memory.is_exhausted(error):
                raise
            raise memory.OutOfMemory(len(part), state.padded_size(part), is_shared) from error
        padded += 0 if is_empty else state.padded_size(chosen)
    return loss_sum, padded


def _read_buffer(state: TrainState) -> list[Step]:
    """Bring the losses since the last call to the host, at once."""
    pairs = [(xla.at_hand(loss), xla.at_hand(norm)) for _, loss, norm in state.buffer]
    numbers = torch.stack([torch.stack([loss.float(), norm.float()]) for loss, norm in pairs]).tolist()
    # until here `loss` held the weight, which divides the sum
    steps = [
        record._replace(loss=loss / max(record.loss, 1e-12), gradient_norm=norm)
        for (record, *_), (loss, norm) in zip(state.buffer, numbers, strict=True)
    ]
    state.buffer.clear()
    for record in steps:
        if not math.isfinite(record.loss):
            raise BertkitError(
                f"the loss of step {record.step} is {record.loss}; the last good checkpoint is {state.last_saved}",
                hint="lower train.learning_rate, or use hardware.precision=fp32",
            )
    return steps


def key_of(*parts: object) -> int:
    """A 63-bit seed from the parts, well mixed and the same everywhere."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1

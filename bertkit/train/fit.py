"""Micro-batches that fit: halved where memory runs out, or found as the fastest that a device has memory for."""

from __future__ import annotations

import time

import numpy as np
import torch

from bertkit.errors import BertkitError
from bertkit.train import memory
from bertkit.train.state import TrainState

WORTHWHILE = 1.05  # times the speed: less is no reason to take more memory


def halve(state: TrainState, step: int, rows: int, length: int, is_shared: bool) -> None:
    """Halve the micro-batch that did not fit, for good, and make ready to do the step again from its start.

    Raises:
        BertkitError: it is one window already; or other ranks have gradients of the step that failed.
    """
    budget = min(state.budget.tokens, rows * length) // 2
    if rows == 1:
        raise BertkitError(
            f"out of memory in step {step}, with a micro-batch of one window of {length} tokens; {state.saved}",
            hint="lower windows.max_length, or set hardware.gradient_checkpointing=true",
        )
    if is_shared:
        raise BertkitError(
            f"out of memory in step {step} while processes exchanged gradients; {state.saved}",
            hint=f"go on with --resume hardware.micro_batch_tokens={budget}",
        )
    state.optimizer.zero_grad()
    memory.release()
    state.resize(budget)
    reason = f"{rows} windows of {length} tokens did not fit into memory"
    state.observer.resized(step, budget, reason)


def find_token_budget(state: TrainState) -> int:
    """The micro-batch that this device likes best: budgets are doubled until one does not fit or is no faster.

    The longest windows are tried, for their attention takes most, with as much memory held as AdamW will; nothing is
    learned from them. No rank waits for another: each finds its own.

    Returns:
        padded tokens of a micro-batch, no more than a step has.
    """
    longest_first = np.argsort(-state.plan.lengths, kind="stable")
    most = -(-state.plan.batch_size // state.accelerator.num_processes)
    weights = state.model.parameters()
    held = [] if state.optimizer.state else [torch.empty_like(weight) for weight in weights for _ in "mv"]
    rows, best, speed = 1, 1, 0.0
    state.model.train()
    while True:
        try:
            # from the start again where there are too few
            found = tokens_a_second(state, np.resize(longest_first, rows))
        except (RuntimeError, MemoryError) as error:
            if not memory.is_exhausted(error):
                raise
            found = 0.0
        state.optimizer.zero_grad()
        if found <= WORTHWHILE * speed:
            break
        best, speed = rows, found
        if rows == most:
            break
        rows = min(2 * rows, most)
    del held
    memory.release()
    return best * state.budget.width(int(state.plan.lengths.max()))


def tokens_a_second(state: TrainState, windows: np.ndarray) -> float:
    """The speed of one forward and backward pass, which adds nothing to the gradients."""
    seconds = 0.0
    for _ in range(2):  # the first makes room and picks kernels
        began = time.perf_counter()
        with state.accelerator.no_sync(state.model):
            summed = state.forward(0, windows)
            state.accelerator.backward(summed * 0.0)
        summed.item()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return state.padded_size(windows) / seconds

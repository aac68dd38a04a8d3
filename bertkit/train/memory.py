"""Memory: micro-batches that fit into it, what it is when it runs out, and how it goes back to the system."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch
from accelerate.utils.memory import should_reduce_batch_size

from bertkit.errors import BertkitError

if TYPE_CHECKING:
    from bertkit.train.loop import StepObserver, TrainState

MEGABYTE = 1_000_000
WORTHWHILE = 1.05  # times the speed: less is no reason to take more memory
# an Apple GPU's words; those of a GPU's library for products; a CPU's (oneDNN's), which says no more than that
WORDS = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "could not create a primitive", "could not execute a primitive")


class OutOfMemory(Exception):
    """A micro-batch that did not fit: its rows, padded tokens of each, and whether gradients were being exchanged."""


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out: a GPU's, torch's on a CPU, or numpy's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    is_told = should_reduce_batch_size(error) or any(words in str(error) for words in WORDS)
    return isinstance(error, RuntimeError) and is_told


@contextmanager
def or_else(message: Callable[[], str], hint: str) -> Iterator[None]:
    """Turn memory that runs out in a block into an error, where nothing can be made smaller."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_exhausted(error):
            raise
        raise BertkitError(message(), hint) from error


def halve(state: TrainState, observer: StepObserver, step: int, rows: int, length: int, is_shared: bool) -> None:
    """Halve the micro-batch that did not fit, for good, and make ready to do the step again from its start.

    Args:
        rows: of that micro-batch, those included that only fill it.
        length: padded tokens of each.
        is_shared: other ranks wait for the rest of its gradients.
    Raises:
        BertkitError: it is one window already; or other ranks have gradients of the step that failed.
    """
    budget = min(state.budget.tokens, rows * length) // 2
    if rows == 1:
        raise BertkitError(
            f"out of memory in step {step}, with a micro-batch of one window of {length} tokens; {observer.saved}",
            hint="lower windows.max_length, or set hardware.gradient_checkpointing=true",
        )
    if is_shared:
        raise BertkitError(
            f"out of memory in step {step} while processes exchanged gradients; {observer.saved}",
            hint=f"go on with --resume hardware.micro_batch_tokens={budget}",
        )
    state.optimizer.zero_grad()
    release()
    state.resize(budget)
    observer.resized(step, budget, f"{rows} windows of {length} tokens did not fit into memory")


def find_token_budget(state: TrainState) -> int:
    """The micro-batch that this device likes best: budgets are doubled until one does not fit or is no faster.

    The longest windows are tried, for their attention takes most, with as much memory held as AdamW will; nothing is
    learned from them. No rank waits for another: each finds its own. It is in padded tokens, no more than a step has.
    """
    longest_first = np.argsort(-state.plan.lengths, kind="stable")
    most = -(-state.plan.batch_size // state.accelerator.num_processes)
    weights = [weight for weight in state.model.parameters() if weight.requires_grad]
    moments = [] if state.optimizer.state else [torch.empty_like(weight) for weight in weights for _ in "mv"]
    best, speed = 1, 0.0
    state.model.train()
    for rows in sorted({*(1 << power for power in range(most.bit_length())), most}):
        try:
            # from the start again where there are too few
            found = tokens_a_second(state, np.resize(longest_first, rows))
        except (RuntimeError, MemoryError) as error:
            if not is_exhausted(error):
                raise
            found = 0.0
        state.optimizer.zero_grad()
        if found <= WORTHWHILE * speed:
            break
        best, speed = rows, found
    del moments
    release()
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


def release() -> None:
    """Free what a failed attempt left; call it when its exception is gone, which holds the activations."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def held() -> dict[str, int]:
    """What this process holds, in MB: resident memory, and what torch has taken of a GPU at most."""
    found = {"resident_mb": psutil.Process().memory_info().rss // MEGABYTE}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found["gpu_mb"] = torch.cuda.max_memory_reserved() // MEGABYTE
    return found


def give_back() -> None:
    """Give freed memory back to the system, where the C library is glibc; elsewhere nothing happens."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)

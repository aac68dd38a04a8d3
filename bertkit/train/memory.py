"""Memory: what ran out of it, what is held, and what goes back to the system."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import torch

from bertkit.errors import BertkitError

MEGABYTE = 1 << 20


class OutOfMemory(Exception):
    """A micro-batch that did not fit.

    Args:
        rows: its windows, and what only fills it.
        length: padded tokens of each.
        is_shared: it happened while gradients were exchanged, and other ranks wait for the rest of them.
    """

    def __init__(self, rows: int, length: int, is_shared: bool = False) -> None:
        super().__init__(f"{rows} windows of {length} tokens")
        self.rows, self.length, self.is_shared = rows, length, is_shared


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out: a GPU's, torch's on a CPU, or numpy's."""
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # an Apple GPU's; a GPU's library for products; a CPU's (oneDNN's), which says no more than that
    known = (
        "out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "could not create a primitive",
        "could not execute a primitive",
    )
    return isinstance(error, RuntimeError) and (
        should_reduce_batch_size(error) or any(text in str(error) for text in known)
    )


@contextmanager
def or_else(message: Callable[[], str], hint: str) -> Iterator[None]:
    """Turn memory that runs out in a block into an error, where nothing can be made smaller.

    Raises:
        BertkitError: with the message as it is then.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_exhausted(error):
            raise
        raise BertkitError(message(), hint) from error


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
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return

"""Asked to stop: a signal lets the step finish, and all ranks stop after the same one."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    import torch


class Stop:
    """Whether to stop after this step.

    One process asks its own flag. Several add the flags up in each step, and the sum decides: never the signal that one
    of them got.
    """

    def __init__(self, processes: int, device: torch.device) -> None:
        self._told = threading.Event()
        self._processes = processes
        self._sums: deque[Tensor] = deque()
        # the sum lies on the device, and reading that of this step would wait for the step to end: the sum before it is
        # read; on a CPU it is at hand
        self._steps_behind = 0 if device.type == "cpu" else 1

    @property
    def is_told(self) -> bool:
        """Whether a signal has reached this process."""
        return self._told.is_set()

    def tell(self, number: int, frame: object) -> None:
        """Note a signal; a second SIGINT stops at once."""
        if self.is_told and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._told.set()

    def add(self, told: Tensor) -> None:
        """Note how many ranks were told to stop by the end of a step."""
        self._sums.append(told)

    def is_agreed(self) -> bool:
        """Whether to stop after this step; to be asked once a step."""
        if self._processes == 1:
            return self.is_told
        return len(self._sums) > self._steps_behind and bool(self._sums.popleft() > 0)


@contextmanager
def listening(processes: int, device: torch.device) -> Iterator[Stop]:
    """Let SIGINT and SIGTERM ask to stop, within a block."""
    stop = Stop(processes, device)
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread only, as in some notebooks
        return
    before = {number: signal.signal(number, stop.tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

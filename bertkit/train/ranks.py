"""What several processes must settle together: the first one's word holds for all, and all see the same."""

import signal
from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from bertkit.errors import BertkitError
from bertkit.launch import process_count
from bertkit.recipe import differing_keys

T = TypeVar("T")


def of_first(make: Callable[[], T]) -> T:
    """What `make` gives on the first process, on all of them; what it raises there is raised everywhere."""
    if process_count() == 1:
        return make()
    told: list = [None, None]
    if PartialState().is_main_process:
        try:
            told[0] = make()
        except Exception as error:
            told[1] = error
    broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    return told[0]


def check_alike(what: str, see: Callable[[], Mapping[str, object]]) -> None:
    """Refuse to go on when the processes see different things: all of them raise alike, and name the keys."""
    if process_count() == 1:
        return
    everywhere = gather_object([dict(see())])
    for rank, theirs in enumerate(everywhere):
        if different := differing_keys(theirs, everywhere[0]):
            raise BertkitError(
                f"{what} of rank {rank} is not that of rank 0: {'; '.join(different)}",
                hint="give all hosts the same files, settings and versions",
            )


class Stop:
    """Whether to stop after this step, since a signal came; all ranks stop after the same one.

    One process asks its own flag. Several add the flags up in each step, and the sum decides: never the signal that one
    of them got.
    """

    def __init__(self, processes: int, device: torch.device) -> None:
        self.is_told = False  # whether a signal has reached this process
        self._processes = processes
        self._sums: deque[Tensor] = deque()
        # the sum lies on the device, and reading that of this step would wait for the step to end: the sum before it is
        # read; on a CPU it is at hand
        self._steps_behind = 0 if device.type == "cpu" else 1

    def tell(self, number: int, frame: object) -> None:
        """Note a signal; a second SIGINT stops at once."""
        if self.is_told and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_told = True

    def add(self, told: Tensor) -> None:
        """Note how many ranks were told to stop by the end of a step."""
        self._sums.append(told)

    def is_agreed(self) -> bool:
        """Whether to stop after this step; to be asked once a step."""
        if self._processes == 1:
            return self.is_told
        return len(self._sums) > self._steps_behind and bool(self._sums.popleft() > 0)

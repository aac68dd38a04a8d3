"""What several processes must settle together: the first one's word holds for all, and all see the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

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
    """Refuse to go on when the processes see different things; all of them raise alike.

    Raises:
        BertkitError: the keys that differ.
    """
    if process_count() == 1:
        return
    everywhere = gather_object([dict(see())])
    for rank, theirs in enumerate(everywhere):
        if different := differing_keys(theirs, everywhere[0]):
            raise BertkitError(
                f"{what} of rank {rank} is not that of rank 0: {'; '.join(different)}",
                hint="give all hosts the same files, settings and versions",
            )

"""What the verbs share: who speaks, and what the first process settles for all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from bertkit.launch import is_first, process_count
from bertkit.recipe import Recipe

Say = Callable[[str], None]
T = TypeVar("T")


def of_first(recipe: Recipe, make: Callable[[], T]) -> T:
    """`ranks.of_first`, which imports torch only where there are several processes."""
    if process_count() == 1:
        return make()
    from bertkit.train.device_setup import join
    from bertkit.train.ranks import of_first

    join(recipe.hardware)
    return of_first(make)


def sayer(quiet: bool) -> Say:
    """Lines on stderr, from the first process alone."""
    return (lambda text: None) if quiet or not is_first() else (lambda text: print(text, file=sys.stderr, flush=True))

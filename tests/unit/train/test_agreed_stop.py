"""All ranks stop after the same step: the sum over the ranks decides, never the signal of one of them."""

from __future__ import annotations

import threading
from collections import deque
from types import SimpleNamespace

import torch

from bertkit.train.loop import _is_asked


def run(device: str, processes: int) -> SimpleNamespace:
    accelerator = SimpleNamespace(num_processes=processes, device=SimpleNamespace(type=device))
    return SimpleNamespace(accelerator=accelerator, asked=deque())


def answers(one: SimpleNamespace, sums: list[float], told: threading.Event) -> list[bool]:
    found = []
    for value in sums:
        one.asked.append(torch.tensor(value))
        found.append(_is_asked(one, told)())
    return found


def test_on_the_cpu_ranks_stop_after_the_step_whose_sum_says_so() -> None:
    assert answers(run("cpu", 3), [0.0, 0.0, 1.0], threading.Event()) == [False, False, True]


def test_on_a_gpu_the_sum_of_the_step_before_is_read_so_that_no_step_is_waited_for() -> None:
    assert answers(run("cuda", 3), [0.0, 2.0, 2.0], threading.Event()) == [False, False, True]


def test_a_signal_of_this_rank_alone_decides_nothing_where_there_are_others() -> None:
    told = threading.Event()
    told.set()
    assert answers(run("cpu", 2), [0.0], told) == [False]
    assert _is_asked(run("cpu", 1), told)()

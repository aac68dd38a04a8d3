"""All ranks stop after the same step: the sum over the ranks decides, never the signal of one of them."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from bertkit.launch import signals_to
from bertkit.train.ranks import Stop


def answers(stop: Stop, sums: list[float]) -> list[bool]:
    found = []
    for value in sums:
        stop.add(torch.tensor(value))
        found.append(stop.is_agreed())
    return found


def test_on_the_cpu_ranks_stop_after_the_step_whose_sum_says_so() -> None:
    assert answers(Stop(3, torch.device("cpu")), [0.0, 0.0, 1.0]) == [False, False, True]


def test_on_a_gpu_the_sum_of_the_step_before_is_read_so_that_no_step_is_waited_for() -> None:
    assert answers(Stop(3, torch.device("cuda")), [0.0, 2.0, 2.0]) == [False, False, True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_process_alone_and_decides_nothing_where_there_are_others(number: int) -> None:
    stop, alone = Stop(2, torch.device("cpu")), Stop(1, torch.device("cpu"))
    with signals_to(stop.tell):
        os.kill(os.getpid(), number)
        assert stop.is_told
        assert answers(stop, [0.0]) == [False]
    with signals_to(alone.tell):
        assert not alone.is_agreed()
        os.kill(os.getpid(), number)
        assert alone.is_agreed()


def test_a_second_interrupt_stops_at_once_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with signals_to(Stop(1, torch.device("cpu")).tell):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before

"""Where a run takes device_setup: chosen once, by rules, and said."""

from __future__ import annotations

import pytest
import torch

from bertkit.data.plan import Budget
from bertkit.errors import BertkitError
from bertkit.recipe import HardwareConfig
from bertkit.train import device_setup
from bertkit.train.device_setup import BUDGETS, set_up_device


def on_cpu(**settings: object) -> HardwareConfig:
    return HardwareConfig(device="cpu", **settings)


@pytest.mark.parametrize(
    ("gain", "precision", "reason"),
    [
        (0.0, "fp32", "no native bf16"),
        (0.6, "fp32", "bf16 products run at 0.6 times"),
        (4.0, "bf16", "bf16 products run at 4.0 times"),
    ],
)
def test_bf16_is_taken_where_it_is_measured_to_be_faster(monkeypatch, gain, precision, reason):
    monkeypatch.setattr(device_setup, "bf16_gain", lambda device: gain)
    chosen = set_up_device(on_cpu())
    assert chosen.precision == precision
    assert f"{precision} ({reason}" in chosen.summary
    assert chosen.accelerator.mixed_precision == {"fp32": "no"}.get(precision, precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_asked_for_or_was_begun_with_is_not_measured(monkeypatch, precision):
    monkeypatch.setattr(device_setup, "bf16_gain", None)
    assert set_up_device(on_cpu(precision=precision)).summary.endswith(f"{precision} (as asked)")
    assert set_up_device(on_cpu(), before=precision).summary.endswith(f"{precision} (as the run began)")


def test_the_same_process_may_choose_anew():
    for precision in ("bf16", "fp32", "bf16"):
        chosen = set_up_device(on_cpu(precision=precision))
        with chosen.accelerator.autocast():
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)


def test_fp16_needs_a_gpu():
    with pytest.raises(BertkitError) as caught:
        set_up_device(on_cpu(precision="fp16"))
    assert caught.value.message == "hardware.precision: fp16 needs a GPU, and this run is on the CPU"
    assert caught.value.hint == "use bf16 or fp32, or leave it out"


def test_a_run_that_began_in_fp16_needs_a_gpu_to_go_on():
    with pytest.raises(BertkitError) as caught:
        set_up_device(on_cpu(), before="fp16")
    assert caught.value.message == (
        "hardware.precision: fp16 (as the run began) needs a GPU, and this run is on the CPU"
    )
    assert caught.value.hint == "resume it on a device like the one where it began, or give --out a new name"


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BertkitError) as caught:
        set_up_device(HardwareConfig(device="cuda"))
    assert caught.value.message == "hardware.device: there is no cuda device here"
    assert caught.value.hint == "see `bertkit doctor`, or use cpu"


def test_threads_are_as_asked():
    before = torch.get_num_threads()
    try:
        assert ", 1 thread, fp32 (as asked)" in set_up_device(on_cpu(threads=1, precision="fp32")).summary
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_threads_that_one_run_asked_for_are_not_those_of_the_next():
    before = torch.get_num_threads()
    try:
        for usual in (2, 3):  # what the process itself set meanwhile is kept
            torch.set_num_threads(usual)
            for asked, taken in ((None, usual), (1, 1), (4, 4), (None, usual), (usual, usual), (None, usual)):
                set_up_device(on_cpu(threads=asked, precision="fp32"))
                assert torch.get_num_threads() == taken
    finally:
        torch.set_num_threads(before)


def test_passes_hold_what_the_device_takes_unless_they_are_told():
    usual = set_up_device(on_cpu(precision="fp32"))
    assert (usual.training, usual.evaluation) == BUDGETS["cpu"]
    asked = set_up_device(on_cpu(precision="fp32", micro_batch_tokens=77, evaluation_tokens=99, pass_overhead=0))
    assert (asked.training, asked.evaluation) == (Budget(77, 0), Budget(99, 0))

"""A gradient that overflows changes no weight, is no step of the schedule, is said, and a resumed run knows of it.

fp16 needs a GPU; here torch's own scaler works on the CPU, on gradients that are rounded to float16 as they come.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bertkit.errors import BertkitError
from bertkit.recipe import HardwareConfig, TrainConfig
from bertkit.run import finetune
from bertkit.rundir import RunDir
from bertkit.train import device_setup, optim
from tests.training.test_loop_laws import losses, recipe, run_and_kill

LARGE = 2.0**24


def with_scaler(monkeypatch: pytest.MonkeyPatch, factor: float = 1.0, **settings: float) -> None:
    """Train with a scaler and with gradients that went through float16, times a factor."""

    def rounded(model: torch.nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_hook(lambda gradient: (gradient * factor).half().float())
        return make(model, config)

    make = optim.make_optimizer
    monkeypatch.setattr(optim, "make_optimizer", rounded)
    monkeypatch.setattr(device_setup, "LossScale", lambda device, enabled: optim.LossScale("cpu", **settings))


def steps_of(run: Path) -> list[dict]:
    return [record for record in RunDir(run).read_history() if "loss" in record]


@pytest.mark.parametrize(
    ("capability", "has_bf16", "precision"),
    [((8, 0), True, "bf16"), ((7, 5), False, "fp16"), ((7, 0), False, "fp16"), ((6, 1), False, "fp32")],
)
def test_a_gpu_takes_bf16_or_else_fp16_where_its_products_are_fast(monkeypatch, capability, has_bf16, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert device_setup._precision(HardwareConfig(), "cuda")[0] == precision


def test_a_scale_changes_nothing_that_is_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = recipe("sentiment", gradient_clip=0.5)
    finetune(plan, tmp_path / "plain", quiet=True)
    with_scaler(monkeypatch)
    metrics = finetune(plan, tmp_path / "scaled", quiet=True)
    plain, scaled = (steps_of(tmp_path / name) for name in ("plain", "scaled"))
    for key in ("loss", "gradient_norm", "learning_rate"):
        assert [step[key] for step in scaled] == pytest.approx([step[key] for step in plain], rel=2e-3)
    assert max(step["gradient_norm"] for step in plain) > plan["train"]["gradient_clip"]
    assert metrics["train"]["skipped"] == 0


def test_an_overflow_is_no_update_no_step_of_the_schedule_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with_scaler(monkeypatch, init_scale=LARGE, growth_interval=4)
    plan = recipe("sentiment", checkpoint_every=1, keep=20, steps=14)
    metrics = finetune(plan, tmp_path / "run")
    steps = steps_of(tmp_path / "run")
    skipped = [step["step"] for step in steps if step.get("skipped")]
    assert skipped[0] == 1
    assert max(skipped) > min(step["step"] for step in steps if not step.get("skipped"))  # once grown, it is lowered
    for step in steps[1:]:
        before, after = (
            tmp_path / "run" / "checkpoints" / f"step-{number:06d}" for number in (step["step"] - 1, step["step"])
        )
        is_same = (before / "model.safetensors").read_bytes() == (after / "model.safetensors").read_bytes()
        assert is_same == (step["step"] in skipped)
        assert (step["gradient_norm"] is None) == (step["step"] in skipped)
        assert math.isfinite(step["loss"])
    updates = [step["learning_rate"] for step in steps if not step.get("skipped")]
    schedule = TrainConfig(**plan["train"])
    assert updates == [optim.learning_rate_at(index, 14, schedule) for index in range(len(updates))]
    counted = load_file(tmp_path / "run" / "checkpoints" / "step-000014" / "optimizer.safetensors")
    assert {float(value) for name, value in counted.items() if name.endswith("/step")} == {len(updates)}
    assert metrics["train"]["skipped"] == len(skipped)
    said = capsys.readouterr().err
    assert "step 1 skipped: the gradient overflowed in fp16; losses are scaled by 8.38861e+06 from here on" in said


def test_a_run_with_skipped_steps_resumes_to_the_same_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_scaler(monkeypatch, init_scale=LARGE, growth_interval=2)
    plan = recipe("sentiment", checkpoint_every=1, steps=8)
    metrics = finetune(plan, tmp_path / "whole", quiet=True)
    assert 0 < metrics["train"]["skipped"] < 8
    for step in range(1, 8):
        run_and_kill(plan, tmp_path / f"cut{step}", step)
        resumed = finetune(plan, tmp_path / f"cut{step}", resume=True, quiet=True)
        assert resumed["train"]["skipped"] == metrics["train"]["skipped"]
        for name in ("history.jsonl", "model/model.safetensors", "checkpoints/step-000008/optimizer.safetensors"):
            whole, cut = (tmp_path / run / name for run in ("whole", f"cut{step}"))
            assert whole.read_bytes() == cut.read_bytes(), f"{name} differs after a cut at step {step}"


def test_a_loss_that_is_not_finite_is_a_divergence_and_no_overflow(tmp_path: Path, monkeypatch) -> None:
    with_scaler(monkeypatch)
    with pytest.raises(
        BertkitError, match=r"^the loss of step \d+ is (nan|inf); no checkpoint has been written yet"
    ) as caught:
        finetune(recipe("sentiment", learning_rate=1e36, steps=100), tmp_path / "run", quiet=True)
    assert caught.value.hint == "lower train.learning_rate, or use hardware.precision=fp32"


def test_a_gradient_that_overflows_at_any_scale_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_scaler(monkeypatch, factor=math.inf, init_scale=4.0)
    plan = recipe("sentiment")
    plan["log"] = {"every": 1}
    with pytest.raises(BertkitError, match=r"^the gradient of step 3 overflows in fp16 whatever its loss is scaled by"):
        finetune(plan, tmp_path / "run", quiet=True)
    assert len(losses(tmp_path / "run")) == 2

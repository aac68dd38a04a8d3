"""Out of memory: the micro-batch is halved, what is learned stays the same, and it is said and noted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bertkit.errors import BertkitError
from bertkit.inference import Predictor
from bertkit.run import finetune, load
from bertkit.rundir import RunDir, checkpoints_of
from bertkit.train import checkpoint, loop, memory
from bertkit.train.loop import TrainState
from tests.training.test_loop_laws import kill_after, losses, recipe, run_and_kill

CPU = "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."
ERRORS = (torch.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError(CPU), MemoryError("Unable to allocate"))


def small_memory(limit: int, monkeypatch: pytest.MonkeyPatch, error: Exception = ERRORS[0], late: bool = False) -> None:
    """More than `limit` padded tokens do not fit; `late` into the backward pass."""
    forward = TrainState.forward

    class Full(torch.autograd.Function):
        @staticmethod
        def forward(context: object, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(context: object, gradient: torch.Tensor) -> torch.Tensor:
            raise error

    def full(state: TrainState, step: int, windows: np.ndarray) -> torch.Tensor:
        if state.padded_size(windows) <= limit:
            return forward(state, step, windows)
        if not late:
            torch.rand(3)  # what the attempt drew must not shift the next one's masks
            raise error
        return Full.apply(forward(state, step, windows))

    monkeypatch.setattr(TrainState, "forward", full)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_step_that_does_not_fit_is_done_again_in_halves_with_the_same_loss(
    error: Exception, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    plan = recipe("sentiment", steps=3)
    plan["model"]["dropout"] = 0.0
    plan["hardware"] |= {"micro_batch_tokens": 4096, "pass_overhead": 4096}
    finetune(plan, tmp_path / "roomy", quiet=True)
    small_memory(150, monkeypatch, error, late)
    finetune(plan, tmp_path / "tight")
    assert losses(tmp_path / "tight") == pytest.approx(losses(tmp_path / "roomy"), abs=1e-6)
    steps = [record for record in RunDir(tmp_path / "tight").read_history() if "loss" in record]
    assert {record["windows"] for record in steps} == {8}
    noted = [record for record in RunDir(tmp_path / "tight").read_history("pace.jsonl") if "reason" in record]
    assert noted[0]["step"] == 1
    assert noted[-1]["micro_batch_tokens"] <= 150
    said = capsys.readouterr().err
    for record in noted:
        told = f"step {record['step']}: micro-batches of {record['micro_batch_tokens']:,} tokens: {record['reason']}"
        assert told in said
    assert noted[0]["reason"].startswith("8 windows of ")


def test_a_step_that_is_done_again_draws_its_masks_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = recipe("sentiment", steps=1)
    plan["model"]["dropout"] = 0.5
    plan["hardware"] |= {"micro_batch_tokens": 4096, "pass_overhead": 4096}
    small_memory(150, monkeypatch)
    finetune(plan, tmp_path / "halved", quiet=True)
    pace = RunDir(tmp_path / "halved").read_history("pace.jsonl")
    plan["hardware"]["micro_batch_tokens"] = [line["micro_batch_tokens"] for line in pace if "reason" in line][-1]
    finetune(plan, tmp_path / "small", quiet=True)
    assert losses(tmp_path / "halved") == losses(tmp_path / "small")


def test_a_resumed_run_keeps_its_halved_micro_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = recipe("sentiment", steps=6, checkpoint_every=2)
    plan["hardware"] |= {"micro_batch_tokens": 4096, "pass_overhead": 4096}
    with monkeypatch.context() as patch:
        small_memory(150, patch)
        finetune(plan, tmp_path / "whole", quiet=True)
        run_and_kill(plan, tmp_path / "cut", 4)
    # memory is there again, and the digits are the same all the same
    finetune(plan, tmp_path / "cut", resume=True, quiet=True)
    for name in ("history.jsonl", "model/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_micro_batches_that_are_asked_for_anew_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = recipe("sentiment", steps=6, checkpoint_every=2)
    with monkeypatch.context() as patch:
        small_memory(150, patch)
        run_and_kill(plan, tmp_path / "run", 4)
    plan["hardware"]["micro_batch_tokens"] = 100_000
    finetune(plan, tmp_path / "run", resume=True, quiet=True)
    (last,) = checkpoints_of(tmp_path / "run/checkpoints")
    assert checkpoint.read_state(last)["micro_batch_tokens"] == {"asked": 100_000, "now": 0}


def test_one_window_that_does_not_fit_is_an_error_that_names_step_and_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe("sentiment", checkpoint_every=1)
    run_and_kill(plan, tmp_path / "run", 2)
    small_memory(3, monkeypatch)
    with pytest.raises(BertkitError) as caught:
        finetune(plan, tmp_path / "run", resume=True, quiet=True)
    message = caught.value.message
    assert message.startswith("out of memory in step 3, with a micro-batch of one window of ")
    assert message.endswith("the last good checkpoint is step-000002")
    assert "windows.max_length" in caught.value.hint
    assert "gradient_checkpointing" in caught.value.hint


def test_memory_that_ends_while_ranks_exchange_gradients_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe("sentiment", checkpoint_every=2)
    plan["hardware"] |= {"micro_batch_tokens": 4096, "pass_overhead": 4096}
    run_and_kill(plan, tmp_path / "run", 2)
    add_up = loop._add_up

    def shared(*given: object) -> tuple[torch.Tensor, int]:
        try:
            return add_up(*given)
        except memory.OutOfMemory as full:
            raise memory.OutOfMemory(*full.args[:2], True) from None

    small_memory(150, monkeypatch)
    monkeypatch.setattr(loop, "_add_up", shared)
    with pytest.raises(BertkitError) as caught:
        finetune(plan, tmp_path / "run", resume=True, quiet=True)
    assert caught.value.message == (
        "out of memory in step 3 while processes exchanged gradients; the last good checkpoint is step-000002"
    )
    (tokens,) = re.findall(r"^go on with --resume hardware.micro_batch_tokens=(\d+)$", caught.value.hint)
    plan["hardware"]["micro_batch_tokens"] = int(tokens)
    monkeypatch.undo()
    assert finetune(plan, tmp_path / "run", resume=True, quiet=True)["train"]["steps"] == 10


def test_no_memory_for_the_optimiser_is_an_error_that_names_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise ERRORS[0]

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(BertkitError, match="out of memory as step 1 changed the weights"):
        finetune(recipe("sentiment"), tmp_path / "run", quiet=True)


def test_no_memory_elsewhere_is_an_error_that_names_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Predictor, "evaluate", full)
    with pytest.raises(BertkitError, match="out of memory; the last good checkpoint is step-000002") as caught:
        finetune(recipe("sentiment", checkpoint_every=2, evaluate_every=3), tmp_path / "run", quiet=True)
    assert caught.value.hint == "free some memory, then go on with --resume"


def test_other_errors_are_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not memory.is_exhausted(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory.is_exhausted(ValueError("out of memory"))
    small_memory(3, monkeypatch, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        finetune(recipe("sentiment"), tmp_path / "run", quiet=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("memory") / "qa"
    finetune(recipe("qa", steps=2), run, quiet=True)
    return run


def passes_of(limit: int, error: Exception) -> Callable:
    """A hook of a model whose passes of more than `limit` padded tokens do not memory."""

    def check(model: torch.nn.Module, given: tuple, named: dict[str, torch.Tensor]) -> None:
        if named["input_ids"].numel() > limit:
            raise error

    return check


def test_predictions_that_do_not_fit_are_made_in_halves_and_are_the_same(trained: Path) -> None:
    predictor = load(trained, ["hardware.pass_overhead=4096"])
    rows = [{"id": str(n), "question": "Who sleeps?", "context": "The old dog sleeps. " * n} for n in range(1, 12)]
    roomy = list(predictor.predict(rows))
    predictor.model.register_forward_pre_hook(passes_of(200, ERRORS[1]), with_kwargs=True)
    with pytest.warns(UserWarning, match="did not fit into memory; going on with"):
        tight = list(predictor.predict(rows))
    assert [entry["answer"] for entry in tight] == [entry["answer"] for entry in roomy]
    for one, other in zip(tight, roomy, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


def test_one_window_that_cannot_be_predicted_is_an_error(trained: Path) -> None:
    predictor = load(trained)
    predictor.model.register_forward_pre_hook(passes_of(0, ERRORS[2]), with_kwargs=True)
    with pytest.raises(BertkitError, match="out of memory with one window of"), pytest.warns(UserWarning, match="fit"):
        list(predictor.predict([("Who sleeps?", "The dog."), ("Who?", "The dog sleeps.")]))


def test_rows_that_only_fill_a_fixed_shape_are_halved_as_well(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"question": "Who sleeps?", "context": "The old dog sleeps."}
    (roomy,) = load(trained).predict([row])
    predictor = load(trained, ["hardware.fixed_shapes=true"])
    predictor.model.register_forward_pre_hook(passes_of(200, ERRORS[1]), with_kwargs=True)
    with pytest.warns(UserWarning, match="did not fit into memory; going on with"):
        (tight,) = predictor.predict([row])
    assert tight["answer"] == roomy["answer"]

    plan = recipe("sentiment", steps=1)
    plan["model"]["dropout"] = 0.0
    plan["data"] |= {"train_rows": 1, "validation": "bundled:sentiment.csv"}
    plan["hardware"] |= {"micro_batch_tokens": 4096, "fixed_shapes": True}
    finetune(plan, trained.parent / "roomy", quiet=True)
    small_memory(100, monkeypatch)
    finetune(plan, trained.parent / "tight", quiet=True)
    assert losses(trained.parent / "tight") == pytest.approx(losses(trained.parent / "roomy"), abs=1e-6)


@pytest.mark.parametrize(("limit", "most"), [(99, 8), (8, 8), (7.9, 4), (3, 2), (1, 1), (0.5, 1)])
def test_the_size_that_is_found_is_the_largest_doubling_that_fits(
    limit: float, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def find(run: TrainState, observer: loop.StepObserver, start: int) -> int:
        with monkeypatch.context() as patch:
            longest = run.plan.lengths.max()
            small_memory(limit * longest, patch)
            timed = memory.tokens_a_second

            def ever_faster(run: TrainState, windows: np.ndarray) -> float:
                timed(run, windows)
                return float(len(windows))  # a device that likes them large

            patch.setattr(memory, "tokens_a_second", ever_faster)
            before = [weight.clone() for weight in run.model.parameters()]
            found.append(memory.find_token_budget(run) / longest)
            assert all(map(torch.equal, before, run.model.parameters()))
            assert all(weight.grad is None for weight in run.model.parameters())
        return start

    monkeypatch.setattr(loop, "train", find)
    finetune(recipe("sentiment"), tmp_path / "run", quiet=True)
    assert found == [most]


def test_a_size_that_is_no_faster_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(memory, "tokens_a_second", lambda run, windows: min(len(windows), 2.0))
    monkeypatch.setattr(
        loop,
        "train",
        lambda run, observer, start: found.append(memory.find_token_budget(run) / run.plan.lengths.max()),
    )
    finetune(recipe("sentiment"), tmp_path / "run", quiet=True)
    assert found == [2]


def test_auto_finds_the_size_once_and_a_resumed_run_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bertkit.train import device_setup

    choose = device_setup.set_up_device
    asked = []

    def as_on_a_gpu(*arguments: object, **options: object) -> device_setup.DeviceSetup:
        return replace(choose(*arguments, **options), finds_tokens=True)

    def find(run: TrainState) -> int:
        asked.append(run)
        return 128

    plan = recipe("sentiment", steps=6, checkpoint_every=2)
    plan["hardware"]["micro_batch_tokens"] = "auto"
    monkeypatch.setattr(device_setup, "set_up_device", as_on_a_gpu)
    monkeypatch.setattr(memory, "find_token_budget", find)
    with monkeypatch.context() as patch:
        kill_after(4, patch)
        run_and_kill(plan, tmp_path / "run", 4)
    finetune(plan, tmp_path / "run", resume=True, quiet=True)
    assert len(asked) == 1
    pace = RunDir(tmp_path / "run").read_history("pace.jsonl")
    assert pace[0] == {"step": 0, "micro_batch_tokens": 128, "reason": "the fastest that fits"}


def test_on_a_cpu_auto_is_the_rule_for_cpus(tmp_path: Path) -> None:
    from bertkit.recipe import HardwareConfig
    from bertkit.train.device_setup import BUDGETS, set_up_device

    chosen = set_up_device(HardwareConfig(device="cpu", precision="fp32", micro_batch_tokens="auto"))
    assert not chosen.finds_tokens
    assert chosen.training == BUDGETS["cpu"][0]


@pytest.mark.parametrize(
    "words", ["could not create a primitive", "could not execute a primitive", "MPS backend out of memory"]
)
def test_a_library_that_says_it_in_words_of_its_own_is_understood(words: str) -> None:
    assert memory.is_exhausted(RuntimeError(words))
    assert not memory.is_exhausted(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_memory_is_told_and_given_back() -> None:
    assert memory.held()["resident_mb"] > 10
    memory.give_back()
    memory.release()

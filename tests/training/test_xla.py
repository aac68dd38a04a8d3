"""XLA without XLA: what is chosen for such a device, and that what a run asks it to compile is bounded.

`make xla` trains on a real one; here the graphs of a run are recorded on the CPU, operation by operation.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import accelerate.utils
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bertkit import inference, launch
from bertkit.data.plan import Budget
from bertkit.errors import BertkitError
from bertkit.models import ready
from bertkit.models.load import load_model
from bertkit.models.ready import make_trainable
from bertkit.recipe import HardwareConfig, ModelConfig, TrainConfig, load_recipe
from bertkit.run import finetune
from bertkit.train import device, device_setup, loop, optim
from bertkit.train.checkpoint import load_weights, save_checkpoint
from bertkit.train.loop import TrainState
from bertkit.train.optim import LossScale
from tests.rows import BUNDLED, TASKS

XLA, CPU = torch.device("xla"), torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "environment", "wanted"),
    [
        ("xla", {}, "1"),
        ("xla", {"USE_TORCH_XLA": "0"}, "1"),
        ("cpu", {"PJRT_DEVICE": "TPU"}, "0"),
        ("cpu", {"USE_TORCH_XLA": "1"}, "0"),
        ("auto", {}, "0"),
        ("auto", {"PJRT_DEVICE": "TPU"}, "1"),
        ("auto", {"PJRT_DEVICE": "TPU", "ACCELERATE_USE_CPU": "true"}, "0"),
        ("auto", {"PJRT_DEVICE": "TPU", "USE_TORCH_XLA": "0"}, "0"),
    ],
)
def test_torch_xla_is_used_where_it_is_asked_for(monkeypatch, device, environment, wanted):
    monkeypatch.setattr(launch, "find_spec", lambda name: name == "torch_xla")
    monkeypatch.setattr(launch.os, "environ", dict(environment))
    launch.settle_xla(device)
    assert launch.os.environ["USE_TORCH_XLA"] == wanted


def test_where_there_is_no_torch_xla_nothing_is_set(monkeypatch):
    monkeypatch.setattr(launch.os, "environ", {})
    launch.settle_xla("xla")
    assert launch.os.environ == {}


def test_a_process_is_on_xla_or_it_is_not(monkeypatch):
    with pytest.raises(BertkitError, match="there is no xla device here"):
        device_setup._device(HardwareConfig(device="xla"))
    monkeypatch.setattr(accelerate.utils, "is_torch_xla_available", lambda: True)
    assert [device_setup._device(HardwareConfig(device=name)) for name in ("auto", "xla")] == ["xla", "xla"]
    with pytest.raises(BertkitError) as caught:
        device_setup._device(HardwareConfig(device="cpu"))
    assert caught.value.hint == "set USE_TORCH_XLA=0 in its environment"


def test_xla_runs_in_float32(monkeypatch):
    monkeypatch.setattr(device_setup, "bf16_gain", None)  # nothing is measured
    assert [device_setup._precision(HardwareConfig(precision=name), "xla")[0] for name in ("auto", "fp32")] == [
        "fp32"
    ] * 2
    for name in ("bf16", "fp16"):
        with pytest.raises(BertkitError, match=f"XLA runs in fp32, not {name}"):
            device_setup._precision(HardwareConfig(precision=name), "xla")
        with pytest.raises(BertkitError, match=rf"XLA runs in fp32, not {name} \(as the run began\)"):
            device_setup._precision(HardwareConfig(), "xla", before=name)


def test_shapes_are_fixed_on_xla_unless_the_recipe_says_no():
    training, evaluation = device_setup.BUDGETS["xla"]
    there = device_setup.DeviceSetup(
        accelerator=SimpleNamespace(device=XLA, num_processes=1), device=device.Device(XLA), precision="fp32",
        loss_scale=LossScale("cpu", enabled=False), training=training, evaluation=evaluation, finds_tokens=True,
        summary="",
    )  # fmt: skip
    fixed = device_setup.with_shapes(there, load_recipe({"task": "qa"}))
    assert fixed.training.widths == fixed.evaluation.widths == (16, 32, 64, 128, 256, 384)
    assert not fixed.finds_tokens
    assert device.graphs_at_most(fixed.training, fixed.evaluation) == 2 * 6 + 6 + 3
    unfixed = load_recipe({"task": "qa", "hardware": {"fixed_shapes": False}})
    assert device_setup.with_shapes(there, unfixed) == there


def test_the_optimizer_counts_on_the_device_and_is_not_fused(monkeypatch):
    monkeypatch.setattr(optim.torch.optim, "AdamW", lambda groups, **settings: settings)
    for where, chosen in ((XLA, (False, True)), (CPU, (True, False))):
        weight = SimpleNamespace(device=where, ndim=2, requires_grad=True)
        model = SimpleNamespace(named_parameters=lambda one=weight: [("weight", one)])
        settings = optim.make_optimizer(model, TrainConfig())
        assert (settings["fused"], settings["capturable"]) == chosen


def test_a_model_for_xla_has_all_its_words_and_pads(tiny, monkeypatch):
    moved = []
    monkeypatch.setattr(ready, "fit_xla", lambda model, device: moved.append(device))
    config = ModelConfig(checkpoint=str(tiny("bert")))
    model = load_model(config, "class", ("a", "b"), 0).model
    trainable = partial(make_trainable, model, config, device=XLA, precision="fp32", ids=np.arange(9), order="random")
    found = trainable(hardware=HardwareConfig())
    assert found == ("xla", "padded (XLA compiles a graph for each shape)", "all")
    assert moved == [XLA]
    for settings in ({"padding_free": True}, {"compile": True}):
        with pytest.raises(BertkitError, match="XLA compiles a model for fixed shapes by itself"):
            trainable(hardware=HardwareConfig(**settings))


@pytest.mark.parametrize("architecture", ["bert", "albert", "roberta", "distilbert", "electra", "modernbert"])
def test_a_model_for_xla_answers_the_same_and_never_looks_into_its_mask(tiny, architecture):
    config = ModelConfig(checkpoint=str(tiny(architecture)))
    model = load_model(config, "class", ("a", "b"), 0).model.eval()
    ids = torch.arange(5, 17).view(2, 6)
    whole = torch.ones_like(ids)
    masks = whole, whole.index_fill(1, torch.tensor([5]), 0)
    before = [model(input_ids=ids, attention_mask=mask).logits for mask in masks]
    ready.fit_xla(model, CPU)
    graphs = Graphs()
    for mask, logits in zip(masks, before, strict=True):
        with graphs:
            after = model(input_ids=ids, attention_mask=mask).logits
        graphs.cut()
        torch.testing.assert_close(after, logits, rtol=0, atol=1e-6)
    assert len(set(graphs.found)) == 1


def test_weights_that_are_shared_are_written_once_and_read_back(tmp_path: Path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    found = device.weights_at_hand(model)
    assert found.keys() == model.state_dict().keys()
    assert found["0.weight"] is found["1.weight"]
    save_checkpoint(tmp_path / "step-000001", model, None, {"step": 1})
    expected = {name: value.clone() for name, value in found.items()}
    nn.init.zeros_(model[0].weight)
    load_weights(tmp_path / "step-000001", model)
    torch.testing.assert_close(model.state_dict(), expected, rtol=0, atol=0)


def test_graphs_are_cut_and_seeds_set_on_xla_alone(monkeypatch):
    calls = []
    stand_in = SimpleNamespace(
        sync=lambda: calls.append("cut"), manual_seed=lambda key, device: calls.append((key, device))
    )
    monkeypatch.setitem(sys.modules, "torch_xla", stand_in)
    for where in (CPU, XLA):
        device.Device(where).cut()
        device.Device(where).seed(7)
        assert torch.initial_seed() == 7
    assert calls == ["cut", (7, XLA)]


class Graphs(TorchDispatchMode):
    """The graphs that XLA would compile: operations with the shapes of their tensors and with all constants."""

    def __init__(self) -> None:
        super().__init__()
        self.now: list[object] = []
        self.found: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        assert "_local_scalar_dense" not in name or not self.now, "a value is read within a graph"
        given = [
            (tuple(each.shape), each.dtype) if isinstance(each, torch.Tensor) else repr(each)
            for each in tree_leaves((args, kwargs))
        ]
        if not name.startswith("profiler."):  # marks of the optimiser's steps, which compute nothing
            self.now.append((name, *given))
        return function(*args, **(kwargs or {}))

    def begin(self) -> None:
        self.now = []

    def cut(self) -> None:
        self.found.append(tuple(self.now))
        self.now = []


class Recording(device.Device):
    """An XLA device on the CPU, whose graphs are recorded."""

    def __init__(self, graphs: Graphs) -> None:
        self.where, self.is_xla, self.graphs = CPU, True, graphs

    def seed(self, key: int) -> None:
        torch.manual_seed(key)
        self.graphs.begin()

    def cut(self) -> None:
        if self.graphs.now:
            self.graphs.cut()


class WithConstants(Recording):
    def number(self, value: float) -> float:
        return value


def recorded(
    task: str, out: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Recording] = Recording
) -> tuple[Graphs, int]:
    """Train as on XLA, on the CPU; returns the graphs and how many there may be."""
    graphs, budgets = Graphs(), []

    def as_on_xla(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
        return torch.optim.AdamW(model.parameters(), lr=config.learning_rate, foreach=False, capturable=True)

    def train(run: TrainState, *given: object) -> int:
        budgets.append(run.budget)
        with graphs:
            return train_before(run, *given)

    def forward(predictor: inference.Predictor, *given: object) -> list[np.ndarray]:
        budgets.append(predictor.budget)
        graphs.begin()
        return forward_before(predictor, *given)

    train_before, forward_before = loop.train, inference.Predictor._forward
    monkeypatch.setattr(loop, "train", train)
    monkeypatch.setattr(inference.Predictor, "_forward", forward)
    for module in (device_setup, inference):
        monkeypatch.setattr(module, "Device", lambda where: kind(graphs))
    monkeypatch.setattr(optim, "make_optimizer", as_on_xla)
    monkeypatch.setattr(sys.modules["torch.optim.adam"], "_get_capturable_supported_devices", lambda **others: ["cpu"])
    monkeypatch.setattr(ready, "speed_up", lambda model: ready.fit_xla(model, CPU) or "xla")
    recipe = load_recipe({
        "task": task,
        "model": {"checkpoint": "bundled:tiny", "init": "scratch"},
        "data": {"train": f"bundled:{BUNDLED[task]}", "train_rows": 42, "validation_rows": 9},
        "windows": {"max_length": 64},
        "train": {"batch_size": 10, "steps": 12, "epochs": 4, "evaluate_every": 4, "learning_rate": 1e-3},
        "hardware": {
            "device": "cpu", "precision": "fp32", "threads": 1, "fixed_shapes": True, "compact_vocabulary": False,
            "padding_free": False, "micro_batch_tokens": 256, "evaluation_tokens": 256,
        },
    })  # fmt: skip
    finetune(recipe, out, quiet=True)
    training = budgets[0]
    (evaluation,) = {budget for budget in budgets if budget != training}
    return graphs, device.graphs_at_most(training, evaluation)


@pytest.mark.parametrize("task", TASKS)
def test_a_run_compiles_a_bounded_number_of_graphs(tmp_path, monkeypatch, task):
    """Over two epochs with short last batches, evaluations in between, a warm-up and a decay, with dropout."""
    graphs, most = recorded(task, tmp_path / "run", monkeypatch)
    assert most == 2 * 3 + 3 + 3
    assert 5 <= len(set(graphs.found)) <= most
    assert len(graphs.found) > 2 * most


def test_a_number_that_differs_from_step_to_step_would_be_compiled_again(tmp_path, monkeypatch):
    graphs, most = recorded("sentiment", tmp_path / "run", monkeypatch, WithConstants)
    assert len(set(graphs.found)) > most


def test_the_bound_follows_the_shapes():
    assert device.graphs_at_most(Budget(256, 0, (16, 32), 4), Budget(256, 0, (16, 32, 48), 8)) == 2 * 2 + 3 + 3

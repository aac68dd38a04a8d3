"""Everyday options: what is frozen stays, rates follow the depth, and a run goes on from another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bertkit.depth import depths_of, freeze, rate_factors
from bertkit.errors import BertkitError
from bertkit.models.load import load_model
from bertkit.recipe import ModelConfig, TrainConfig
from bertkit.run import finetune
from bertkit.rundir import RunDir, latest
from tests.rows import BUNDLED
from tests.tiny import ARCHITECTURES, save_tiny
from tests.training.test_loop_laws import run_and_kill


def recipe(checkpoint: Path, task: str = "sentiment", model: dict | None = None, **train: object) -> dict:
    """A small run in float32 on one thread."""
    return {
        "task": task,
        "model": {"checkpoint": str(checkpoint), **(model or {})},
        "data": {"train": f"bundled:{BUNDLED[task]}", "train_rows": 16, "validation_rows": 4},
        "windows": {"max_length": 64},
        "train": {"batch_size": 8, "steps": 4, "epochs": 10, "learning_rate": 1e-2, **train},
        "hardware": {"precision": "fp32", "threads": 1},
    }


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """By the names that they have below a head."""
    return {f"bert.{name}": weight for name, weight in load_file(folder / "model.safetensors").items()}


def model_of(folder: Path) -> torch.nn.Module:
    return load_model(ModelConfig(checkpoint=str(folder)), "class", ("no", "yes"), 0).model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_family_says_how_deep_its_weights_stand(architecture, tiny):
    model = model_of(tiny(architecture))
    depths, top = depths_of(model)
    assert top == (1 if architecture == "albert" else 2)
    assert {*depths.values()} == {*range(top + 2)}
    assert {depth for name, depth in depths.items() if ".embeddings." in name} == {0}
    outer = {name for name in depths if not name.startswith(f"{model.base_model_prefix}.") or ".pooler." in name}
    assert {name for name, depth in depths.items() if depth == top + 1} == outer
    sizes = [sum(1 for depth in depths.values() if depth == layer) for layer in range(1, top + 1)]
    assert min(sizes) > 4


def test_rates_are_those_of_the_table(tiny):
    model = model_of(tiny("bert"))
    factors = rate_factors(model, TrainConfig(learning_rate=1e-3, layer_decay=0.5, head_learning_rate=4e-3))
    table = {
        "bert.embeddings.word_embeddings.weight": 0.25,
        "bert.encoder.layer.0.attention.self.query.weight": 0.5,
        "bert.encoder.layer.0.output.LayerNorm.bias": 0.5,
        "bert.encoder.layer.1.output.dense.weight": 1.0,
        "bert.pooler.dense.weight": 4.0,
        "classifier.bias": 4.0,
    }
    assert {name: factors[name] for name in table} == table


def test_weights_move_as_far_as_their_rate_says(tmp_path, tiny):
    """The first step of AdamW moves a weight by its rate, whatever the gradient."""
    before = weights_of(tiny("bert"))
    options = {"layer_decay": 0.5, "head_learning_rate": 4e-3, "weight_decay": 0.0, "adam_epsilon": 1e-30}
    finetune(recipe(tiny("bert"), steps=1, warmup=0, learning_rate=1e-3, **options), tmp_path / "run", quiet=True)
    after = load_file(tmp_path / "run" / "model" / "model.safetensors")
    for layer, rate in enumerate((5e-4, 1e-3)):
        name = f"bert.encoder.layer.{layer}.output.dense.weight"
        moved = (after[name] - before[name]).abs()
        assert moved.median() == pytest.approx(rate, rel=1e-3)
        assert moved.max() == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize(("what", "kept"), [
    ("embeddings", ("bert.embeddings.",)), (1, ("bert.embeddings.", "bert.encoder.layer.0.")),
    ("encoder", ("bert.embeddings.", "bert.encoder.")),
])  # fmt: skip
def test_what_is_frozen_stays_and_takes_no_room(what, kept, tmp_path, tiny):
    before = weights_of(tiny("bert"))
    finetune(recipe(tiny("bert"), model={"freeze": what}), tmp_path / "run", quiet=True)
    after = load_file(tmp_path / "run" / "model" / "model.safetensors")
    moved = {name for name in after if name not in before or not torch.equal(before[name], after[name])}
    assert moved == {name for name in after if not name.startswith(kept)}
    checkpoint = latest(RunDir(tmp_path / "run").checkpoints)
    assert load_file(checkpoint / "model.safetensors").keys() == moved
    assert {name.rpartition("/")[0] for name in load_file(checkpoint / "optimizer.safetensors")} == moved


def test_a_frozen_run_goes_on_to_the_same_bytes_and_from_the_same_weights_only(tmp_path, tiny):
    options = {"model": {"freeze": 1}, "layer_decay": 0.8, "checkpoint_every": 2}
    plan, other = recipe(tiny("bert"), **options), recipe(save_tiny("bert", tmp_path / "other", seed=1), **options)
    finetune(plan, tmp_path / "whole", quiet=True)
    run_and_kill(plan, tmp_path / "cut", 2)
    with pytest.raises(BertkitError, match=r"other settings: .*resolved\.frozen"):
        finetune(other, tmp_path / "cut", resume=True, quiet=True)
    finetune(plan, tmp_path / "cut", resume=True, quiet=True)
    for name in ("history.jsonl", "model/model.safetensors", "predictions.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_a_depth_that_is_not_there_is_refused(tiny):
    model = model_of(tiny("albert"))
    with pytest.raises(BertkitError, match=r"model\.freeze: 2 layers, and albert has 1 here, whose weights all"):
        freeze(model, 2)
    with pytest.raises(BertkitError, match=r"train\.layer_decay: albert has one layer's weights"):
        rate_factors(model, TrainConfig(layer_decay=0.9))
    assert {*rate_factors(model, TrainConfig(learning_rate=2.0, head_learning_rate=8.0)).values()} == {1.0, 4.0}

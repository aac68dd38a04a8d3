"""Everyday options: what is frozen stays, rates follow the depth, and a run goes on from another."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import pipeline

from bertkit.depth import depths_of, freeze, rate_factors
from bertkit.errors import BertkitError
from bertkit.models.load import load_model
from bertkit.pages.notebook import Findings
from bertkit.recipe import ModelConfig, TrainConfig, load_recipe
from bertkit.run import finetune, load, merge
from bertkit.run.push import files_to_push
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


def numbers(value: object) -> list[float]:
    """Every fraction within plain values."""
    if isinstance(value, dict | list | tuple):
        return [found for part in (value.values() if isinstance(value, dict) else value) for found in numbers(part)]
    return [value] if isinstance(value, float) else []


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


@pytest.mark.parametrize(("architecture", "kind"), [*product(ARCHITECTURES, ("lora", "ia3")), ("bert", "dora")])
def test_an_adapter_of_any_family_answers_merged_as_it_did_apart(architecture, kind, tiny, tmp_path):
    task = {"lora": "sentiment", "dora": "pos", "ia3": "qa"}[kind]
    plan = recipe(tiny(architecture), task, model={"adapter": kind}, steps=6)
    finetune(plan, tmp_path / "run", quiet=True)
    predictor = load(tmp_path / "run")
    assert not any("lora" in name or "ia3" in name for name, _ in predictor.model.named_modules())
    noted = list(RunDir(tmp_path / "run").read_jsonl("predictions.jsonl"))
    for before, after in zip(noted, predictor.predict(noted), strict=True):
        assert numbers({name: before[name] for name in after}) == pytest.approx(numbers(after), abs=1e-6)
    assert numbers(noted)


def test_a_merged_run_is_a_checkpoint_for_any_program(tiny, tmp_path):
    finetune(recipe(tiny("bert"), model={"adapter": "lora"}), tmp_path / "run", quiet=True)
    merge(tmp_path / "run", tmp_path / "whole")
    ours = load(tmp_path / "run")
    theirs = pipeline("text-classification", model=str(tmp_path / "whole"), device="cpu")
    for text in ("The soup was cold.", "We came back twice."):
        said, (found,) = next(ours.predict([text])), theirs([text])
        assert found["label"] == said["label"]
        assert found["score"] == pytest.approx(said["probabilities"][said["label"]], abs=1e-6)
    with pytest.raises(BertkitError, match="is there already"):
        merge(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3"])
def test_a_run_with_an_adapter_is_small_and_goes_on_to_the_same_bytes(kind, tiny, tmp_path):
    plan = recipe(tiny("bert"), model={"adapter": kind}, checkpoint_every=2)
    finetune(plan, tmp_path / "whole", quiet=True)
    run_and_kill(plan, tmp_path / "cut", 2)
    finetune(plan, tmp_path / "cut", resume=True, quiet=True)
    names = {path.name for path in (tmp_path / "whole" / "model").iterdir()}
    assert names == {"README.md", "adapter_config.json", "adapter_model.safetensors", "config.json", "tokenizer.json",
                     "tokenizer_config.json"}  # fmt: skip
    # the card says how long it took
    for name in ("history.jsonl", "predictions.jsonl", *(f"model/{name}" for name in sorted(names - {"README.md"}))):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name
    checkpoint = latest(RunDir(tmp_path / "whole").checkpoints)
    for file in (checkpoint / "model.safetensors", checkpoint / "optimizer.safetensors"):
        assert not any("embeddings" in name or "base_layer" in name for name in load_file(file))


def test_an_adapter_learns_the_same_without_padding_and_with_activations_computed_again(tiny, tmp_path):
    for name, setting in {
        "padded": {},
        "free": {"padding_free": True},
        "again": {"gradient_checkpointing": True},
    }.items():
        plan = recipe(tiny("bert"), model={"adapter": "lora", "dropout": 0.0})
        plan["hardware"] |= {"padding_free": False, **setting}
        finetune(plan, tmp_path / name, quiet=True)
    found = [[one["loss"] for one in RunDir(tmp_path / name).read_history() if "loss" in one]
             for name in ("padded", "free", "again")]  # fmt: skip
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    assert found[2] == pytest.approx(found[0], abs=1e-6)


def test_a_run_goes_on_from_another_whatever_either_trained(tiny, tmp_path):
    """A checkpoint, an adapter to it, an adapter to that, and all weights from there."""
    before = str(tiny("bert"))
    for name, model in {"first": {"adapter": "lora"}, "second": {"adapter": "ia3"}, "all": {}}.items():
        finetune(recipe(before, model=model), tmp_path / name, quiet=True)
        before = str(tmp_path / name)
    first, second = (load(tmp_path / name).model.state_dict() for name in ("first", "second"))
    plan = recipe(tmp_path / "second", learning_rate=1e-12, weight_decay=0.0)
    finetune(plan, tmp_path / "still", quiet=True)
    still = load(tmp_path / "still").model.state_dict()
    assert still.keys() == first.keys() == second.keys()
    for name in still:
        torch.testing.assert_close(still[name], second[name], rtol=0, atol=1e-6)
    assert any(not torch.allclose(first[name], second[name]) for name in first)


def test_labels_that_a_run_has_not_learned_are_named(tiny, tmp_path):
    finetune(recipe(tiny("bert")), tmp_path / "run", quiet=True)
    rows = [{"text": f"text {number}", "label": label} for number in range(8) for label in ("negative", "new")]
    with pytest.raises(
        BertkitError, match=r"going on from .*run: unknown label 'new' \(row 1\); the labels are negative, pos"
    ) as caught:
        finetune(recipe(tmp_path / "run"), tmp_path / "on", rows={"train": rows}, quiet=True)
    assert "data.ignore_labels" in caught.value.hint
    plan = recipe(tmp_path / "run")
    plan["data"] = {"labels": {"new": "positive"}, "group_by": "none"}
    finetune(plan, tmp_path / "on", rows={"train": rows}, quiet=True)
    assert load(tmp_path / "on").task.labels == ("negative", "positive")


def test_rows_that_an_earlier_run_learned_from_are_said_where_they_are_scored(tiny, tmp_path):
    """Drawn by another seed, held-back rows were training rows before; drawn alike, they were not."""
    rows, run = f"bundled:{BUNDLED['sentiment']}", tmp_path / "run"
    finetune(recipe(tiny("bert")), run, quiet=True)
    cases = product((f"model.checkpoint={run}", f"train.teacher={run}"), ({}, {"seed": 1}, {"data.test": rows}))
    for number, (earlier, more) in enumerate(cases):
        plan = load_recipe(recipe(tiny("bert")), [earlier, *(f"{name}={value}" for name, value in more.items())])
        finetune(plan, tmp_path / str(number), quiet=True)
        said = [one.text for one in Findings.read(tmp_path / str(number)) if one.title == "Rows learned before"]
        wanted = {"seed": "validation", "data.test": "test"}
        text = f": {run} learned from rows of it: its scores are too high."
        assert said == [f"{wanted[name]}{text}" for name in more]


def test_labels_in_another_order_than_a_checkpoints_do_not_turn_its_head_around(tiny, tmp_path):
    finetune(recipe(tiny("bert")), tmp_path / "run", quiet=True)
    plan = load_recipe(recipe(tmp_path / "run"), ["task.labels=[positive, negative]"])
    with pytest.raises(BertkitError, match="in another order, negative, positive"):
        finetune(plan, tmp_path / "on", quiet=True)


def test_an_adapter_is_refused_without_the_weights_that_it_was_trained_on(tiny, tmp_path):
    base = Path(shutil.copytree(tiny("bert"), tmp_path / "base"))
    finetune(recipe(base, model={"adapter": "lora"}), tmp_path / "run", quiet=True)
    shutil.copytree(save_tiny("bert", tmp_path / "other", seed=1), base, dirs_exist_ok=True)
    with pytest.raises(BertkitError, match="is an adapter for other weights than"):
        load(tmp_path / "run")
    shutil.rmtree(base)
    with pytest.raises(BertkitError, match=f"there is no folder {base}"):
        load(tmp_path / "run")


def test_an_adapter_for_a_folder_of_this_machine_is_not_pushed(tiny, tmp_path):
    finetune(recipe(tiny("bert"), model={"adapter": "lora"}), tmp_path / "run", quiet=True)
    with pytest.raises(BertkitError, match="a folder that others do not have") as caught:
        files_to_push(tmp_path / "run")
    assert f"bertkit merge {tmp_path / 'run'} --out" in caught.value.hint
    notes = tmp_path / "run" / "model" / "adapter_config.json"
    notes.write_text(json.dumps({**json.loads(notes.read_text()), "base_model_name_or_path": "someone/bert"}))
    assert notes.name in files_to_push(tmp_path / "run")


def test_an_adapter_that_was_altered_is_refused(tiny, tmp_path):
    finetune(recipe(tiny("bert"), model={"adapter": "lora"}), tmp_path / "run", quiet=True)
    notes = tmp_path / "run" / "model" / "adapter_config.json"
    whole = json.loads(notes.read_text())
    for change, message in {
        "base_model_name_or_path": ("is an adapter for itself", str(notes.parent)),
        "r": ("cannot be loaded", 16),
        "peft_type": ("is an adapter of other parts than bertkit's, such as", "IA3"),
        "lora_alpha": (r"cannot be loaded \(lora_alpha", "much"),
    }.items():
        notes.write_text(json.dumps({**whole, change: message[1]}))
        with pytest.raises(BertkitError, match=message[0]):
            load(tmp_path / "run")


@pytest.mark.parametrize("model", [
    {"adapter_rank": 4}, {"adapter": "ia3", "adapter_alpha": 4}, {"adapter": "lora", "freeze": 1},
    {"adapter": "lora", "init": "scratch"},
])  # fmt: skip
def test_settings_of_adapters_that_change_nothing_are_refused(model):
    with pytest.raises(BertkitError, match=r"model(\.\w+)?: "):
        load_recipe({"task": "sentiment", "model": model})


def test_a_depth_that_is_not_there_is_refused(tiny):
    model = model_of(tiny("albert"))
    with pytest.raises(BertkitError, match=r"model\.freeze: 2 layers, and albert has 1 here, whose weights all"):
        freeze(model, 2)
    with pytest.raises(BertkitError, match=r"train\.layer_decay: albert has one layer's weights"):
        rate_factors(model, TrainConfig(layer_decay=0.9))
    assert {*rate_factors(model, TrainConfig(learning_rate=2.0, head_learning_rate=8.0)).values()} == {1.0, 4.0}

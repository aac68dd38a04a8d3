"""Pre-training learns, whatever its batches are cut into, and goes on to the same bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from bertkit.errors import BertkitError
from bertkit.models.padding_free import make_padding_free
from bertkit.models.places import ask, only_places
from bertkit.recipe import PretrainRecipe, load_recipe
from bertkit.run import finetune
from bertkit.run.pretrain import pretrain
from bertkit.train import keep
from tests.tiny import ARCHITECTURES, texts
from tests.training.test_loop_laws import Killed


@pytest.fixture(scope="module")
def plan(tmp_path_factory, tiny):
    """`plan(steps=8)`: a recipe on the running text of the bundled rows."""
    file = tmp_path_factory.mktemp("text") / "text.txt"
    some = texts()
    file.write_text("\n\n".join("\n".join(some[at : at + 5]) for at in range(0, len(some), 5)), encoding="utf-8")

    def of(architecture="bert", hardware=(), objective=None, **train):
        return load_recipe({
            "objective": objective or {"name": "mlm"},
            "model": {"checkpoint": str(tiny(architecture)), "dropout": 0.0},
            "corpus": {"train": [str(file)], "max_length": 48, "held_out_share": 0.1},
            "train": {"batch_size": 16, "learning_rate": 2e-3, **train},
            "hardware": {"precision": "fp32", "threads": 1, **dict(hardware)},
            "log": {"every": 1},
        }, kind=PretrainRecipe)  # fmt: skip

    return of


def losses(run) -> list[float]:
    records = map(json.loads, (run / "history.jsonl").read_text().splitlines())
    return [record["loss"] for record in records if "loss" in record]


def test_it_learns_and_what_it_learned_is_a_checkpoint(plan, tmp_path):
    metrics = pretrain(plan(steps=60, learning_rate=1e-2, objective="mlm"), tmp_path / "a", quiet=True)
    first, last = np.mean(losses(tmp_path / "a")[:5]), np.mean(losses(tmp_path / "a")[-5:])
    assert last < first - 1
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["loss"]))
    rows, model = {"train": "bundled:sentiment.csv"}, {"checkpoint": str(tmp_path / "a")}
    recipe = {"task": "sentiment", "model": model, "data": rows, "train": {"steps": 2}}
    assert finetune(recipe, tmp_path / "b", quiet=True)["train"]["steps"] == 2


@pytest.mark.parametrize("architecture", ["bert", "roberta", "albert"])
def test_micro_batches_and_padding_change_nothing(plan, tmp_path, architecture):
    pretrain(plan(architecture, steps=6), tmp_path / "a", quiet=True)
    few = {"micro_batch_tokens": 100, "padding_free": False}
    pretrain(plan(architecture, hardware=few, steps=6), tmp_path / "b", quiet=True)
    assert np.abs(np.subtract(losses(tmp_path / "a"), losses(tmp_path / "b"))).max() < 1e-5


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(plan, tmp_path, monkeypatch):
    recipe = plan(steps=9, checkpoint_every=3, evaluate_every=3)
    pretrain(recipe, tmp_path / "whole", quiet=True)
    save, saved = keep.Keeper.save, []

    def mortal(self, step):
        save(self, step)
        saved.append(step)
        if step == 6:
            raise Killed

    monkeypatch.setattr(keep.Keeper, "save", mortal)
    with pytest.raises(Killed):
        pretrain(recipe, tmp_path / "cut", quiet=True)
    monkeypatch.undo()
    pretrain(recipe, tmp_path / "cut", resume=True, quiet=True)
    for name in ("history.jsonl", "model/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_head_that_computes_some_places_says_there_what_the_whole_one_does(tiny, architecture):
    model = AutoModelForMaskedLM.from_pretrained(tiny(architecture)).eval()
    ids, places = torch.randint(6, 60, (3, 12)), torch.tensor([1, 4, 13, 30])
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=mask).logits.flatten(0, 1)[places]
        if architecture not in ("deberta-v2", "modernbert"):
            make_padding_free(model)
        only_places(model)
        ask(mask, places)
        some = model(input_ids=ids, attention_mask=mask).logits
    assert some.shape[:2] == (1, 4)
    torch.testing.assert_close(some[0], whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label_smoothing": 0.1}, "train.label_smoothing: would change nothing"),
        ({"hardware": {"compile": True}}, "they are not compiled"),
        ({"objective": {"name": "mln"}}, "unknown objective 'mln'"),
        ({"objective": {"name": "mlm", "rate": 2}}, "objective.rate"),
    ],
)
def test_settings_that_do_nothing_or_are_not_there_are_refused(plan, tmp_path, change, message):
    with pytest.raises(BertkitError) as caught:
        pretrain(plan(steps=2, **change), tmp_path / "a", quiet=True)
    assert message in caught.value.message
    assert not (tmp_path / "a").exists()

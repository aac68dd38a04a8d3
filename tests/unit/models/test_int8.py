"""int8 prediction: nearly the same answers, on a CPU only, never what is saved."""

from __future__ import annotations

import pytest
import torch

from bertkit.errors import BertkitError
from bertkit.models.int8 import to_int8
from bertkit.models.load import load_model
from bertkit.recipe import ModelConfig
from bertkit.run import evaluate, finetune, load
from tests.tiny import ARCHITECTURES


@pytest.mark.parametrize("head", ["class", "token", "span"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_says_nearly_the_same(tiny, architecture, head):
    config = ModelConfig(checkpoint=str(tiny(architecture)))
    model = load_model(config, head, () if head == "span" else ("a", "b", "c"), 0).model.eval()
    ids = torch.randint(5, 40, (3, 9))
    with torch.inference_mode():
        before = model(input_ids=ids)[0]
        after = to_int8(model, torch.device("cpu"))(input_ids=ids)[0]
    assert after.dtype == torch.float32
    assert not torch.equal(after, before)  # it did something
    assert (after - before).abs().max() < 0.1 * before.abs().max()


def test_it_is_for_cpus():
    with pytest.raises(BertkitError) as caught:
        to_int8(torch.nn.Linear(2, 2), torch.device("cuda"))
    assert caught.value.message == "hardware.int8: this is for CPUs, and the device is cuda"


def test_a_run_is_scored_and_answers_in_int8(tmp_path, tiny):
    recipe = {
        "task": "sentiment",
        "model": {"checkpoint": str(tiny("bert"))},
        "data": {"train": "bundled:sentiment.csv", "train_rows": 16, "validation_rows": 8},
        "train": {"steps": 2, "batch_size": 8},
        "hardware": {"precision": "fp32"},
    }
    finetune(recipe, tmp_path / "run", quiet=True)
    scores = evaluate(tmp_path / "run", "bundled:sentiment.csv", assignments=["hardware.int8=true"], quiet=True)
    assert scores["rows"] > 100
    plain, quick = (
        next(load(tmp_path / "run", [f"hardware.int8={value}"]).predict(["fine"])) for value in ("false", "true")
    )
    assert quick["probabilities"] == pytest.approx(plain["probabilities"], abs=0.05)

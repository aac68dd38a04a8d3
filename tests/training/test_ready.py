"""What is chosen for a device fits together, wherever a model is made ready: in a run or in a benchmark."""

from __future__ import annotations

import numpy as np
import torch

from bertkit.models.load import load_model
from bertkit.models.ready import COMPILER, make_trainable
from bertkit.recipe import HardwareConfig, ModelConfig, load_recipe
from bertkit.studies.bench.lanes import open_bench, open_lane

CPU = torch.device("cpu")


def test_a_padding_free_model_keeps_the_faster_dropout(tiny):
    config = ModelConfig(checkpoint=str(tiny("bert")))
    model = load_model(config, "class", ("a", "b"), 0).model
    ready = make_trainable(model, config, HardwareConfig(padding_free=True), CPU, "fp32", np.arange(9), "length")
    assert ready == ("sfc64", "padding-free (as asked)", "used")
    assert model.config._attn_implementation == "padding_free_bertkit_dropout"


def test_every_shape_of_training_and_evaluation_is_compiled(tiny, monkeypatch):
    torch.compiler.reset()
    config = ModelConfig(checkpoint=str(tiny("bert")))
    model = load_model(config, "class", ("a", "b"), 0).model
    graphs = []
    monkeypatch.setitem(COMPILER, "cpu", {"backend": lambda graph, inputs: graphs.append(graph) or graph.forward})
    make_trainable(model, config, HardwareConfig(compile=True), CPU, "fp32", np.arange(9), "length")
    for training in (True, False):
        model.train(training)
        for length in range(10, 16):
            ids = torch.ones(2, length, dtype=torch.long)
            with torch.inference_mode(not training):
                model(input_ids=ids, attention_mask=ids)
    assert len(graphs) == 2 * 6


def test_a_benchmark_trains_the_model_that_a_run_trains(tiny):
    recipe = load_recipe({
        "task": "sentiment", "model": {"checkpoint": str(tiny("bert"))}, "train": {"batch_size": 4},
        "data": {"train": "bundled:sentiment.csv", "train_rows": 8, "validation_rows": 4},
        "hardware": {"precision": "fp32"},
    })  # fmt: skip
    lane = open_lane(open_bench(recipe, lambda text: None), ["hardware.padding_free=true"], 1)
    assert lane.state.model.config._attn_implementation == "padding_free_bertkit_dropout"

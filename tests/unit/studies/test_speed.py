"""What a benchmark says: every variant beside the recipe as given, with counts that can be checked by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bertkit.data.plan import Plan
from bertkit.recipe import load_recipe
from bertkit.run import finetune
from bertkit.rundir import RunDir
from bertkit.studies.bench import growth, lanes, speed
from bertkit.studies.bench.counting import Sample, Shape, forward_operations, shape_of
from bertkit.studies.bench.lanes import Quantiles, open_bench, open_lane, share_weights
from bertkit.studies.bench.switches import AS_GIVEN, compare, interleave, noise, table, variants

RECIPE = {
    "task": "sentiment", "model": {"checkpoint": "bundled:tiny", "init": "scratch"}, "seed": 3,
    "data": {"train": "bundled:sentiment.csv", "train_rows": 24}, "train": {"batch_size": 4},
    "windows": {"max_length": 48}, "hardware": {"precision": "fp32"},
}  # fmt: skip
CPU = {"device": "cpu", "has_bf16": True, "cores": 4, "longest": 48}


@pytest.fixture(scope="module")
def bench():
    opened = open_bench(load_recipe(RECIPE), say=lambda text: None)
    open_lane(opened, (), 2)
    return opened


def test_variants_take_turns_and_the_first_round_is_not_kept():
    calls, rounds = [], []
    turns = [lambda name=name: calls.append(name) or (name, len(calls)) for name in "ABC"]
    found = interleave(turns, 2, rounds.append)
    assert "".join(calls) == "ABC" * 3
    assert rounds == [0, 1, 2]
    assert found == [[("A", 4), ("A", 7)], [("B", 5), ("B", 8)], [("C", 6), ("C", 9)]]


def test_each_switch_is_put_the_other_way_once():
    found, skipped = variants(load_recipe(RECIPE, ["hardware.threads=4"]), **CPU)
    assert found[0] == (AS_GIVEN, (), ("train", "evaluate", "predict"))
    assert [setting for variant in found for setting in variant.settings] == [
        "train.order=length", "hardware.precision=bf16", "hardware.padding_free=false",
        "model.attention=sdpa", "hardware.threads=1", "hardware.compact_vocabulary=false",
        "hardware.micro_batch_tokens=192", "hardware.evaluation_tokens=192", "hardware.pass_overhead=192",
        "model.dropout=0",
    ]  # fmt: skip
    assert skipped == []


def test_switches_go_back_where_they_are_set():
    asked = ["train.order=length", "model.dropout=0", "hardware.padding_free=true", "model.attention=sdpa"]
    asked += ["hardware.precision=bf16", "hardware.threads=1"]
    found, _ = variants(load_recipe(RECIPE, asked), **CPU)
    names = {variant.name for variant in found}
    assert names >= {"train.order=random", "hardware.precision=fp32", "hardware.padding_free=false",
                     "model.attention=auto", "hardware.threads=4", "model.dropout=null"}  # fmt: skip


def test_what_the_machine_lacks_is_named_instead():
    found, skipped = variants(load_recipe(RECIPE), **{**CPU, "has_bf16": False, "cores": 1})
    assert not {"hardware.precision=bf16", "hardware.threads=1"} & {variant.name for variant in found}
    assert [text.split(":")[0] for text in skipped] == ["hardware.precision=bf16", "hardware.threads"]


def test_ratios_are_to_the_recipe_as_given_round_by_round():
    # the machine is twice as slow in the second round, which no ratio shows
    base = [Sample(1, 2, 10, 100, 125, 1e9), Sample(2, 4, 10, 100, 125, 1e9), Sample(1, 2, 10, 100, 125, 1e9)]
    other = [Sample(0.5, 2, 10, 100, 100, 1e9), Sample(1, 4, 10, 100, 100, 1e9), Sample(0.25, 1, 10, 100, 100, 1e9)]
    first, second = compare({AS_GIVEN: base, "b": other}, {AS_GIVEN: 4e9, "b": 8e9})
    assert first[1:9] == (10, 100, 1, 1, 1, 1, pytest.approx(0.2), 0.25)
    assert second[1:9] == (20, 200, 2, 2, 4, 1, 0, 0.25)


def test_samples_of_a_turn_that_is_longer_than_average_are_counted_as_average():
    long = [Sample(1, 1, 10, 100, 100, 1e9)]
    assert compare({"a": long}, {"a": 1e9}, mean_length=5)[0].samples == 20
    assert compare({"a": long}, {"a": 1e9})[0].samples == 10


def test_a_table_holds_every_variant_and_only_shares_are_times_100():
    lines = compare({"a": [Sample(1, 1, 1, 8, 10, 1.0)], "b": [Sample(1, 1, 1, 8, 10, 1.0)]}, {"a": 4.0, "b": 2.0})
    shown = table("train", lines)
    assert [row[0] for row in shown.rows] == ["a", "b"]
    assert set(shown.columns) - set(shown.plain) == {"variant", "padding", "of peak"}
    assert [row[shown.columns.index("of peak")] for row in shown.rows] == [0.25, 0.5]


@pytest.mark.parametrize(("device", "is_noisy"), [("cpu", True), ("cuda", False)])
def test_threads_that_wait_are_noise_only_where_they_compute(device, is_noisy):
    assert bool(noise({("bf16", 16): [Sample(1, 1, 1)]}, torch.device(device))) is is_noisy


def test_operations_by_hand():
    # two windows; 1000 weights, 3 layers of width 8
    shape = Shape(matrices=1000, layers=3, hidden=8, inner=32)
    by_hand = 2 * 1000 * (5 + 10) + 4 * 3 * 8 * (5 * 5 + 10 * 10)
    assert forward_operations(np.array([5, 10]), shape) == by_hand


@pytest.mark.parametrize("architecture", ["bert", "albert", "distilbert", "electra", "roberta"])
def test_operations_are_those_that_torch_counts(tiny, architecture):
    import transformers

    model = transformers.AutoModelForTokenClassification.from_pretrained(
        tiny(architecture), attn_implementation="eager", num_labels=3
    ).eval()
    tokens = torch.ones(2, 9, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    assert forward_operations(np.array([9, 9]), shape_of(model)) == counter.get_total_flops()


def test_a_few_steps_stand_for_all():
    lengths = np.random.default_rng(0).integers(3, 60, 403)
    plan = Quantiles(lengths, 4, 10**6, None, "length", 0, shown=10)
    tokens = [int(lengths[windows].sum()) for windows in plan.chosen]
    assert tokens == sorted(tokens)
    assert np.mean(tokens) == pytest.approx(4 * lengths.mean(), rel=0.05)
    assert all(len(windows) == 4 for windows in plan.chosen)
    assert [plan.batch(step).tolist() for step in (0, 10, 20)] == [plan.chosen[0].tolist()] * 3
    whole = {tuple(Plan.batch(plan, step)) for step in range(plan.steps_per_epoch)}
    assert {tuple(windows) for windows in plan.chosen} <= whole


def test_padding_is_counted_as_the_batches_are_dealt(bench):
    lane = open_lane(bench, ("hardware.micro_batch_tokens=100000", "hardware.pass_overhead=100000"), 2)
    sample = lane.train(2)
    chosen = [bench.material.train.store.lengths[windows] for windows in lane.state.plan.chosen]
    assert sample.tokens == sum(int(lengths.sum()) for lengths in chosen)
    assert sample.padded == sum(4 * int(lengths.max()) for lengths in chosen)
    assert sample.count == 8
    assert sample.operations == 3 * forward_operations(np.concatenate(chosen), bench.shape)


def test_lanes_share_weights_and_keep_their_own_precision_and_threads(bench):
    plain, other = open_lane(bench, (), 2), open_lane(bench, ("hardware.precision=bf16", "model.dropout=0"), 2)
    assert plain.prepared.built.model is not other.prepared.built.model
    ours, theirs = (dict(lane.prepared.built.model.named_parameters()) for lane in (plain, other))
    assert all(ours[name] is theirs[name] for name in ours)
    for lane, dtype in ((plain, torch.float32), (other, torch.bfloat16), (plain, torch.float32)):
        lane.enter()
        with lane.state.accelerator.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
        assert torch.get_num_threads() == lane.threads


@pytest.mark.parametrize("task", ["classification", "qa"])
def test_the_losses_of_a_lane_are_those_of_finetune(task, tmp_path, monkeypatch):
    """Class weights, smoothing, rows in several windows: whatever the recipe says, the lane trains that."""
    recipe = load_recipe(RECIPE, [f"task.name={task}", "train.steps=4", "model.dropout=0", "hardware.threads=1"])
    if task == "classification":
        weighted = ["train.class_weights=balanced", "train.label_smoothing=0.1", "windows.max_length=8"]
        recipe = load_recipe(recipe.tree(), weighted)
    else:
        recipe = load_recipe(recipe.tree(), ["data.train=bundled:qa.json"])
    finetune(recipe, tmp_path / "run", quiet=True)
    lane = open_lane(open_bench(recipe, say=lambda text: None), (), 2)
    lane.state.plan = lane.prepared.plan  # of the recipe, instead of a few steps that stand for all
    turn = lanes.Turn(4)
    monkeypatch.setattr(lanes, "Turn", lambda until: turn)
    lane.train(4)
    expected = [record["loss"] for record in RunDir(tmp_path / "run").read_history() if "loss" in record]
    assert [step.loss for step in turn.steps] == expected


def test_answers_come_from_weights_of_the_precision_itself(bench):
    plain, half = open_lane(bench, (), 2), open_lane(bench, ("hardware.precision=bf16",), 2)
    ours = dict(plain.prepared.built.model.named_parameters())
    assert all(ours[name] is weight for name, weight in plain.answerer.model.named_parameters())
    assert {weight.dtype for weight in half.answerer.model.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in ours.values()} == {torch.float32}
    rows = bench.material.splits.validation
    parts = list(plain.answerer.parts(rows))
    for lane in (plain, half):
        assert lane.predict(rows, parts)[2:] == lane.evaluate(parts)[2:]


def test_a_variant_that_is_compiled_answers_compiled(bench):
    plain, other = (open_lane(bench, (f"hardware.compile={value}",), 2) for value in ("false", "true"))
    assert [lane.answerer.model._compiled_call_impl is not None for lane in (plain, other)] == [False, True]


def test_xla_can_be_settled_before_accelerate_is_imported():
    code = "import sys, bertkit.studies.bench.speed; assert not {'accelerate', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_weights_that_are_tied_stay_tied(tiny):
    import transformers

    first, second = (transformers.AutoModelForMaskedLM.from_pretrained(tiny("bert")) for _ in range(2))
    share_weights(second, first)
    assert second.get_output_embeddings().weight is second.get_input_embeddings().weight
    assert second.get_input_embeddings().weight is first.get_input_embeddings().weight


@pytest.mark.parametrize(
    ("largest", "expected"),
    [
        (1_000_000, [1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000]),
        (5000, [100, 300, 1000, 3000, 5000]),
        (30, [1, 3, 10, 30]),
        (1, [1]),
    ],
)
def test_sizes_grow_by_half_powers_of_ten(largest, expected):
    assert growth.sizes(largest) == expected


def test_a_size_that_would_take_too_long_is_left_out():
    def measure(size: int) -> dict[str, float]:
        import time

        time.sleep(0.01)
        return {"wall": float(size)}

    points, left = growth.until([1, 3, 10**9], measure, lambda text: None, "rows", limit=1.0)
    assert ([point["size"] for point in points], left) == ([1, 3], [10**9])


@pytest.mark.parametrize(("task", "column"), [("sentiment", "text"), ("qa", "context"), ("nli", "hypothesis")])
def test_a_long_row_has_the_length_asked_for(task, column):
    recipe, _ = speed.complete(load_recipe({"task": task}))
    opened = open_bench(recipe, say=lambda text: None)
    assert {len(growth.long_row(opened, length)[column]) for length in (10, 5000)} == {10, 5000}


def test_repeated_rows_have_ids_of_their_own():
    rows = growth.repeated([{"id": "a", "text": "x"}, {"id": "b", "text": "y"}], 5)
    assert [row["text"] for row in rows] == ["x", "y", "x", "y", "x"]
    assert len({row["id"] for row in rows}) == 5

"""The laws that earn trust in the loop: exact resume, exact accumulation, and that it learns."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bertkit.data.collate import Collator
from bertkit.errors import BertkitError, Interrupted
from bertkit.inference import Predictor
from bertkit.models import ready
from bertkit.pages.html import read_findings
from bertkit.run import evaluate, finetune, load
from bertkit.rundir import RunDir, checkpoints_of
from bertkit.train import checkpoint, keep, loop
from bertkit.train.loop import TrainState
from tests.rows import BUNDLED, TASKS
from tests.tiny import ASSETS


def recipe(task: str, **train: object) -> dict:
    """A small run of a task from scratch, in float32 on one thread."""
    return {
        "task": task,
        "model": {"checkpoint": "bundled:tiny", "init": "scratch"},
        "data": {"train": f"bundled:{BUNDLED[task]}", "train_rows": 24, "validation_rows": 4},
        "windows": {"max_length": 64},
        "train": {"batch_size": 8, "steps": 10, "epochs": 10, "learning_rate": 1e-3, **train},
        "hardware": {"precision": "fp32", "threads": 1},
    }


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in RunDir(run).read_history() if "loss" in record]


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it and tidy up."""


def run_and_kill(plan: dict, out: Path, step: int) -> None:
    """A run that ends without warning: after the checkpoint of `step`, or before its first one when that is 0."""
    with pytest.MonkeyPatch.context() as patch:
        kill_after(step, patch)
        with pytest.raises(Killed):
            finetune(plan, out, quiet=True)


def kill_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the run without warning once the checkpoint of `step` is written."""
    save = keep.Keeper.save

    def save_and_die(self: keep.Keeper, at: int) -> str:
        if step == 0:
            raise Killed
        name = save(self, at)
        if at == step:
            raise Killed
        return name

    monkeypatch.setattr(keep.Keeper, "save", save_and_die)


@pytest.mark.parametrize("task", TASKS)
def test_a_run_resumed_at_any_checkpoint_is_bit_identical(task: str, tmp_path: Path) -> None:
    plan = recipe(task, checkpoint_every=1, evaluate_every=2, steps=6)
    finetune(plan, tmp_path / "whole", quiet=True)
    for step in range(1, 6):
        run_and_kill(plan, tmp_path / f"cut{step}", step)
        finetune(plan, tmp_path / f"cut{step}", resume=True, quiet=True)
        for name in ("history.jsonl", "model/model.safetensors", "predictions.jsonl"):
            whole, cut = (tmp_path / run / name for run in ("whole", f"cut{step}"))
            assert whole.read_bytes() == cut.read_bytes(), f"{name} differs after a cut at step {step}"


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    plan = recipe("sentiment")
    finetune(plan, tmp_path / "whole", quiet=True)
    run_and_kill(plan, tmp_path / "cut", 0)
    finetune(plan, tmp_path / "cut", resume=True, quiet=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


@pytest.mark.parametrize("task", TASKS)
def test_micro_batches_do_not_change_what_is_learned(task: str, tmp_path: Path) -> None:
    found = {}
    for tokens in (64, 200, 10_000):
        plan = recipe(task)
        plan["model"]["dropout"] = 0.0
        plan["hardware"]["micro_batch_tokens"] = tokens
        finetune(plan, tmp_path / str(tokens), quiet=True)
        found[tokens] = losses(tmp_path / str(tokens))
    assert found[64] == pytest.approx(found[10_000], abs=1e-6)
    assert found[200] == pytest.approx(found[10_000], abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_fixed_shapes_do_not_change_what_is_learned_or_answered(task: str, tmp_path: Path) -> None:
    found, shapes = {}, set()
    collate = Collator.__call__

    def note(self: Collator, *given: object) -> tuple:
        inputs, targets = collate(self, *given)
        shapes.add((torch.is_inference_mode_enabled(), *inputs["input_ids"].shape))
        return inputs, targets

    for fixed in (False, True):
        plan = recipe(task)
        plan["model"]["dropout"] = 0.0
        plan["hardware"]["fixed_shapes"] = fixed
        with pytest.MonkeyPatch.context() as patch:
            if fixed:
                patch.setattr(Collator, "__call__", note)
            metrics = finetune(plan, tmp_path / str(fixed), quiet=True)
        found[fixed] = losses(tmp_path / str(fixed)), metrics[metrics["headline"]]
    assert found[True][0] == pytest.approx(found[False][0], abs=1e-6)
    assert found[True][1] == found[False][1]
    # one number of rows for each length, in training and in evaluation
    assert len(shapes) == len({(mode, width) for mode, _, width in shapes})
    assert {width for *_, width in shapes} <= {16, 32, 64, plan["windows"]["max_length"]}


def test_a_compiled_model_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ready.COMPILER, "cpu", {"backend": "aot_eager"})  # traced whole; kernels take minutes to build
    found = []
    for compiled in (False, True):
        plan = recipe("sentiment", steps=3)
        plan["model"]["dropout"] = 0.0
        plan["hardware"]["compile"] = compiled
        finetune(plan, tmp_path / str(compiled), quiet=True)
        found.append(losses(tmp_path / str(compiled)))
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    plan["hardware"]["padding_free"] = True
    with pytest.raises(BertkitError, match="would be compiled anew"):
        finetune(plan, tmp_path / "free", quiet=True)


def short_questions(path: Path) -> str:
    """Twenty questions, each on a document of one window, whose answers stand in it."""
    rows = []
    for number, line in enumerate((ASSETS / "nli.jsonl").read_text(encoding="utf-8").splitlines()[:20]):
        row = json.loads(line)
        answer = row["premise"].split()[-1 - number % 2 :][0]
        rows.append({
            "question": row["hypothesis"], "context": row["premise"],
            "answers": [{"text": answer, "start": row["premise"].index(answer)}],
        })  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("task", TASKS)
def test_eight_rows_are_learned_by_heart(task: str, tmp_path: Path) -> None:
    plan = recipe(task, steps=60, learning_rate=5e-3, epochs=60, schedule="constant", warmup=0, evaluate_every=1000)
    plan["model"]["dropout"] = 0.0
    source = short_questions(tmp_path / "qa.jsonl") if task == "qa" else plan["data"]["train"]
    plan["data"] = {"train": source, "train_rows": 8, "validation_rows": 1}
    plan["windows"] = {"max_length": 128}
    assert finetune(plan, tmp_path / "run", quiet=True)["train"]["windows"] == 8
    assert losses(tmp_path / "run")[-1] < 0.05


@pytest.mark.parametrize("task", TASKS)
def test_a_pass_holds_no_more_padded_tokens_than_the_budget_or_one_window(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collate, shapes = Collator.__call__, []

    def note(self: Collator, *given: object) -> tuple:
        inputs, targets = collate(self, *given)
        if not torch.is_inference_mode_enabled():
            shapes.append(tuple(inputs["input_ids"].shape))
        return inputs, targets

    monkeypatch.setattr(Collator, "__call__", note)
    plan = recipe(task, steps=3)
    plan["hardware"] |= {"micro_batch_tokens": 128, "pass_overhead": 0}
    finetune(plan, tmp_path / "run", quiet=True)
    steps = [record for record in RunDir(tmp_path / "run").read_history() if "loss" in record]
    assert [shape for shape in shapes if math.prod(shape) > 128 and shape[0] > 1] == []
    assert len(shapes) > len(steps)
    assert any(rows > 1 for rows, _ in shapes)
    assert sum(map(math.prod, shapes)) == sum(step["padded"] for step in steps)
    assert all(0 < step["tokens"] <= step["padded"] for step in steps)


def test_early_stopping_keeps_the_best_weights(tmp_path: Path) -> None:
    plan = recipe("sentiment", steps=40, epochs=40, evaluate_every=2, early_stopping=2, learning_rate=1e-5)
    metrics = finetune(plan, tmp_path / "run", quiet=True)
    best = metrics["best"]
    assert metrics["train"]["steps"] == best["step"] + 4
    assert metrics["accuracy"] == best["value"]
    assert finetune(plan, tmp_path / "run", resume=True, quiet=True) == metrics


def test_a_threshold_is_tuned_without_answering_the_validation_rows_again(tmp_path: Path, monkeypatch) -> None:
    plan = recipe("qa", steps=4, evaluate_every=2)
    plan["task"] = {"name": "qa", "unanswerable": True}
    evaluate, calls = Predictor.evaluate, []
    monkeypatch.setattr(Predictor, "evaluate", lambda *given: calls.append(0) or evaluate(*given))
    finetune(plan, tmp_path / "run", quiet=True)
    tuned = RunDir(tmp_path / "run").read_json("task.json")
    assert tuned["no_answer_threshold"] != 0
    assert len(calls) == sum("validation" in record for record in RunDir(tmp_path / "run").read_history()) == 2


@pytest.mark.parametrize("threshold", ["tuned", None])
def test_a_tuned_threshold_holds_for_test_and_from_now_on(tmp_path: Path, threshold: str | None) -> None:
    plan = recipe("sentiment", steps=4)
    plan["task"] = {"name": "sentiment", "positive": "positive", "metric": "f1", "threshold": threshold}
    plan["data"] |= {"test": plan["data"]["train"]}
    metrics = finetune(plan, tmp_path / "run", quiet=True)
    run = RunDir(tmp_path / "run")
    chosen, notes = (
        run.read_json("task.json")["threshold"],
        [found.title for found in read_findings(run["findings.json"])],
    )
    assert ("The threshold was tuned on validation" in notes) == (threshold == "tuned") == isinstance(chosen, float)
    for name in ("predictions.jsonl", "predictions.validation.jsonl"):
        for record in run.read_jsonl(name):
            share = record["probabilities"]["positive"]
            assert (record["label"] == "positive") == (share >= (0.5 if chosen is None else chosen))
    again = evaluate(run.path, plan["data"]["test"], quiet=True)
    assert {name: again[name] for name in ("f1", "accuracy")} == {name: metrics[name] for name in ("f1", "accuracy")}
    if threshold:
        before = finetune({**plan, "task": {**plan["task"], "threshold": None}}, tmp_path / "before", quiet=True)
        assert metrics["splits"]["validation"]["f1"] >= before["splits"]["validation"]["f1"]


def test_best_and_last_are_kept_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = recipe("sentiment", checkpoint_every=2, evaluate_every=2)
    seen: list[set[str]] = []
    save = keep.Keeper.save

    def save_and_look(self: keep.Keeper, at: int) -> str:
        name = save(self, at)
        seen.append({str(path.relative_to(self.run.checkpoints)) for path in self.run.checkpoints.rglob("*.*")})
        return name

    monkeypatch.setattr(keep.Keeper, "save", save_and_look)
    finetune(plan, tmp_path / "run", quiet=True)
    whole = {f"step-000004/{name}" for name in ("model.safetensors", "optimizer.safetensors", "state.json")}
    best = {path for path in seen[1] if path.startswith("best-")}
    assert len(best) == 2
    assert seen[1] == whole | best
    # in the end the best weights are the model
    assert {path.name for path in (tmp_path / "run/checkpoints").iterdir()} == {"step-000010"}


def test_the_model_holds_the_best_weights_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate, values, seen = Predictor.evaluate, iter([0.1, 0.6, 0.6, 0.5]), []

    def evaluate_to_order(self: Predictor, parts: list) -> tuple[dict, list]:
        seen.append({name: weight.clone() for name, weight in self.model.state_dict().items()})
        scores, predictions = evaluate(self, parts)
        return {**scores, "accuracy": next(values, 0.6)}, predictions

    monkeypatch.setattr(Predictor, "evaluate", evaluate_to_order)
    metrics = finetune(recipe("sentiment", steps=12, evaluate_every=3), tmp_path / "run", quiet=True)
    assert (metrics["best"]["step"], metrics["best"]["value"]) == (6, 0.6)  # of two equal ones, the first
    model = load_file(tmp_path / "run/model/model.safetensors")
    last = load_file(tmp_path / "run/checkpoints/step-000012/model.safetensors")
    assert [all(torch.equal(model[name], weights[name]) for name in model) for weights in seen[:4]] == [
        False, True, False, False,
    ]  # fmt: skip
    assert all(torch.equal(last[name], seen[3][name]) for name in last)


def test_a_resumed_run_with_other_settings_is_refused_by_name(tmp_path: Path) -> None:
    plan = recipe("sentiment", checkpoint_every=2)
    run_and_kill(plan, tmp_path / "run", 4)
    other = recipe("sentiment", checkpoint_every=2, batch_size=4)
    other["seed"] = 1
    with pytest.raises(BertkitError, match=r"train\.batch_size: 8 -> 4") as raised:
        finetune(other, tmp_path / "run", resume=True, quiet=True)
    assert "seed: 0 -> 1" in raised.value.message
    assert "--out" in raised.value.hint


def test_a_truncated_checkpoint_is_refused_and_the_one_before_is_named(tmp_path: Path) -> None:
    plan = recipe("sentiment", checkpoint_every=2, keep=2)
    run_and_kill(plan, tmp_path / "run", 4)
    weights = tmp_path / "run/checkpoints/step-000004/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BertkitError, match="truncated") as raised:
        finetune(plan, tmp_path / "run", resume=True, quiet=True)
    assert "step-000002" in raised.value.hint


def test_a_stop_signal_saves_a_checkpoint_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe("sentiment", checkpoint_every=100)
    whole = finetune(plan, tmp_path / "whole", quiet=True)
    observe = keep.Keeper.__call__

    def stop_at_five(self: keep.Keeper, steps: list) -> bool:
        if steps[-1].step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return observe(self, steps)

    plan["log"] = {"every": 1}
    with monkeypatch.context() as patch:
        patch.setattr(keep.Keeper, "__call__", stop_at_five)
        with pytest.raises(Interrupted, match="step-00000") as raised:
            finetune(plan, tmp_path / "cut", quiet=True)
    assert "--resume" in raised.value.hint
    again = finetune(plan, tmp_path / "cut", resume=True, quiet=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert again["splits"] == whole["splits"]


POINTS = {
    "in the forward pass": (TrainState, "forward"),
    "between steps": (loop, "learning_rate_at"),
    "as it is asked whether a step is to be evaluated": (keep.Keeper, "is_due"),
    "as it is asked whether a step is to be saved": (keep.Keeper, "is_checkpoint"),
    "while a step is observed": (RunDir, "append_history"),
    "in an evaluation": (Predictor, "evaluate"),
    "before a checkpoint is written": (checkpoint, "save_checkpoint"),
    "after a checkpoint is written": (keep.Keeper, "_drop_beaten"),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_signal_at_any_moment_loses_no_step(point: str, tmp_path: Path) -> None:
    plan = recipe("sentiment", checkpoint_every=2, evaluate_every=3, steps=8)
    plan["log"] = {"every": 100}
    finetune(plan, tmp_path / "whole", quiet=True)
    owner, name = POINTS[point]
    call = getattr(owner, name)
    for number in (1, 2):  # the signal comes in this call of the function
        calls = iter(range(1, 10_000))

        def signalled(*given: object, number=number, calls=calls, **named: object) -> object:
            found = call(*given, **named)
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGTERM)
            return found

        cut = tmp_path / f"cut{number}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, signalled)
            with pytest.raises(Interrupted, match=r"stopped at step (\d) of 8; checkpoint step-00000\1 is saved"):
                finetune(plan, cut, quiet=True)
        (saved,) = checkpoints_of(cut / "checkpoints")
        assert len(losses(cut)) == int(saved.name.removeprefix("step-"))
        finetune(plan, cut, resume=True, quiet=True)
        for file in ("history.jsonl", "model/model.safetensors"):
            assert (cut / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), f"{file} differs"


def test_the_last_step_is_a_candidate_whatever_divides_what(tmp_path: Path) -> None:
    for every in (None, 4, 1000):
        metrics = finetune(recipe("sentiment", steps=5, evaluate_every=every), tmp_path / str(every), quiet=True)
        evaluated = [
            record["step"] for record in RunDir(tmp_path / str(every)).read_history() if "validation" in record
        ]
        assert evaluated[-1] == 5
        assert metrics["step"] == metrics["best"]["step"]
    assert metrics["step"] == metrics["train"]["steps"] == 5  # evaluated at the end only
    last = load_file(tmp_path / "1000/checkpoints/step-000005/model.safetensors")
    model = load_file(tmp_path / "1000/model/model.safetensors")
    assert all(torch.equal(last[name], model[name]) for name in model)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_run_resumed_with_other_rows_to_score_is_refused(split: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.csv" for name in ("one", "other")]
    for file, text in zip(files, ("good bread", "cold soup"), strict=True):
        file.write_text(f"text,label\n{text},positive\nnot good,negative\n", encoding="utf-8")
    plan = recipe("sentiment", checkpoint_every=2)
    plan["data"] = {"train": "bundled:sentiment.csv", "validation": str(files[0]), "test": str(files[0])}
    run_and_kill(plan, tmp_path / "run", 4)
    plan["data"][split] = str(files[1])
    with pytest.raises(BertkitError, match=rf"resolved\.{split}: "):
        finetune(plan, tmp_path / "run", resume=True, quiet=True)


def test_a_broken_loss_names_its_step_and_the_last_good_checkpoint(tmp_path: Path) -> None:
    plan = recipe("sentiment", learning_rate=1e30, warmup=0, gradient_clip=0, checkpoint_every=1, schedule="constant")
    with pytest.raises(
        BertkitError, match=r"the loss of step \d+ is nan; the last good checkpoint is step-00000\d"
    ) as raised:
        finetune(plan, tmp_path / "run", quiet=True)
    assert "train.learning_rate" in raised.value.hint
    for path in checkpoints_of(tmp_path / "run/checkpoints"):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(path / "model.safetensors").values())


@pytest.mark.parametrize("order", ["random", "length"])
def test_every_window_is_seen_once_an_epoch(order: str, tmp_path: Path) -> None:
    plan = recipe("nli", order=order, epochs=2, steps=None)
    metrics = finetune(plan, tmp_path / "run", quiet=True)
    steps = [record for record in RunDir(tmp_path / "run").read_history() if "loss" in record]
    assert sum(step["windows"] for step in steps) == 2 * metrics["train"]["windows"]


def test_the_head_and_the_order_follow_the_seed(tmp_path: Path) -> None:
    found = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        finetune({**recipe("sentiment"), "seed": seed}, tmp_path / name, quiet=True)
        found[name] = losses(tmp_path / name)
    assert found["a"] == found["b"]
    assert found["a"] != found["c"]


def test_gradient_checkpointing_learns_the_same(tmp_path: Path, tiny: Callable[[str], Path]) -> None:
    found = []
    for value in (False, True):
        plan = recipe("sentiment")
        plan["model"] = {"checkpoint": str(tiny("bert")), "dropout": 0.0}
        plan["hardware"]["gradient_checkpointing"] = value
        finetune(plan, tmp_path / str(value), quiet=True)
        found.append(losses(tmp_path / str(value)))
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_a_finished_run_answers_like_the_model_that_was_trained(tmp_path: Path) -> None:
    finetune(recipe("sentiment"), tmp_path / "run", quiet=True)
    written = [
        json.loads(line) for line in (tmp_path / "run/predictions.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    again = list(load(tmp_path / "run").predict([row["text"] for row in written]))
    for row, prediction in zip(written, again, strict=True):
        assert prediction["probabilities"] == pytest.approx(row["probabilities"], abs=1e-6)

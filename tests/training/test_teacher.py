"""A teacher: what a finished run says of the rows is learned beside the labels, to the same digits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from bertkit.errors import BertkitError
from bertkit.recipe import load_recipe
from bertkit.run import finetune, load
from bertkit.rundir import RunDir
from tests.training.test_loop_laws import run_and_kill
from tests.training.test_options import recipe

KINDS = {"class": "sentiment", "multilabel": "labels", "number": "number", "token": "pos"}


def taught(checkpoint: Path, head: str, **train: object) -> dict:
    """A run of a task with this head, the bundled reviews read as labels or numbers."""
    plan = recipe(checkpoint, "pos" if head == "token" else "sentiment", **train)
    if head in ("multilabel", "number"):
        plan["task"] = {"name": "classification", "kind": KINDS[head]}
        plan["data"]["train"] = str(checkpoint.parent / f"{head}.jsonl")
        values = {"multilabel": (["warm", "long"], [], ["long"]), "number": (0.5, 2.0, -1.0)}[head]
        texts = [f"a {word} day in the office" for word in ("long", "warm", "cold", "short", "good", "bad", "odd")] * 4
        rows = [{"text": f"{text} {n}", "label": values[n % 3]} for n, text in enumerate(texts)]
        Path(plan["data"]["train"]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return plan


@pytest.mark.parametrize("head", KINDS)
def test_what_a_teacher_says_is_the_same_whatever_its_tokenizer_windows_and_resuming(head, tiny, tmp_path):
    """A student that begins as its teacher, and follows it alone, has nothing to learn."""
    base = Path(shutil.copytree(tiny("roberta"), tmp_path / "base"))
    finetune(taught(base, head, steps=6), tmp_path / "teacher", quiet=True)
    run = str(tmp_path / "teacher")
    same = taught(tmp_path / "teacher", head, teacher=run, distillation_share=1, steps=1)
    same["model"]["dropout"] = 0.0
    same["data"]["train"] = taught(base, head)["data"]["train"]
    finetune(same, tmp_path / "same", quiet=True)
    (first,) = [one for one in RunDir(tmp_path / "same").read_history() if "loss" in one]
    assert first["loss"] == pytest.approx(0, abs=1e-6)
    plan = taught(Path(shutil.copytree(tiny("bert"), tmp_path / "bert")), head, teacher=run, checkpoint_every=2)
    finetune(plan, tmp_path / "whole", quiet=True)
    run_and_kill(plan, tmp_path / "cut", 2)
    finetune(plan, tmp_path / "cut", resume=True, quiet=True)
    for name in ("history.jsonl", "model/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes(), name


def test_the_loss_with_a_teacher_is_that_of_a_computation_by_hand(tiny, tmp_path):
    """The teacher needs several windows of a text where the student needs one, and has the labels in another order; a
    class weighs more than the other.
    """
    texts = ["The soup was cold.", "A lovely place, and the room was warm and quiet, and we came back.", "Never again!"]
    labels = ["negative", "positive", "negative"]
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]

    def run(name: str, base: Path, length: int, names: tuple[str, ...] = (), **train: object) -> Path:
        plan = recipe(base, model={"dropout": 0.0}, **{"steps": 1, **train})
        plan |= {"task": {"name": "sentiment", "labels": names}, "data": {}, "windows": {"max_length": length}}
        finetune(plan, tmp_path / name, rows={"train": rows, "validation": rows}, quiet=True)
        return tmp_path / name

    teacher = run("teacher", tiny("roberta"), 12, ("positive", "negative"), steps=8)
    weights = load_file(teacher / "model" / "model.safetensors")
    weights["classifier.out_proj.weight"] *= 50  # a tiny model says the same of all windows, to four digits
    save_file(weights, teacher / "model" / "model.safetensors", {"format": "pt"})
    still = run("still", tiny("bert"), 64, learning_rate=1e-30)  # the student as it begins
    options = {"distillation_temperature": 3.0, "distillation_share": 0.25, "class_weights": {"positive": 3}}
    student = run("student", tiny("bert"), 64, teacher=str(teacher), **options)
    # logits but for a constant
    ours, its = (
        torch.tensor(
            [[one["probabilities"][name] for name in ("negative", "positive")] for one in load(run).predict(texts)]
        )
        .double()
        .log()
        for run in (still, teacher)
    )
    hard = functional.cross_entropy(ours, torch.tensor([0, 1, 0]), reduction="none")
    soft = functional.kl_div(
        (ours / 3).log_softmax(-1), (its / 3).log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    expected = ((0.75 * hard + 0.25 * 9 * soft) * torch.tensor([1.0, 3.0, 1.0])).sum() / 5
    assert RunDir(student).read_history()[0]["loss"] == pytest.approx(expected.item(), abs=1e-6)
    assert soft.max() > 1e-4


def test_a_teacher_that_cannot_teach_is_refused(tiny, tmp_path):
    finetune(recipe(tiny("bert"), "nli"), tmp_path / "nli", quiet=True)
    finetune(recipe(tiny("bert"), "pos"), tmp_path / "pos", quiet=True)
    for task, run, train, message in (
        ("sentiment", "nli", {}, "has the columns premise, hypothesis, and this run text"),
        ("sentiment", "pos", {}, "has the head token, and this run class"),
        ("qa", "nli", {}, r"train\.teacher: .* would change nothing: the loss of qa does not use it"),
        ("sentiment", "none", {}, "none does not exist"),
        ("sentiment", "nli", {"distillation_share": 1, "label_smoothing": 0.1}, "label_smoothing: would change"),
    ):
        with pytest.raises(BertkitError, match=message):
            finetune(recipe(tiny("bert"), task, teacher=str(tmp_path / run), **train), tmp_path / "no", quiet=True)
    with pytest.raises(BertkitError, match="distillation_share: would change nothing without teacher"):
        load_recipe(recipe(tiny("bert"), distillation_share=0.2))

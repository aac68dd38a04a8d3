"""An ONNX file answers as the model that it was made from, and so does the script beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from bertkit.data.plan import Budget
from bertkit.errors import BertkitError
from bertkit.models.exported import Session, write_onnx
from bertkit.run.exported import compare, write
from bertkit.tasks.base import Output
from bertkit.tasks.classification import Classification
from tests.unit.conftest import TASKS, rows_of

# every architecture, and every head at least once
CASES = {
    "bert": "unanswerable qa",
    "albert": "several labels",
    "roberta": "pos",
    "xlm-roberta": "qa",
    "distilbert": "nli",
    "electra": "number",
    "deberta-v2": "sentiment",
    "modernbert": "pos",
}
CLOSE = 1e-4  # of outputs, some of which are as large as 10


@pytest.fixture(scope="module")
def exported(predictor, tmp_path_factory):
    """`exported("bert")`: the predictor of a case, one that has the file as its model, and the folder."""
    made = {}

    def of(family):
        if family not in made:
            task = TASKS[CASES[family]]
            folder = tmp_path_factory.mktemp("exported") / family
            ours = predictor(task, family)
            made[family] = ours, write(ours, folder, rows_of(task)[0], int8=False), folder
        return made[family]

    return of


def script_of(folder):
    spec = spec_from_file_location("answer", folder / "answer.py")
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.Model()


@pytest.mark.parametrize("family", CASES)
def test_the_file_answers_as_the_model_does(exported, family):
    ours, theirs, _ = exported(family)
    found = compare(ours, theirs, rows_of(ours.task))
    assert found.windows > found.rows, "long rows are among them"
    assert found.largest_difference < CLOSE
    assert found.equal_answers == 1


@pytest.mark.parametrize("family", CASES)
def test_the_script_answers_short_and_long_rows_as_bertkit_does(exported, family):
    ours, _, folder = exported(family)
    rows, model = rows_of(ours.task), script_of(folder)
    if family == "roberta":
        rows.append({"id": "0", "words": ["", "\u200b", "bread"]})  # words without any piece
    for row, prediction in zip(rows, ours.predict(rows), strict=True):
        given = model.answer(json.loads(json.dumps(row)))
        assert given
        for key, value in given.items():
            wanted = list(prediction[key]) if isinstance(prediction[key], tuple) else prediction[key]
            assert value == (wanted if key in ("words", "tags") else pytest.approx(wanted, abs=CLOSE))


@pytest.mark.parametrize("settings", [
    {"kind": "labels", "threshold": 0.6}, {"kind": "labels", "threshold": {"b": 0.9}}, {"kind": "labels"},
    {"positive": "a", "threshold": 0.2}, {"positive": "b", "threshold": 0.7}, {"positive": "b"},
])  # fmt: skip
def test_the_script_chooses_by_the_thresholds_of_the_task(exported, monkeypatch, settings):
    ours, _, folder = exported("albert")
    model, task = script_of(folder), Classification(labels=("a", "b"), **settings)
    model.task, model.windows["head"] = task.model_dump(mode="json"), task.head
    window, answers = next(iter(ours.outputs(ours.maker(["x"]))))[0].window, set()
    for logits in np.random.default_rng(0).normal(0, 2, (40, 2)).astype(np.float32):
        monkeypatch.setattr(model, "session", SimpleNamespace(run=lambda names, fed, row=logits: [row[None]]))
        given, wanted = model.answer({"text": "x"}), task.decode({}, [Output(window, (logits,))])
        assert json.loads(json.dumps(given)) == json.loads(json.dumps(wanted))
        answers.add(str(given["label"]))
    assert len(answers) == (4 if task.kind == "labels" else 2)


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "modernbert"])
def test_neither_padding_nor_the_number_of_rows_changes_an_output(exported, family):
    ours, theirs, _ = exported(family)
    alone = replace(theirs, budget=Budget(1))
    together = replace(theirs, budget=Budget(4096, 4096))
    assert compare(alone, together, rows_of(ours.task)).largest_difference < CLOSE


def test_short_of_memory_it_goes_on_with_less_at_a_time(exported, monkeypatch):
    ours, theirs, _ = exported("bert")
    run = theirs.model.session.run

    def tight(names, fed):
        if fed["input_ids"].size > 100:
            raise Exception("Failed to allocate memory for requested buffer of size 8")  # as onnxruntime raises it
        return run(names, fed)

    monkeypatch.setattr(theirs.model, "session", SimpleNamespace(
        run=tight, get_inputs=theirs.model.session.get_inputs, get_outputs=theirs.model.session.get_outputs
    ))  # fmt: skip
    with pytest.warns(UserWarning, match="did not fit into memory"):
        assert compare(ours, theirs, rows_of(ours.task)).equal_answers == 1


def test_weights_of_8_bits_are_smaller_and_near_and_a_task_of_ones_own_has_no_script(exported, predictor, tmp_path):
    ours, _, whole = exported("bert")
    own = replace(ours, task=ours.task.model_copy(update={"name": "mine.qa"}))
    theirs = write(own, tmp_path / "small", rows_of(own.task)[0], int8=True)
    assert {file.name for file in (tmp_path / "small").iterdir()} == {
        "model.onnx", "tokenizer.json", "task.json", "windows.json"
    }  # fmt: skip
    assert (tmp_path / "small" / "model.onnx").stat().st_size < 0.6 * (whole / "model.onnx").stat().st_size
    found = compare(own, theirs, rows_of(own.task))
    assert CLOSE < found.largest_difference < 1


def test_numbers_that_are_no_numbers_are_not_equal(exported):
    """A file that puts out NaN is not within any bound."""
    ours, theirs, _ = exported("electra")

    class Broken(nn.Module):
        def forward(self, input_ids, attention_mask=None, token_type_ids=None):
            return SimpleNamespace(logits=torch.full((len(input_ids), 1), torch.nan))

    found = compare(ours, replace(theirs, model=Broken()), rows_of(ours.task))
    assert np.isnan(found.largest_difference)
    assert found.equal_answers == 0


def test_a_model_that_torch_cannot_translate_is_one_error(tmp_path):
    class Branching(nn.Module):
        config = SimpleNamespace(model_type="branching")

        def forward(self, input_ids):
            return (input_ids if input_ids.sum() > 3 else -input_ids,)

    with pytest.raises(BertkitError, match="cannot write branching as ONNX") as caught:
        write_onnx(Branching(), ["input_ids"], ["logits"], tmp_path / "model.onnx")
    assert len(str(caught.value.message)) < 400
    assert not (tmp_path / "model.onnx").exists()


def test_a_broken_file_is_one_error(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(BertkitError, match="cannot be loaded"):
        Session(tmp_path / "model.onnx", None)

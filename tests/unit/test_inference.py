"""A prediction depends on its row alone: not on the batch, the part, the order or the company it came in."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

import bertkit.inference
from bertkit.data.plan import Budget
from bertkit.data.sources import Columns
from bertkit.encode import cut_rows
from bertkit.errors import BertkitError
from bertkit.run import finetune, load
from bertkit.tasks.pos import Pos
from tests.unit.conftest import SIZES, TASKS, rows_of, text_of


def assert_alike(ours: object, theirs: object) -> None:
    """Equal, but for the last digits of floats."""
    if isinstance(ours, float):
        assert ours == pytest.approx(theirs, abs=1e-6)
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert_alike(ours[key], theirs[key])
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_alike(one, other)
    else:
        assert ours == theirs


def test_tasks_with_entities_see_the_text_that_words_came_from(predictor):
    class Located(Pos):
        reads = Columns(words=("words",), tags="tags", entities=True)

        def decode(self, row, outputs):
            return {**super().decode(row, outputs), "text": row.get("text")}

    located = predictor(Located(labels=("A", "B")))
    found = list(located.predict(["the old\u00a0 bread", ["the", "old"], {"words": "bread"}]))
    assert [prediction["text"] for prediction in found] == ["the old\u00a0 bread", None, "bread"]
    assert found[0]["words"] == ["the", "old", "bread"]


@pytest.mark.parametrize("family", ["wordpiece", "byte-level"])
@pytest.mark.parametrize("name", TASKS)
def test_predictions_depend_on_their_row_alone(predictor, name, family):
    task = TASKS[name]
    rows = rows_of(task)
    expected = list(predictor(task, family).predict(rows))
    assert len(expected) == len(rows)
    assert len({repr(prediction) for prediction in expected}) == len(rows), "the model has opinions"
    for budget in (Budget(1), Budget(64, 1000), Budget(200, 20)):
        assert_alike(list(predictor(task, family, budget=budget).predict(rows)), expected)
    for place, row in enumerate(rows):
        assert_alike(list(predictor(task, family).predict([row])), [expected[place]])
    assert_alike(list(predictor(task, family).predict(reversed(rows))), expected[::-1])
    assert_alike(list(predictor(task, family).predict(rows + rows)), expected + expected)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("limit", "value"), [("PART_ROWS", 1), ("PART_ROWS", 3), ("PART_CHARACTERS", 120)])
def test_parts_leave_no_seam(predictor, monkeypatch, name, limit, value):
    task = TASKS[name]
    rows = rows_of(task)
    expected = list(predictor(task).predict(rows))
    monkeypatch.setattr(bertkit.encode, limit, value)
    parts = list(predictor(task).parts(rows))
    assert len(parts) > 1
    assert [row for part in parts for row in part.rows] == rows
    assert_alike(list(predictor(task).predict(rows)), expected)


def test_predictions_come_while_rows_are_still_read(predictor, monkeypatch):
    monkeypatch.setattr(bertkit.encode, "PART_ROWS", 2)
    endless = (text_of(size) for size in itertools.cycle(SIZES))
    assert len(list(itertools.islice(predictor(TASKS["sentiment"]).predict(endless), 5))) == 5


def test_no_rows_are_no_predictions(predictor):
    assert list(predictor(TASKS["qa"]).predict([])) == []


def test_rows_come_as_dicts_texts_or_tuples(predictor):
    text, words = "the old bread rises", ["the", "old", "bread", "rises"]
    for name, forms in {
        "sentiment": [{"text": text}, {"id": "7", "text": text, "label": "a", "more": 1}, text, (text,), [text]],
        "nli": [{"premise": text, "hypothesis": "old"}, (text, "old"), [text, "old"]],
        "qa": [{"question": "who", "context": text}, ("who", text)],
        "pos": [{"words": words}, {"words": text}, text, words, tuple(words)],
    }.items():
        given = list(predictor(TASKS[name]).predict(forms))
        assert_alike(given, [given[0]] * len(forms))


WHOLE = "give a str, whole characters only"


@pytest.mark.parametrize(
    ("name", "row", "message", "hint"),
    [
        ("nli", "a", "nli reads premise and hypothesis, and was given 1 text",
         "give a tuple of 2 texts, or a dict with these keys"),
        ("sentiment", ("a", "b"), "sentiment reads text, and was given 2 texts",
         "give a tuple of 1 text, or a dict with these keys"),
        ("qa", {"question": "who"}, "a row has no 'context'", "rows of qa have it"),
        ("pos", {"text": "who"}, "a row has no 'words'", "rows of pos have it"),
        ("sentiment", 5, "a row's 'text' is 5, not text", WHOLE),
        ("sentiment", {"text": None}, "a row's 'text' is None, not text", WHOLE),
        ("nli", ("a", b"b"), "a row's 'hypothesis' is b'b', not text", WHOLE),
        ("pos", 5, "a row's 'words' is 5, not words", "give a list of str, or one str"),
        ("pos", ["a", 1], "a row's 'words' is ['a', 1], not words", "give a list of str, or one str"),
        ("sentiment", "a\ud83d", "a row's 'text' is 'a\\ud83d', not text", WHOLE),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_read_are_refused_by_name(predictor, name, row, message, hint):
    with pytest.raises(BertkitError) as caught:
        list(predictor(TASKS[name]).predict([row]))
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize("given", ["the bread", {"text": "the bread"}])
def test_one_row_is_no_sequence_of_rows(predictor, given):
    # its letters, or its keys, would be answered one by one
    with pytest.raises(BertkitError) as caught:
        list(predictor(TASKS["sentiment"]).predict(given))
    assert (caught.value.message, caught.value.hint) == (
        f"{given!r} is one row, not a sequence of rows", "put it into a list"
    )  # fmt: skip


def test_rows_given_are_not_changed(predictor):
    for task in TASKS.values():
        rows = rows_of(task)
        before = copy.deepcopy(rows)
        list(predictor(task).predict(rows))
        assert rows == before


def test_evaluation_scores_its_own_predictions_as_often_as_asked(predictor):
    task = TASKS["sentiment"]
    rows = [{**row, "label": "abc"[place % 3]} for place, row in enumerate(rows_of(task))]
    parts = list(predictor(task).parts(rows))
    scores, predictions = predictor(task).evaluate(parts)
    assert_alike(predictions, list(predictor(task).predict(rows)))
    assert scores == task.score(predictions, rows)
    assert predictor(task).evaluate(parts) == (scores, predictions)


@pytest.mark.parametrize("is_training", [True, False])
def test_the_model_is_put_back_as_it_was(predictor, is_training):
    ready = predictor(TASKS["sentiment"])
    expected = list(ready.predict(["the bread"]))
    ready.model.train(is_training)
    # dropout would show in the predictions
    assert list(ready.predict(["the bread"])) == expected
    assert ready.model.training == is_training
    assert all(parameter.grad is None for parameter in ready.model.parameters())


@pytest.mark.parametrize("is_training", [True, False])
def test_the_model_is_put_back_as_it_was_when_it_fails(predictor, is_training):
    ready = predictor(TASKS["sentiment"])
    ready.model.train(is_training)

    def fail(model: torch.nn.Module, given: tuple) -> None:
        raise ValueError("not today")

    hook = ready.model.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match="not today"):
        list(ready.predict(["the bread"]))
    hook.remove()
    assert {part.training for part in ready.model.modules()} == {is_training}


def test_no_forward_pass_exceeds_the_budget(predictor):
    ready = predictor(TASKS["sentiment"], budget=Budget(100, 1000))
    shapes = []

    def watch(model: torch.nn.Module, given: tuple, named: dict) -> None:
        shapes.append(tuple(named["input_ids"].shape))

    hook = ready.model.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        list(ready.predict(rows_of(ready.task)))
    finally:
        hook.remove()
    store = cut_rows(ready.task, rows_of(ready.task), ready.maker).store
    assert sum(batch for batch, _ in shapes) == len(store)
    assert all(batch * length <= 100 for batch, length in shapes)
    assert len(shapes) < len(store)


def test_a_run_answers_with_weights_of_the_precision_that_is_asked_for(tmp_path, tiny):
    recipe = {
        "task": "qa",
        "model": {"checkpoint": str(tiny("bert"))},
        "data": {"train": "bundled:qa.json", "train_rows": 8, "validation_rows": 4},
        "train": {"steps": 2, "batch_size": 8},
        "windows": {"max_length": 64},
        "hardware": {"precision": "bf16"},
    }
    finetune(recipe, tmp_path / "run", quiet=True)
    found = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        predictor = load(tmp_path / "run", [f"hardware.precision={precision}"])
        assert predictor.model.dtype == dtype
        (found[precision],) = predictor.predict([("Who sleeps?", "A dog sleeps in the shade.")])
    assert found["bf16"]["probability"] == pytest.approx(found["fp32"]["probability"], abs=0.05)

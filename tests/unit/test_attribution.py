"""What the words of a row add to an answer is all that the answer has of them, and stands at the right characters."""

from __future__ import annotations

import pytest

from bertkit.tasks.ner import NER
from tests.families import FAMILIES
from tests.unit.conftest import TASKS, rows_of, text_of

ASKED = {**TASKS, "ner": NER(labels=("O", "B-X", "I-X"))}
SOME = (0, 1, 3, 6)  # rows of one and of several windows, without those of no word


def column_of(explained: dict, name: str) -> str:
    read = explained[name]
    return read if isinstance(read, str) else " ".join(read)


@pytest.mark.parametrize("name", ASKED)
def test_the_weights_add_up_to_what_the_text_brings(predictor, name):
    task = ASKED[name]
    rows = [rows_of(task)[number] for number in SOME]
    for explained in predictor(task).explain(rows, steps=200):
        total = sum(word["weight"] for words in explained["attributions"].values() for word in words)
        assert total == pytest.approx(explained["evidence"] - explained["baseline"], rel=1e-3, abs=1e-5)
        assert abs(total) > 1e-4, "the model has opinions"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["sentiment", "nli", "pos", "qa"])
def test_weights_stand_at_the_words_of_the_text(predictor, name, family):
    task = ASKED[name]
    rows = [rows_of(task)[number] for number in SOME]
    for explained in predictor(task, family).explain(rows, steps=2):
        assert list(explained["attributions"]) == [*task.reads.text, *task.reads.words]
        for column, words in explained["attributions"].items():
            text = column_of(explained, column)
            seen = "".join(text[word["start"] : word["end"]] for word in words)
            assert seen == "".join(text.split()), "each character that is read, once and in order"
            assert all(text[word["start"] : word["end"]].split() for word in words)


@pytest.mark.parametrize("name", ASKED)
def test_to_explain_changes_no_answer(predictor, name):
    task = ASKED[name]
    rows = [rows_of(task)[number] for number in SOME]
    asked = predictor(task)
    for explained, prediction in zip(asked.explain(rows, steps=2), asked.predict(rows), strict=True):
        assert {key: explained[key] for key in prediction} == prediction
    assert not asked.model.training
    assert all(parameter.grad is None for parameter in asked.model.parameters())


def test_a_word_that_is_a_mask_already_adds_nothing(predictor):
    (explained,) = predictor(ASKED["sentiment"]).explain(["the [MASK] bread"])
    weights = {
        column_of(explained, "text")[one["start"] : one["end"]]: one["weight"]
        for one in explained["attributions"]["text"]
    }
    assert weights["[MASK]"] == 0
    assert weights["bread"] != 0


def test_an_answer_is_explained_by_the_windows_that_hold_it(predictor):
    """Words that only other windows read add nothing."""
    document = text_of(90)
    (explained,) = predictor(ASKED["qa"]).explain([("who rises", document)], steps=2)
    words = explained["attributions"]["context"]
    read = [word for word in words if word["weight"] != 0]
    assert read[0]["start"] <= explained["start"] < explained["end"] <= read[-1]["end"]
    assert len(read) < len(words) / 2


def test_white_space_around_a_question_shifts_no_word(predictor):
    (plain,), (shifted,) = (
        predictor(ASKED["qa"]).explain([(question, "the old bread")], steps=2)
        for question in ("who rises", "  who rises ")
    )
    begin = [word["start"] for word in plain["attributions"]["question"]]
    assert [word["start"] for word in shifted["attributions"]["question"]] == [start + 2 for start in begin]

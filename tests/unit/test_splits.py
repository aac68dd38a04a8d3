"""The rows of a run: no document on both sides, labels decided before anything is held back or drawn."""

from __future__ import annotations

import json

import pytest

from bertkit.errors import BertkitError
from bertkit.recipe import load_recipe
from bertkit.splits import bind_labels, read_splits
from bertkit.tasks.base import make_task


@pytest.fixture
def read(tmp_path):
    """Read rows, given by split, as the task does: splits, the bound task and what was said."""

    def run(task: str, train: list[dict], validation: list[dict] | None = None, **settings):
        data = {"train": train} | ({"validation": validation} if validation else {})
        for name, rows in data.items():
            (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
        assignments = [f"data.{key}={value}" for key, value in settings.items() if key != "seed"]
        tree = {"task": task, "seed": settings.get("seed", 0)}
        tree["data"] = {name: str(tmp_path / f"{name}.jsonl") for name in data}
        recipe, said = load_recipe(tree, assignments), []
        splits, names = read_splits(recipe, make_task(recipe.task), said.append)
        return splits, bind_labels(recipe, make_task(recipe.task), splits, names, None), said

    return run


def questions(documents: int, each: int) -> list[dict]:
    return [
        {"question": f"{n} of {doc}?", "context": f"doc {doc}", "answers": [{"text": "doc", "answer_start": 0}]}
        for doc in range(documents)
        for n in range(each)
    ]


def reviews(*labels: str) -> list[dict]:
    return [{"text": f"text {n}", "label": label, "guest": f"g{n % 3}"} for n, label in enumerate(labels)]


@pytest.mark.parametrize("seed", range(5))
def test_the_questions_of_a_document_stand_on_one_side(read, seed):
    splits, _, said = read("qa", questions(20, 5), seed=seed)
    train, validation = ({row["context"] for row in rows} for rows in (splits.train, splits.validation))
    assert train | validation == {f"doc {doc}" for doc in range(20)}
    assert not train & validation
    assert said == [f"validation: 10 of 100 training rows are held back by document (2 of 20, seed {seed})"]


def test_of_a_single_document_rows_are_held_back_and_that_is_said(read):
    _, _, said = read("qa", questions(1, 20))
    caveat = "; all have the same document, so it is on both sides"
    assert said == [f"validation: 2 of 20 training rows are held back by row (seed 0){caveat}"]


def test_a_column_of_the_file_says_which_rows_belong_together(read):
    splits, _, said = read("sentiment", reviews(*"aabb" * 6), group_by="guest")
    assert len({row["group"] for row in splits.validation}) == 1
    assert not {row["group"] for row in splits.validation} & {row["group"] for row in splits.train}
    assert said == ["validation: 8 of 24 training rows are held back by guest (1 of 3, seed 0)"]


@pytest.mark.parametrize(
    ("column", "message", "hint"),
    [
        ("gest", "data.group_by: .*train.jsonl has no column 'gest'", "did you mean 'guest'"),
        ("hotel", "data.group_by: all 24 rows of .*train.jsonl have the same 'hotel'", "data.group_by=none"),
    ],
)
def test_a_column_that_parts_no_rows_is_refused(read, column, message, hint):
    rows = [{**row, "hotel": "Ritz"} for row in reviews(*"aabb" * 6)]
    with pytest.raises(BertkitError, match=message) as caught:
        read("sentiment", rows, group_by=column)
    assert hint in caught.value.hint


def test_with_none_equal_texts_may_stand_on_both_sides_and_are_counted(read):
    rows = [{"text": f"t{n % 6}", "label": n % 2} for n in range(60)]
    _, _, said = read("sentiment", rows, group_by="none")
    assert said[0] == "validation: 6 of 60 training rows are held back by row (seed 0)"
    assert said[1].startswith("validation: 6 of 6 rows stand in train as well (")
    _, _, said = read("sentiment", rows)
    assert said == ["validation: 10 of 60 training rows are held back by text (1 of 6, seed 0)"]


def test_rows_of_a_given_split_that_train_has_are_counted(read):
    validation = [{"text": "Text  1", "label": "a"}, {"text": "new", "label": "b"}]
    _, _, said = read("sentiment", reviews(*"abab"), validation)
    assert said == ["validation: 1 of 2 rows stand in train as well (0)"]


@pytest.mark.parametrize("seed", range(40))
def test_a_label_of_one_row_is_learned_whatever_the_seed(read, seed):
    splits, task, said = read("sentiment", reviews(*"ab" * 20, "rare"), seed=seed)
    assert task.labels == ("a", "b", "rare")
    assert "rare" in {row["label"] for row in splits.train}
    assert len(said) == 1


def test_labels_are_those_of_the_file_and_those_that_train_does_not_see_are_named(read):
    splits, task, said = read("sentiment", reviews(*"ab" * 20, "rare"), train_rows=2)
    assert task.labels == ("a", "b", "rare")
    assert {row["label"] for row in splits.train} == {"a", "b"}
    assert said[-1] == "train: no row has the label 'rare', so it is not learned"

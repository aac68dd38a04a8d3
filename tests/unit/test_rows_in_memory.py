"""Rows in memory are read, checked and answered as those of a file, whatever holds them."""

from __future__ import annotations

import json

import pytest

from bertkit import evaluate, finetune, predict
from bertkit.errors import BertkitError
from bertkit.recipe import load_recipe
from bertkit.splits import read_splits
from bertkit.tasks.base import make_task

ROWS = [{"text": f"text {n}", "label": n % 2, "guest": f"g{n}"} for n in range(20)]
NEW = [{"text": f"new {n}", "label": n % 2} for n in range(4)]


def as_frame(rows):
    return pytest.importorskip("pandas").DataFrame(rows)


def as_polars(rows):
    return pytest.importorskip("polars").DataFrame(rows)


def as_dataset(rows):
    return pytest.importorskip("datasets").Dataset.from_list(rows)


HOLDERS = pytest.mark.parametrize("held", [list, tuple, iter, as_frame, as_polars, as_dataset])
TABLES = pytest.mark.parametrize("held", [list, as_frame, as_polars, as_dataset])


def read(task: str, rows, *assignments: str):
    recipe, said = load_recipe({"task": task}, assignments), []
    return read_splits(recipe, make_task(recipe.task), said.append, rows), said


@HOLDERS
def test_they_become_the_rows_that_a_file_gives(held, tmp_path):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    splits, said = read("sentiment", {"train": held(ROWS)}, "data.group_by=guest")
    recipe = load_recipe({"task": "sentiment", "data": {"train": str(tmp_path / "a.jsonl"), "group_by": "guest"}})
    expected = read_splits(recipe, make_task(recipe.task), lambda _: None)
    assert splits == expected
    assert said == ["validation: 2 of 20 training rows are held back by guest (seed 0)"]


@HOLDERS
def test_a_wrong_row_is_named_by_its_number(held):
    rows = [*ROWS[:7], {**ROWS[7], "text": None}, *ROWS[8:]]
    with pytest.raises(BertkitError, match=r"^train: row 7: column 'text' is missing$") as caught:
        read("sentiment", {"train": held(rows), "validation": held(NEW)})
    assert "data.skip_bad_rows=true" in caught.value.hint
    with pytest.raises(BertkitError, match=r"^validation: no column 'text' for the task's 'text'; it has: a, label$"):
        read("sentiment", {"train": held(ROWS), "validation": held([{"a": "x", "label": 0}])})


def test_names_and_arrays_of_a_data_set_are_kept():
    datasets, pandas = pytest.importorskip("datasets"), pytest.importorskip("pandas")
    numpy = pytest.importorskip("numpy")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    plain = [{"text": row["text"], "label": row["label"]} for row in ROWS]
    named = datasets.DatasetDict({"train": datasets.Dataset.from_list(plain, features=features)})
    assert {row["label"] for row in read("sentiment", named)[0].train} == {"neg", "pos"}
    words = pandas.DataFrame({"words": [numpy.array(["a", "b"])] * 4, "tags": [numpy.array(["X", "VERB"])] * 4})
    assert read("pos", {"train": words, "validation": words})[0].train[0]["words"] == ["a", "b"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"training": ROWS}, "rows: there is no split 'training'"),
        ({"validation": ROWS}, "data.train: no training rows are given"),
        ({"train": 3}, "train: the rows are of type int"),
        ({"train": ROWS[0]}, "train: the rows are of type dict"),
        ({"train": []}, "train: there are no rows"),
        ({"train": ["a", "b"]}, "train: row 0: 'a' is not an object"),
    ],
)
def test_what_holds_no_rows_is_refused(rows, message):
    with pytest.raises(BertkitError) as caught:
        read("sentiment", rows)
    assert caught.value.message == message


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory") / "run"
    recipe = {
        "task": "sentiment", "data": {"train": "is not read.csv"},
        "model": {"checkpoint": "bundled:tiny", "init": "scratch"},
        "train": {"steps": 2, "batch_size": 4}, "hardware": {"precision": "fp32"},
    }  # fmt: skip
    finetune(recipe, folder, rows={"train": ROWS, "validation": NEW}, quiet=True)
    return folder


@TABLES
def test_a_run_scores_and_answers_them_beside_what_was_given(run, held):
    assert evaluate(run, held(NEW), quiet=True)["rows"] == 4
    given = [{**row, "guest": n, "label": "?"} for n, row in enumerate(NEW)]
    for n, answer in enumerate(predict(run, held(given))):
        assert (answer["id"], answer["text"], answer["guest"], answer["given_label"]) == (str(n), f"new {n}", n, "?")
        assert answer["label"] in ("0", "1")
    texts = [row["text"] for row in NEW]
    assert [answer["label"] for answer in predict(run, texts)] == [
        answer["label"] for answer in predict(run, held(NEW))
    ]

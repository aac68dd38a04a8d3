"""The rows of a run: no document on both sides, labels decided before anything is held back or drawn."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from bertkit.data.sources import Columns
from bertkit.errors import BertkitError
from bertkit.recipe import load_recipe
from bertkit.splits import bind_labels, checksums, read_splits
from bertkit.tasks.base import make_task
from bertkit.tasks.classification import Classification


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
        splits = read_splits(recipe, make_task(recipe.task), said.append)
        return splits, bind_labels(recipe, make_task(recipe.task), splits, None), said

    return run


def noted(splits) -> dict[str, str]:
    return {note.title: note.text for note in splits.notes}


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
    assert len({row["data.group_by"] for row in splits.validation}) == 1
    assert not {row["data.group_by"] for row in splits.validation} & {row["data.group_by"] for row in splits.train}
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


@pytest.mark.parametrize(
    ("setting", "value"), [("group_by", "guest"), ("group_by", "none"), ("validation_share", "0.2")]
)
def test_how_rows_are_held_back_is_refused_where_none_are(read, setting, value):
    with pytest.raises(BertkitError, match=f"data.{setting}: .*{value}.* has no effect, because validation rows are"):
        read("sentiment", reviews(*"abab"), reviews(*"ab"), **{setting: value})


def test_the_configuration_of_a_data_set_is_refused_where_all_rows_are_in_files(read, tmp_path):
    with pytest.raises(BertkitError, match="'mnli' has no effect, because all rows are read from files") as caught:
        read("sentiment", reviews(*"abab"), config="mnli")
    assert caught.value.hint == "leave out data.config"
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("train.csv", "dev.csv"):
        (folder / name).write_text("text,label\na,b\n")
    data = {"source": str(folder), "validation": "dev", "config": "mnli"}  # a folder, but of files
    recipe = load_recipe({"task": "sentiment", "data": data})
    with pytest.raises(BertkitError, match="has no effect, because all rows"):
        read_splits(recipe, make_task(recipe.task), print)


class Grouped(Classification):
    """A task that has a column `group` of its own."""

    @property
    def reads(self):
        return Columns(text=("text", "group"), label="label")


def test_a_column_to_group_by_takes_the_place_of_no_other(tmp_path):
    rows = [{**row, "group": f"second {n}"} for n, row in enumerate(reviews(*"aabb" * 6))]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = load_recipe({"task": "classification", "data": {"train": str(tmp_path / "a.jsonl"), "group_by": "guest"}})
    said = []
    splits = read_splits(recipe, Grouped(), said.append)
    assert sorted(row["group"] for row in splits.train + splits.validation) == sorted(row["group"] for row in rows)
    assert said == ["validation: 8 of 24 training rows are held back by guest (1 of 3, seed 0)"]


def test_white_space_and_case_part_no_group(read):
    rows = [{**row, "guest": f"{'Gg'[n % 2]}{n // 2 % 3}{' ' * (n % 2)}"} for n, row in enumerate(reviews(*"aabb" * 6))]
    splits, _, said = read("sentiment", rows, group_by="guest")
    assert said == ["validation: 8 of 24 training rows are held back by guest (1 of 3, seed 0)"]
    assert len({row["data.group_by"] for row in splits.validation}) == 2  # two spellings of one guest


def test_with_none_equal_texts_may_stand_on_both_sides_and_are_counted(read):
    rows = [{"text": f"t{n % 6}", "label": n % 2} for n in range(60)]
    _, _, said = read("sentiment", rows, group_by="none")
    assert said[0] == "validation: 6 of 60 training rows are held back by row (seed 0)"
    assert said[1].startswith("validation: 6 of 6 rows stand in train as well (")
    _, _, said = read("sentiment", rows)
    assert said == ["validation: 10 of 60 training rows are held back by text (1 of 6, seed 0)"]


def test_rows_of_a_given_split_that_train_has_are_counted(read):
    validation = [{"text": "Text  1", "label": "a"}, {"text": "new", "label": "b"}]
    splits, _, said = read("sentiment", reviews(*"abab"), validation)
    assert said == ["validation: 1 of 2 rows stand in train as well (0)"]
    assert noted(splits) == {"Rows that stand in train as well": f"{said[0]}."}


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
    assert noted(splits) == {"Labels without a training row": f"{said[-1]}."}


@pytest.mark.parametrize("empty", ["", " ", "\t\n"])
@pytest.mark.parametrize("task", ["sentiment", "nli", "classification"])
def test_rows_with_an_empty_text_are_left_out_and_named_by_line(read, task, empty):
    texts = ("premise", "hypothesis") if task == "nli" else ("text",)
    rows = [{**{name: f"{name} {n}" for name in texts}, "label": "ab"[n % 2]} for n in range(20)]
    rows[3][texts[-1]] = rows[8][texts[0]] = empty
    splits, _, said = read(task, rows)
    assert len(splits.train) + len(splits.validation) == 18
    lines = re.findall(r"train.jsonl:(\d+)", said[0].split("left out")[1])
    assert "2 rows with an empty text are left out" in said[0]
    assert lines == ["4", "9"]
    text = "These rows are not part of any figure. train: 2 rows with an empty text."
    assert noted(splits) == {"Rows left out": text}
    with pytest.raises(BertkitError, match=f"train.jsonl:6: column '{texts[0]}' is missing"):
        read(task, [*rows[:5], {**rows[5], texts[0]: None}, *rows[6:]])


@pytest.mark.parametrize(
    ("one", "other", "setting"),
    [("Good", "good", "data.labels.Good=good"), ("Not good", "not good", 'data.labels={"Not good": "not good"}')],
)
def test_labels_that_differ_in_case_only_are_refused_until_they_are_joined(read, one, other, setting):
    rows = reviews(*[other, "bad"] * 10, one)
    with pytest.raises(BertkitError) as caught:
        read("sentiment", rows)
    assert caught.value.message.endswith(f"the labels {other!r} (10 times) and {one!r} (1 time) differ in case only")
    assert setting in caught.value.hint
    name, value = setting.removeprefix("data.").split("=", 1)
    assert read("sentiment", rows, **{name: value})[1].labels == ("bad", other)
    validation = [{"text": "new", "label": one}]
    with pytest.raises(BertkitError, match=f"unknown label {one!r}") as caught:
        read("sentiment", rows[:-1], validation)
    assert setting in caught.value.hint
    assert read("sentiment", rows[:-1], validation, **{name: value})[0].validation[0]["label"] == other


def test_minus_one_is_never_a_class_in_silence(read):
    rows = reviews(*["0", "1", "2", "-1"] * 5)
    with pytest.raises(BertkitError, match=r"the label -1 \(5 times\) stands for 'no label'") as caught:
        read("sentiment", rows)
    assert "data.ignore_labels=-1" in caught.value.hint
    splits, task, said = read("sentiment", rows, ignore_labels=-1)
    assert task.labels == ("0", "1", "2")
    assert "5 rows with an ignored label are left out" in said[0]
    assert noted(splits)["Rows left out"].endswith("train: 5 rows with an ignored label.")
    assert read("sentiment", reviews(*["1", "-1"] * 5))[1].labels == ("1", "-1")  # without it there is one class


@pytest.mark.parametrize("spelt", [["0.0", "1.0"], ["False", "True"], [False, True], [0, 1], [0.0, 1.0]])
@pytest.mark.parametrize("known", [["0", "1"], ["0.0", "1.0"], ["false", "true"]])
def test_programs_write_numbers_and_truth_in_many_ways_and_they_are_one_class(read, known, spelt):
    validation = [{"text": f"new {n}", "label": label} for n, label in enumerate(spelt)]
    splits, task, _ = read("sentiment", reviews(*known * 5), validation)
    assert task.labels == tuple(known)
    assert [row["label"] for row in splits.validation] == known


def test_what_is_read_under_another_spelling_is_said(read):
    _, _, said = read("sentiment", reviews(*["0", "1"] * 5), [{"text": "new", "label": "1.0"}])
    assert said[0].endswith("validation.jsonl: the label '1.0' is read as '1' (1 time)")
    labels = ("true", "half-true", "1.5", "01")
    assert set(read("sentiment", reviews(*labels * 5))[1].labels) == set(labels)  # no other spelling: names as they are


@pytest.mark.parametrize(("setting", "value"), [("labels.a", "b"), ("ignore_labels", "a")])
def test_what_is_said_of_labels_is_refused_where_there_are_none(read, setting, value):
    with pytest.raises(BertkitError, match=rf"data\.{setting.partition('.')[0]}: qa has no labels"):
        read("qa", questions(4, 2), **{setting: value})


def test_rows_that_have_an_ignored_label_among_several_are_left_out(read):
    rows = [{"text": str(n), "label": [*"ab"[n % 2 :], *"x"[n % 3 :]]} for n in range(12)]
    several = {"name": "classification", "kind": "labels"}
    splits, task, said = read(several, rows, ignore_labels="x")
    assert (task.labels, "4 rows with an ignored label are left out: " in said[0]) == (("a", "b"), True)
    assert len(splits.train) + len(splits.validation) == 8
    _, _, said = read(
        {"name": "classification", "kind": "labels"}, [*rows, {"text": "", "label": []}], ignore_labels=""
    )
    assert "1 row with an ignored label is left out: " in said[0]


def test_sentences_that_have_an_ignored_tag_are_left_out(read):
    rows = [{"words": ["a", str(n)], "tags": ["N", "VX"[n % 2]]} for n in range(8)]
    _, task, said = read("pos", rows, ignore_labels="X")
    assert (task.labels, "4 rows with an ignored label are left out: " in said[0]) == (("N", "V"), True)


def test_a_label_in_the_map_that_no_row_of_any_split_has_is_refused(read):
    train, validation = reviews(*"abab"), reviews(*"abc")
    assert read("sentiment", train, validation, **{"labels.c": "b"})[1].labels == ("a", "b")
    with pytest.raises(BertkitError, match=r"data\.labels: no row has the label 'bb'") as caught:
        read("sentiment", train, validation, **{"labels.bb": "b", "labels.c": "b"})
    assert "did you mean 'b'?" in caught.value.hint


def test_only_tags_that_stand_in_a_row_are_counted_and_looked_for(read):
    train = [{"words": ["a", "b", "c"], "tags": ["B-X", "M-X", "E-X"]}] * 3
    single = {"words": ["d"], "tags": ["S-X"]}
    assert read("ner", train, [single, *train])[1].labels == ("B-X", "E-X", "M-X", "S-X")
    with pytest.raises(BertkitError, match=r"labels 'B-X' \(3 times\) and 'b-X' \(1 time\) differ"):
        read("ner", [*train, {"words": ["d"], "tags": ["b-X"]}])


@pytest.mark.parametrize("name", ["~/a.csv", "~/some"])
def test_the_file_that_was_read_is_summed_whatever_name_it_was_given_by(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "some").mkdir()
    for path in (tmp_path / "a.csv", tmp_path / "some" / "train.csv"):
        path.write_text("text,label\n")
    recipe = load_recipe({"task": "sentiment", "data": {"train": name}})
    assert checksums(recipe) == {"train": f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"}


def test_labels_that_differ_in_white_space_only_are_one_class_and_that_is_said(read):
    _, task, said = read("sentiment", reviews(*["not good", "not  good", "fine", "fine "] * 3))
    assert task.labels == ("fine", "not good")
    assert said[0].endswith("train.jsonl: 6 labels are read without their extra white space: 'not good', 'fine'")

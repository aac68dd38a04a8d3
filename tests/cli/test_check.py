"""Rows looked at before training: what is counted, what training would stop at, and nothing written unless asked."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from bertkit.findings import from_json
from tests.cli.conftest import SMALL, check
from tests.rows import BUNDLED

QUICK = (*SMALL, "--no-estimate", "-q")
GOOD = [(f"the {word} ferry left at {number}", "yes" if number % 2 else "no")
        for number in range(12) for word in ("small", "large", "red")]  # fmt: skip


def csv(rows: list[tuple[str, str]]) -> str:
    return "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in rows)


def tables(results: dict) -> dict[str, dict]:
    """Title -> first cell of a line -> the other cells by column."""
    return {
        found.title: {row[0]: dict(zip(found.columns[1:], row[1:], strict=True)) for row in found.rows}
        for found in from_json(results["findings"])
        if found.kind == "table"
    }


def notes(results: dict) -> dict[str, str]:
    return {found.title: found.text for found in from_json(results["findings"]) if found.kind == "note"}


@pytest.fixture
def looked(bertkit, write, tmp_path, monkeypatch):
    """What `bertkit check` says of rows, as JSON; the folder that it runs in stays as it is."""
    monkeypatch.chdir(tmp_path)

    def call(content: str, *settings: object, name: str = "a.csv", task: str = "sentiment", code: int = 0) -> dict:
        path = write(name, content)
        before = sorted(tmp_path.iterdir())
        done = bertkit("check", path, "--task", task, *QUICK, *settings, "--json")
        assert done.code == code, done.err
        assert sorted(tmp_path.iterdir()) == before
        return json.loads(done.out)

    return call


def test_rows_without_any_label_are_looked_at_as_others(looked, write):
    held = write("held.jsonl", '{"text": "a b", "label": ["x"]}\n{"text": "c d", "label": ["y"]}\n')
    rows = "".join(f'{{"text": "day {number}", "label": []}}\n' for number in range(4))
    settings = "task.kind=labels", "--validation", held
    assert tables(looked(rows, *settings, name="a.jsonl", task="classification", code=2))["Labels"]["x"]["train"] == 0


def test_every_fault_is_counted_where_it_is(looked, write):
    planted = [
        ("Hello &amp; welcome", "yes"), ("<br/>so it goes", "no"), ("the cafÃ© was shut", "yes"), ("12 - 7", "no"),
        ("n/a", "yes"), ("a bell\x07rang", "no"), ("word " * 700, "yes"),
        ("The small ferry  left at 0", "yes"),  # as another row, but for case and white space; its label is no
    ]  # fmt: skip
    held = write("held.csv", csv([GOOD[0], ("a quiet day", "no"), ("a quiet day", "no")]))
    results = looked(csv([*GOOD, *planted]), "--validation", held)
    counted = {what: (line["train"], line["validation"]) for what, line in tables(results)["Rows"].items()}
    assert counted == {
        "rows": (44, 3), "repeated": (1, 1), "also in validation": (2, 0), "also in train": (0, 1),
        "same text, another answer": (2, 1), "no letter": (1, 0), "a placeholder": (1, 0), "HTML": (2, 0),
        "broken encoding": (1, 0), "control characters": (1, 0), "very long": (1, 0),
    }  # fmt: skip
    read = next(found for found in from_json(results["findings"]) if found.kind == "passages")
    assert Counter(why for passage in read.passages for why in passage.facts) == {
        "no letter": 1, "a placeholder": 1, "HTML": 2, "broken encoding": 1, "control characters": 1, "very long": 1,
        "same text, another answer": 2,  # the spellings of one text
    }  # fmt: skip
    assert {"The same text, another answer", "Rows that stand in train as well"} <= notes(results).keys()


def test_rows_as_they_should_be_have_no_note(looked):
    results = looked(
        csv([(f"{text} {index}", label) for index, (text, label) in enumerate(GOOD * 2)]), task="sentiment"
    )
    assert notes(results) == {}
    assert [*tables(results)["Rows"]] == ["rows"]
    assert tables(results)["Labels"]["yes"]["share of train"] == pytest.approx(0.5, abs=0.05)


def test_columns_are_named_with_what_they_are_read_as(looked):
    content = "n;review;stars\n" + "".join(f"7;{text};{label}\n" for text, label in GOOD)
    results = looked(content, "data.columns.text=review", "data.columns.label=stars")
    columns = next(found for found in from_json(results["findings"]) if found.title == "Columns")
    assert {*columns.rows} == {("train", "review", "text"), ("train", "stars", "label"), ("train", "n", "-")}


def test_labels_that_are_rare_or_prevail_or_miss_in_validation_are_noted(looked, write):
    rows = [(text + " again", "often") for text, _ in GOOD] + [("a day", "rare"), ("a night", "rare")]
    said = notes(looked(csv(rows), "--validation", write("held.csv", csv([("a morning", "often")]))))
    assert said["Rare labels"] == "In train, fewer than 10 rows have 'rare' (2)."
    assert said["Labels that are not scored"] == "No row has them: validation 'rare'."
    assert "'often'" in said["One label prevails"]


def test_what_readers_said_is_a_note(looked):
    lines = [{"text": text, "label": label, "_task_hash": 1, "answer": "accept"} for text, label in GOOD]
    lines[0]["answer"] = "reject"
    results = looked("".join(json.dumps(line) + "\n" for line in lines), name="a.jsonl")
    assert notes(results)["Read otherwise"] == "train: 1 row left out by Prodigy's answer: 1 reject."


@pytest.mark.parametrize("language", ["it knows", "it does not know"])
def test_a_tokenizer_fits_by_its_pieces(looked, language):
    said = notes(looked(csv([("ጤና ይስጥልኝ ዓለም", label) if "not" in language else (text, label) for text, label in GOOD])))
    assert ("The tokenizer does not know this text" in said) == ("not" in language)
    accents = looked(csv([(f"naïve {text}", label) for text, label in GOOD]))
    assert "is read as 'naive'" in notes(accents)["The tokenizer drops accents"]
    assert tables(accents)["How the tokenizer fits"]["sees accents"] == {"value": "no"}


def test_lengths_are_those_of_windows_without_a_limit(looked):
    lines = [("so it goes on " * 40, label) if index < 3 else (text, label) for index, (text, label) in enumerate(GOOD)]
    whole = looked(csv(lines), "windows.max_length=512")
    cut = looked(csv(lines), "windows.max_length=32")
    assert tables(whole)["Tokens of a row"] == tables(cut)["Tokens of a row"]
    assert tables(whole)["Coverage"]["train"]["rows in several windows"] == 0
    assert tables(cut)["Coverage"]["train"]["rows in several windows"] > 0


# what training would stop at


def test_bad_rows_stop_training_and_the_others_are_looked_at(bertkit, looked, write):
    content = csv(GOOD) + "one field\n"
    results = looked(content, code=2)
    assert tables(results)["Rows"]["rows"]["train"] > 0
    assert results["refused"][0]["message"] in notes(results)["Training stops"]
    path = write("a.csv", content)
    trained = bertkit("train", "sentiment", *SMALL, "--train", path, "-q", "--out", path.with_name("run"))
    looked_at = bertkit("check", path, "--task", "sentiment", *QUICK)
    assert (looked_at.code, looked_at.err) == (trained.code, trained.err)
    assert "hint: " in trained.err
    assert looked_at.out


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        ("text,mood\na,b\n", ()),
        (csv([("a", "Yes"), ("b", "yes")]), ()),
        (csv([(text, "one") for text, _ in GOOD]), ()),
        (csv(GOOD), ("model.checkpoint=nowhere/at/all",)),
        (csv(GOOD), ("train.warmup=1000",)),
    ],
)
def test_training_and_a_look_stop_at_the_same(bertkit, write, content, settings):
    path = write("a.csv", content)
    trained = bertkit("train", "sentiment", *SMALL, "--train", path, "-q", "--out", path.with_name("run"), *settings)
    looked_at = bertkit("check", path, "--task", "sentiment", *SMALL, "-q", *settings)
    assert (looked_at.code, looked_at.err) == (trained.code, trained.err)
    assert trained.err.startswith("error: ")


def test_a_look_says_which_task_it_needs(bertkit, write):
    check(bertkit("check", write("a.csv", csv(GOOD))), "which task are these rows for?", "--task sentiment")
    check(bertkit("check", "no.csv", "--task", "sentiment"), "there is no such file", "")


# every task, a recipe, the estimate, the page


@pytest.mark.parametrize("task", BUNDLED)
def test_every_task_has_a_page_and_an_estimate_of_its_run(bertkit, task, tmp_path):
    few = ("data.train_rows=24", "data.validation_rows=6", "train.batch_size=8", "train.epochs=2", "-q")
    out = tmp_path / "check"
    done = bertkit("check", f"bundled:{BUNDLED[task]}", "-t", task, *SMALL, *few, "--out", out, "--json")
    assert (done.code, done.err) == (0, "")
    results = json.loads(done.out)
    windows = tables(results)["Coverage"]["train"]["windows"]
    takes = results["estimate"]
    assert takes["steps"] == 2 * -(-windows // 8)
    assert min(takes[key] for key in ("training_seconds", "evaluation_seconds", "memory_mb", "timed_steps")) > 0
    study = json.loads((out / "study.json").read_text())
    assert study["study"] == "check"
    assert study["headline"]["value"] == len(notes(results))
    assert json.loads((out / "results.json").read_text())["estimate"] == takes
    assert "<svg" in (out / "report.html").read_text(encoding="utf-8")
    check(bertkit("check", f"bundled:{BUNDLED[task]}", "-t", task, *QUICK, "--out", out, "--quiet")._replace(out=""),
          "is not empty", "a new name")  # fmt: skip


@pytest.mark.parametrize(("kind", "labels"), [("labels", ("a|b", "", "b")), ("number", ("1.5", "-2", "0"))])
def test_labels_and_numbers_are_looked_at_too(looked, kind, labels):
    rows = [(f"{text} {index}", labels[index % 3]) for index, (text, _) in enumerate(GOOD)]
    found = tables(looked(csv(rows), f"task.kind={kind}", task="classification"))
    if kind == "labels":
        assert found["Labels"]["b"]["train"] > found["Labels"]["a"]["train"] > 0
    else:
        assert [found["Numbers"]["train"][name] for name in ("least", "median", "most")] == [-2, 0, 1.5]


def test_a_recipe_is_looked_at_as_it_stands(bertkit, write):
    path = write("a.csv", csv(GOOD))
    recipe = write(
        "mine.yaml", f"task: sentiment\nmodel: {{checkpoint: bundled:tiny, init: scratch}}\ndata: {{train: {path}}}\n"
    )
    done = bertkit("check", recipe, "--no-estimate", "-q", "--json")
    assert (done.code, json.loads(done.out)["facts"]["model"]) == (0, "bundled:tiny")


def test_what_rows_hold_is_text_on_the_page(bertkit, write, tmp_path):
    path = write("a.csv", csv([*GOOD, ("<p><script>alert(1)</script>", "<b>yes</b>")]))
    assert bertkit("check", path, "-t", "sentiment", *QUICK, "--out", tmp_path / "check").code == 0
    page = (tmp_path / "check" / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "<b>yes" not in page

"""Prediction takes rows as people have them and gives them back beside the answers."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from tests.cli.conftest import check
from tests.rows import BUNDLED

ROWS = 'id,customer,text\nr1,Ann,A fine day\nr2,Bob,"Cold, and dull"\n'


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json"])
def test_the_answers_are_what_the_name_says_beside_the_input_columns(bertkit, finished, tmp_path, ending):
    (tmp_path / "new.csv").write_text(ROWS)
    out = tmp_path / f"p{ending}"
    done = bertkit("predict", finished("sentiment"), "--input", tmp_path / "new.csv", "--out", out, "-q")
    assert done == (0, "", "")
    text = out.read_text()
    if ending in (".csv", ".tsv"):
        found = list(csv.DictReader(text.splitlines(), delimiter="," if ending == ".csv" else "\t"))
        assert list(found[0])[:4] == ["id", "customer", "text", "label"]
        assert sum(float(value) for name, value in found[0].items() if "probabilities." in name) == pytest.approx(1)
    else:
        found = json.loads(text) if ending == ".json" else [json.loads(line) for line in text.splitlines()]
    assert [(row["id"], row["customer"], row["text"]) for row in found] == [
        ("r1", "Ann", "A fine day"),
        ("r2", "Bob", "Cold, and dull"),
    ]
    assert {row["label"] for row in found} <= {"positive", "negative"}


def test_a_name_that_says_another_kind_is_refused_before_the_run_is_opened(bertkit, tmp_path):
    done = bertkit("predict", tmp_path / "none", "--text", "a", "--out", tmp_path / "p.xlsx")
    check(done, "files that end in '.xlsx' are not written", "name it .jsonl")


@pytest.mark.parametrize(
    ("source", "content"),
    [
        ("-", '{"text": "A fine day"}\n{"text": "Cold, and dull"}\n'),
        ("-", ROWS),
        ("/dev/stdin", "A fine day\nCold, and dull\n"),
    ],
)
def test_standard_input_is_read_as_what_it_holds(finished, source, content):
    found = shell([sys.executable, "-m", "bertkit", "predict", str(finished("sentiment")), "--input", source], content)
    assert [json.loads(line)["text"] for line in found.stdout.splitlines()] == ["A fine day", "Cold, and dull"]


def test_a_command_in_place_of_a_file_is_read(finished):
    line = f"{sys.executable} -m bertkit predict {finished('sentiment')} -q --input <(echo A fine day)"
    assert json.loads(shell(["bash", "-c", line]).stdout)["text"] == "A fine day"


def test_a_text_of_the_command_line_is_answered_aloud_where_asked(bertkit, finished):
    done = bertkit("predict", finished("sentiment"), "--text", "A fine day", "--verbose")
    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["device", "model"]
    assert bertkit("predict", finished("sentiment"), "--text", "A fine day") == (0, done.out, "")


def shell(command: list[str], content: str = "") -> subprocess.CompletedProcess:
    done = subprocess.run(command, input=content, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done


TEXTS = {
    "sentiment": ("--text", "The soup was cold."),
    "nli": ("--text", "A dog sleeps.", "--second", "An animal rests."),
    "pos": ("--text", "The dog sleeps."),
    "ner": ("--text", "Ada Lind lives in Oslo."),
    "qa": ("--question", "Who sleeps?", "--context", "The old dog sleeps by the door."),
}


@pytest.mark.parametrize("task", BUNDLED)
def test_an_answer_comes_with_its_reasons(bertkit, finished, tmp_path, task):
    """The same answers, and a page that marks the words that count."""
    code, out, _ = bertkit("predict", finished(task), *TEXTS[task], "--explain", "--quiet")
    explained = json.loads(out)
    plain = json.loads(bertkit("predict", finished(task), *TEXTS[task], "--quiet").out)
    assert code == 0
    assert {key: explained[key] for key in plain} == plain
    assert all(word["weight"] for words in explained["attributions"].values() for word in words)
    page = tmp_path / "page.html"
    assert bertkit("report", finished(task), "--explain", "3", "--out", page).code == 0
    assert page.read_text(encoding="utf-8").count('class="for"') > 3


def test_answers_come_while_rows_are_still_written(finished):
    """The first answer is there before the second row is."""
    command = [sys.executable, "-m", "bertkit", "predict", str(finished("sentiment")), "--input", "-", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdin.write('{"text": "A fine day"}\n')
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"] == "A fine day"
        process.stdin.write('{"text": "Cold, and dull"}\n')
        process.stdin.close()
        assert json.loads(process.stdout.readline())["text"] == "Cold, and dull"
    assert process.returncode == 0


def test_a_prediction_that_meets_a_bad_row_goes_on_where_it_stopped(bertkit, finished, tmp_path, monkeypatch):
    monkeypatch.setattr("bertkit.encode.PART_ROWS", 8)
    rows, out, whole = tmp_path / "rows.jsonl", tmp_path / "out.csv", tmp_path / "whole.csv"
    lines = [json.dumps({"text": f"day {number}", "n": number}) for number in range(30)]
    rows.write_text("\n".join([*lines[:20], '{"text": 7}', *lines[20:]]))
    command = "predict", finished("sentiment"), "-i", rows, "-o"
    check(bertkit(*command, out, "-q"), f"{rows}:21: column 'text'", "mend it")
    assert not out.exists()
    rows.write_text("\n".join(lines))
    check(bertkit(*command, out, "-q"), "out.csv.partial holds", "--resume")
    assert bertkit(*command, out, "--resume").err.startswith("predictions: ")
    assert bertkit(*command, whole, "-q").code == 0
    ours, theirs = (list(csv.DictReader(path.read_text().splitlines())) for path in (out, whole))
    assert len(ours) == 30
    for one, other in zip(ours, theirs, strict=True):
        assert all(one[name] == other[name] for name in ("text", "n", "id", "label"))
        assert float(one["probabilities.positive"]) == pytest.approx(float(other["probabilities.positive"]), abs=1e-6)


def test_a_prediction_goes_on_only_with_the_rows_that_it_began_with(bertkit, finished, tmp_path, monkeypatch):
    """Whatever their file is called: a row that moved would get the answer of another."""
    monkeypatch.setattr("bertkit.encode.PART_ROWS", 2)
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.csv"
    lines = [json.dumps({"text": f"day {number}", "label": "positive", "n": number}) for number in range(6)]
    rows.write_text("\n".join([*lines[:4], "7", *lines[5:]]))
    command = "predict", finished("sentiment"), "-i", rows, "-o", out, "-q"
    check(bertkit(*command), f"{rows}:5: 7 is not an object", "leave such rows out")
    for other in (lines[1:], lines[:2]):
        rows.write_text("\n".join(other))
        check(bertkit(*command, "--resume"), "is not the one that was answered before", "begin with another --out")
    rows.write_text("\n".join(lines))
    check(bertkit(*command, "--resume", "hardware.precision=bf16"), "another run, input or setting", "remove it")
    assert bertkit(*command, "--resume", "hardware.threads=1").code == 0
    found = list(csv.DictReader(out.read_text().splitlines()))
    assert [(one["n"], one["given_label"]) for one in found] == [(str(number), "positive") for number in range(6)]


def test_answers_never_take_the_place_of_their_rows(bertkit, finished, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text(ROWS)
    check(bertkit("predict", finished("sentiment"), "-i", rows, "-o", rows), "is the input itself", "another name")
    assert rows.read_text() == ROWS


def test_columns_of_one_name_all_come_back(bertkit, finished, tmp_path):
    (tmp_path / "rows.csv").write_text("note,text,note\n1,A fine day,2\n")
    done = bertkit("predict", finished("sentiment"), "-i", tmp_path / "rows.csv", "-q")
    assert [json.loads(done.out)[name] for name in ("note", "note.1")] == ["1", "2"]


def test_rows_without_gold_answers_are_for_predict(bertkit, finished, tmp_path):
    rows = tmp_path / "rows.csv"
    rows.write_text("text\nA fine day\n")
    done = bertkit("evaluate", finished("sentiment"), "--data", rows)
    check(done, "no column 'label' for the task's 'label'", f"bertkit predict {finished('sentiment')} --input {rows}")


def test_several_runs_answer_together(bertkit, finished, tmp_path):
    first, second = finished("sentiment"), tmp_path / "second"
    shutil.copytree(first, second)
    weights = load_file(second / "model" / "model.safetensors")
    save_file(
        {name: values * (50 if "classifier" in name else 1) for name, values in weights.items()},
        second / "model" / "model.safetensors",
    )

    def shares(*runs):
        done = bertkit("predict", *runs, "--text", "A fine day", "hardware.precision=fp32", "-q")
        return json.loads(done.out)["probabilities"]["positive"]

    assert shares(first, second) == pytest.approx((shares(first) + shares(second)) / 2, abs=1e-6)
    assert shares(first) != pytest.approx(shares(second), abs=1e-3)
    done = bertkit("evaluate", first, second, "--data", "bundled:sentiment.csv", "--json", "-q")
    assert 0 <= json.loads(done.out)["accuracy"] <= 1


def test_a_run_that_is_named_twice_or_is_none_is_refused(bertkit, finished, tmp_path):
    check(bertkit("predict", finished("sentiment"), finished("sentiment"), "--text", "a"), "named twice", "once")
    check(bertkit("predict", finished("sentiment"), "train.step", "--text", "a"), "train.step", "")

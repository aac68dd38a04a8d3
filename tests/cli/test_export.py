"""`bertkit export`, and answering with what it wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

import bertkit as public
from bertkit.errors import BertkitError
from tests.cli.conftest import check


@pytest.fixture(scope="module")
def run(finished, bertkit, tmp_path_factory):
    """A run with an export in it, and what the command gave back."""
    folder = tmp_path_factory.mktemp("export") / "run"
    shutil.copytree(finished("sentiment"), folder)
    return folder, bertkit("export", folder, "hardware.threads=1")


def answers(done):
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_it_is_compared_on_the_rows_of_the_run(run):
    folder, done = run
    assert done.code == 0, done.err
    assert "100.0% of the answers to 6 rows are torch's, outputs differ by up to" in done.out
    assert {file.name for file in (folder / "onnx").iterdir()} == {
        "answer.py", "model.onnx", "task.json", "tokenizer.json", "windows.json"
    }  # fmt: skip


def test_predict_and_evaluate_answer_with_it_as_torch_does(run, bertkit, write):
    folder, _ = run
    rows = write("rows.csv", "text,label\nI would go again,positive\n" + "awful " * 200 + ",negative\n")
    by_torch, by_onnx = (
        answers(bertkit("predict", folder, "--input", rows, "--engine", engine, "hardware.precision=fp32", "-q"))
        for engine in ("torch", "onnx")
    )
    for one, other in zip(by_torch, by_onnx, strict=True):
        assert one.pop("probabilities") == pytest.approx(other.pop("probabilities"), abs=1e-5)
        assert one == other
    scores = [
        answers(bertkit("evaluate", folder, "--data", rows, "--engine", engine, "--json", "-q", "hardware.device=cpu"))
        for engine in ("torch", "onnx")
    ]
    assert scores[0] == scores[1]


def test_the_script_runs_by_itself(run):
    """Without bertkit, torch and transformers, and whatever encoding a terminal has."""
    folder, _ = run
    text = "I would go again. " * 60 + "我们会再来 🧀 é"
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__'); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, folder / "onnx" / "answer.py"],
        input=json.dumps({"text": text}, ensure_ascii=False) + "\n\n", encoding="utf-8", capture_output=True,
        check=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    (wanted,) = public.load(folder, ["hardware.precision=fp32"]).predict([text])
    given = json.loads(done.stdout)
    assert given["label"] == wanted["label"]
    assert given["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-5)
    assert not {"bertkit", "torch", "transformers"} & set(done.stderr.split())


@pytest.mark.parametrize("more", [("--largest-difference", "0"), ("--int8", "--largest-difference", "1e-9")])
def test_beyond_a_bound_nothing_is_written(finished, bertkit, tmp_path, more):
    done = bertkit("export", finished("sentiment"), "--out", tmp_path / "new" / "folder", "-q", *more)
    hint = "leave out --int8, or set --largest-difference" if "--int8" in more else "set --largest-difference"
    check(done, "outputs differ by up to", hint)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(run, bertkit):
    folder, _ = run
    before = (folder / "onnx" / "model.onnx").read_bytes()
    check(bertkit("export", folder, "--int8"), f"{folder / 'onnx'} is there already", "remove it")
    assert (folder / "onnx" / "model.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("hardware.precision=bf16",), "hardware.precision=bf16: an ONNX file has hardware.precision=fp32"),
        (("hardware.compile=true",), "hardware.compile=true: an ONNX file has"),
        (("--explain",), "an ONNX file gives no gradients"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(run, bertkit, more, message):
    check(bertkit("predict", run[0], "--text", "good", "--engine", "onnx", *more), message, "leave")


def test_without_an_export_the_engine_is_refused(finished, bertkit):
    done = bertkit("predict", finished("sentiment"), "--text", "good", "--engine", "onnx")
    check(done, "onnx/model.onnx is not there", "bertkit export RUN")
    with pytest.raises(BertkitError, match="there is no engine 'onxx'"):
        public.load(finished("sentiment"), engine="onxx")

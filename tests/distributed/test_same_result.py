"""What is learned and what is answered does not depend on how many processes share the work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bertkit.rundir import RunDir
from tests.distributed.conftest import start
from tests.distributed.work import ROWS
from tests.rows import TASKS


@pytest.mark.parametrize("world", ["2", "3"])
@pytest.mark.parametrize("task", [*TASKS, "pretrain"])
def test_several_processes_learn_what_one_learns(worlds: Path, task: str, world: str) -> None:
    one, several = (RunDir(worlds / count / task).read_history() for count in ("1", world))
    steps = [record for record in one if "loss" in record]
    assert len(steps) == 20
    assert len(one) == len(several)
    for ours, theirs in zip(one, several, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            if name == "validation":
                assert theirs[name] == {key: near(score, 1e-6) for key, score in value.items()}
            elif name != "padded":  # tokens with padding are those of the first process
                assert theirs[name] == near(value, 1e-6 if name == "loss" else 1e-5), (ours["step"], name)


def near(value: float | None, tolerance: float) -> object:
    """What differs by no more than this; above 1, by a share of it, for float32 has seven digits."""
    return value if value is None else pytest.approx(value, abs=tolerance * max(1.0, abs(value)))


@pytest.mark.parametrize("world", ["2", "3"])
@pytest.mark.parametrize("task", [*TASKS, "pretrain"])
def test_several_processes_end_with_the_weights_of_one(worlds: Path, task: str, world: str) -> None:
    one, several = (load_file(worlds / count / task / "model/model.safetensors") for count in ("1", world))
    assert one.keys() == several.keys()
    for name, weight in one.items():
        assert torch.allclose(weight, several[name], atol=1e-5), name


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("task", TASKS)
def test_answers_and_scores_are_identical_in_input_order_none_lost_none_twice(
    worlds: Path, asked: Path, task: str, rows: int
) -> None:
    one, two, three = (json.loads((worlds / world / f"{task}-{rows}.json").read_text()) for world in ("1", "2", "3"))
    assert one == two == three
    scores, answers = one
    assert scores
    assert len(answers) == rows
    ids = [answer["id"] for answer in answers]
    assert len(set(ids)) == rows
    if task == "sentiment":
        assert ids == sorted(ids, key=int)


@pytest.mark.parametrize("run", ["few", "long"])
def test_fewer_windows_than_processes_and_one_long_row_do_not_hang_or_differ(worlds: Path, run: str) -> None:
    found = []
    for world in ("1", "2", "3"):
        history = RunDir(worlds / world / run).read_history()
        found.append([record["loss"] for record in history if "loss" in record])
    assert found[1] == pytest.approx(found[0], abs=1e-6)
    assert found[2] == pytest.approx(found[0], abs=1e-6)


def test_one_process_writes_the_run_and_says_how_many_there_were(worlds: Path) -> None:
    for world in ("1", "2", "3"):
        environment = json.loads((worlds / world / "qa/environment.json").read_text())
        assert environment["processes"] == int(world)
        names = {path.name for path in (worlds / world / "qa").iterdir()}
        assert names == {path.name for path in (worlds / "1" / "qa").iterdir()}


def test_the_command_line_answers_and_scores_in_two_processes_as_in_one(worlds: Path, asked: Path) -> None:
    run, data = worlds / "1" / "sentiment", asked / "sentiment-7.csv"
    scores, answers = json.loads((worlds / "1" / "sentiment-7.json").read_text())
    out, err = start("-m", "bertkit", "predict", run, "--input", data, "--cpus", 2).communicate(timeout=200)
    found = [json.loads(line) for line in out.splitlines()]
    # the command gives the columns of the file back, too
    assert [{name: line[name] for name in answers[0]} for line in found] == answers, err
    assert "launch: 2 processes on the CPU" in err
    out, err = start("-m", "bertkit", "evaluate", run, "--data", data, "--cpus", 2, "--json", "-q").communicate()
    told = json.loads(out)  # once
    assert {name: told[name] for name in scores} == scores
    assert told["rows"] == 7
    assert err == ""


def test_processes_that_tell_a_tracker_stay_together_to_the_end(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = ("-m", "bertkit", "train", "sentiment", "--model", "bundled:tiny", "model.init=scratch", "--cpus", "2")
    rows = ("--train", "bundled:sentiment.csv", "data.train_rows=24", "data.validation_rows=4", "train.steps=2")
    process = start(*run, *rows, "log.trackers=tensorboard", "--out", tmp_path / "run")
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert list((tmp_path / "run" / "bertkit").glob("events.out.tfevents.*"))

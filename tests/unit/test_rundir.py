"""A run on disk: whole files or none, errors that name the path, and a folder that nobody overwrites."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bertkit.disk import disk_errors, is_held, next_folder, write_atomically, written_atomically
from bertkit.errors import BertkitError
from bertkit.rundir import SCHEMA, RunDir


def error_of(call, *arguments) -> BertkitError:
    with pytest.raises(BertkitError) as caught:
        call(*arguments)
    return caught.value


def refusal_of(run: RunDir, resume: bool) -> BertkitError:
    with pytest.raises(BertkitError) as caught, run.claim(resume):
        pass
    return caught.value


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def run(tmp_path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.write_json("environment.json", {"schema": SCHEMA})
    write_atomically(run["recipe.yaml"], "task: {name: qa}\n")
    return run


# files


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_atomically(path, "old é")
    with pytest.raises(RuntimeError, match="stop"), written_atomically(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        assert path.read_text() == "old é"
        raise RuntimeError("stop")
    assert path.read_text() == "old é"
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["deep", "deep/a.txt"]


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "model"
    for content in ("old", "new"):
        with written_atomically(path) as temporary:
            (temporary / "in").mkdir(parents=True)
            (temporary / "in" / content).write_text(content)
            assert not (path / "in" / "new").exists()
    assert names(tmp_path) == ["model", "model/in", "model/in/new"]


def test_what_a_killed_process_left_does_not_stand_in_the_way(tmp_path):
    (tmp_path / ".tmp-a").mkdir()
    (tmp_path / ".tmp-a" / "junk").write_text("x")
    write_atomically(tmp_path / "a", "y")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_error_that_names_the_path(tmp_path, monkeypatch, number):
    path = tmp_path / "a.json"
    write_atomically(path, "good")

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    error = error_of(write_atomically, path, "more")
    assert error.message == f"{path} cannot be written ({os.strerror(number)})"
    assert error.hint == "free some space, then go on with --resume"
    assert names(tmp_path) == ["a.json"]
    assert path.read_text() == "good"


@pytest.mark.parametrize("place", ["file/a.txt", "file/b/a.txt"])
def test_a_path_below_a_file_is_one_error(tmp_path, place):
    (tmp_path / "file").write_text("x")
    error = error_of(write_atomically, tmp_path / place, "y")
    assert error.message.startswith(f"{tmp_path / place} cannot be written (")
    assert error.hint == "check the path and its permissions"
    assert names(tmp_path) == ["file"]


def test_errors_of_the_disk_only_are_translated(tmp_path):
    with pytest.raises(ValueError, match="mine"), disk_errors(tmp_path):
        raise ValueError("mine")


# the folder


@pytest.mark.parametrize("resume", [False, True])
def test_a_new_or_empty_folder_is_taken_and_goes_when_nothing_comes_of_it(tmp_path, resume):
    with pytest.raises(RuntimeError, match="stop"), RunDir(tmp_path / "a" / "new").claim(resume):  # noqa: PT012
        assert is_held(tmp_path / "a" / "new")
        raise RuntimeError("stop")
    assert names(tmp_path) == []
    with RunDir(tmp_path).claim(resume):
        assert is_held(tmp_path)
    assert tmp_path.is_dir()
    assert names(tmp_path) == []


def test_a_folder_that_is_held_is_refused_and_left_as_it_is(run):
    before = names(run.path)
    with run.claim(resume=True):
        for resume in (False, True):
            error = refusal_of(RunDir(run.path), resume)
            assert error.message == f"{run.path}: another process is at work here"
        assert run.is_at_work()
    assert names(run.path) == before


def test_what_a_folder_is_made_for_stays(tmp_path):
    with RunDir(tmp_path / "a" / "new").claim(resume=False) as new:
        new.write_json("metrics.json", {})
    assert names(tmp_path) == ["a", "a/new", "a/new/metrics.json"]


def test_a_folder_that_holds_something_is_never_overwritten(run, tmp_path):
    error = refusal_of(run, False)
    assert error.message == f"{run.path} holds a run already, which is never overwritten"
    assert error.hint == "continue it with --resume, or give --out a new name"
    for resume in (False, True):
        error = refusal_of(RunDir(tmp_path), resume)
        assert error.message == f"{tmp_path} is not empty and holds no run"
        error = refusal_of(RunDir(run["recipe.yaml"]), resume)
        assert error.message == f"{run['recipe.yaml']} is a file, not a folder"
        assert error.hint == "give --out a new name"


def test_a_run_that_was_killed_while_it_was_opened_goes_on(tmp_path):
    killed = RunDir(tmp_path)
    killed.checkpoints.mkdir()
    killed.write_json("environment.json", {"schema": SCHEMA})
    killed[".tmp-recipe.yaml"].touch()
    killed[".lock"].touch()
    with killed.claim(resume=True):
        pass
    assert refusal_of(killed, False).message == f"{tmp_path} is not empty and holds no run"
    killed["mine.txt"].touch()
    assert refusal_of(killed, True).message == f"{tmp_path} is not empty and holds no run"


def test_a_finished_run_is_resumed_where_nothing_can_be_written(run, monkeypatch):
    run.write_json("metrics.json", {"headline": "f1"})
    before = names(run.path)
    with run.claim(resume=True):
        assert is_held(run.path)
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)  # as on a disk mounted read-only
    with run.claim(resume=True):
        assert names(run.path) == before
    assert "--resume" in refusal_of(run, resume=False).hint


def test_only_a_run_of_this_schema_opens(run, tmp_path):
    assert run.open() is run
    error = error_of(RunDir(tmp_path).open)
    assert error.message == f"{tmp_path} is not a run (it has no recipe.yaml)"
    assert error.hint == "give the folder that `bertkit train --out` wrote"
    assert error_of(RunDir(tmp_path / "none").open).message == f"{tmp_path}/none does not exist"
    run.write_json("environment.json", {"schema": 99})
    assert error_of(run.open).message == f"{run.path} has schema 99, this version reads {SCHEMA}"
    run["environment.json"].write_text("{")
    assert error_of(run.open).message.startswith(f"{run.path}/environment.json cannot be read (")
    run["environment.json"].write_text("[]")
    assert error_of(run.open).message.startswith(f"{run.path}/environment.json cannot be read (")
    run["environment.json"].unlink()
    error = error_of(run.open)
    assert error.message == f"{run.path}/environment.json is missing"
    assert error.hint == "the run did not finish; go on with --resume"


def test_json_lines_come_back_as_they_went(run):
    records = [{"id": "é\u2028", "n": 1}, {"id": "b", "list": [None, 0.1]}]
    run.write_jsonl("predictions.jsonl", iter(records))
    assert list(run.read_jsonl("predictions.jsonl")) == records
    assert run["predictions.jsonl"].read_text(encoding="utf-8").count("\n") == 2


def test_broken_json_lines_are_named(run):
    assert error_of(lambda: list(run.read_jsonl("none.jsonl"))).message == f"{run.path}/none.jsonl is missing"
    run["cut.jsonl"].write_text('{"id": "a"}\n{"id": "b')
    assert error_of(lambda: list(run.read_jsonl("cut.jsonl"))).message.startswith(
        f"{run.path}/cut.jsonl:2: cannot be read ("
    )


def test_a_history_line_cut_by_a_crash_is_left_out(run):
    assert run.read_history() == []
    run.append_history([{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.2}])
    run.append_history([{"step": 2, "validation": {"f1": None}}])
    with run["history.jsonl"].open("a") as file:
        file.write('{"step": 3, "lo')
    assert [record["step"] for record in run.read_history()] == [1, 2, 2]


def test_a_rewound_history_holds_what_came_before_to_the_byte(run):
    run.append_history([{"step": step, "loss": 0.1 + 0.2} for step in range(1, 4)])
    before = run["history.jsonl"].read_bytes()
    run.append_history([{"step": 4, "loss": 1.0}])
    run.rewind_history(3)
    assert run["history.jsonl"].read_bytes() == before
    run.rewind_history(0)
    assert run.read_history() == []


@pytest.mark.parametrize("name", ["history.jsonl", "pace.jsonl"])
def test_a_line_of_no_step_is_named_before_anything_is_forgotten(run, name):
    run.append_history([{"step": 1}, {"seconds": 1.0}], name)
    before = run[name].read_bytes()
    error = error_of(run.rewind_history, 1)
    assert error.message.startswith(f"{run[name]}:2: cannot be read (step: ")
    assert run[name].read_bytes() == before


def test_the_next_folder_is_taken_and_goes_when_it_stays_empty(tmp_path):
    with next_folder("qa", tmp_path / "runs") as first, next_folder("qa", tmp_path / "runs") as second:
        assert (first, second) == (tmp_path / "runs" / "qa-001", tmp_path / "runs" / "qa-002")
        (second / "mine").touch()
    assert names(tmp_path) == ["runs", "runs/qa-002", "runs/qa-002/mine"]
    with next_folder("qa", tmp_path / "runs") as first, next_folder("qa", tmp_path / "runs") as third:
        assert (first.name, third.name) == ("qa-001", "qa-003")

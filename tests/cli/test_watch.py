"""`bertkit watch`: a run is looked at through its files, whatever it is doing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

import bertkit.watching
from bertkit.rundir import PACE, RunDir
from bertkit.watching import Follower, Watcher, facts, sparkline, watch
from tests.cli.conftest import SMALL, check

LONG = (
    "train", "sentiment", *SMALL, "--train", "bundled:sentiment.csv", "train.batch_size=8", "train.epochs=500",
    "train.checkpoint_every=20", "train.evaluate_every=20", "data.train_rows=24", "data.validation_rows=4", "-q",
    "hardware.threads=1", "--out",
)  # fmt: skip


def files_of(run):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("*")}


def test_a_finished_run_is_told_and_nothing_is_written(bertkit, finished):
    run = finished("sentiment")
    before = files_of(run)
    done = bertkit("watch", run)
    assert done.code == 0, done.err
    (line,) = done.out.splitlines()
    assert line.startswith("finished  step 3 of 3  epoch ")
    for name in ("loss", "learning rate", "validation accuracy", "checkpoint step-000003", "memory"):
        assert name in line
    done = bertkit("watch", run, "--json")
    look = json.loads(done.out)
    history = RunDir(run).read_history()
    assert (look["state"], look["step"], look["steps"]) == ("finished", 3, 3)
    assert look["loss"] == [record["loss"] for record in history if "loss" in record][-1]
    assert look["validation"] == history[-1]["validation"]
    assert files_of(run) == before


def test_a_run_is_watched_from_before_it_begins_until_its_process_is_gone(bertkit, tmp_path):
    run = tmp_path / "run"
    assert json.loads(bertkit("watch", run, "--json").out)["state"] == "not begun"
    watching = subprocess.Popen(
        [sys.executable, "-m", "bertkit", "watch", str(run)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    training = subprocess.Popen([sys.executable, "-m", "bertkit", *LONG, str(run)])
    try:
        began = time.monotonic()
        while not list(run.glob("checkpoints/step-*")) and time.monotonic() - began < 120:
            time.sleep(0.05)
        look = json.loads(bertkit("watch", run, "--json").out)
        assert look["state"] == "running"
        assert look["steps"] == json.loads((run / "environment.json").read_text())["steps"] >= look["step"]
        assert look["step"] >= 1
        seen = []
        for line in watching.stdout:
            seen.append(line)
            if line.startswith("running  ") and "checkpoint" in line:
                break
        training.send_signal(signal.SIGKILL)
        training.wait()
        out, err = watching.communicate(timeout=60)
    finally:
        training.kill()
        watching.kill()
    assert watching.returncode == 2
    assert err.startswith(f"error: {run}: the process that trained it is gone; the last checkpoint is step-")
    assert "hint: continue with the command that started it and --resume" in err
    states = [line.split("  ")[0].strip() for line in [*seen, *out.splitlines()]]
    assert states[0] == "not begun"
    assert states[-1] == "gone"
    assert "running" in states


def test_ctrl_c_ends_the_looking_and_not_the_run(monkeypatch, capsys, tmp_path):
    def interrupted(watcher: Watcher) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Watcher, "looks", interrupted)
    watch(tmp_path / "run")
    assert capsys.readouterr().err == "stopped watching; the run goes on\n"


def test_a_file_is_no_run(bertkit, write):
    path = write("run", "x")
    check(bertkit("watch", path), f"{path} is a file, not the folder of a run", "")


def test_a_terminal_gets_a_table(finished, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    watch(finished("sentiment"))
    shown = capsys.readouterr().out
    assert "finished" in shown
    assert "step-000003" in shown
    assert any(bar in shown for bar in bertkit.watching.BARS)


def test_a_followed_file_is_read_once_and_anew_when_it_was_replaced(tmp_path):
    run = RunDir(tmp_path)
    follower = Follower(run["history.jsonl"])
    assert follower.read() == []
    run.append_history({"step": step} for step in (1, 2, 3))
    with run["history.jsonl"].open("a") as file:
        file.write('{"step"')
    assert [record["step"] for record in follower.read()] == [1, 2, 3]
    with run["history.jsonl"].open("a") as file:
        file.write(": 4}\n")
    assert [record["step"] for record in follower.read()] == [1, 2, 3, 4]
    run.rewind_history(2)
    run.append_history({"step": step} for step in (3, 4, 5))
    assert [record["step"] for record in follower.read()] == [1, 2, 3, 4, 5]


def test_a_file_that_is_replaced_as_it_is_opened_is_read_from_its_start(tmp_path, monkeypatch):
    run = RunDir(tmp_path)
    follower = Follower(run["history.jsonl"])
    run.append_history({"step": step} for step in range(1, 9))

    def open_and_rewind(path: Path, *given: str) -> IO:
        monkeypatch.undo()
        file = path.open(*given)
        run.rewind_history(2)
        return file

    monkeypatch.setattr(Path, "open", open_and_rewind)
    assert len(follower.read()) == 8
    run.append_history({"step": step} for step in (3, 4, 5))
    assert [record["step"] for record in follower.read()] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("line", ["5", "{", '{"loss": 1.0}', '{"step": "one"}'])
def test_a_broken_line_is_one_error(bertkit, finished, tmp_path, line):
    for name in ("history.jsonl", "pace.jsonl"):
        run = tmp_path / name
        shutil.copytree(finished("sentiment"), run)
        with (run / name).open("a") as file:
            file.write(f"{line}\n")
        check(bertkit("watch", run, "--json"), f"{run}: history.jsonl or pace.jsonl is broken", "")


def test_speed_and_time_left_come_from_the_last_lines(tmp_path):
    run = RunDir(tmp_path)
    run.write_json("environment.json", {"schema": 1, "steps": 100, "host": "elsewhere"})
    run["recipe.yaml"].write_text("task: qa\n")
    assert facts(Watcher(run).look()) == {}
    for step in (10, 20):
        run.append_history({"step": step - 9 + place, "loss": 1.0, "windows": 8} for place in range(10))
        run.append_history([{"step": step, "seconds": step / 2.0, "resident_mb": 7}], PACE)
    look = Watcher(run).look()
    assert look.state == "running elsewhere"
    assert look.windows_a_second == pytest.approx(16.0)
    assert look.seconds_left == pytest.approx(40.0)


@pytest.mark.parametrize(
    ("values", "shown"),
    [((), ""), ((1.0,), "▁"), ((0.0, 7.0), "▁█"), ((3.0, 1.0, 2.0), "█▁▅"), ((2.0,) * 99, "▁" * 40)],
)
def test_a_sparkline_runs_from_the_least_to_the_most(values, shown):
    assert sparkline(values) == shown

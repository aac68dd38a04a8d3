"""Killed, damaged, refused: what a run holds survives, and what is not whole is never taken for it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import bertkit.prepare
from bertkit.errors import BertkitError
from bertkit.inference import Predictor
from bertkit.run import finetune
from bertkit.rundir import RunDir, checkpoints_of
from bertkit.train import checkpoint, keep
from tests.training.test_loop_laws import Killed, kill_after, recipe

WRITES = (
    (os, "fsync"),
    (os, "replace"),
    (shutil, "rmtree"),
    (checkpoint, "save_model"),
    (checkpoint, "save_file"),
    (Path, "write_text"),
)
COMPARED = ("history.jsonl", "model/model.safetensors", "predictions.jsonl", "task.json")


def die_at(number: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """End the run at the write of this number; like a dead process it tidies nothing. Returns the writes seen."""
    seen: list[str] = []

    def mortal(name: str, write: Callable) -> Callable:
        def call(*arguments: object, **options: object) -> object:
            seen.append(name)
            if len(seen) > number:
                raise Killed
            return write(*arguments, **options)

        return call

    for owner, name in WRITES:
        monkeypatch.setattr(owner, name, mortal(name, getattr(owner, name)))
    return seen


def same_files(whole: Path, cut: Path) -> None:
    for name in COMPARED:
        assert (whole / name).read_bytes() == (cut / name).read_bytes(), f"{name} differs"
    left = [path for path in cut.rglob("*") if path.name.startswith((".tmp-", ".old-", "best-"))]
    assert left == []


def error_of(plan: dict, run: Path) -> BertkitError:
    with pytest.raises(BertkitError) as caught:
        finetune(plan, run, resume=True, quiet=True)
    return caught.value


def stopped_run(plan: dict, run: Path, step: int) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        kill_after(step, patch)
        with pytest.raises(Killed):
            finetune(plan, run, quiet=True)
    return run


def test_a_run_killed_at_any_write_goes_on_to_the_same_digits(tmp_path: Path) -> None:
    plan = recipe("sentiment", steps=3, checkpoint_every=2, evaluate_every=1, learning_rate=3e-3)
    with pytest.MonkeyPatch.context() as patch:
        seen = die_at(10**9, patch)
        finetune(plan, tmp_path / "whole", quiet=True)
    assert {name for _, name in WRITES} <= set(seen)
    # `make faults` dies at each of them
    for number in random.Random(0).sample(range(len(seen)), 4):
        cut = tmp_path / f"cut{number}"
        with pytest.MonkeyPatch.context() as patch:
            die_at(number, patch)
            with pytest.raises(Killed):
                finetune(plan, cut, quiet=True)
        finetune(plan, cut, resume=True, quiet=True)
        same_files(tmp_path / "whole", cut)


@pytest.mark.parametrize("name", [checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.STATE])
def test_a_flipped_bit_is_noticed_and_the_checkpoint_before_is_offered(name: str, tmp_path: Path) -> None:
    plan = recipe("sentiment", steps=6, checkpoint_every=2, keep=2)
    finetune(plan, tmp_path / "whole", quiet=True)
    run = stopped_run(plan, tmp_path / "run", 4)
    file = run / "checkpoints/step-000004" / name
    content = bytearray(file.read_bytes())
    place = content.index(b'"step": 4') + 8 if name == checkpoint.STATE else len(content) // 2
    content[place] ^= 1
    file.write_bytes(content)
    error = error_of(plan, run)
    assert error.message == f"{file.parent}: {name} was altered: its sum is another"
    assert error.hint == "remove that folder to go on from step-000002"
    shutil.rmtree(file.parent)
    finetune(plan, run, resume=True, quiet=True)
    same_files(tmp_path / "whole", run)


@pytest.mark.parametrize("key", ["schema", "step", "files"])
def test_a_state_that_lacks_a_key_is_refused_by_its_name(key: str, tmp_path: Path) -> None:
    plan = recipe("sentiment", checkpoint_every=2)
    run = stopped_run(plan, tmp_path / "run", 4)
    file = run / "checkpoints/step-000004" / checkpoint.STATE
    state = json.loads(file.read_text())
    del state["sum"], state[key]
    state["sum"] = checkpoint.digest(state)
    file.write_text(json.dumps(state, indent=2) + "\n")
    assert error_of(plan, run).message == f"{file.parent}: broken checkpoint ({key!r} is missing)"


def test_a_checkpoint_that_is_broken_too_is_not_offered(tmp_path: Path) -> None:
    plan = recipe("sentiment", steps=6, checkpoint_every=2, keep=2)
    run = stopped_run(plan, tmp_path / "run", 4)
    for step in (2, 4):
        (run / f"checkpoints/step-00000{step}" / checkpoint.OPTIMIZER).unlink()
    assert error_of(plan, run).hint == "remove that folder to start again"


def test_a_checkpoint_of_another_version_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = recipe("sentiment", checkpoint_every=2)
    run = stopped_run(plan, tmp_path / "run", 4)
    with monkeypatch.context() as patch:
        patch.setattr(bertkit.prepare, "__version__", "9.9")
        error = error_of(plan, run)
        assert f"resolved.versions.bertkit: {bertkit.__version__!r} -> '9.9'" in error.message
        assert error.hint == "install those versions again, or give --out a new name"
    monkeypatch.setattr(checkpoint, "SCHEMA", 99)
    assert error_of(plan, run).message.endswith("step-000004: schema 2, this version reads 99")


def test_a_refused_resume_changes_nothing(tmp_path: Path) -> None:
    run = stopped_run(recipe("sentiment", checkpoint_every=2), tmp_path / "run", 4)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "train.learning_rate" in error_of(recipe("sentiment", learning_rate=1e-4), run).message
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_killed_before_its_first_checkpoint_may_begin_with_other_settings(tmp_path: Path) -> None:
    run = stopped_run(recipe("sentiment"), tmp_path / "run", 0)
    finetune(recipe("sentiment", steps=2), run, resume=True, quiet=True)
    assert [record["step"] for record in RunDir(run).read_history() if "loss" in record] == [1, 2]


def test_the_newest_checkpoint_is_that_of_the_last_step_beyond_a_million_too(tmp_path: Path) -> None:
    names = ["step-999998", "step-999999", "step-1000000"]
    for name in (*reversed(names), "step-mine", "best-000002"):
        (tmp_path / name).mkdir()
    assert [path.name for path in checkpoints_of(tmp_path)] == names


def test_the_best_weights_of_a_checkpoint_stay_as_long_as_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, save_best, values = Predictor.evaluate, keep.Keeper.save_best, iter([0.5, 0.1, 0.6, 0.2, 0.7])

    def evaluate_to_order(self: Predictor, parts: list) -> tuple[dict, list]:
        scores, predictions = evaluate(self, parts)
        return {**scores, "accuracy": next(values)}, predictions

    def save_and_die(self: keep.Keeper, step: int, name: str, value: float) -> None:
        save_best(self, step, name, value)
        if step == 5:
            raise Killed

    monkeypatch.setattr(Predictor, "evaluate", evaluate_to_order)
    monkeypatch.setattr(keep.Keeper, "save_best", save_and_die)
    with pytest.raises(Killed):
        finetune(recipe("sentiment", steps=6, checkpoint_every=3, evaluate_every=1), tmp_path / "run", quiet=True)
    found = {path.name for path in (tmp_path / "run/checkpoints").iterdir()}
    assert found == {"step-000003", "best-000003", "best-000005"}


def test_damaged_best_weights_are_refused(tmp_path: Path) -> None:
    plan = recipe("sentiment", steps=6, checkpoint_every=1, evaluate_every=2, learning_rate=1e-9, warmup=0)
    run = stopped_run(plan, tmp_path / "run", 5)
    (best,) = (run / "checkpoints").glob("best-*")
    (best / checkpoint.WEIGHTS).write_bytes(b"")
    error = error_of(plan, run)
    assert error.message == f"{best}: {checkpoint.WEIGHTS} is truncated"
    assert error.hint == "remove the folder `checkpoints` to start again"


def test_what_killed_processes_left_is_swept_away(tmp_path: Path) -> None:
    plan = recipe("sentiment", checkpoint_every=2)
    run = stopped_run(plan, tmp_path / "run", 4)
    left = [run / ".tmp-model", run / ".old-model", run / "checkpoints/.tmp-step-000003", run / ".tmp-metrics.json"]
    for path in left:
        path.mkdir()
    finetune(plan, run, resume=True, quiet=True)
    assert [path for path in left if path.exists()] == []
    best = run / "checkpoints" / "best-000002"
    best.mkdir()
    finetune(plan, run, resume=True, quiet=True)
    assert not best.exists()


def test_a_run_where_another_process_is_at_work_is_left_alone(tmp_path: Path) -> None:
    plan = recipe("sentiment", checkpoint_every=2)
    run = stopped_run(plan, tmp_path / "run", 4)
    body = f"from bertkit.disk import held\nwith held(__import__('pathlib').Path({str(run)!r})): print(1), input()"
    other = subprocess.Popen([sys.executable, "-uc", body], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"1\n"
        assert error_of(plan, run).message == f"{run}: another process is at work here"
        assert RunDir(run).is_at_work() is True
        other.kill()
        while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        assert RunDir(run).is_at_work() is False  # dead, though its parent has not asked for it yet
    finally:
        other.communicate()
    about = RunDir(run).read_json("environment.json")
    RunDir(run).write_json("environment.json", {**about, "host": "elsewhere"})
    assert RunDir(run).is_at_work() is None
    finetune(plan, run, resume=True, quiet=True)


def test_no_more_than_keep_and_one_checkpoints_are_there_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = {"step-": 0, "best-": 0}
    replace = os.replace

    def replace_and_count(*paths: Path) -> None:
        replace(*paths)
        names = [path.name for path in (tmp_path / "run/checkpoints").glob("*")]
        for kind in most:
            most[kind] = max(most[kind], sum(name.startswith(kind) for name in names))

    monkeypatch.setattr(os, "replace", replace_and_count)
    plan = recipe("sentiment", steps=8, checkpoint_every=1, evaluate_every=1, keep=2, learning_rate=3e-3)
    finetune(plan, tmp_path / "run", quiet=True)
    assert most["step-"] == 3
    assert 1 <= most["best-"] <= 4


def test_the_history_is_on_the_disk_before_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, order = os.fsync, []

    def note(descriptor: int) -> None:
        order.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    finetune(recipe("sentiment", steps=2, evaluate_every=100), tmp_path / "run", quiet=True)
    assert order.index("history.jsonl") < order.index(".tmp-step-000002")


def test_what_differs_between_two_runs_is_not_in_the_history(tmp_path: Path) -> None:
    for name in ("a", "b"):
        metrics = finetune(recipe("sentiment", evaluate_every=5), tmp_path / name, quiet=True)
    assert (tmp_path / "a/history.jsonl").read_bytes() == (tmp_path / "b/history.jsonl").read_bytes()
    pace = RunDir(tmp_path / "a").read_history("pace.jsonl")
    epoch = -(-metrics["train"]["windows"] // 8)  # steps; at the end of each a line is due
    assert [record["step"] for record in pace] == sorted({5, 10, *range(epoch, 10, epoch)})  # evaluations too
    assert all(record["resident_mb"] > 10 and record["seconds"] >= 0 for record in pace)
    curves = {entry["title"]: entry for entry in json.loads((tmp_path / "a/findings.json").read_text())}
    assert curves["Memory"]["lines"]["process"] == [record["resident_mb"] for record in pace]

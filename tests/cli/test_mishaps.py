"""What goes wrong while a run is going on: other settings, broken numbers, a full disk."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import SMALL, check

RUN = (
    "train",
    "sentiment",
    *SMALL,
    "--train",
    "bundled:sentiment.csv",
    "train.batch_size=8",
    "data.train_rows=48",
    "data.validation_rows=8",
    "train.epochs=1",
    "train.checkpoint_every=2",
    "-q",
    "--out",
)


def interrupted_after(bertkit, run: Path, step: int, monkeypatch, *settings: str) -> None:
    """A run of six steps that was told to stop as `step` was saved, and stops after the next one."""
    import signal

    from bertkit.train.keep import Keeper

    save = Keeper.save

    def save_and_stop(self: Keeper, done: int) -> str:
        name = save(self, done)
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return name

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "save", save_and_stop)
        assert bertkit(*RUN, run, *settings).code == 130


def test_a_run_goes_on_only_with_the_settings_it_was_started_with(bertkit, tmp_path, monkeypatch):
    run = tmp_path / "run"
    interrupted_after(bertkit, run, 2, monkeypatch)
    done = bertkit(*RUN, run, "--resume", "train.learning_rate=1e-3")
    check(
        done,
        f"{run}/checkpoints/step-000003 was trained with other settings: train.learning_rate: 3e-05 -> 0.001",
        "--out",
    )
    done = bertkit(*RUN, run, "--resume", "data.train_rows=40")
    check(done, "data.train_rows: 48 -> 40; resolved.train_windows: ", "resume with the settings it was started with")
    weights = run / "checkpoints" / "step-000003" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    check(
        bertkit(*RUN, run, "--resume"),
        "step-000003: model.safetensors is truncated",
        "remove that folder to start again",
    )
    assert not (run / "metrics.json").exists()


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(bertkit, tmp_path):
    run = tmp_path / "run"
    done = bertkit(*RUN, run, "train.learning_rate=1e30", "train.warmup=0", "log.every=1")
    check(done, "the loss of step 2 is nan; no checkpoint has been written yet", "learning_rate")
    assert list(run.glob("checkpoints/step-*")) == []


def test_a_warm_up_that_the_run_does_not_outlast_is_refused_before_a_step(bertkit, tmp_path):
    done = bertkit(*RUN, tmp_path / "run", "train.warmup=1000")
    check(done, "train.warmup: 1000 steps of warm-up do not end within the 7 of the run", "below 1 it is a share")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_turns_infinite_leaves_the_last_good_checkpoint(bertkit, tmp_path, monkeypatch):
    import torch

    from bertkit.train.keep import Keeper

    run, save = tmp_path / "run", Keeper.save

    def save_and_break(self: Keeper, step: int) -> str:
        name = save(self, step)
        if step == 4:
            with torch.no_grad():
                self.model.classifier.weight.fill_(float("nan"))
        return name

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "save", save_and_break)
        done = bertkit(*RUN, run)
    check(done, "the loss of step 5 is nan; the last good checkpoint is step-000004", "lower train.learning_rate")
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == ["step-000004"]
    assert bertkit(*RUN, run, "--resume").code == 0


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one MiB, where the machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        shutil.which("mount")
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(folder)], capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_named_and_the_last_good_checkpoint_stays(bertkit, small_disk):
    run = small_disk / "run"
    # one checkpoint of a quarter of a million weights and its moments fits, another beside it does not
    done = bertkit(*RUN, run, "train.keep=2")
    check(done, f"{run}/checkpoints/step-000004 cannot be written (", "free some space")
    assert "No space left on device" in done.err
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000002"]
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    assert bertkit(*RUN, run, "train.keep=2", "--resume").code == 0


def test_a_disk_that_fills_up_is_named_and_the_last_good_checkpoint_stays(bertkit, tmp_path, monkeypatch):
    import errno

    run, fsync = tmp_path / "run", os.fsync

    def full(descriptor: int) -> None:
        if ".tmp-step-000004" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = bertkit(*RUN, run)
    check(
        done,
        f"{run}/checkpoints/step-000004 cannot be written (No space left on device)",
        "free some space, then go on",
    )
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000002"]
    assert bertkit(*RUN, run, "--resume").code == 0

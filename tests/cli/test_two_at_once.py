"""Two commands that are started together: two folders, or one clear error; never one folder for both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import SMALL

TRAIN = ("train", "sentiment", *SMALL, "--train", "bundled:sentiment.csv", "train.steps=2", "train.batch_size=8", "-q")


def two(folder: Path, *command: str) -> list[tuple[int, str, str]]:
    """What two processes that are started together come to."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "bertkit", *command],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=240) for process in started]
    return [(process.returncode, *texts) for process, texts in zip(started, said, strict=True)]


def test_two_runs_without_a_name_get_a_folder_each(tmp_path):
    done = two(tmp_path, *TRAIN)
    assert [code for code, _, _ in done] == [0, 0], done
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["sentiment-001", "sentiment-002"]
    assert len(list((tmp_path / "runs").glob("*/metrics.json"))) == 2


def test_of_two_runs_with_the_same_name_one_is_refused(tmp_path):
    done = two(tmp_path, *TRAIN, "--out", "mine")
    assert sorted(code for code, _, _ in done) == [0, 2], done
    (refused,) = (said for code, _, said in done if code)
    message = refused.splitlines()[0]
    # or it came when the other one was done
    assert message in (
        "error: mine: another process is at work here",
        "error: mine holds a run already, which is never overwritten",
    )
    assert (tmp_path / "mine" / "metrics.json").exists()
    assert not (tmp_path / "mine" / ".lock").exists()


def test_of_two_studies_with_the_same_name_one_is_refused(tmp_path):
    done = two(
        tmp_path, "glue", "run", "--model", "bundled:tiny", "--data", "bundled:glue", "--tasks", "wnli",
        "--out", "mine", "model.init=scratch", "train.steps=2", "-q",
    )  # fmt: skip
    assert sorted(code for code, _, _ in done) == [0, 2], done

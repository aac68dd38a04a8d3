"""The command line in this process: quick, and with what it prints in hand."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

BUNDLED = {"sentiment": "sentiment.csv", "nli": "nli.jsonl", "pos": "pos.conllu", "qa": "qa.json"}
SMALL = ("-m", "bundled:tiny", "model.init=scratch", "hardware.precision=fp32", "windows.max_length=64")


class Done(NamedTuple):
    """What a command gave back."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def bertkit() -> Callable[..., Done]:
    """`bertkit("recipe", "list")` as the shell would do it, but in this process."""
    from bertkit.cli import _guarded

    def call(*arguments: object) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = _guarded([str(argument) for argument in arguments])
        return Done(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def finished(bertkit: Callable[..., Done], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a finished run of three steps: `finished("qa")`."""
    made: dict[str, Path] = {}

    def run(task: str) -> Path:
        if task not in made:
            made[task] = tmp_path_factory.mktemp("runs") / task
            done = bertkit(
                "train", task, *SMALL, "--train", f"bundled:{BUNDLED[task]}", "train.steps=3", "train.batch_size=8",
                "data.train_rows=24", "data.validation_rows=6", "--out", made[task],
            )  # fmt: skip
            assert done.code == 0, done.err
        return made[task]

    return run

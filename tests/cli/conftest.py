"""The command line in this process: quick, and with what it prints in hand."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.rows import BUNDLED

SMALL = ("-m", "bundled:tiny", "model.init=scratch", "hardware.precision=fp32", "windows.max_length=64")


class Done(NamedTuple):
    """What a command gave back."""

    code: int
    out: str
    err: str


def check(done: Done, message: str, hint: str) -> None:
    """One error line, maybe one hint line, and nothing else."""
    assert done.code == 2, done
    assert done.out == ""
    lines = done.err.splitlines()
    assert lines[0].startswith("error: "), done.err
    assert [line.startswith("hint: ") for line in lines[1:]] in ([], [True]), done.err
    assert message in lines[0], done.err
    assert hint in "\n".join(lines[1:]), done.err


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
                "train",
                task,
                *SMALL,
                "--train",
                f"bundled:{BUNDLED[task]}",
                "train.steps=3",
                "train.batch_size=8",
                "data.train_rows=24",
                "data.validation_rows=6",
                "--out",
                made[task],
            )
            assert done.code == 0, done.err
        return made[task]

    return run


@pytest.fixture
def write(tmp_path) -> Callable[[str, str | bytes], Path]:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def refused(bertkit, tmp_path) -> Callable[..., None]:
    """Training is refused with this message and hint, and leaves no folder."""

    def call(*arguments: object, message: str, hint: str = "") -> None:
        check(bertkit("train", *arguments, "-q", "--out", tmp_path / "run"), message, hint)
        assert not (tmp_path / "run").exists()

    return call

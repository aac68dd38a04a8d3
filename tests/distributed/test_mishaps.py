"""One process that dies or is told to stop takes the others with it, soon, and is told of once."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from bertkit.rundir import RunDir
from tests.distributed.conftest import ENVIRONMENT, ROOT, start
from tests.distributed.work import recipe

SOON = 30.0  # seconds
SPAWNED = """
    import os, signal, sys
    from pathlib import Path
    import bertkit.models.load, bertkit.train.loop  # once, for all copies
    from bertkit.errors import BertkitError, Interrupted
    from bertkit.launch import spawn
    from bertkit.run import finetune

    def settle(kind):
        from accelerate import PartialState
        from bertkit.train.ranks import of_first
        state = PartialState(cpu=True)
        if state.process_index == 1 and kind == "raise":
            raise ZeroDivisionError("a mishap of one process")
        if state.process_index == 1 and kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "data":
            finetune({"task": "sentiment", "data": {"train": "missing.csv"}}, sys.argv[1])
        for _ in range(1000):
            of_first(int)

    for kind in ("raise", "kill", "data"):
        try:
            spawn(settle, 2, kind, cpu=True)
        except (BertkitError, RuntimeError) as error:
            print(f"{kind}: {type(error).__name__}: {error} | {getattr(error, 'hint', '')}", flush=True)
"""


def long_run(out: Path, *options: object, mishap: str = "none:0:0", **train: object) -> subprocess.Popen:
    """Two processes that train until something happens."""
    plan = recipe("tests.distributed.mishap", steps=None, epochs=10_000, **train)
    plan["data"]["train"] = "bundled:sentiment.csv"
    plan["log"] = {"every": 1}
    out.mkdir(exist_ok=True)
    (out / "recipe.yaml").write_text(json.dumps(plan))
    ENVIRONMENT["MISHAP"] = mishap
    return start("-m", "bertkit", "train", out / "recipe.yaml", "--out", out / "run", "--cpus", "2", *options, cwd=ROOT)


def ends_soon(process: subprocess.Popen) -> tuple[str, float]:
    """What a process said, and for how long it lived after its last evaluation."""
    began = time.monotonic()
    try:
        _, err = process.communicate(timeout=200)
    finally:
        process.kill()
    return err, time.monotonic() - began


def test_a_stop_reaches_all_processes_at_one_step_whichever_of_them_was_told(tmp_path: Path) -> None:
    """Told to the second process alone; then, going on, to the launcher, as Ctrl-C is."""
    found = []
    for turn, mishap in enumerate(("stop:1:1", "stop-parent:0:2")):
        process = long_run(tmp_path, *["--resume"] * turn, mishap=mishap)
        err, _ = ends_soon(process)
        assert process.returncode == 130, err
        assert err.count("error: ") == err.count("hint: ") == 1, err
        step = int(re.search(r"error: stopped at step (\d+) of \d+; checkpoint step-(\d+) is saved", err)[1])
        assert (tmp_path / "run/checkpoints" / f"step-{step:06d}" / "state.json").exists()
        assert RunDir(tmp_path / "run").last_record()["step"] == step
        found.append(step)
    # an evaluation comes every nine steps; the stop is agreed upon in the step after it
    assert found[0] == 10
    assert found[1] in (28, 29)


@pytest.mark.parametrize(
    ("mishap", "code", "message"),
    [
        ("kill:1:2", 2, r"error: process \d+ of rank 1 was killed by SIGKILL"),
        ("raise:1:2", 1, r"rank 1: Traceback [\s\S]*ZeroDivisionError: a mishap of one process"),
    ],
    ids=["killed", "raised"],
)
def test_one_process_that_dies_ends_all_and_is_told_of_once(
    tmp_path: Path, mishap: str, code: int, message: str
) -> None:
    process = long_run(tmp_path, mishap=mishap)
    history = tmp_path / "run/history.jsonl"
    began = time.monotonic()
    while time.monotonic() - began < 200 and process.poll() is None:
        if history.exists() and '"step": 18' in history.read_text():
            break
        time.sleep(0.05)
    err, seconds = ends_soon(process)
    assert seconds < SOON
    assert process.returncode == code, err
    assert len(re.findall(message, err)) == 1, err
    assert err.count("Traceback") == (code == 1), err
    assert err.count("error: ") == (code == 2), err
    assert "ChildFailedError" not in err


def test_spawned_processes_fail_together_and_say_it_once(tmp_path: Path) -> None:
    import textwrap

    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SPAWNED))
    process = start(script, tmp_path / "run")
    out, err = process.communicate(timeout=200)
    lines = out.splitlines()
    assert len(lines) == 3, out + err
    assert lines[0].startswith("raise: RuntimeError: ")
    assert err.count("ZeroDivisionError: a mishap") == err.count("Traceback") == 1, err
    assert re.match(r"kill: BertkitError: process \d+ of rank 1 was killed by SIGKILL \| go on ", lines[1])
    assert lines[2].startswith("data: BertkitError: missing.csv: there is no such file")
    assert not (tmp_path / "run").exists()

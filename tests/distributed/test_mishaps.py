"""One process that dies or is told to stop takes the others with it, soon, and is told of once."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
import time
from pathlib import Path

import pytest

from bertkit.rundir import RunDir
from tests.distributed.conftest import ENVIRONMENT, ROOT, start
from tests.distributed.work import recipe

SOON = 30.0  # seconds
SPAWNED = """
    import json, os, signal, sys
    from pathlib import Path
    from bertkit.errors import BertkitError, Interrupted
    from bertkit import spawn
    from bertkit.run import finetune

    def work(kind, plan):
        from accelerate import PartialState
        from accelerate.utils import gather_object
        from bertkit.recipe import HardwareConfig
        from bertkit.train import device_setup
        from bertkit.train.ranks import of_first
        rank = PartialState(cpu=True).process_index
        if kind == "disk":
            os.makedirs(str(rank))
            os.chdir(str(rank))
        if kind == "settings":
            plan = {**plan, "seed": rank}
        if kind == "precision":
            device_setup.bf16_gain = lambda device: 10.0 * rank  # as if each had measured something else
            found = gather_object([device_setup.set_up_device(HardwareConfig()).precision])
            raise BertkitError(str(found))
        if kind in ("stop", "disk", "data", "settings"):
            finetune(plan, None if kind == "stop" else kind, quiet=True)
        if rank == 1 and kind == "raise":
            raise ZeroDivisionError("a mishap of one process")
        if rank == 1 and kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        for _ in range(1000):
            of_first(int)

    os.environ["MISHAP"] = "stop:1:1"
    plan = json.loads(sys.argv[1])
    other = {"task": "sentiment", "data": {"train": "missing.csv"}}
    for kind in ("raise", "kill", "data", "disk", "settings", "precision", "stop"):
        try:
            spawn(work, 2, kind, other if kind == "data" else plan, cpu=True)
        except (BertkitError, Interrupted, RuntimeError) as error:
            print(f"{kind}: {type(error).__name__}: {error} | {getattr(error, 'hint', '')}", flush=True)
"""


def long_run(out: Path, *options: object, mishap: str = "none:0:0", **train: object) -> subprocess.Popen:
    """Two processes that train until something happens."""
    plan = recipe("tests.distributed.mishap", steps=None, epochs=10_000, **train)
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


def test_a_stop_told_to_the_launcher_reaches_all_processes_at_one_step(tmp_path: Path) -> None:
    process = long_run(tmp_path, mishap="stop-parent:0:2")
    err, _ = ends_soon(process)
    assert process.returncode == 130, err
    assert err.count("error: ") == err.count("hint: ") == 1, err
    step = int(re.search(r"error: stopped at step (\d+) of \d+; checkpoint step-\d+ is saved", err)[1])
    assert (tmp_path / "run/checkpoints" / f"step-{step:06d}" / "state.json").exists()
    assert RunDir(tmp_path / "run").last_record()["step"] == step


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


def test_spawned_processes_fail_or_stop_together_and_say_it_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SPAWNED))
    plan = recipe("tests.distributed.mishap", steps=None, epochs=10_000)
    out, err = start(script, json.dumps(plan), cwd=tmp_path).communicate(timeout=200)
    lines = out.splitlines()
    assert len(lines) == 7, out + err
    assert lines[0].startswith("raise: BertkitError: spawn: the function failed | ")
    assert err.count("ZeroDivisionError: a mishap") == err.count("Traceback") == 1, err
    assert re.match(r"kill: BertkitError: process \d+ of rank 1 was killed by SIGKILL \| go on ", lines[1]), lines[1]
    assert lines[2].startswith("data: BertkitError: missing.csv: there is no such file"), lines[2]
    assert not (tmp_path / "data").exists()
    assert lines[3] == (
        "disk: BertkitError: disk: this host does not see what the first one wrote there | "
        "--out must be on a disk that all hosts share"
    )
    assert lines[4].startswith("settings: BertkitError: the run of rank 1 is not that of rank 0: "), lines[4]
    assert "seed: 0 -> 1 | give all hosts the same files" in lines[4]
    assert not (tmp_path / "settings").exists()
    assert lines[5].startswith("precision: BertkitError: ['fp32', 'fp32']"), lines[5]
    # told to the second process at the evaluation of step 9; agreed upon in the step after it
    assert re.match(r"stop: Interrupted: stopped at step 10 of \d+; checkpoint step-000010 is saved \| ", lines[6])
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["mishap-001"]
    assert RunDir(tmp_path / "runs/mishap-001").last_record()["step"] == 10

"""Several hosts: two launchers, at two addresses of this machine, train one model."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from bertkit.rundir import RunDir
from tests.distributed.conftest import ENVIRONMENT, ROOT, start
from tests.distributed.work import recipe


def hosts(out: Path, *options: object, mishap: str = "none:0:0", **train: object) -> list[subprocess.Popen]:
    """Two launchers of one process each, started at the same time."""
    plan = recipe("tests.distributed.mishap", **train)
    plan["model"]["dropout"] = 0.1
    out.mkdir(exist_ok=True)
    (out / "recipe.yaml").write_text(json.dumps(plan))
    with socket.socket() as probe:
        probe.bind(("127.0.0.2", 0))
        address = f"127.0.0.2:{probe.getsockname()[1]}"
    ENVIRONMENT["MISHAP"] = mishap
    return [
        start(
            "-m", "bertkit", "train", out / "recipe.yaml", "--out", out / "run", "--cpus", 1, "--hosts", 2,
            "--host-rank", rank, "--main-address", address, *options, cwd=ROOT,
        )
        for rank in range(2)
    ]  # fmt: skip


def ends(launchers: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Exit code and words of each host."""
    found = []
    for launcher in launchers:
        try:
            _, err = launcher.communicate(timeout=200)
        finally:
            launcher.kill()
        found.append((launcher.returncode, err))
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two hosts that nothing disturbed."""
    out = tmp_path_factory.mktemp("hosts") / "whole"
    found = ends(hosts(out, checkpoint_every=2))
    assert [code for code, _ in found] == [0, 0], found
    # the first host speaks, of itself and for all
    assert "launch: 1 process on the CPU on each of 2 hosts, this is number 0" in found[0][1]
    assert found[1][1].splitlines() == ["launch: 1 process on the CPU on each of 2 hosts, this is number 1"]
    return out / "run"


def test_a_dead_process_is_started_again_on_all_hosts_and_the_run_ends_bit_identical(
    whole: Path, tmp_path: Path
) -> None:
    found = ends(hosts(tmp_path, "--max-restarts", 1, mishap="kill:1:1", checkpoint_every=2))
    assert [code for code, _ in found] == [0, 0], found
    assert "resume: going on from step-000008" in found[0][1]
    for name in ("history.jsonl", "predictions.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes(), name
    ours, theirs = (load_file(run / "model/model.safetensors") for run in (tmp_path / "run", whole))
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_a_host_whose_launcher_is_gone_ends_the_other_which_has_saved(tmp_path: Path) -> None:
    began = time.monotonic()
    found = ends(hosts(tmp_path, mishap="kill-parent:1:1", steps=None, epochs=10_000))
    assert time.monotonic() - began < 200
    assert [code for code, _ in found] == [130, -9], found
    step = re.search(r"error: stopped at step (\d+) of \d+; checkpoint step-\d+ is saved", found[0][1])
    assert RunDir(tmp_path / "run").last_record()["step"] == int(step[1])

"""Several hosts: two launchers, at two addresses of this machine, train one model."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from bertkit.rundir import RunDir
from tests.distributed.conftest import ENVIRONMENT, ROOT, start
from tests.distributed.work import recipe

Network = tuple[str, tuple[str, ...], tuple[str, ...]]
LOOPBACK: Network = ("127.0.0.2", (), ())


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Address of the first host, and how a command is run on each; namespaces where the machine lets us make some."""
    names = [f"bertkit-{os.getpid()}-{rank}" for rank in range(2)]
    ends = [f"bk{os.getpid() % 100_000}{end}" for end in "ab"]  # an interface's name has at most 15 characters
    steps = [
        *(f"ip netns add {name}" for name in names),
        f"ip link add {ends[0]} netns {names[0]} type veth peer name {ends[1]} netns {names[1]}",
        *(f"ip -n {names[rank]} addr add 10.77.0.{rank + 1}/24 dev {ends[rank]}" for rank in range(2)),
        *(f"ip -n {names[rank]} link set {link} up" for rank in range(2) for link in ("lo", ends[rank])),
    ]
    try:
        is_made = shutil.which("ip") and not any(
            subprocess.run(step.split(), capture_output=True).returncode for step in steps
        )
        yield ("10.77.0.1", *(("ip", "netns", "exec", name) for name in names)) if is_made else LOOPBACK
    finally:
        for name in names if shutil.which("ip") else ():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def hosts(
    out: Path, *options: object, network: Network = LOOPBACK, mishap: str = "none:0:0", **train: object
) -> list[subprocess.Popen]:
    """Two launchers of one process each, started at the same time."""
    plan = recipe("tests.distributed.mishap", **train)
    out.mkdir(exist_ok=True)
    (out / "recipe.yaml").write_text(json.dumps(plan))
    first, *places = network
    with socket.socket() as probe:
        probe.bind(("", 0))
        address = f"{first}:{probe.getsockname()[1]}"
    ENVIRONMENT["MISHAP"] = mishap
    return [
        start(
            "-m", "bertkit", "train", out / "recipe.yaml", "--out", out / "run", "--cpus", 1, "--hosts", 2,
            "--host-rank", rank, "--main-address", address, *options, before=places[rank], cwd=ROOT,
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


def test_two_hosts_one_process_of_which_dies_learn_what_one_host_learns(
    worlds: Path, tmp_path: Path, network: Network
) -> None:
    """All are started again from the last checkpoint, and end bit-identical to two processes that nothing disturbed."""
    found = ends(hosts(tmp_path, "--max-restarts", 1, network=network, mishap="kill:1:1", checkpoint_every=2))
    assert [code for code, _ in found] == [0, 0], found
    # the first host speaks, of itself and for all
    assert "launch: 1 process on the CPU on each of 2 hosts, this is number 0" in found[0][1]
    assert found[1][1].splitlines() == ["launch: 1 process on the CPU on each of 2 hosts, this is number 1"]
    assert "resume: going on from step-000008" in found[0][1]
    run, whole = tmp_path / "run", worlds / "2" / "sentiment"
    for name in ("history.jsonl", "predictions.jsonl"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    ours, theirs = (load_file(folder / "model/model.safetensors") for folder in (run, whole))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    one = [record["loss"] for record in RunDir(worlds / "1" / "sentiment").read_history() if "loss" in record]
    assert [record["loss"] for record in RunDir(run).read_history() if "loss" in record] == pytest.approx(one, abs=1e-6)


def test_a_host_whose_launcher_is_gone_ends_the_other_which_has_saved(tmp_path: Path) -> None:
    began = time.monotonic()
    found = ends(hosts(tmp_path, mishap="kill-parent:1:1", steps=None, epochs=10_000))
    assert time.monotonic() - began < 200
    assert [code for code, _ in found] == [130, -9], found
    step = re.search(r"error: stopped at step (\d+) of \d+; checkpoint step-\d+ is saved", found[0][1])
    assert RunDir(tmp_path / "run").last_record()["step"] == int(step[1])

"""A study on a Ray cluster of two nodes comes to what it comes to here, though a node or the study itself is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs Ray: `make test-laws` builds an environment with it")

STORE = 80 << 20  # bytes of a node's object store, the least that Ray takes
OPTIONS = (
    "--model", "bundled:tiny", "--data", "bundled:glue", "--tasks", "rte,mnli", "model.init=scratch",
    "hardware.precision=fp32", "hardware.threads=1", "train.batch_size=8", "train.learning_rate=1e-3",
    "train.epochs=100", "train.evaluate_every=100", "train.checkpoint_every=20", "log.every=1",
)  # fmt: skip
JOBS = {"RTE, seed 0": "rte-0", "MNLI, seed 0": "mnli-0"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """Two nodes with one core each, for as long as a test lets them live."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    size = {"num_cpus": 1, "object_store_memory": STORE}
    found = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    try:
        yield found
    finally:
        found.shutdown()


@pytest.fixture
def second(cluster) -> object:
    """The node beside the head; a new one where a test has killed it."""
    others = [node for node in cluster.list_all_nodes() if not node.is_head()]
    node = others[0] if others else cluster.add_node(num_cpus=1, object_store_memory=STORE)
    cluster.wait_for_nodes()
    return node


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """The study as this machine's own processes come to it, uninterrupted."""
    out = tmp_path_factory.mktemp("ray") / "here"
    process = start(out, "--jobs", "2")
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    return out


def start(out: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "bertkit", "glue", "run", *OPTIONS, "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def send(out: Path, cluster: object, *more: str) -> subprocess.Popen:
    return start(out, "--executor", "ray", "--address", cluster.address, *more)


def wait_for_steps(out: Path, process: subprocess.Popen, count: int) -> None:
    """Until both jobs have done so many steps."""
    ends = time.monotonic() + 120
    while not all(len(steps(out, job)) >= count for job in JOBS.values()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < ends, "the jobs never came so far"
        time.sleep(0.02)


def steps(out: Path, job: str) -> list[int]:
    """The training steps of its history, as they stand there."""
    history = out / "runs" / job / "history.jsonl"
    lines = history.read_text().split("\n")[:-1] if history.exists() else []
    return [record["step"] for record in map(json.loads, lines) if "loss" in record]


def check_same(out: Path, here: Path) -> None:
    """Every job is done once, and its results are those of the local study, to the byte."""
    states = json.loads((out / "study.json").read_text())["runs"]
    assert {entry["name"]: entry["state"] for entry in states} == dict.fromkeys(JOBS, "done")
    for job in JOBS.values():
        assert steps(out, job) == steps(here, job)
        for name in ("predictions.jsonl", "model/model.safetensors"):
            assert (out / "runs" / job / name).read_bytes() == (here / "runs" / job / name).read_bytes(), name
    tasks = [json.loads((folder / "results.json").read_text())["tasks"] for folder in (out, here)]
    assert tasks[0] == tasks[1]


def test_a_node_that_dies_costs_no_job_and_doubles_none(cluster, second, here, tmp_path):
    process = send(tmp_path / "study", cluster)
    wait_for_steps(tmp_path / "study", process, 30)
    cluster.remove_node(second, allow_graceful=False)
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    ends = Counter(name for name in JOBS for line in said.splitlines() if line.startswith(f"{name}: done in"))
    assert ends == dict.fromkeys(JOBS, 1), said
    died = [name for name in JOBS if f"{name}: died: its node or the worker on it was lost" in said]
    assert len(died) == 1, said
    assert said.count(": is tried again") == 1, said
    assert "resume: going on from step-" in (tmp_path / "study" / "logs" / f"{JOBS[died[0]]}.log").read_text()
    assert printed.splitlines()[-1] == "mean of 2 of 9 tasks (dev, 1 seed)"
    check_same(tmp_path / "study", here)


def test_control_c_saves_on_the_nodes_and_the_study_goes_on_here(cluster, second, here, tmp_path):
    out = tmp_path / "study"
    process = send(out, cluster)
    wait_for_steps(out, process, 5)  # before any checkpoint is due
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=90)[1]
    assert process.returncode == 130, said
    assert "0 of 2 jobs are done, and those that ran have saved a checkpoint" in said
    assert all(list((out / "runs" / job / "checkpoints").glob("step-*")) for job in JOBS.values())
    process = start(out, "--resume", "--jobs", "2")
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    check_same(out, here)


def test_a_study_that_is_killed_leaves_no_job_behind_and_goes_on(cluster, second, here, tmp_path):
    out = tmp_path / "study"
    process = send(out, cluster)
    wait_for_steps(out, process, 30)
    process.kill()
    process.communicate()
    process = send(out, cluster, "--resume")
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    check_same(out, here)


def test_a_node_that_does_not_see_the_folder_is_named_before_any_job(cluster, tmp_path):
    command = (
        "import os, sys\nfrom bertkit.studies.runner import cluster\nfrom pathlib import Path\n"
        f"with cluster.connected({cluster.address!r}): cluster.make_slots(Path({str(tmp_path)!r}), 1)"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=120)
    # nobody holds the lock: to the nodes it looks as on a disk whose locks end at the machine
    assert "does not see that another machine holds" in done.stderr, done.stderr


def test_an_address_where_something_else_answers_is_refused(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        process = start(tmp_path / "study", "--executor", "ray", "--address", f"127.0.0.1:{port}")
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    lines = said.splitlines()[-2:]
    assert lines[0] == f"error: --address: what answers at 127.0.0.1:{port} is no Ray cluster of this version"
    assert lines[1].startswith("hint: start one with `ray start --head`")
    assert not (tmp_path / "study").exists()


def test_test_sets_are_answered_on_the_nodes_as_they_are_here(cluster, second, here, tmp_path):
    zips = []
    for name, more in (("ray", ("--executor", "ray", "--address", cluster.address)), ("local", ())):
        study = shutil.copytree(here, tmp_path / name)
        command = [sys.executable, "-m", "bertkit", "glue", "submit", str(study), "hardware.threads=1", "--any-size"]
        done = subprocess.run([*command, "--tasks", "rte,ax", *more], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "AX (test) by mnli-0: done in" in done.stderr
        with zipfile.ZipFile(study / "submission.zip") as archive:
            zips.append({file: archive.read(file) for file in archive.namelist()})
    assert zips[0] == zips[1]
    assert [*zips[0]] == ["RTE.tsv", "AX.tsv"]

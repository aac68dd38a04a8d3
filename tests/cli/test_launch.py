"""Launch options: what would be started is said exactly, and mistakes are found before anything is started."""

from __future__ import annotations

import os
import pickle
import shlex
import socket
import sys

import pytest

from bertkit import machine
from bertkit.cli import shared
from bertkit.launch import plan
from tests.cli.conftest import check

RUN = ("train", "sentiment", "--train", "bundled:sentiment.csv", "train.steps=2")
TWO_HOSTS = ("--cpus", "1", "--hosts", "2", "--host-rank")


@pytest.fixture(autouse=True)
def nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise AssertionError("a mistake was found too late")

    monkeypatch.setattr(shared, "run_launch", refuse)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (machine, plan):
        monkeypatch.setattr(module, "gpu_count", lambda: 4)


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        (["--gpus", "2"], "--gpus 2: there is none here", "--cpus N"),
        (["--gpus", "0"], "Invalid value for '--gpus'", "--help"),
        (["--cpu", "2"], "No such option: --cpu", "--help"),
        (["--gpus", "1", "--cpus", "2"], "--gpus and --cpus say different things", "give one of them"),
        (["--max-restarts", "1"], "--max-restarts: there is one process", "--resume"),
        (["--main-address", "127.0.0.1:9"], "--main-address 127.0.0.1:9: there is one host", "--hosts"),
        (["--cpus", "2", "--main-address", "127.0.0.1:9"], "--main-address 127.0.0.1:9: there is one host", "--hosts"),
        (["--hosts", "2"], "--hosts 2 goes with --host-rank and --main-address", "--host-rank 0, 1"),
        (["--host-rank", "1"], "--host-rank 1: there is one host", "--hosts"),
        (["--host-rank", "0", "--main-address", "127.0.0.1:9"], "--host-rank 0: there is one host", "--hosts"),
        ([*TWO_HOSTS, "2", "--main-address", "127.0.0.1:9"], "--host-rank 2: hosts are numbered 0 to 1", "from 0"),
        ([*TWO_HOSTS, "0", "--main-address", "127.0.0.1"], "'127.0.0.1' is not ADDRESS:PORT", "10.0.0.1:29500"),
        ([*TWO_HOSTS, "0", "--main-address", "host.invalid:29500"], "host.invalid is not known here", "an IP address"),
        (["--tpu"], "--tpu needs torch_xla, which is not installed", "pip install torch_xla"),
        (["--tpu", "--cpus", "2"], "--cpus and --tpu say different things", "give one of them"),
        (["--launch", "none.yaml"], "--launch: none.yaml is not a file", "accelerate config"),
        (["--launch", "recipes/sentiment/csv.yaml"], "is no accelerate file", "accelerate config"),
        (["--launch", "recipes/launch/two-hosts.yaml"], "two-hosts.yaml: GPUs of a host: 4: there is none", "doctor"),
        (["--launch", "recipes/launch/two-cpus.yaml", "--hosts", "2"], "the file of --launch says", "num_machines"),
        (["--cpus", "2", "train.step=3"], "train: unknown key 'step'", "'steps'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_before_anything_is_started(bertkit, tmp_path, options, message, hint) -> None:
    check(bertkit(*RUN, "--out", tmp_path / "run", *options), message, hint)
    assert not (tmp_path / "run").exists()


def test_hosts_need_one_folder_that_all_name(bertkit) -> None:
    check(
        bertkit(*RUN, *TWO_HOSTS, "0", "--main-address", "127.0.0.1:9"), "must name the same --out", "a disk that all"
    )


def test_a_taken_port_is_named(bertkit, tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = bertkit(*RUN, "--out", tmp_path / "run", *TWO_HOSTS, "0", "--main-address", f"127.0.0.1:{port}")
    check(done, f"--main-address: port {port} cannot be used", "give another port")


def test_a_file_of_a_model_in_parts_is_refused(bertkit, write) -> None:
    path = write("fsdp.yaml", "distributed_type: FSDP\nnum_machines: 1\nnum_processes: 2\n")
    check(bertkit(*RUN, "--launch", path), "has distributed_type FSDP", "MULTI_GPU")


ONE = "distributed_type: 'NO'\nnum_processes: 1\n"
MPI = "distributed_type: MULTI_CPU\nuse_cpu: true\nmpirun_config: {mpirun_hostfile: hosts}\nnum_processes: 2\n"
XLA = "distributed_type: XLA\nnum_processes: 8\n"
TWO = "distributed_type: MULTI_CPU\nuse_cpu: true\nnum_machines: 2\nnum_processes: 4\nmachine_rank: 1\n"


@pytest.mark.parametrize(
    ("content", "options", "message", "hint"),
    [
        (ONE, ["--max-restarts", "1"], "--max-restarts: there is one process, which nobody watches", "--resume"),
        (MPI, ["--max-restarts", "1"], "--max-restarts: nobody watches processes of mpirun", "--resume"),
        (XLA, ["--max-restarts", "1"], "--max-restarts: nobody watches processes on a TPU", "--resume"),
        (ONE, ["--main-address", "127.0.0.1:9"], "--main-address 127.0.0.1:9: there is one host", "num_machines"),
        (TWO, [], "a.yaml: num_machines 2 goes with --host-rank and --main-address", "--host-rank 0, 1"),
        (
            TWO.replace("4", "1"),
            ["--main-address", "127.0.0.1:9"],
            "num_processes 1 is no multiple of num_machines 2",
            "all hosts",
        ),
    ],
)
def test_a_file_that_leaves_an_option_without_effect_is_refused(
    bertkit, write, monkeypatch, content, options, message, hint
) -> None:
    monkeypatch.setattr(plan, "find_spec", lambda _: True)
    check(bertkit(*RUN, "--out", "runs/x", "--launch", write("a.yaml", content), *options), message, hint)


def test_a_tpu_has_no_restarts(bertkit, monkeypatch) -> None:
    monkeypatch.setattr(plan, "find_spec", lambda _: True)
    done = bertkit(*RUN, "--out", "runs/x", "--tpu", "--max-restarts", "1")
    check(done, "--max-restarts: nobody watches processes on a TPU", "--resume")


def test_a_function_that_is_sent_returns_to_the_launcher(tmp_path, monkeypatch) -> None:
    from bertkit.launch import start

    # on a TPU accelerate calls `main` itself, and an exit would end the notebook before it has the result
    sent, result = tmp_path / "call", tmp_path / "result"
    sent.write_bytes(pickle.dumps((sys.path, pickle.dumps((len, ("four",))))))
    monkeypatch.setattr(sys, "argv", ["start", str(sent), str(result)])
    start.main()
    assert pickle.loads(result.read_bytes()) == 4


def test_files_of_mpirun_and_of_a_tpu_need_no_address(bertkit, write, monkeypatch) -> None:
    monkeypatch.setattr(plan, "find_spec", lambda _: True)
    for content in (MPI, XLA):
        path = write("a.yaml", f"{content}num_machines: 2\nmachine_rank: 0\n")
        assert "accelerate launch" in bertkit(*RUN, "--out", "runs/x", "--launch", path, "--dry-run").out


def printed(bertkit, *arguments: object) -> tuple[dict[str, str], list[str]]:
    """Environment and words of the command that a dry run prints."""
    done = bertkit(*arguments, "--dry-run")
    assert done.code == 0, done
    words = shlex.split(done.out)
    names = dict(word.split("=", 1) for word in words[: words.index("accelerate")])
    return names, words[words.index("accelerate") :]


def test_a_dry_run_prints_what_accelerate_takes_with_the_same_command(bertkit, tmp_path) -> None:
    from accelerate.commands.launch import launch_command_parser

    run = ("predict", "runs/x", "--text", "good", "--cpus", "2", "--max-restarts=3")
    names, words = printed(bertkit, *run)
    assert names["ACCELERATE_USE_CPU"] == "true"
    assert words[:2] == ["accelerate", "launch"]
    asked = launch_command_parser().parse_args(words[2:])
    assert (asked.num_processes, asked.num_machines, asked.max_restarts) == (2, 1, 3)
    assert [asked.training_script, *asked.training_script_args] == ["bertkit", "predict", "runs/x", "--text", "good"]


def test_processes_of_a_host_share_its_cores(bertkit, monkeypatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)), raising=False)
    words = printed(bertkit, *RUN, "--out", "runs/x", "--cpus", "4")[1]
    assert words[words.index("--num_cpu_threads_per_process") + 1] == "3"
    words = printed(bertkit, *RUN, "--out", "runs/x", "--cpus", "24")[1]
    assert words[words.index("--num_cpu_threads_per_process") + 1] == "1"


def test_training_takes_all_gpus_unless_told_otherwise(bertkit, four_gpus) -> None:
    names, words = printed(bertkit, *RUN, "--out", "runs/x")
    assert words[words.index("--num_processes") + 1] == "4"
    assert "ACCELERATE_USE_CPU" not in names
    for options in (["--gpus", "1"], ["hardware.device=cpu"]):
        assert "accelerate" not in bertkit(*RUN, "--out", "runs/x", *options, "--dry-run").out
    assert "accelerate" not in bertkit("predict", "runs/x", "--text", "good", "--dry-run").out
    check(bertkit(*RUN, "--gpus", "5"), "--gpus 5: there are 4 here", "doctor")


def test_all_processes_are_told_the_name_of_the_run(bertkit, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert printed(bertkit, *RUN, "--cpus", "2")[1][-2:] == ["--out", "runs/sentiment-001"]


def test_the_examples_that_come_along_are_accelerate_files(bertkit, four_gpus) -> None:
    cpus = printed(bertkit, *RUN, "--out", "runs/x", "--launch", "recipes/launch/two-cpus.yaml")
    assert cpus[0]["ACCELERATE_USE_CPU"] == "true"
    assert "--multi_gpu" in cpus[1]  # torchrun's processes, on the CPU by the environment
    hosts = (*RUN, "--out", "runs/x", "--launch", "recipes/launch/two-hosts.yaml", "--host-rank", "1")
    words = printed(bertkit, *hosts, "--main-address", "127.0.0.1:29500")[1]
    assert words[words.index("--machine_rank") + 1] == "1"
    assert "launch/two-hosts" not in bertkit("recipe", "list").out


def test_glue_spreads_its_runs_over_the_gpus_asked_for(bertkit, four_gpus, tmp_path, monkeypatch) -> None:
    from bertkit.studies.runner.room import make_slots

    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen = [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in make_slots(2, gpus=2)]
    assert seen == ["0", "0", "1", "1"]
    assert len(make_slots(1)) == 4
    done = bertkit("glue", "run", "-m", "bundled:tiny", "--data", "bundled:glue", "-o", tmp_path / "x", "--gpus", "5")
    check(done, "--gpus 5: there are 4 here", "doctor")
    assert not (tmp_path / "x").exists()
    ray = ("glue", "run", "-m", "bundled:tiny", "-o", tmp_path / "x", "--executor", "ray", "--gpus", "2")
    check(bertkit(*ray), "--gpus 2: a Ray cluster knows its own GPUs", "leave it out")


def test_a_notebook_takes_all_gpus_and_stays_where_it_is_with_one(monkeypatch) -> None:
    import bertkit
    from bertkit.launch import start

    started = []
    monkeypatch.setattr(start, "run_launch", lambda launch, *_: started.append(launch.summary) or 1)
    for count in (0, 1):
        monkeypatch.setattr(plan, "gpu_count", lambda count=count: count)
        assert bertkit.spawn(os.getpid) == os.getpid()
    assert started == []
    monkeypatch.setattr(plan, "gpu_count", lambda: 4)
    with pytest.raises(bertkit.BertkitError, match="the function failed"):
        bertkit.spawn(os.getpid)
    assert started == ["launch: 4 GPUs (all available; use --gpus 1 for one)"]

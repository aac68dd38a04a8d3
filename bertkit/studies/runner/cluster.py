"""Jobs on a Ray cluster: each in a process of its own on whichever node has room, its files on a disk all nodes share.

What a job is, how often it is tried and what it writes is as in `jobs.py`; only where its process runs differs.
Exactly one process works on a job: it holds its run directory, and a later attempt waits for it. The lock ends with its
process, and on a disk that is shared also with its node; that locks reach from node to node is tried before the first
job. Nodes keep their own environment: none of ours is sent, because tokens may be in it.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path

from bertkit import __version__
from bertkit.disk import is_held
from bertkit.errors import BertkitError, one_line
from bertkit.rundir import RunDir
from bertkit.studies.runner.jobs import Job, Process, Slot

try:
    import ray
except ImportError:
    ray = None

REACHED = 10.0  # seconds in which the address of a cluster must answer: Ray itself would try for minutes
LOST = "its node or the worker on it was lost"


class Worker:
    """An actor: runs one job on its node, in a process of its own that ends when this one is gone."""

    def __init__(self) -> None:
        self.process: Process | None = None
        self.told = 0  # the signal that came before the process began

    def look(self, folder: str, work: str, version: str = __version__) -> str:
        """What keeps this node from running the jobs of a study of that version, else ""."""
        if version != __version__:
            return f"has bertkit {__version__}, not {version}"
        for path in (work, folder):
            if not Path(path).is_dir():
                return f"does not see {path}"
        try:
            return "" if is_held(Path(folder)) else f"does not see that another machine holds {folder}"
        except BertkitError as error:
            return error.message

    def run(self, command: Sequence[str], log: str, run: str, work: str, environment: Mapping[str, str] = {}) -> int:
        """Run a job to its end, once an earlier process of it is gone; returns its exit code."""
        if RunDir(run).is_at_work():
            with Path(log).open("a", encoding="utf-8") as file:
                file.write("waits for an earlier process of this job to end\n")
        while RunDir(run).is_at_work() and not self.told:
            time.sleep(0.2)
        if self.told:
            return -self.told
        self.process = Process([sys.executable, *command[1:]], Path(log), environment, work)
        if self.told:
            self.process.send_signal(self.told)
        return self.process.wait()

    def tell(self, number: int) -> None:
        """Send the job a signal."""
        self.told = number
        if self.process is not None:
            self.process.send_signal(number)


@dataclass
class Remote:
    """An attempt at a job on some node, with what the runner asks of a `jobs.Process`."""

    worker: object
    begun: object
    ended: object
    returncode: int | None = None
    lost: str = ""

    def poll(self, seconds: float | None = 0) -> int | None:
        """The exit code of the job, None if it goes on after these seconds."""
        if self.returncode is None and ray.wait([self.ended], timeout=seconds)[0]:
            try:
                self.returncode = ray.get(self.ended)
            except ray.exceptions.RayTaskError as error:
                self.returncode, self.lost = 1, one_line(str(error.cause))
            except ray.exceptions.RayError:
                self.returncode, self.lost = 1, LOST
        return self.returncode

    wait = partialmethod(poll, seconds=None)

    def terminate(self, number: int = signal.SIGTERM) -> None:
        if ray.wait([self.begun], timeout=0)[0]:
            self.worker.tell.remote(int(number))
        else:
            ray.kill(self.worker)  # it waits for room, and has nothing to save

    kill = partialmethod(terminate, number=signal.SIGKILL)

    def release(self) -> None:
        ray.kill(self.worker)


@dataclass(kw_only=True)
class RemoteSlot(Slot):
    """Room for one job somewhere on the cluster."""

    gpus: float
    cpus: int

    def start(self, job: Job) -> Remote | None:
        free = ray.available_resources()
        if free.get("CPU", 0) < self.cpus or free.get("GPU", 0) < self.gpus:
            return None
        # two calls at a time: `tell` must reach a worker whose `run` goes on
        worker = ray.remote(Worker).options(num_cpus=self.cpus, num_gpus=self.gpus, max_concurrency=2).remote()
        call = (job.command, str(job.log), str(job.run.path), os.getcwd(), self.environment)
        return Remote(worker, worker.tell.remote(0), worker.run.remote(*call))


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to the Ray cluster that answers at an address; `auto` is the one that this machine is part of."""
    if ray is None:
        raise BertkitError("--executor ray: Ray is not installed", hint="pip install 'bertkit[ray]'")
    hint = "start one with `ray start --head`, and give --address HOST:PORT as that says"
    if address != "auto":
        _check_address(address, hint)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise BertkitError(f"--address: no Ray cluster answers at {address} ({one_line(str(error))})", hint) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str, hint: str) -> None:
    found = re.fullmatch(r"(ray://)?\[?([^\[\]/@]+?)\]?:(\d{1,5})", address)
    if found is None:
        raise BertkitError(f"--address: {address!r} is no address of a Ray cluster", hint)
    client, host, port = found.groups()
    try:
        socket.create_connection((host, int(port)), timeout=REACHED).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise BertkitError(f"--address: nothing answers at {address} ({one_line(str(error))})", hint) from None
    if client:
        return  # it gives up by itself
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        subprocess.run(command, capture_output=True, timeout=6 * REACHED, check=True)  # noqa: S603
    except subprocess.SubprocessError:
        raise BertkitError(f"--address: what answers at {address} is no Ray cluster of this version", hint) from None


def make_slots(folder: Path, jobs_per_device: int) -> list[Slot]:
    """The slots of the cluster, whose nodes must all see the folder of the study, which this process holds."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    gpus, cpus, count = need_of([node["Resources"] for node in nodes], jobs_per_device)
    if not count:
        raise BertkitError("--executor ray: no node of the cluster has CPU cores to give", hint="add a node")
    _check_nodes(nodes, folder)
    share = {} if gpus else {"OMP_NUM_THREADS": str(cpus)}
    return [RemoteSlot(share, gpus=gpus, cpus=cpus) for _ in range(count)]


def _check_nodes(nodes: Sequence[Mapping], folder: Path) -> None:
    """Ask every node, all at the same time, what keeps it from running jobs."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        worker = ray.remote(Worker).options(num_cpus=0, scheduling_strategy=there).remote()
        answer = worker.look.remote(str(folder.absolute()), os.getcwd(), __version__)
        asked.append((node["NodeManagerAddress"], worker, answer))
    for name, worker, answer in asked:
        try:
            problem = ray.get(answer, timeout=120)
        except ray.exceptions.RayError as error:
            cause = one_line(str(getattr(error, "cause", None) or error))
            problem = f"cannot run bertkit ({cause[-200:]})"
        if problem:
            raise BertkitError(
                f"--executor ray: node {name} {problem}",
                hint="install the same bertkit on every node; work in a folder on a disk that all share, locks too",
            )
        ray.kill(worker)


def need_of(nodes: Sequence[Mapping[str, float]], jobs_per_device: int) -> tuple[float, int, int]:
    """What one job takes, a share of a GPU or of the cores of the smallest node, and how many jobs find room.

    Returns:
        GPUs, cores, jobs.
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if gpus:
        return 1 / jobs_per_device, 1, gpus * jobs_per_device
    cores = [int(node["CPU"]) for node in nodes]
    each = max(1, min(cores, default=1) // jobs_per_device)
    return 0, each, sum(count // each for count in cores)

"""Turns launch options into a command of accelerate's launcher, after every mistake that this host can find."""

import os
import shlex
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NamedTuple

from bertkit.errors import BertkitError
from bertkit.launch import USE_CPU
from bertkit.machine import check_gpus, core_count, gpu_count

DATA_PARALLEL = ("NO", "MULTI_CPU", "MULTI_GPU", "XLA")  # the kinds of an accelerate file that the loop is made for
OFF = ("--mixed_precision", "no", "--dynamo_backend", "no")  # bertkit sets both, whatever the user's default file says
ON_TPU = "nobody watches processes on a TPU"
WATCHED = {
    "PET_SHUTDOWN_TIMEOUT": "60",  # seconds that processes get to save a checkpoint when they are told to stop
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # otherwise every process warns of every connection that closes
}


class Asked(NamedTuple):
    """What the launch options of a command said; beside its type, each has what a command line needs to offer it."""

    gpus: Annotated[int | None, {"min": 1, "help": "GPUs to use, one process each."}] = None
    cpus: Annotated[int | None, {"min": 1, "help": "CPU processes to use; they share the cores."}] = None
    hosts: Annotated[int | None, {"min": 1, "help": "Hosts that run this same command."}] = None
    host_rank: Annotated[int | None, {"min": 0, "help": "Number of this host, from 0 on."}] = None
    main_address: Annotated[str | None, {"metavar": "ADDRESS:PORT", "help": "Where host 0 listens."}] = None
    tpu: Annotated[bool, {"help": "Run on the TPU of this host."}] = False
    launch: Annotated[Path | None, {"metavar": "FILE", "help": "accelerate's YAML file to use."}] = None
    max_restarts: Annotated[int, {"min": 0, "help": "Restarts after a process dies."}] = 0
    dry_run: Annotated[bool, {"help": "Print the command that would run."}] = False


class Launch(NamedTuple):
    """How the processes are started."""

    options: Sequence[str]  # of `accelerate launch`; none when this process does the work itself
    environment: Mapping[str, str]  # what their environment has beside ours
    summary: str  # one line for people; empty when there is nothing to say

    def words(self, command: Sequence[str], module: str = "bertkit") -> list[str]:
        """The arguments of `accelerate launch` that run a module with the words of a command."""
        if "--tpu" in self.options and module == "bertkit":
            module = "bertkit.__main__"  # on a TPU accelerate imports a module and calls its `main`
        return [*self.options, "-m", module, *command]

    def line(self, command: Sequence[str]) -> str:
        """The whole command, for a shell."""
        names = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        words = ["accelerate", "launch", *self.words(command)] if self.options else ["bertkit", *command]
        return " ".join([*names, shlex.join(words)])


def plan_launch(asked: Asked, takes_all: bool = False) -> Launch:
    """How to start the processes that were asked for.

    Args:
        takes_all: all GPUs are used when nothing is asked for.
    Raises:
        BertkitError: options that do nothing or contradict each other, devices that are missing, a port that is taken.
    """
    kinds = [name for name in ("gpus", "cpus", "tpu", "launch") if getattr(asked, name)]
    if len(kinds) > 1:
        raise BertkitError(f"--{kinds[0]} and --{kinds[1]} say different things", hint="give one of them")
    if asked.launch is not None:
        return _from_file(asked, asked.launch)
    _check_hosts(asked, "--hosts")
    hosts = asked.hosts or 1
    if asked.tpu:
        if hosts > 1:
            raise BertkitError("--tpu is for one host", hint="give an accelerate file with --launch to use more")
        _check_xla("--tpu needs")
        device = {"PJRT_DEVICE": os.environ.get("PJRT_DEVICE", "TPU")}
        return _unwatched(asked, Launch(["--tpu", *OFF], device, "launch: the TPU of this host"), ON_TPU)
    if asked.gpus is not None:
        check_gpus(asked.gpus)
    gpus = asked.gpus or (gpu_count() if asked.cpus is None and (takes_all or hosts > 1) else 0)
    here = gpus or asked.cpus or 1
    on_cpu = {} if gpus or (asked.cpus is None and hosts == 1) else {USE_CPU: "true"}
    if here * hosts == 1:
        return _unwatched(asked, Launch([], on_cpu, ""))
    plural = here > 1
    kind = f"{here} GPU{'s' * plural}" if gpus else f"{here} process{'es' * plural} on the CPU"
    where = f" on each of {hosts} hosts, this is number {asked.host_rank}" if hosts > 1 else ""
    why = " (all available; use --gpus 1 for one)" if gpus and takes_all and not asked.gpus else ""
    options = ["--num_processes", str(here * hosts), "--rdzv_backend", "static", "--gpu_ids", "all", *OFF]
    return _meeting(asked, here, Launch(options, {**on_cpu, **WATCHED}, f"launch: {kind}{where}{why}"))


def _from_file(asked: Asked, path: Path) -> Launch:
    from accelerate.commands.config.config_args import load_config_from_file

    if asked.hosts is not None:
        raise BertkitError("--hosts: the file of --launch says how many", hint="set num_machines there")
    create = "create one with `accelerate config --config_file FILE`"
    if not path.is_file():
        raise BertkitError(f"--launch: {path} is not a file", hint=create)
    try:
        config = load_config_from_file(str(path))
    except Exception as error:  # yaml's errors, accelerate's, and those of the dataclass that it fills
        raise BertkitError(f"--launch: {path} is no accelerate file ({error})", hint=create) from None
    kind = str(getattr(config.distributed_type, "value", config.distributed_type))
    if kind not in DATA_PARALLEL:
        raise BertkitError(
            f"--launch: {path} has distributed_type {kind}, but every process of bertkit holds the whole model",
            hint=f"one of: {', '.join(DATA_PARALLEL)}",
        )
    hosts, total = config.num_machines or 1, config.num_processes or 1
    _check_hosts(asked._replace(hosts=hosts if hosts > 1 else None), "num_machines")
    options, on_cpu = ["--config_file", str(path), *OFF], {USE_CPU: "true"} if config.use_cpu else {}
    launch = Launch(options, {**on_cpu, **WATCHED}, f"launch: {total} process{'es' * (total > 1)}, as {path} says")
    if config.use_cpu and config.mpirun_config:
        return _unwatched(asked, launch._replace(environment=on_cpu), "nobody watches processes of mpirun")
    if kind == "XLA":
        _check_xla(f"--launch: {path} needs")
        return _unwatched(asked, launch, ON_TPU)
    if total % hosts:
        raise BertkitError(
            f"--launch: {path}: num_processes {total} is no multiple of num_machines {hosts}",
            hint="num_processes counts those of all hosts",
        )
    here = total // hosts
    if kind == "MULTI_GPU" and not config.use_cpu:
        check_gpus(here, f"--launch: {path}: GPUs of a host:")
    if total == 1:
        return _unwatched(asked, launch)
    rank = config.machine_rank if asked.host_rank is None else asked.host_rank
    address = asked.main_address
    if address is None and config.main_process_ip:
        address = f"{config.main_process_ip}:{config.main_process_port or 29500}"
    return _meeting(asked._replace(hosts=hosts, host_rank=rank, main_address=address), here, launch)


def _check_hosts(asked: Asked, setting: str) -> None:
    """Refuse options of one of several hosts where `setting` does not give their number, and a rank beyond it."""
    for name, value in {"--host-rank": asked.host_rank, "--main-address": asked.main_address}.items():
        if value is not None and asked.hosts is None:  # the first of several hosts would train alone
            raise BertkitError(f"{name} {value}: there is one host", hint=f"say how many with {setting}")
    if asked.hosts is not None and (asked.host_rank or 0) >= asked.hosts:
        raise BertkitError(
            f"--host-rank {asked.host_rank}: hosts are numbered 0 to {asked.hosts - 1}", hint="count from 0"
        )


def _check_xla(what: str) -> None:
    if find_spec("torch_xla") is None:
        raise BertkitError(f"{what} torch_xla, which is not installed", hint="pip install torch_xla on the TPU's host")


def _unwatched(asked: Asked, launch: Launch, why: str = "there is one process, which nobody watches") -> Launch:
    """A launch that torchrun does not watch, so that nothing starts its processes again."""
    if asked.max_restarts:
        raise BertkitError(
            f"--max-restarts: {why}",
            hint="use it with two processes or more on CPUs or GPUs; else continue with --resume",
        )
    return launch


def _meeting(asked: Asked, here: int, launch: Launch) -> Launch:
    """The launch of several processes, `here` of them on this host and sharing its cores, with where they meet."""
    hosts = asked.hosts or 1
    if hosts > 1 and None in (asked.host_rank, asked.main_address):
        where = f"--hosts {hosts}" if asked.launch is None else f"--launch: {asked.launch}: num_machines {hosts}"
        raise BertkitError(
            f"{where} goes with --host-rank and --main-address",
            hint="on each host: --host-rank 0, 1, ... and --main-address ADDRESS:PORT of the host with rank 0",
        )
    address, port = _main_address(asked)
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if not threads.isdecimal() or not int(threads):
        threads = str(max(1, core_count() // here))
    options = [
        "--multi_gpu", "--num_machines", str(hosts), "--machine_rank", str(asked.host_rank or 0),
        "--main_process_ip", address, "--main_process_port", str(port), "--max_restarts", str(asked.max_restarts),
        "--num_cpu_threads_per_process", threads,
    ]  # fmt: skip
    near = _interface(address, port) if hosts > 1 else {}
    return launch._replace(options=[*launch.options, *options], environment={**launch.environment, **near})


def _main_address(asked: Asked) -> tuple[str, int]:
    """Address and port where the processes meet: known here, and free if this is the first host."""
    if asked.main_address is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()
    host, _, text = asked.main_address.rpartition(":")
    port = int(text) if text.isdecimal() else 0
    if not host or not 0 < port < 65536:
        raise BertkitError(f"--main-address: {asked.main_address!r} is not ADDRESS:PORT", hint="such as 10.0.0.1:29500")
    with _refused(f"{host} is not known here", "give an IP address, or a name that all hosts know"):
        socket.getaddrinfo(host, port)
    if not asked.host_rank:
        hint = "another run may hold it; give another port, the same on all hosts"
        with socket.socket() as probe, _refused(f"port {port} cannot be used", hint):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", port))
    return host, port


def _interface(address: str, port: int) -> Mapping[str, str]:
    """The network interface that reaches the first host; gloo would take the one behind the name of this host."""
    import psutil

    if "GLOO_SOCKET_IFNAME" in os.environ:
        return {}
    family, kind, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        with _refused(f"{address} cannot be reached", "put all hosts into one network"):
            probe.connect(target)  # sends nothing
        ours = probe.getsockname()[0]
    names = [name for name, known in psutil.net_if_addrs().items() if any(entry.address == ours for entry in known)]
    return {"GLOO_SOCKET_IFNAME": names[0]} if names else {}


@contextmanager
def _refused(problem: str, hint: str) -> Iterator[None]:
    """Let an error of the network name the address of the first host as its cause."""
    try:
        yield
    except OSError as error:
        raise BertkitError(f"--main-address: {problem} ({error.strerror})", hint=hint) from None


def without_options(arguments: Sequence[str]) -> list[str]:
    """A command line without its launch options."""
    options = [f"--{name.replace('_', '-')}" for name in Asked._fields]
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, has_value, _ = argument.partition("=")
        if name not in options:
            kept.append(argument)
        elif not has_value and name not in ("--tpu", "--dry-run"):
            next(rest, None)
    return kept

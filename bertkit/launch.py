"""How processes sit on their machines: one or many, on which devices, with how many threads, and whom they work for.

Several processes are started by accelerate's launcher, under which torchrun watches them. What it lacks is added here:
mistakes are found before anything is started, a failure is told once and not by every process, and processes end with
the one that started them.
"""

from __future__ import annotations

import io
import json
import logging
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from bertkit.errors import BertkitError, Interrupted
from bertkit.machine import check_gpus, core_count, gpu_count

FOLLOW = "BERTKIT_FOLLOW"  # set for a process that is to end with the one that started it
RANKS = "BERTKIT_RANKS"  # set for the processes of a launch: the folder where one that fails leaves its last word
USE_CPU = "ACCELERATE_USE_CPU"
PATIENCE = 60  # seconds that processes get to save a checkpoint when they are told to stop
ECHO = 2.0  # seconds that a process stays when it has lost another, so that the launcher sees first who died first
DATA_PARALLEL = ("NO", "MULTI_CPU", "MULTI_GPU", "XLA")  # the kinds of an accelerate file that the loop is made for


@dataclass(frozen=True)
class Asked:
    """What the launch options of a command said.

    Attributes:
        gpus: processes of this host, one a GPU.
        cpus: processes of this host, on its CPU.
        hosts: launchers that work together, one a host; each is given its number and the address of the first one.
        host_rank: number of this host, from 0.
        main_address: `address:port` at which the first host is reached.
        tpu: run on the TPU of this host.
        launch: a file in accelerate's format instead.
        max_restarts: how often all processes are started again when one of them dies.
        dry_run: say what would be run.
    """

    gpus: int | None = None
    cpus: int | None = None
    hosts: int | None = None
    host_rank: int | None = None
    main_address: str | None = None
    tpu: bool = False
    launch: Path | None = None
    max_restarts: int = 0
    dry_run: bool = False


class Launch(NamedTuple):
    """How the processes are started.

    Attributes:
        options: of `accelerate launch`; none when this process does the work itself.
        environment: what their environment has beside ours.
        summary: one line for people; empty when there is nothing to say.
    """

    options: Sequence[str]
    environment: Mapping[str, str]
    summary: str

    def line(self, command: Sequence[str]) -> str:
        """The whole command, for a shell."""
        names = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        started = ["accelerate", "launch", *self.options, *_program(self.options)] if self.options else ["bertkit"]
        return " ".join([*names, shlex.join([*started, *command])])


class Word(NamedTuple):
    """The last word of a process that failed.

    Attributes:
        code: its exit code.
        trace: of a bug.
        is_echo: it failed because another one did.
        moment: seconds since 1970.
    """

    rank: int
    message: str
    hint: str = ""
    code: int = 2
    trace: str = ""
    is_echo: bool = False
    moment: float = 0.0


def is_told_cpu() -> bool:
    """Whether a launcher put this process on the CPU, whatever else is there."""
    return os.environ.get(USE_CPU, "false").lower() in ("true", "1", "yes")


def settle_xla(device: str) -> None:
    """Let this process have an XLA device, or none; call it before accelerate is imported.

    Where torch_xla is installed accelerate puts everything on its device, whatever it is asked for.

    Args:
        device: `hardware.device`; `auto` is as USE_TORCH_XLA says, or takes XLA where PJRT_DEVICE is set.
    """
    if find_spec("torch_xla") is None:
        return
    if device == "auto":
        os.environ.setdefault("USE_TORCH_XLA", "1" if "PJRT_DEVICE" in os.environ and not is_told_cpu() else "0")
    else:
        os.environ["USE_TORCH_XLA"] = "1" if device == "xla" else "0"


def follow_parent() -> None:
    """End this process, as SIGTERM would, when the one that started it is gone, killed or not.

    The parent holds the other end of our standard input and never writes to it; its death closes it.
    """
    if os.environ.pop(FOLLOW, None) is None:
        return
    line = os.dup(0)  # for a launcher gives its own processes another standard input

    def watch() -> None:
        while os.read(line, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def is_rank() -> bool:
    """Whether this process was started by a launcher, ours or another."""
    return "LOCAL_RANK" in os.environ or RANKS in os.environ


def process_count() -> int:
    """How many processes work together, this one included."""
    return int(os.environ.get("WORLD_SIZE", "1")) if is_rank() else 1


def is_first() -> bool:
    """Whether this process is the one that speaks and writes."""
    return not is_rank() or os.environ.get("RANK", "0") == "0"


def restarts() -> int:
    """How often the processes of this launch were started again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) if is_rank() else 0


def plan_launch(asked: Asked, takes_all: bool = False) -> Launch:
    """How to start the processes that were asked for, checked as far as this host can tell.

    Args:
        takes_all: all GPUs are used when nothing is asked for.
    Raises:
        BertkitError: options that contradict each other, devices that are not there, a port that is taken.
    """
    _check(asked)
    if asked.launch is not None:
        return _from_file(asked)
    if asked.tpu:
        if find_spec("torch_xla") is None:
            raise BertkitError("--tpu: torch_xla is not installed", hint="pip install torch_xla on the TPU's host")
        device = {"PJRT_DEVICE": os.environ.get("PJRT_DEVICE", "TPU")}
        return Launch(["--tpu", *_OFF], device, "launch: the TPU of this host")
    hosts = asked.hosts or 1
    if asked.gpus is not None:
        check_gpus(asked.gpus)
    gpus = asked.gpus or (gpu_count() if asked.cpus is None and (takes_all or hosts > 1) else 0)
    here = gpus or asked.cpus or 1
    on_cpu = {} if gpus or (asked.cpus is None and hosts == 1) else {USE_CPU: "true"}
    if here * hosts == 1:
        if asked.max_restarts:
            raise BertkitError(
                "--max-restarts: there is one process, which nobody watches",
                hint="it goes with two processes or more; a single one goes on with --resume",
            )
        return Launch([], on_cpu, "")
    address, port = _main_address(asked)
    options = [
        "--multi_gpu", "--num_processes", str(here * hosts), "--num_machines", str(hosts),
        "--machine_rank", str(asked.host_rank or 0), "--main_process_ip", address, "--main_process_port", str(port),
        "--max_restarts", str(asked.max_restarts), "--num_cpu_threads_per_process", str(_threads(here)),
        "--rdzv_backend", "static", "--gpu_ids", "all", *_OFF,
    ]  # fmt: skip
    kind = _in_words(here, bool(gpus))
    where = f" on each of {hosts} hosts, this is number {asked.host_rank}" if hosts > 1 else ""
    why = "" if asked.gpus or asked.cpus else f", for {'they are' if here > 1 else 'it is'} there (--gpus 1: one)"
    near = _interface(address, port) if hosts > 1 else {}
    return Launch(options, {**on_cpu, **near, **_WATCHED}, f"launch: {kind}{where}{why if gpus else ''}")


def run_launch(launch: Launch, command: Sequence[str]) -> int:
    """Run a bertkit command in the processes of a launch, to its end.

    Args:
        command: what follows `bertkit` on the command line.
    Returns:
        0, or 1 when a process ended by a bug, whose traceback is printed.
    Raises:
        BertkitError: what the first process to fail had to say.
        Interrupted: the processes were told to stop, and did.
    """
    follow_parent()
    with _watching(launch.environment) as folder:
        # not before: torch reads some of the environment as it is imported
        from accelerate.commands.launch import launch_command, launch_command_parser

        arguments = launch_command_parser().parse_args([*launch.options, *_program(launch.options), *command])
        return _told(folder, lambda: launch_command(arguments))


def spawn(function: Callable[..., object], processes: int, *arguments: object, cpu: bool = False) -> None:
    """Run a function in several processes that work together, from a notebook: `spawn(train, 2)`.

    The processes are copies of this one, so the function may be defined in the notebook; in it, `bertkit.finetune` and
    the other verbs share the work. Call it before anything else in the notebook has used the GPU or trained a model:
    a copy of a process whose OpenMP threads have worked waits for ever for threads of its own, so on the CPU each gets
    one thread when torch was imported before (and `hardware.threads` must not ask for more).

    Args:
        processes: one a GPU where there are GPUs, else on the CPU.
        cpu: on the CPU in any case.
    Raises:
        BertkitError: more processes than GPUs; or what the first process to fail had to say.
        Interrupted: the processes were told to stop, and did.
        RuntimeError: a process ended by a bug, whose traceback is printed.
    """
    threads = 1 if "torch" in sys.modules else _threads(processes)
    on_cpu = cpu or gpu_count() == 0
    if not on_cpu:
        check_gpus(processes)
    from accelerate import notebook_launcher
    from accelerate.utils import patch_environment

    chosen = {USE_CPU: "true"} if on_cpu else {}
    if processes == 1:
        with patch_environment(**chosen):
            function(*arguments)
        return
    port, entry = _free_port(), _Rank(function, threads)
    # accelerate would choose a number of threads itself
    with _watching({**chosen, **_WATCHED, "OMP_NUM_THREADS": str(threads)}) as folder:
        print(f"launch: {_in_words(processes, not on_cpu)}", file=sys.stderr, flush=True)
        # accelerate speaks of GPUs, whatever there is
        with redirect_stdout(io.StringIO()):
            code = _told(folder, lambda: notebook_launcher(entry, arguments, processes, use_port=str(port)))
        if code:
            raise RuntimeError("a process failed; its traceback is above")


def leave_word(message: str, hint: str = "", code: int = 2, trace: str = "", is_echo: bool = False) -> bool:
    """Tell the launcher why this process ends, instead of everybody; false when there is no launcher of ours."""
    folder = os.environ.get(RANKS)
    if folder is None:
        return False
    rank = int(os.environ.get("RANK", "0"))
    word = Word(rank, message, hint, code, trace, is_echo, time.time())
    path = Path(folder, f"{restarts()}-{rank}.json")
    path.with_suffix(".tmp").write_text(json.dumps(word._asdict()), encoding="utf-8")
    path.with_suffix(".tmp").replace(path)
    return True


def leave_trace(error: BaseException) -> bool:
    """`leave_word` of an error that nobody expected; one that tells of another process's death is marked as such."""
    kinds, text = {kind.__name__ for kind in type(error).__mro__}, str(error)
    is_echo = "DistError" in kinds or "gloo" in text or "NCCL" in text
    is_left = leave_word(text, "", 1, "".join(traceback.format_exception(error)), is_echo)
    if is_left and is_echo:
        time.sleep(ECHO)
    return is_left


def check_restart() -> None:
    """End a process that was started again after an end that needs no second try, such as a mistake of the user's.

    Raises:
        BertkitError, Interrupted: as before.
    """
    if restarts() and RANKS in os.environ:
        for word in _words(Path(os.environ[RANKS]), restarts() - 1):
            if not word.trace and not word.is_echo:
                raise (Interrupted if word.code == 130 else BertkitError)(word.message, word.hint)


_OFF = ("--mixed_precision", "no", "--dynamo_backend", "no")  # precision is ours, and a file of the user's stays out
_WATCHED = {
    "PET_SHUTDOWN_TIMEOUT": str(PATIENCE),
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # every process would warn of every connection that closes
}


class _Rank:
    """A function as one of several processes runs it."""

    def __init__(self, function: Callable[..., object], threads: int) -> None:
        self.function, self.threads, self.stdout = function, threads, sys.stdout
        self.__name__ = self.__qualname__ = "function"  # torch asks for them

    def __call__(self, *arguments: object) -> None:
        import torch

        follow_parent()
        torch.set_num_threads(self.threads)
        sys.stdout = self.stdout if is_first() else open(os.devnull, "w")  # noqa: SIM115 for this process's life
        try:
            self.function(*arguments)
        except (BertkitError, Interrupted) as error:
            code = 130 if isinstance(error, Interrupted) else 2
            leave_word(error.message, error.hint, code)
            os._exit(code)
        except Exception as error:
            leave_trace(error)
            os._exit(1)


def _in_words(count: int, on_gpus: bool) -> str:
    plural = count > 1
    return f"{count} GPU{'s' * plural}" if on_gpus else f"{count} process{'es' * plural} on the CPU"


def _program(options: Sequence[str]) -> list[str]:
    # on a TPU accelerate imports a module and calls its `main`
    return ["-m", "bertkit.__main__" if "--tpu" in options else "bertkit"]


def _check(asked: Asked) -> None:
    kinds = [name for name in ("gpus", "cpus", "tpu", "launch") if getattr(asked, name)]
    if len(kinds) > 1:
        raise BertkitError(f"--{kinds[0]} and --{kinds[1]} say different things", hint="give one of them")
    if asked.launch is not None:
        if asked.hosts is not None:
            raise BertkitError("--hosts: the file of --launch says how many", hint="it is num_machines there")
        return
    several = asked.hosts is not None and asked.hosts > 1
    if asked.tpu and several:
        raise BertkitError("--tpu is for one host", hint="for more, give an accelerate file with --launch")
    if several and (asked.host_rank is None or asked.main_address is None):
        raise BertkitError(
            f"--hosts {asked.hosts} goes with --host-rank and --main-address",
            hint="on each host: --host-rank 0, 1, ... and --main-address ADDRESS:PORT of the host with rank 0",
        )
    if not several and asked.host_rank:
        raise BertkitError(f"--host-rank {asked.host_rank}: there is one host", hint="say how many with --hosts")
    if several and asked.host_rank >= asked.hosts:
        raise BertkitError(
            f"--host-rank {asked.host_rank}: {asked.hosts} hosts have the ranks 0 to {asked.hosts - 1}",
            hint="count from 0",
        )


def _main_address(asked: Asked) -> tuple[str, int]:
    """Address and port where the processes meet; looked up, and free where they are ours."""
    if asked.main_address is None:
        return "127.0.0.1", _free_port()
    host, _, text = asked.main_address.rpartition(":")
    if not host or not text.isdigit() or not 0 < int(text) < 65536:
        raise BertkitError(f"--main-address: {asked.main_address!r} is not ADDRESS:PORT", hint="such as 10.0.0.1:29500")
    try:
        socket.getaddrinfo(host, int(text))
    except OSError as error:
        raise BertkitError(
            f"--main-address: {host} is not known here ({error.strerror})",
            hint="give an IP address, or a name that all hosts know",
        ) from None
    if not asked.host_rank:
        _check_free(int(text))
    return host, int(text)


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise BertkitError(
                f"--main-address: port {port} cannot be used ({error.strerror})",
                hint="another run may hold it; give another port, the same on all hosts",
            ) from None


def _interface(address: str, port: int) -> Mapping[str, str]:
    """The network on which this host reaches the first one; gloo would take the one that the host's name stands for."""
    import psutil

    if "GLOO_SOCKET_IFNAME" in os.environ:
        return {}
    family, kind, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        try:
            probe.connect(place)  # sends nothing
        except OSError as error:
            raise BertkitError(
                f"--main-address: no way to {address} ({error.strerror})", hint="are the hosts in one network?"
            ) from None
        ours = probe.getsockname()[0]
    names = [name for name, known in psutil.net_if_addrs().items() if any(entry.address == ours for entry in known)]
    return {"GLOO_SOCKET_IFNAME": names[0]} if names else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _threads(processes: int) -> int:
    """Threads of each of the processes that share this host's cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else max(1, core_count() // processes)


def _from_file(asked: Asked) -> Launch:
    from accelerate.commands.config.config_args import load_config_from_file

    path = asked.launch
    if not path.is_file():
        raise BertkitError(f"--launch: {path} is not a file", hint="`accelerate config --config_file FILE` makes one")
    try:
        config = load_config_from_file(str(path))
    except Exception as error:  # yaml's errors, accelerate's, and those of the dataclass that it fills
        raise BertkitError(
            f"--launch: {path} is no accelerate file ({error})", hint="`accelerate config --config_file FILE` makes one"
        ) from None
    kind = str(getattr(config.distributed_type, "value", config.distributed_type))
    if kind not in DATA_PARALLEL:
        raise BertkitError(
            f"--launch: {path} has distributed_type {kind}, and every process here holds the whole model",
            hint=f"one of: {', '.join(DATA_PARALLEL)}",
        )
    options, hosts, total = ["--config_file", str(path), *_OFF], config.num_machines or 1, config.num_processes or 1
    rank = config.machine_rank if asked.host_rank is None else asked.host_rank
    _check(Asked(hosts=hosts, host_rank=rank, main_address=asked.main_address or config.main_process_ip or "-"))
    here = max(1, total // hosts)
    if config.use_cpu and config.mpirun_config:
        return Launch(options, {USE_CPU: "true"}, f"launch: {total} processes, as {path} says")
    if kind == "XLA" and find_spec("torch_xla") is None:
        raise BertkitError(f"--launch: {path} wants torch_xla, which is not installed", hint="pip install torch_xla")
    if kind == "MULTI_GPU" and not config.use_cpu:
        check_gpus(here, f"--launch: {path}: GPUs of a host:")
    near: Mapping[str, str] = {}
    if total > 1 and kind != "XLA":
        address = asked.main_address
        if address is None and config.main_process_ip:
            address = f"{config.main_process_ip}:{config.main_process_port or 29500}"
        host, port = _main_address(Asked(host_rank=rank, main_address=address))
        options += [
            "--multi_gpu", "--num_machines", str(hosts), "--machine_rank", str(rank or 0), "--main_process_ip", host,
            "--main_process_port", str(port), "--max_restarts", str(asked.max_restarts),
            "--num_cpu_threads_per_process", str(_threads(here)),
        ]  # fmt: skip
        near = _interface(host, port) if hosts > 1 else {}
    on_cpu = {USE_CPU: "true"} if config.use_cpu else {}
    summary = f"launch: {total} process{'es' * (total > 1)}, as {path} says"
    return Launch(options, {**on_cpu, **near, **_WATCHED}, summary)


@contextmanager
def _watching(environment: Mapping[str, str]) -> Iterator[Path]:
    """Set up what our processes inherit: the environment, where to leave a word, and a line that ends with us."""
    folder = Path(tempfile.mkdtemp(prefix="bertkit-"))
    before, kept = dict(os.environ), os.dup(0)
    reading, writing = os.pipe()
    os.environ.update({**environment, RANKS: str(folder), FOLLOW: "1"})
    os.dup2(reading, 0)
    os.close(reading)
    try:
        yield folder
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(writing)
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _torchrun_kept_quiet() -> Iterator[None]:
    """Without its log of every signal that it sends; its signal handlers do not outlive it."""
    before = logging.root.manager.disable
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _told(folder: Path, launch: Callable[[], object]) -> int:
    """Launch, and tell of a failure once."""
    from subprocess import CalledProcessError

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    died: list[Word] = []
    try:
        with _torchrun_kept_quiet():
            launch()
        return 0
    except ChildFailedError as error:
        # in the order in which they were seen to be gone
        for rank, failure in sorted(error.failures.items(), key=lambda entry: entry[1].timestamp):
            how = f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"exited {failure.exitcode}"
            died.append(Word(rank, f"process {failure.pid} of rank {rank} {how}", _GO_ON, is_echo=failure.exitcode > 0))
    except CalledProcessError as error:
        died.append(Word(0, f"the process exited with {error.returncode}", _GO_ON, is_echo=True))
    except (SignalException, KeyboardInterrupt):
        died.append(Word(0, "interrupted", code=130, is_echo=True))
    except (ConnectionError, TimeoutError) as error:
        raise BertkitError(
            f"the processes did not find each other ({error})", hint="is --main-address right?"
        ) from None
    last = max((int(path.name.split("-")[0]) for path in folder.glob("*.json")), default=0)
    words = _words(folder, last)
    # the cause before what it caused: one that says why, one that was killed, one that lost another
    word = next((word for word in [*words, *died] if not word.is_echo), None)
    if word is None and words:
        lost = words[0]
        word = Word(lost.rank, f"rank {lost.rank} lost the others ({lost.message})", _GO_ON)
    word = word or died[0]
    if word.code == 130:
        raise Interrupted(word.message, word.hint)
    if word.trace:
        print(f"rank {word.rank}: {word.trace}", end="", file=sys.stderr, flush=True)
        return 1
    raise BertkitError(word.message, word.hint)


_GO_ON = "go on with the same command and --resume; if it was killed for memory, lower hardware.micro_batch_tokens"


def _words(folder: Path, attempt: int) -> list[Word]:
    """What the processes of one attempt said, the first one first."""
    found = [Word(**json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob(f"{attempt}-*.json")]
    return sorted(found, key=lambda word: word.moment)


OPTIONS = tuple(f"--{field.name.replace('_', '-')}" for field in fields(Asked))


def without_options(arguments: Sequence[str]) -> list[str]:
    """A command line without its launch options."""
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, has_value, _ = argument.partition("=")
        if name not in OPTIONS:
            kept.append(argument)
        elif not has_value and name not in ("--tpu", "--dry-run"):
            next(rest, None)
    return kept

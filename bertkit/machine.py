"""What this machine has for a process: cores, GPUs, and a core for each thread that computes."""

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from bertkit.errors import BertkitError

_THREADS: dict[str, int] = {}  # torch's before a recipe asked for some, and what it asked for
_BOUND: set[int] = set()  # Python's threads that are within `bound_threads`


def core_count() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows more than lines."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def gpu_count() -> int:
    """GPUs that this process may use; torch is imported only where there could be one."""
    if sys.platform == "linux" and not any(
        Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    ):
        return 0
    import torch

    return torch.cuda.device_count()


def has_tpu() -> bool:
    """Whether this host has a TPU that this process may use."""
    is_there = Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
    return is_there and find_spec("torch_xla") is not None and os.environ.get("PJRT_DEVICE", "TPU") == "TPU"


def check_gpus(count: int, where: str = "--gpus", otherwise: str = "--cpus N runs N processes on the CPU") -> None:
    """Refuse more GPUs than there are."""
    there = gpu_count()
    if count > there:
        raise BertkitError(
            f"{where} {count}: there {'are' if there > 1 else 'is'} {there or 'none'} here",
            hint=f"see `bertkit doctor`; {otherwise}",
        )


def take_threads(asked: int | None) -> None:
    """Let torch compute with so many threads; None takes back what was asked for earlier in this process."""
    import torch

    now = torch.get_num_threads()
    usual = _THREADS.get("usual", now) if now == _THREADS.get("asked") else now
    _THREADS.update(usual=usual, asked=asked or usual)
    if now != _THREADS["asked"]:
        torch.set_num_threads(_THREADS["asked"])


@contextmanager
def bound_threads(device: str) -> Iterator[None]:
    """Give each OpenMP thread a core of its own while a CPU computes; afterwards every thread may use all cores again.

    Unbound, two threads may share a core and wait for each other at the end of every operation: on a virtual machine
    with two cores a step of 0.3 s took 6 s. OMP_PROC_BIND would bind for good, and whatever this process starts later
    (tokenizers' threads, other processes) would inherit the one core of its main thread. Nothing is bound on another
    device, nor in a process that has fewer threads than cores: it is meant to run beside others. A block within a
    block, as of an evaluation in training, changes nothing.
    """
    caller, is_possible = threading.get_ident(), device == "cpu" and hasattr(os, "sched_setaffinity")
    cores = _cores_for_threads() if is_possible and caller not in _BOUND else ()
    if not cores:
        yield
        return
    all_cores = os.sched_getaffinity(0)
    _BOUND.add(caller)
    _in_each_thread(len(cores), lambda thread: os.sched_setaffinity(0, cores[thread]))
    try:
        yield
    finally:
        _in_each_thread(len(cores), lambda thread: os.sched_setaffinity(0, all_cores))
        _BOUND.discard(caller)


def _cores_for_threads() -> Sequence[set[int]]:
    """The core of each of torch's threads, where they are as many as cores (or as the pairs that share one core)."""
    import torch

    allowed, threads = os.sched_getaffinity(0), torch.get_num_threads()
    if threads < 2:
        return ()
    if threads == len(allowed):
        return [{core} for core in sorted(allowed)]
    together: dict[str, set[int]] = {}
    for core in sorted(allowed):
        siblings = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
        together.setdefault(siblings.read_text() if siblings.exists() else str(core), set()).add(core)
    return list(together.values()) if threads == len(together) else ()


def _in_each_thread(count: int, do: Callable[[int], None]) -> None:
    """Call a function in each thread of torch's OpenMP team, by its number; not at all where torch has no OpenMP."""
    import torch

    try:
        openmp = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        run_team, number = openmp.GOMP_parallel, openmp.omp_get_thread_num
    except (OSError, AttributeError):
        return
    body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: do(number()))
    run_team(body, None, count, 0)

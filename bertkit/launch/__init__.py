"""How processes are started and end: one or many, on which devices, and whom they work for.

accelerate's launcher starts several processes, and torchrun watches them. What they lack is added here: mistakes are
found before anything is started (`plan`), a failure is told once and not by every process (`last_words`), and processes
end with the one that started them. This file knows what this process is among those of a launch.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import FrameType

from bertkit.machine import in_notebook

Say = Callable[[str], None]

FOLLOW = "BERTKIT_FOLLOW"  # set for a process that is to end with the one that started it
RANKS = "BERTKIT_RANKS"  # set for the processes of a launch of ours: the folder where one that fails says why
SPAWNED = "BERTKIT_SPAWNED"  # set for the processes of a notebook's function
KERNEL = "JPY_PARENT_PID"  # set by Jupyter for a kernel, so for commands of its cells too: theirs is no real terminal
USE_CPU = "ACCELERATE_USE_CPU"


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
    line = os.dup(0)  # a launcher gives its own processes another standard input

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


def leave(code: int) -> None:
    """End this process with the exit code of a failure; 0 returns, as accelerate expects of what it calls on a TPU."""
    if code and is_rank():
        # not sys.exit: closing a broken process group may wait for processes that are gone
        sys.stdout.flush()
        os._exit(code)
    if code:
        sys.exit(code)


def say(text: str) -> None:
    """Print a line on stderr, at once; in a notebook, which shows that as an error, on stdout."""
    print(text, file=sys.stdout if in_notebook() else sys.stderr, flush=True)


def sayer(quiet: bool) -> Say:
    """What prints lines on stderr: `say` in the first process, unless it is to be quiet; else nothing."""
    return (lambda text: None) if quiet or not is_first() else say


@contextmanager
def signals_to(tell: Callable[[int, FrameType | None], object] | None = None) -> Iterator[None]:
    """Let SIGINT and SIGTERM call a function within a block; whatever the block sets itself is put back, too."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only, as in some notebooks
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before if tell else ():
            signal.signal(number, tell)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

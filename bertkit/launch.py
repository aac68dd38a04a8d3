"""How a process sits on its machine: its threads, and whom it works for."""

from __future__ import annotations

import os
import signal
import sys
import threading

FOLLOW = "BERTKIT_FOLLOW"  # set for a process that is to end with the one that started it


def own_the_cores(threads: int | None) -> None:
    """Bind OpenMP's threads to cores, for a process that uses all of them; call it before torch is imported.

    Unbound, two threads may share a core and wait for each other at the end of every operation: on a virtual machine
    with two cores a step of 0.3 s took 6 s. A process that was given fewer threads is not bound, for it is meant to
    run beside others, and all would bind to the same first cores.
    """
    if (
        "torch" in sys.modules
        or (threads is not None and threads < (os.cpu_count() or 1))
        or "LOCAL_RANK" in os.environ
    ):
        return
    os.environ.setdefault("OMP_PROC_BIND", "true")


def follow_parent() -> None:
    """End this process, as SIGTERM would, when the one that started it is gone, killed or not.

    The parent holds the other end of our standard input and never writes to it; its death closes it.
    """
    if os.environ.pop(FOLLOW, None) is None:
        return

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()

"""Starts the processes of a launch and waits for their end: those of a command, or those of a notebook's function."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bertkit.errors import BertkitError
from bertkit.launch.plan import Asked, Launch, plan_launch, program
from bertkit.launch.ranks import FOLLOW, RANKS, SPAWNED, follow_parent, is_rank
from bertkit.machine import check_gpus, gpu_count, has_tpu


def run_launch(launch: Launch, command: Sequence[str], module: str = "bertkit") -> int:
    """Run a bertkit command in the processes of a launch, to its end.

    Args:
        command: what follows `bertkit` on the command line.
        module: which module the processes run.
    Returns:
        0, or 1 when a process ended by a bug, whose traceback is printed.
    Raises:
        BertkitError: why the first process that failed did.
        Interrupted: the processes were told to stop, and did.
    """
    follow_parent()
    with _inherited(launch.environment) as folder, _torchrun_kept_quiet():
        # not before: torch reads some of the environment as it is imported
        from accelerate.commands.launch import launch_command, launch_command_parser

        from bertkit.launch.last_words import told

        options = [*launch.options, "--log_dir", str(folder), *program(launch.options, module)]
        arguments = launch_command_parser().parse_args([*options, *command])
        return told(folder, lambda: launch_command(arguments))


def spawn(function: Callable[..., object], processes: int | None = None, *arguments: object, cpu: bool = False):
    """Run a function in several processes that work together, from a notebook: `bertkit.spawn(train)`.

    In the function, `bertkit.finetune` and the other verbs share the work. It may be defined in the notebook, and use
    what is defined there. The processes are fresh ones, so this works at any time; where there is one GPU or none, the
    function is called right here.

    Args:
        processes: one a GPU where there are GPUs, else on the CPU; None takes all GPUs, or the TPU.
        arguments: what the function is called with.
        cpu: on the CPU in any case.
    Returns:
        What the function returned in the first process.
    Raises:
        BertkitError: more processes than GPUs; or why the first process that failed did.
        Interrupted: the processes were told to stop, and did.
    """
    import cloudpickle

    if is_rank():
        raise BertkitError("spawn: this process is one of several already", hint="call the function itself")
    asked = Asked(cpus=1) if cpu else Asked(tpu=has_tpu())
    if processes is not None:
        on_cpu = cpu or gpu_count() == 0
        if not on_cpu:
            check_gpus(processes, "spawn: processes", "cpu=True runs on the CPU")
        asked = Asked(cpus=processes) if on_cpu else Asked(gpus=processes)
    launch = plan_launch(asked, takes_all=True)
    if not launch.options:
        from accelerate.utils import patch_environment

        with patch_environment(**launch.environment):
            return function(*arguments)
    try:
        call = pickle.dumps((sys.path, cloudpickle.dumps((function, arguments))))
    except Exception as error:  # pickling raises what it likes
        raise BertkitError(
            f"spawn: {getattr(function, '__name__', function)} cannot be sent to other processes ({error})",
            hint="let it open or load what it needs itself",
        ) from None
    if torch := sys.modules.get("torch"):
        torch.cuda.empty_cache()  # the processes share the GPU with what this one keeps
    # unbuffered, so that what the function prints is seen as it is printed
    launch = launch._replace(environment={**launch.environment, SPAWNED: "1", "PYTHONUNBUFFERED": "1"})
    print(launch.summary, file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="bertkit-") as folder:
        sent, result = Path(folder, "call"), Path(folder, "result")
        sent.write_bytes(call)
        if run_launch(launch, [str(sent), str(result)], "bertkit.launch.work"):
            raise BertkitError("spawn: the function failed", hint="its traceback is above")
        return pickle.loads(result.read_bytes())  # noqa: S301 written by our own process


@contextmanager
def _inherited(names: Mapping[str, str]) -> Iterator[Path]:
    """What the processes inherit: the environment, a folder for error files, and a standard input that ends with us."""
    folder, arguments = Path(tempfile.mkdtemp(prefix="bertkit-")), sys.argv
    alone = folder / "launch" / "attempt_0" / "0"  # where a process writes that torchrun does not watch
    alone.mkdir(parents=True)
    before, kept, (reading, writing) = dict(os.environ), os.dup(0), os.pipe()
    os.dup2(reading, 0)
    os.close(reading)
    ours = {RANKS: str(folder), FOLLOW: "1", "TORCHELASTIC_ERROR_FILE": str(alone / "error.json")}
    os.environ.update({**names, **ours})
    try:
        yield folder
    finally:
        os.dup2(kept, 0)
        os.close(kept)
        os.close(writing)
        os.environ.clear()
        os.environ.update(before)
        sys.argv = arguments  # accelerate changes it for a TPU
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _torchrun_kept_quiet() -> Iterator[None]:
    """Silence torchrun's log of every signal that it sends, and take its signal handlers off at the end."""
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

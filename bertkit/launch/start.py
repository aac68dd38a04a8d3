"""Starts the processes of a launch and waits for their end: those of a command, or those of a notebook's function.

The latter run `python -m bertkit.launch.start CALL RESULT`.
"""

import logging
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bertkit.errors import BertkitError, Interrupted
from bertkit.launch import FOLLOW, RANKS, SPAWNED, follow_parent, is_first, is_rank, leave, say, signals_to
from bertkit.launch.plan import Asked, Launch, plan_launch
from bertkit.machine import check_gpus, gpu_count, has_tpu


def run_launch(launch: Launch, command: Sequence[str], module: str = "bertkit") -> int:
    """Run a module with the words of a command in the processes of a launch, to its end.

    Returns:
        0, or 1 when a process ended by a bug, whose traceback is printed.
    Raises:
        BertkitError: why the first process that failed did.
        Interrupted: the processes were told to stop, and did.
    """
    before = logging.root.manager.disable
    with _inherited(launch.environment) as folder, signals_to():  # torchrun leaves handlers of its own behind
        logging.disable(logging.CRITICAL)  # torchrun logs every signal that it sends
        try:
            # not before: torch reads some of the environment as it is imported
            from accelerate.commands.launch import launch_command, launch_command_parser

            from bertkit.launch.last_words import told

            words = ["--log_dir", str(folder), *launch.words(command, module)]
            arguments = launch_command_parser().parse_args(words)
            return told(folder, lambda: launch_command(arguments))
        finally:
            logging.disable(before)


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
    if is_rank():
        raise BertkitError("spawn: this process is one of several already", hint="call the function itself")
    if processes is None:
        asked = Asked(cpus=1) if cpu else Asked(tpu=has_tpu())
    elif cpu or gpu_count() == 0:
        asked = Asked(cpus=processes)
    else:
        check_gpus(processes, "spawn: processes", "cpu=True runs on the CPU")
        asked = Asked(gpus=processes)
    launch = plan_launch(asked, takes_all=True)
    if not launch.options:
        from accelerate.utils import patch_environment

        with patch_environment(**launch.environment):
            return function(*arguments)
    problem = f"{getattr(function, '__name__', function)} cannot be sent to other processes"
    call = _pickled((function, arguments), problem, "let it open or load what it needs itself")
    if torch := sys.modules.get("torch"):
        torch.cuda.empty_cache()  # the processes share the GPU with what this one keeps
    # unbuffered, so that what the function prints is seen as it is printed
    launch = launch._replace(environment={**launch.environment, SPAWNED: "1", "PYTHONUNBUFFERED": "1"})
    say(launch.summary)
    with tempfile.TemporaryDirectory(prefix="bertkit-") as folder:
        sent, result = Path(folder, "call"), Path(folder, "result")
        sent.write_bytes(pickle.dumps((sys.path, call)))
        if run_launch(launch, [str(sent), str(result)], __name__):
            raise BertkitError("spawn: the function failed", hint="its traceback is above")
        return pickle.loads(result.read_bytes())  # noqa: S301 written by our own process


def _pickled(what: object, problem: str, hint: str) -> bytes:
    import cloudpickle

    try:
        return cloudpickle.dumps(what)
    except Exception as error:  # pickling raises what it likes
        raise BertkitError(f"spawn: {problem} ({error})", hint=hint) from None


def main() -> None:
    """Call the function that was sent; the first process writes what it returned."""
    from bertkit.launch.last_words import recorded

    follow_parent()
    leave(recorded(_call))


def _call() -> None:
    sent, result = map(Path, sys.argv[1:])
    sys.path[:], call = pickle.loads(sent.read_bytes())  # noqa: S301 written by the process that started this one
    function, arguments = pickle.loads(call)  # noqa: S301
    try:
        returned = function(*arguments)
    except KeyboardInterrupt:
        raise Interrupted("interrupted") from None
    if is_first():
        problem = "what the function returned cannot be sent back"
        result.write_bytes(_pickled(returned, problem, "return numbers, texts or paths"))


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


if __name__ == "__main__":
    main()

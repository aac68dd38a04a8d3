"""Why processes end: each records its error as torch elastic does, and the launcher tells the cause before echoes."""

import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from typing import NamedTuple

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ErrorHandler, record

from bertkit.errors import BertkitError, Interrupted
from bertkit.launch import RANKS, is_first, restarts, say

ECHO = 2.0  # seconds that a process stays after it has lost another one
GO_ON = "go on with the same command and --resume; if it was killed for memory, lower hardware.micro_batch_tokens"


class Word(NamedTuple):
    """The last word of a process that failed."""

    message: str
    rank: int = 0
    hint: str = ""
    code: int = 1  # its exit code
    trace: str = ""  # of a bug
    is_echo: bool = False  # it failed because another one did

    def error(self) -> BertkitError | Interrupted:
        """What the process raised, to be raised here."""
        return (Interrupted if self.code == Interrupted.exit_code else BertkitError)(self.message, self.hint)


class LastWord(ErrorHandler):
    """Writes a `Word` into the error file that torch elastic reads, in its format."""

    def record_exception(self, e: BaseException) -> None:
        """Write down an error; a process that lost another stays a while, so that the other is seen to die first."""
        kinds, text = {kind.__name__ for kind in type(e).__mro__}, str(e)
        rank = int(os.environ.get("RANK", "0"))
        if isinstance(e, BertkitError | Interrupted):
            word = Word(rank=rank, message=e.message, hint=e.hint, code=e.exit_code)
        else:
            is_echo = "DistError" in kinds or "gloo" in text or "NCCL" in text
            word = Word(rank=rank, message=text, trace="".join(traceback.format_exception(e)), is_echo=is_echo)
        if path := self._get_error_file_path():
            about = {"py_callstack": word.trace or text, "timestamp": str(int(time.time()))}
            self._write_error_file(path, json.dumps({"message": {**word._asdict(), "extraInfo": about}}))
        if word.is_echo:
            time.sleep(ECHO)


def recorded(work: Callable[[], int | None]) -> int:
    """Do the work of one of several processes, of which the first one speaks; returns the exit code.

    What the work raises is told by the launcher, once; where that is not ours, it is raised.
    """
    if not is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 for the life of this process
        warnings.simplefilter("ignore")
    try:
        code = record(work, LastWord())() or 0
        if dist.is_initialized():
            dist.destroy_process_group()  # whose threads, left to the end of the process, now and then abort it
        return code
    except Exception as error:
        if RANKS not in os.environ:
            raise
        return error.exit_code if isinstance(error, BertkitError | Interrupted) else 1


def check_restart() -> None:
    """End a process that was started again as it ended before, where that needs no second try: the user's mistake."""
    if RANKS in os.environ:
        for word in _words(Path(os.environ[RANKS]), restarts() - 1):
            if not word.trace:
                raise word.error()


def told(folder: Path, launch: Callable[[], object]) -> int:
    """Launch processes that leave their error files in a folder, and tell of a failure once; see `run_launch`."""
    died: list[Word] = []
    try:
        launch()
        return 0
    except ChildFailedError as error:
        # in the order in which they were seen to be gone
        for rank, failure in sorted(error.failures.items(), key=lambda entry: entry[1].timestamp):
            how = f"was killed by {failure.signal_name()}" if failure.exitcode < 0 else f"exited {failure.exitcode}"
            message = f"process {failure.pid} of rank {rank} {how}"
            died.append(Word(rank=rank, message=message, hint=GO_ON, is_echo=failure.exitcode > 0))
    except CalledProcessError as error:
        died.append(Word(message=f"the process exited with {error.returncode}", hint=GO_ON, is_echo=True))
    except (SignalException, KeyboardInterrupt):
        died.append(Word(message="interrupted", code=Interrupted.exit_code, is_echo=True))
    except (ConnectionError, TimeoutError) as error:
        raise BertkitError(
            f"the processes did not find each other ({error})", hint="is --main-address right?"
        ) from None
    words = _words(folder, max(int(path.name.rpartition("_")[2]) for path in folder.glob("*/attempt_*")))
    # the cause before what it caused: one that says why, one that was killed, one that lost another
    word = next((word for word in [*words, *died] if not word.is_echo), None)
    if word is None and words:
        lost = words[0]
        word = Word(rank=lost.rank, message=f"rank {lost.rank} lost the others ({lost.message})", hint=GO_ON, code=2)
    word = word or died[0]
    if not word.trace:
        raise word.error()
    say(f"rank {word.rank}: {word.trace.rstrip()}")
    return 1


def _words(folder: Path, attempt: int) -> list[Word]:
    """What the processes of one attempt said, the first one first."""
    paths = sorted(folder.glob(f"*/attempt_{attempt}/*/error.json"), key=lambda path: path.stat().st_mtime_ns)
    said = [json.loads(path.read_text(encoding="utf-8"))["message"] for path in paths]
    return [Word(**{name: message[name] for name in Word._fields}) for message in said]

"""What a process of `spawn` runs: `python -m bertkit.launch.work CALL RESULT`."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

from bertkit.errors import BertkitError, Interrupted
from bertkit.launch.ranks import follow_parent, is_first


def main() -> None:
    """Call the function that was sent; the first process writes what it returned."""
    from bertkit.launch.last_words import recorded

    follow_parent()
    if code := recorded(_call):
        # not sys.exit: closing a broken process group may wait for processes that are gone
        sys.stdout.flush()
        os._exit(code)


def _call() -> None:
    import cloudpickle

    sent, result = map(Path, sys.argv[1:])
    sys.path[:], call = pickle.loads(sent.read_bytes())  # noqa: S301 written by the process that started this one
    function, arguments = pickle.loads(call)  # noqa: S301
    try:
        returned = function(*arguments)
    except KeyboardInterrupt:
        raise Interrupted("interrupted") from None
    if not is_first():
        return
    try:
        result.write_bytes(cloudpickle.dumps(returned))
    except Exception as error:  # pickling raises what it likes
        raise BertkitError(
            f"spawn: what the function returned cannot be sent back ({error})", hint="return numbers, texts or paths"
        ) from None


if __name__ == "__main__":
    main()

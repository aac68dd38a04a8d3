"""A notebook's function runs in fresh processes, also after the notebook itself has trained, and leaves it as is."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

from tests.distributed.conftest import start
from tests.distributed.work import recipe

NOTEBOOK = """
    import json, os, signal, sys, threading
    from typing import NamedTuple
    import bertkit
    from bertkit.errors import BertkitError

    class Found(NamedTuple):
        processes: int
        steps: int

    plan, lock = json.loads(sys.argv[1]), threading.Lock()

    def train(out):
        steps = bertkit.finetune(plan, out, quiet=out != "shown")["train"]["steps"]
        print(f"trained {out}")
        return Found(int(os.environ.get("WORLD_SIZE", "1")), steps)

    def state():
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return dict(os.environ), sys.argv, sys.path, os.getcwd(), os.fstat(0), handlers, threading.active_count()

    def misses():
        raise BertkitError("nothing is there", hint="look elsewhere")

    def nests():
        bertkit.spawn(train, 2, "nested", cpu=True)

    def refused(*given):
        try:
            return bertkit.spawn(*given, cpu=True)
        except BertkitError as error:
            return f"{error.message} | {error.hint}"

    found = {"before": train("before")}
    was = state()
    found["spawned"] = bertkit.spawn(train, 2, "spawned", cpu=True)
    found["one"] = bertkit.spawn(train, None, "one", cpu=True)
    found["is Found"] = isinstance(found["spawned"], Found)
    found["misses"], found["nests"] = refused(misses, 2), refused(nests, 2)
    found["cannot go"], found["cannot return"] = refused(lambda: lock, 2), refused(threading.Lock, 2)
    bertkit.spawn(train, 2, "shown", cpu=True)
    found["is as it was"] = state() == was
    found["after"] = train("after")
    print(json.dumps(found))
"""


def test_spawn_works_after_training_brings_the_result_back_and_leaves_the_notebook_as_it_was(tmp_path: Path) -> None:
    script = tmp_path / "notebook.py"
    script.write_text(textwrap.dedent(NOTEBOOK))
    process = start(script, json.dumps(recipe("sentiment", steps=3)), cwd=tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    *said, found = out.splitlines()
    assert said == [
        "trained before",
        "trained spawned",
        "trained one",
        "trained shown",
        "trained after",
    ]  # once, whatever runs it
    cannot_go, cannot_return = (json.loads(found).pop(name) for name in ("cannot go", "cannot return"))
    assert cannot_go.startswith("spawn: <lambda> cannot be sent to other processes (cannot pickle '_thread.lock'")
    assert cannot_return.startswith("spawn: what the function returned cannot be sent back (cannot pickle '_thread.")
    assert {name: value for name, value in json.loads(found).items() if not name.startswith("cannot")} == {
        "before": [1, 3],
        "spawned": [2, 3],
        "one": [1, 3],
        "is Found": True,
        "misses": "nothing is there | look elsewhere",
        "nests": "spawn: this process is one of several already | call the function itself",
        "is as it was": True,
        "after": [1, 3],
    }
    assert err.count("launch: 2 processes on the CPU\n") == 5  # nothing is started that cannot go
    assert err.count("step 3/3 ") == 1

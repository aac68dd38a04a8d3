"""Threads that compute have a core each, while they compute; the process keeps all of its cores."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
    pytest.skip("needs two cores, on Linux", allow_module_level=True)

LOOK = """
import json, os, subprocess, sys, threading, time
mine = os.sched_getaffinity(0)
main = threading.get_native_id()

def cores_of_threads():
    found = {}
    for thread in map(int, os.listdir("/proc/self/task")):
        try:
            found[thread] = sorted(os.sched_getaffinity(thread))
        except ProcessLookupError:
            pass
    return found

def held():
    return all(set(cores) == mine for cores in cores_of_threads().values())
"""
VERBS = (
    LOOK
    + """
fewest = [len(mine)]
def watch():
    while True:
        fewest.append(len(os.sched_getaffinity(main)))
        time.sleep(0.001)

said = {}
import bertkit
said["import"] = held()
threading.Thread(target=watch, daemon=True).start()
recipe = json.loads(sys.argv[1])
bertkit.finetune(recipe, sys.argv[2], quiet=True)
said["finetune"], said["bound"] = held(), min(fewest) == 1
predictor = bertkit.load(sys.argv[2])
said["load"] = held()
fewest.clear()
list(predictor.predict(["a text of some length"] * 3000))
said["predict"], said["bound again"] = held(), min(fewest) == 1
child = "import os; print(len(os.sched_getaffinity(0)))"
said["child"] = int(subprocess.check_output([sys.executable, "-c", child])) == len(mine)
print(json.dumps(said))
"""
)
BOUND = (
    LOOK
    + """
import torch
from bertkit.machine import bound_threads

torch.set_num_threads(len(mine) - int(sys.argv[2]))
product = torch.ones(1000, 1000) @ torch.ones(1000, 1000)
with bound_threads(sys.argv[1]):
    with bound_threads(sys.argv[1]):
        product = product @ product
    inside = cores_of_threads()
print(json.dumps({"alone": sorted(cores[0] for cores in inside.values() if len(cores) == 1), "after": held()}))
"""
)
PAIRS = """
import json, os, threading
from pathlib import Path

# a machine of two cores that run two threads each
cores = {}
os.sched_getaffinity = lambda thread: cores.get(threading.get_native_id(), {0, 1, 2, 3})
os.sched_setaffinity = lambda thread, allowed: cores.update({threading.get_native_id(): set(allowed)})
is_there, read = Path.exists, Path.read_text
Path.exists = lambda path: path.name == "thread_siblings_list" or is_there(path)
Path.read_text = lambda path, *more, **named: (
    str(int(path.parts[-3][3:]) % 2) if path.name == "thread_siblings_list" else read(path, *more, **named)
)
import torch
from bertkit.machine import bound_threads

def now():
    return sorted(map(sorted, cores.values()))

torch.set_num_threads(2)
said = []
with bound_threads("cpu"):
    said.append(now())
    with bound_threads("cpu"):
        said.append(now())
    said.append(now())
print(json.dumps(said))
"""


def run(code: str, *arguments: object) -> dict:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], text=True, env=environment,
                          stdout=subprocess.PIPE, check=True)  # fmt: skip
    return json.loads(done.stdout)


def test_every_thread_may_use_all_cores_after_import_finetune_load_and_predict(tmp_path):
    recipe = {
        "task": "sentiment",
        "model": {"checkpoint": "bundled:tiny", "init": "scratch"},
        "data": {"train": "bundled:sentiment.csv"},
        "train": {"steps": 20, "batch_size": 8},
    }
    said = run(VERBS, json.dumps(recipe), tmp_path / "run")
    assert said == dict.fromkeys(said, True)


@pytest.mark.parametrize(("device", "fewer", "alone"), [("cpu", 0, True), ("cpu", 1, False), ("cuda", 0, False)])
def test_threads_have_a_core_each_on_a_cpu_that_is_theirs_alone(device, fewer, alone):
    said = run(BOUND, device, fewer)
    assert said == {"alone": sorted(os.sched_getaffinity(0)) if alone else [], "after": True}


def test_an_evaluation_within_training_leaves_threads_on_the_cores_that_they_have():
    assert run(PAIRS) == [[[0, 2], [1, 3]]] * 3

"""On local files, no verb asks for a connection."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bertkit.run import evaluate, finetune, predict
from tests.rows import BUNDLED

ASSETS = Path(__file__).parents[2] / "bertkit" / "assets"


@pytest.mark.parametrize("task", BUNDLED)
def test_train_evaluate_and_predict_ask_for_no_connection(tiny, tmp_path, no_network, task):
    recipe = {
        "task": task,
        "model": {"checkpoint": str(tiny("bert"))},
        "windows": {"max_length": 64, "stride": 8},
        "data": {"train": str(ASSETS / BUNDLED[task]), "train_rows": 8, "validation_rows": 2},
        "train": {"steps": 1, "batch_size": 4},
        "hardware": {"precision": "fp32"},
    }
    finetune(recipe, tmp_path / "run", quiet=True)
    evaluate(tmp_path / "run", str(ASSETS / BUNDLED[task]), quiet=True)
    assert next(predict(tmp_path / "run", str(ASSETS / BUNDLED[task])))
    assert no_network == []


def test_the_blocker_blocks(no_network):
    with pytest.raises(OSError, match="without a network"):
        socket.create_connection(("127.0.0.1", 9))
    assert no_network == [("127.0.0.1", 9)]


def test_nobody_is_asked_either_where_the_hub_is_not_switched_off(tiny, tmp_path):
    """Without HF_HUB_OFFLINE, as on a user's machine; the variable is read at import, hence a process of its own."""
    code = f"""
import json, socket
asked = []
def refuse(self, address):
    asked.append(str(address))
    raise OSError("no network")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda *arguments, **options: refuse(None, arguments[0])
from bertkit.run import evaluate, finetune, predict
recipe = {{
    "task": "sentiment", "model": {{"checkpoint": {str(tiny("bert"))!r}}}, "hardware": {{"precision": "fp32"}},
    "data": {{"train": "bundled:sentiment.csv", "train_rows": 8}}, "train": {{"steps": 1, "batch_size": 4}},
}}
finetune(recipe, {str(tmp_path / "run")!r}, quiet=True)
evaluate({str(tmp_path / "run")!r}, "bundled:sentiment.csv", quiet=True)
next(predict({str(tmp_path / "run")!r}, ["a text"]))
print(json.dumps(asked))
"""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []

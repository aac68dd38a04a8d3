"""Several processes on one CPU, over gloo; started once for all laws that the same runs can show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.distributed.work import ROWS
from tests.rows import BUNDLED, TASKS
from tests.tiny import texts

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "bertkit" / "assets"
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


def start(*command: object, before: Sequence[str] = (), **options: object) -> subprocess.Popen:
    """A Python process that is started with these arguments, `before` before them, and its output in hand."""
    return subprocess.Popen(
        [*before, sys.executable, *map(str, command)], env={**os.environ, **ENVIRONMENT}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip


def write_rows(task: str, count: int, path: Path) -> Path:
    """The first so many bundled rows of a task, in its own format."""
    text = (ASSETS / BUNDLED[task]).read_text(encoding="utf-8")
    if task == "qa":
        paragraphs = [part for document in json.loads(text)["data"] for part in document["paragraphs"]]
        few = [{"context": part["context"], "qas": part["qas"][:1]} for part in paragraphs[:count]]
        text = json.dumps({"version": "1.1", "data": [{"title": "few", "paragraphs": few}]})
    elif task == "pos":
        text = "\n\n".join(text.split("\n\n")[:count]) + "\n\n"
    else:
        text = "\n".join(text.splitlines()[: count + (task == "sentiment")]) + "\n"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of seven, eight and nine rows of each task, and one whose first row is very long."""
    folder = tmp_path_factory.mktemp("distributed") / "asked"
    folder.mkdir()
    for task in TASKS:
        for count in ROWS:
            write_rows(task, count, folder / f"{task}-{count}{Path(BUNDLED[task]).suffix}")
    long = [{"text": "very good " * 600, "label": "positive"}, {"text": "bad", "label": "negative"}]
    (folder / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long))
    (folder / "text.txt").write_text("\n\n".join(texts()), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def worlds(asked: Path) -> Path:
    """Folder of what one, two and three processes made: `worlds / "2" / "qa"`."""
    process = start(ROOT / "tests/distributed/work.py", asked.parent)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    return asked.parent

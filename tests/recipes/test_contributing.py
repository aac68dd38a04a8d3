"""What CONTRIBUTING says of a new part of bertkit is done to a copy of it: its files are written, its commands run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = dict(re.findall(r"^## (A new [^\n]*)\n(.*?)(?=^## |\Z)", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S))


def test_there_is_a_page_for_a_new_task():
    assert "A new task" in PAGES


@pytest.mark.parametrize("title", PAGES)
def test_a_page_of_contributing_works_as_it_stands(title, tmp_path):
    files = re.findall(r"`([\w/.]+)`:\n\n```\w+\n(.*?)^```$", PAGES[title], re.M | re.S)
    (commands,) = re.findall(r"^```sh\n(.*?)^```$", PAGES[title], re.M | re.S)
    for name in ("bertkit", "recipes", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert {Path(name).parts[0] for name, _ in files} == {"bertkit", "recipes", "tests"}
    for name, content in files:
        assert not (tmp_path / name).exists()
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", commands], cwd=tmp_path, env={**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.glob("runs/*/metrics.json"))

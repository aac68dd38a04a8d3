"""A finished run as a page, from the command line."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.cli.conftest import check
from tests.rows import BUNDLED


@pytest.mark.parametrize("task", BUNDLED)
def test_a_finished_run_becomes_a_page(bertkit, finished, tmp_path, task):
    out = tmp_path / "new" / "page.html"
    done = bertkit("report", finished(task), "--out", out)
    assert done == (0, f"{out}\n", "")
    page = out.read_text(encoding="utf-8")
    assert f"<title>{task}, bundled:tiny: {task}</title>" in page
    assert "<svg" in page
    assert page.endswith("</html>")


def test_the_page_lies_in_the_run_unless_told_otherwise(bertkit, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished("sentiment"), run)
    assert bertkit("report", run) == (0, f"{run / 'report.html'}\n", "")
    assert (run / "report.html").is_file()


def test_what_has_no_page_is_refused(bertkit, finished, tmp_path):
    check(bertkit("report", tmp_path), "is not a run or a study", "bertkit train --out")
    check(bertkit("report", finished("sentiment"), "--out", tmp_path), "is a folder", ".html")
    run = tmp_path / "run"
    shutil.copytree(finished("sentiment"), run)
    (run / "metrics.json").unlink()
    check(bertkit("report", run), "metrics.json is missing", "--resume")


def test_help_draws_nothing():
    code = """
import sys
from bertkit.cli import _guarded
code = _guarded(["report", "--help"])
print(code, sorted({"matplotlib", "jinja2", "numpy", "torch"} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "0 []\n"

"""`make faults`: its program runs, counts and reports; the whole of it is run by hand, a short form by CI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FAULTS = Path(__file__).parents[2] / "recipes" / "faults.py"


def test_faults_are_counted_in_a_table_and_a_page(tmp_path: Path) -> None:
    command = [sys.executable, str(FAULTS), "--short", "--out", str(tmp_path / "faults"), "disks"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FAULTS.parents[1])
    assert done.returncode == 0, done.stderr
    assert "| at every moment at most keep + 1 checkpoints | 2 | 2 | 0 | " in done.stdout
    (table,) = json.loads((tmp_path / "faults/findings.json").read_text())
    assert table["rows"][0][1:4] == [2, 2, 0]
    assert "at every moment at most keep + 1 checkpoints" in (tmp_path / "faults/report.html").read_text()

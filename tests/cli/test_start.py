"""Seconds before the first step are seconds that everyone pays: a run imports what it uses, and no more."""

from __future__ import annotations

import subprocess
import sys

UNUSED = ("datasets", "evaluate", "sklearn", "scipy.stats", "pandas", "pyarrow", "matplotlib", "tensorboard")
PROGRAM = """
import sys
from bertkit.run import finetune
finetune({"task": "sentiment", "model": {"checkpoint": sys.argv[1]}, "data": {"train": "bundled:sentiment.csv"},
          "train": {"steps": 1, "batch_size": 4}, "hardware": {"device": "cpu", "precision": "fp32"}},
         sys.argv[2], quiet=True)
print([name for name in sys.argv[3:] if name in sys.modules])
"""


def test_a_run_on_local_rows_imports_no_library_that_it_does_not_use(tiny, tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tiny("bert")), str(tmp_path / "run"), *UNUSED]
    done = subprocess.run(command, check=True, text=True, capture_output=True)
    assert done.stdout.splitlines()[-1] == "[]"

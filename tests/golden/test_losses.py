"""The losses of a short run of each task, as they were: a change of numbers is seen, and then said in the CHANGELOG.

python -m tests.golden.test_losses    writes losses.json anew
"""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

from bertkit.run import finetune
from bertkit.rundir import RunDir
from tests.rows import BUNDLED

FILE = Path(__file__).with_name("losses.json")


def losses(task: str, out: Path) -> list[float]:
    """Six steps from scratch in float32 on one thread, with dropout 0: torch's dropout differs between builds."""
    finetune(
        {
            "task": task,
            "model": {"checkpoint": "bundled:tiny", "init": "scratch", "dropout": 0.0},
            "data": {"train": f"bundled:{BUNDLED[task]}", "group_by": "none"},
            "windows": {"max_length": 128},
            "train": {"batch_size": 8, "steps": 6, "learning_rate": 1e-3},
            "hardware": {"precision": "fp32", "threads": 1},
        },
        out,
        quiet=True,
    )
    return [record["loss"] for record in RunDir(out).read_history() if "loss" in record]


@pytest.mark.parametrize("task", BUNDLED)
def test_losses_are_what_they_were(task: str, tmp_path: Path) -> None:
    golden = json.loads(FILE.read_text(encoding="utf-8"))
    # other processors round otherwise; a changed order, loss or initialisation differs by far more
    assert losses(task, tmp_path / "run") == pytest.approx(golden["losses"][task], abs=2e-4), golden["versions"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = {task: losses(task, Path(folder) / task) for task in BUNDLED}
    versions = {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy")}
    FILE.write_text(json.dumps({"versions": versions, "losses": found}, indent=2) + "\n", encoding="utf-8")

"""Every architecture of the family does every task: train two steps, save, load again, same predictions."""

from __future__ import annotations

import json

import pytest

from bertkit.run import finetune, load
from tests.rows import BUNDLED, TASKS
from tests.tiny import ARCHITECTURES


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_was_trained_answers_the_same_when_loaded(tiny, tmp_path, architecture, task):
    metrics = finetune(
        {
            "task": task,
            "model": {"checkpoint": str(tiny(architecture))},
            "data": {"train": f"bundled:{BUNDLED[task]}", "train_rows": 8, "validation_rows": 4},
            "train": {"steps": 2, "batch_size": 4, "learning_rate": 1e-3},
            "windows": {"max_length": 64, "stride": 8},
            "hardware": {"precision": "fp32"},
        },
        tmp_path / "run",
        quiet=True,
    )
    assert metrics["train"]["steps"] == 2
    said = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").open(encoding="utf-8")]
    predictor = load(tmp_path / "run", ["hardware.precision=fp32"])
    assert predictor.model.config.model_type == architecture
    reads = predictor.task.reads
    rows = [{name: line[name] for name in ("id", *reads.text, *reads.words)} for line in said]
    again = list(predictor.predict(rows))
    assert len(again) == 4
    for before, after in zip(said, again, strict=True):
        assert {name: before[name] for name in after} == json.loads(json.dumps(after))

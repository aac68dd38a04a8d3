"""A GLUE study on disk, written without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bertkit.data.glue import LAYOUTS
from bertkit.rundir import SCHEMA

LABELLED = ("cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli")


def write_study(
    folder: Path,
    scores: Mapping[str, Sequence[Mapping[str, float | None]]],
    *,
    official: bool = True,
    missing: Mapping[str, str] | None = None,
    glue: Mapping[str, object] | None = None,
    states: Mapping[str, tuple[str, str]] | None = None,
) -> Path:
    """A study whose task TASK has one finished run for each entry of `scores[TASK]`, with seeds from 0.

    Args:
        scores: task -> for each seed: official metric -> value.
        official: whether the dev sets count as GLUE's own.
        states: job -> (state, note), for jobs without a run.
    """
    seeds = list(range(max(len(entries) for entries in scores.values())))
    asked = {
        "model": "models/tiny", "data": "glue_data", "tasks": list(scores), "seeds": seeds, "settings": [],
        "glue": {"from_mnli": False, "held_back": 0.1, "published": True, **(glue or {})},
    }  # fmt: skip
    runs = [
        {"name": f"{task}-{seed}", "path": f"runs/{task}-{seed}", "state": "done", "note": ""}
        for task, entries in scores.items()
        for seed in range(len(entries))
    ]
    runs += [{"name": name, "path": f"runs/{name}", "state": state, "note": note}
             for name, (state, note) in (states or {}).items()]  # fmt: skip
    write(folder / "study.json", {"schema": 1, "study": "glue", "title": "GLUE", "asked": asked, "runs": runs})
    for task, entries in scores.items():
        split = {"source": f"{task}/dev.tsv", "sha256": "0" * 64, "rows": 100, "skipped": [], "held_back": not official}
        sources = {"missing": [missing[task]] if task in (missing or {}) else [], "characters": 1000,
                   "splits": {"train": split, "validation": split}}  # fmt: skip
        write(folder / "data" / task / "sources.json", sources)
        for seed, metrics in enumerate(entries):
            write_run(folder / "runs" / f"{task}-{seed}", task, metrics)
    return folder


def write_run(run: Path, task: str, metrics: Mapping[str, float | None]) -> None:
    rows = LAYOUTS[task].dev_rows
    splits = {"validation": {**metrics, "rows": rows["validation"]}}
    if task == "mnli":
        splits = {"validation": {"accuracy": metrics["matched"], "rows": rows["validation"]}}
        if "mismatched" in metrics:
            splits["test"] = {"accuracy": metrics["mismatched"], "rows": rows["validation_mismatched"]}
    headline = "accuracy" if task == "mnli" else next(iter(metrics))
    write(run / "metrics.json", {"headline": headline, "split": list(splits)[-1], "splits": splits, "seed": 0})
    write(run / "environment.json", {"schema": SCHEMA})
    (run / "recipe.yaml").write_text("task: {name: classification}\n")


def write_predictions(path: Path, gold: Sequence[str | float], given: Sequence[str | float], task: str) -> None:
    """A predictions file; class names get probabilities, as `decode` gives them."""
    probabilities = {} if task == "stsb" else {"probabilities": dict.fromkeys(LAYOUTS[task].labels, 0.5)}
    lines = [
        json.dumps({"id": str(row), "text": "x", "gold": right, "label": label, **probabilities})
        for row, (right, label) in enumerate(zip(gold, given, strict=True))
    ]
    path.write_text("\n".join(lines) + "\n")


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))

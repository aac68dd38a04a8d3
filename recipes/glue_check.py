"""Compute every score of a GLUE study again from its predictions files, in a few lines that share nothing with bertkit.

python recipes/glue_check.py runs/glue-smoke
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path


def pairs(path: Path) -> list[tuple]:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(record["gold"], record["label"]) for record in records]


def accuracy(rows: list[tuple]) -> float:
    return sum(gold == given for gold, given in rows) / len(rows)


def table(rows: list[tuple], positive: str) -> tuple[int, int, int, int]:
    """True positives, false positives, false negatives, true negatives."""
    tp = sum(gold == positive == given for gold, given in rows)
    fp = sum(gold != positive == given for gold, given in rows)
    fn = sum(gold == positive != given for gold, given in rows)
    return tp, fp, fn, len(rows) - tp - fp - fn


def f1(rows: list[tuple], positive: str) -> float | None:
    tp, fp, fn, _ = table(rows, positive)
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None


def matthews(rows: list[tuple], positive: str) -> float | None:
    tp, fp, fn, tn = table(rows, positive)
    below = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / math.sqrt(below) if below else None


def pearson(rows: list[tuple]) -> float | None:
    gold, given = ([row[side] for row in rows] for side in (0, 1))
    centre = [sum(column) / len(column) for column in (gold, given)]
    x, y = [value - centre[0] for value in gold], [value - centre[1] for value in given]
    below = math.sqrt(sum(value * value for value in x) * sum(value * value for value in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / below if below else None


def ranks(column: list[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of their ranks."""
    return [
        sum(other < value for other in column) + (sum(other == value for other in column) + 1) / 2 for value in column
    ]


def spearman(rows: list[tuple]) -> float | None:
    gold, given = ([row[side] for row in rows] for side in (0, 1))
    return pearson(list(zip(ranks(gold), ranks(given), strict=True)))


def scores_of(task: str, run: Path) -> dict[str, float | None]:
    rows = pairs(run / "predictions.jsonl")
    if task == "mnli":
        first = run / "predictions.validation.jsonl"
        if not first.exists():
            return {"matched": accuracy(rows)}
        return {"matched": accuracy(pairs(first)), "mismatched": accuracy(rows)}
    if task == "cola":
        return {"matthews": matthews(rows, "acceptable")}
    if task in ("mrpc", "qqp"):
        positive = "equivalent" if task == "mrpc" else "duplicate"
        return {"f1": f1(rows, positive), "accuracy": accuracy(rows)}
    if task == "stsb":
        return {"pearson": pearson(rows), "spearman": spearman(rows)}
    return {"accuracy": accuracy(rows)}


def main(folder: Path) -> None:
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    per_task, compared = [], 0
    for task, told in results["tasks"].items():
        means = []
        for seed, metrics in told["seeds"].items():
            ours = scores_of(task, folder / "runs" / f"{task}-{seed}")
            for name in metrics.keys() | ours.keys():
                check(f"{task}, seed {seed}, {name}", metrics[name], ours[name])
                compared += 1
            means.append(None if None in ours.values() else sum(ours.values()) / len(ours))
        mean = None if None in means else sum(means) / len(means)
        check(f"{task}: score", told["score"]["mean"], mean)
        per_task.append(mean)
    average = None if None in per_task else sum(per_task) / len(per_task)
    check("average", results["average"]["value"], average)
    shown = "undefined" if average is None else f"{100 * average:.2f}"
    print(f"{compared} metrics and the average over {len(per_task)} tasks ({shown}) are as told")


def check(name: str, told: float | None, ours: float | None) -> None:
    if (told is None) != (ours is None) or (told is not None and not math.isclose(told, ours, abs_tol=1e-9)):
        sys.exit(f"error: {name}: results.json says {told}, the predictions say {ours}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

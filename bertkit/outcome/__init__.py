"""What a run concludes: findings for people to look at, and predictions beside what is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bertkit.encode import coverage_table
from bertkit.findings import Finding, Passages, Series
from bertkit.metrics.shown import LOWER_IS_BETTER
from bertkit.outcome import classes, numbers, spans, tagging
from bertkit.outcome.notes import notes
from bertkit.outcome.scored import Background, Scored
from bertkit.outcome.tagging import tags_seen
from bertkit.tasks.base import Prediction, Row, Task

__all__ = ("Background", "Scored", "findings", "records", "tags_seen")

OF_HEAD = {
    "class": classes.findings,
    "multilabel": classes.label_set_findings,
    "number": numbers.findings,
    "token": tagging.findings,
    "span": spans.findings,
}


def findings(
    scored: Scored | None,
    background: Background,
    history: Sequence[Mapping],
    best_by: str,
    pace: Sequence[Mapping] = (),
) -> list[Finding]:
    """What a reader would look at: what must not be missed, breakdowns, curves, coverage, and rows to read.

    Args:
        scored: the last split that was scored; None when there is none.
        background: of all splits.
        history: records of history.jsonl.
        best_by: the metric that picked the weights.
        pace: records of pace.jsonl.
    """
    of_task = task_findings(scored) if scored is not None and scored.rows else []
    headline = next(iter(scored.scores)) if scored is not None else best_by
    return [
        *notes(scored),
        *background.notes,
        *(finding for finding in of_task if not isinstance(finding, Passages)),
        *validation_curves(history, dict.fromkeys((headline, best_by))),
        *loss_curve(history),
        *memory_curve(pace),
        coverage_table(dict(background.covered)),
        *(finding for finding in of_task if isinstance(finding, Passages) and finding.passages),
    ]


def task_findings(scored: Scored) -> list[Finding]:
    """What the task says of itself, and what its head adds."""
    own = scored.task.breakdowns(scored.predictions, scored.rows, scored.where)
    said = {finding.title for finding in own}
    return [
        *own,
        *(finding for finding in OF_HEAD.get(scored.task.head, lambda scored: [])(scored) if finding.title not in said),
    ]


def loss_curve(history: Sequence[Mapping]) -> list[Series]:
    """Mean loss of each training step; nothing without a step."""
    return _over_steps("Training loss", "loss", [record for record in history if "loss" in record], {"train": "loss"})


def memory_curve(pace: Sequence[Mapping]) -> list[Series]:
    """Memory held while training; nothing without a step."""
    steps = [record for record in pace if "resident_mb" in record]
    has_gpu = bool(steps) and "gpu_mb" in steps[-1]
    return _over_steps(
        "Memory", "MB", steps, {"process": "resident_mb"} | ({"GPU, at most": "gpu_mb"} if has_gpu else {})
    )


def _over_steps(title: str, unit: str, records: Sequence[Mapping], lines: Mapping[str, str]) -> list[Series]:
    """Curves over the steps of records; `lines` names the key of each."""
    if not records:
        return []
    x = tuple(float(record["step"]) for record in records)
    values = {name: tuple(record.get(key) for record in records) for name, key in lines.items()}
    return [Series(title=title, x_label="step", y_label=unit, x=x, lines=values)]


def validation_curves(history: Sequence[Mapping], names: Sequence[str]) -> list[Series]:
    """The named scores of every evaluation; those that are better when low are apart, for their unit is another."""
    records = [record for record in history if "validation" in record]
    known = [name for name in names if any(name in record["validation"] for record in records)]
    shares, errors = [[name for name in known if (name in LOWER_IS_BETTER) is low] for low in (False, True)]
    return [
        Series(
            title=f"Validation {' and '.join(group)}",
            caption="Times 100." if group is shares else "In the square of the unit of the gold numbers.",
            x_label="step",
            y_label=group[0] if len(group) == 1 else "score",
            x=tuple(float(record["step"]) for record in records),
            lines={name: tuple(record["validation"].get(name) for record in records) for name in group},
            shares=("y",) if group is shares else (),
        )
        for group in (shares, errors)
        if group
    ]


def records(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Iterator[dict[str, object]]:
    """Lines of predictions.jsonl: what was read, what is right, what was answered."""
    for row, prediction in zip(rows, predictions, strict=True):
        texts = {name: row[name] for name in task.reads.text}
        yield {"id": row["id"], **texts, "gold": row[task.gold], **prediction}

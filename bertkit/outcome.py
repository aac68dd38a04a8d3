"""What a run concludes: findings for people to look at, and predictions beside what is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bertkit.encode import Coverage, coverage_table
from bertkit.findings import Finding, Heatmap, Series, Table
from bertkit.tasks.base import Prediction, Row, Task


def findings(
    task: Task,
    rows: Sequence[Row],
    predictions: Sequence[Prediction],
    covered: Mapping[str, Coverage],
    history: Sequence[Mapping],
) -> list[Finding]:
    """What a reader would look at: the loss, the coverage, and which classes are mistaken for which."""
    steps = [record for record in history if "loss" in record]
    found: list[Finding] = [coverage_table(dict(covered))]
    if steps:
        found.append(
            Series(
                title="Training loss",
                x_label="step",
                y_label="loss",
                x=tuple(float(record["step"]) for record in steps),
                lines={"train": tuple(record["loss"] for record in steps)},
            )
        )
    if task.head in ("class", "token") and rows:
        found += _confusion(task, rows, predictions)
    return found


def _confusion(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction]) -> list[Finding]:
    pairs = [(row[task.gold], prediction[task.answer]) for row, prediction in zip(rows, predictions, strict=True)]
    if task.head == "token":
        pairs = [pair for gold, given in pairs for pair in zip(gold, given, strict=True)]
    counts = {gold: dict.fromkeys(task.labels, 0) for gold in task.labels}
    for gold, given in pairs:
        counts[gold][given] += 1
    seen = {label: sum(counts[label].values()) for label in task.labels}
    return [
        Heatmap(
            title="Confusion",
            caption="Rows: gold; columns: predicted; counts.",
            row_label="gold",
            column_label="predicted",
            rows=task.labels,
            columns=task.labels,
            values=tuple(tuple(map(float, counts[gold].values())) for gold in task.labels),
        ),
        Table(
            title="Accuracy by label",
            columns=("label", "count", "accuracy"),
            rows=tuple(
                (label, seen[label], counts[label][label] / seen[label] if seen[label] else None)
                for label in task.labels
            ),
        ),
    ]


def records(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Iterator[dict[str, object]]:
    """Lines of predictions.jsonl: what was read, what is right, what was answered."""
    for row, prediction in zip(rows, predictions, strict=True):
        texts = {name: row[name] for name in task.reads.text}
        yield {"id": row["id"], **texts, "gold": row[task.gold], **prediction}

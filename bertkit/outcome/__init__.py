"""What a run concludes: findings for people to look at, and predictions beside what is right."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import eq

from bertkit.encode import coverage_table
from bertkit.findings import Finding, Note, Passages, Series
from bertkit.metrics.shown import LOWER_IS_BETTER, percent
from bertkit.outcome import classes, spans, tagging
from bertkit.outcome.scored import Background, Scored
from bertkit.outcome.tagging import tags_seen
from bertkit.tasks.base import Prediction, Row, Task

__all__ = ("Background", "Scored", "findings", "records", "tags_seen")

OF_HEAD = {
    "class": classes.findings,
    "multilabel": classes.label_set_findings,
    "number": classes.number_findings,
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
    has_rows = scored is not None and bool(scored.rows)
    of_task = task_findings(scored) if has_rows else []
    headline = next(iter(scored.scores)) if scored is not None else best_by
    return [
        *(notes(scored) if has_rows else ()),
        *background.notes,
        *(finding for finding in of_task if not isinstance(finding, Passages)),
        *validation_curves(history, dict.fromkeys((headline, best_by))),
        *curves("Training loss", "loss", history, {"train": "loss"}),
        *curves("Memory", "MB", pace, {"process": "resident_mb", "GPU, at most": "gpu_mb"}),
        coverage_table(dict(background.covered)),
        *(finding for finding in of_task if isinstance(finding, Passages) and finding.passages),
    ]


def notes(scored: Scored) -> Iterator[Note]:
    """Caveats: what limits the scores of a run, as far as the run itself can tell."""
    split, head, (golds, given) = scored.split, scored.task.head, scored.columns
    undefined = ", ".join(name for name, value in scored.scores.items() if value is None)
    if undefined:
        text = f"{undefined} on {scored.where}: the rows or the answers leave nothing to measure."
        yield Note(title="Undefined scores", text=text)
    if len(given) > 1 and all(answer == given[0] for answer in given):
        shown = ", ".join(given[0]) or "no label" if head == "multilabel" else given[0]
        text = f"All {len(given):,} answers on {split} are {shown!r}, whatever the row."
        yield Note(title="The answer is always the same", text=text)
    if head in ("class", "token") and golds:
        label, count = Counter(golds).most_common(1)[0]
        right = sum(map(eq, golds, given))
        if right <= count:
            text = (
                f"The accuracy on {split} is {percent(right / len(golds))}; answering {label!r} every time "
                f"gives {percent(count / len(golds))} (n = {len(golds):,})."
            )
            yield Note(title="No better than the most frequent label", text=text)


def task_findings(scored: Scored) -> list[Finding]:
    """What the task says of itself, and what its head adds."""
    own = list(scored.task.breakdowns(scored.predictions, scored.rows, scored.where))
    said = {finding.title for finding in own}
    of_head = OF_HEAD[scored.task.head](scored) if scored.task.head in OF_HEAD else []
    return own + [finding for finding in of_head if finding.title not in said]


def validation_curves(history: Sequence[Mapping], names: Sequence[str]) -> list[Series]:
    """The named scores of every evaluation; those that are better when low are apart, for their unit is another."""
    records = [{"step": record["step"], **record["validation"]} for record in history if "validation" in record]
    known = [name for name in names if any(name in record for record in records)]
    found = []
    for is_error, caption in ((False, "Times 100."), (True, "In the square of the unit of the gold numbers.")):
        group = {name: name for name in known if (name in LOWER_IS_BETTER) == is_error}
        title, unit = f"Validation {' and '.join(group)}", "score" if len(group) > 1 else "".join(group)
        found += curves(title, unit, records, group, caption=caption, shares=() if is_error else ("y",))
    return found


def curves(title: str, unit: str, records: Sequence[Mapping], keys: Mapping[str, str], **look: object) -> list[Series]:
    """A line over the steps for each key that a record has, by the name of the line; nothing where none has one."""
    lines = {name: key for name, key in keys.items() if any(key in record for record in records)}
    there = [record for record in records if any(key in record for key in lines.values())]
    if not there:
        return []
    x = tuple(float(record["step"]) for record in there)
    values = {name: tuple(record.get(key) for record in there) for name, key in lines.items()}
    return [Series(title=title, x_label="step", y_label=unit, x=x, lines=values, **look)]


def records(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Iterator[dict[str, object]]:
    """Lines of predictions.jsonl: what was read, what is right, what was answered."""
    for row, prediction in zip(rows, predictions, strict=True):
        texts = {name: row[name] for name in task.reads.text}
        yield {"id": row["id"], **texts, "gold": row[task.gold], **prediction}

"""What choosing a label from some probability on brings: precision and recall, as curves and as a table."""

import numpy as np

from bertkit.findings import Finding, Note, Series, label_table
from bertkit.metrics.classification import indicators
from bertkit.metrics.shown import show_score
from bertkit.metrics.thresholds import USUAL, cuts
from bertkit.outcome.scored import Scored
from bertkit.tasks.base import Scores

LINES = 6  # labels with a curve: those with most rows
ALL = "all labels together"
RECALLS = np.arange(1, 51) / 50
STEPS = tuple(step / 10 for step in range(1, 10))


def beside(scored: Scored) -> dict[str, dict[str, float | None]]:
    """Columns for the table of labels: average precision, and the thresholds where one is not the usual one."""
    if not scored.has_probabilities:
        return {}
    limits, asked = scored.task.thresholds, zip(scored.task.labels, *_by_label(scored), strict=True)
    columns = {"threshold": dict(limits)} if set(limits.values()) - {USUAL} else {}
    return columns | {"average precision": {label: cuts(*both).average_precision for label, *both in asked}}


def findings(scored: Scored) -> list[Finding]:
    """Of labels that are chosen by their probability alone: the curves of the most frequent, and a table of all."""
    limits = scored.task.thresholds
    if not limits or not scored.has_probabilities:
        return []
    shares, is_gold = (array[[*map(scored.task.labels.index, limits)]] for array in _by_label(scored))
    least, gold = np.array([*limits.values()]), int(is_gold.sum())
    columns = {label: both for label, *both in zip(limits, shares, is_gold, least, strict=True) if both[1].any()}
    columns = dict(sorted(columns.items(), key=lambda entry: -entry[1][1].sum())[:LINES])
    one = float(least[0]) if len(set(limits.values())) == 1 else None
    if len(limits) > 1 and gold:
        columns[ALL] = [shares.ravel(), is_gold.ravel(), one]
    rows = {f"{step:.3g}{' (chosen)' * (step == one)}": shares >= step for step in sorted({*STEPS, one or USUAL})}
    if one is None:
        rows["each its own (chosen)"] = shares >= least[:, None]
    counts = {name: (int((chosen & is_gold).sum()), int(chosen.sum()), gold) for name, chosen in rows.items()}
    of = ALL if len(limits) > 1 else repr(next(iter(limits)))
    caption = f"Of {of}: chosen from this probability on. Count: how often it is gold. On {scored.where}."
    return [*_curves(columns, scored.where), label_table("threshold", caption, counts)]


def chosen_note(before: Scores, scored: Scored) -> Note:
    """Says that scores are those at a threshold that was chosen on the same rows; `before`: at the usual one."""
    name, value = next(iter(scored.scores.items()))
    text = (
        f"{name} on {scored.where}, is {show_score(name, value)} with what was tuned there, and "
        f"{show_score(name, before[name])} without. Scores on these rows are optimistic; others, such as test, are "
        "scored with the same threshold."
    )
    return Note(title="The threshold was tuned on validation", text=text)


def _by_label(scored: Scored) -> tuple[np.ndarray, np.ndarray]:
    """(C, N) probabilities, and whether the label is gold."""
    labels, golds = scored.task.labels, [scored.task.labels_of(row) for row in scored.rows]
    shares = [[prediction["probabilities"][label] for label in labels] for prediction in scored.predictions]
    return np.array(shares).T, indicators(golds, labels, scored.split).T


def _curves(columns: dict[str, list], where: str) -> list[Series]:
    """Precision by recall, with the point that the threshold of a label gives."""
    found = {label: cuts(shares, is_gold) for label, (shares, is_gold, _) in columns.items()}
    marks = {}
    for label, (shares, is_gold, least) in columns.items():
        if least is not None and (chosen := shares >= least).any():
            right = (chosen & is_gold).sum()
            marks[label] = float(right / is_gold.sum()), float(right / chosen.sum())
    x = np.unique([*RECALLS, *(recall for recall, _ in marks.values() if recall)])
    lines = {label: tuple(own.precision[np.searchsorted(own.recall, x)].tolist()) for label, own in found.items()}
    if not lines:
        return []
    caption = (
        "Precision: the share of chosen rows that have the label; recall: of rows with the label that are chosen. Dot: "
        f"where the threshold is.{' The labels with most rows.' if ALL in lines else ''} On {where}. Both times 100."
    )
    return [Series(title="Precision and recall", caption=caption, x_label="recall", y_label="precision",
                   x=tuple(x.tolist()), lines=lines, shares=("x", "y"), marks=marks)]  # fmt: skip

"""Which labels are mistaken for which, how far probabilities can be trusted, and the rows that are most wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bertkit.findings import Finding, Heatmap, Passages, Series, Table
from bertkit.metrics.shown import counted
from bertkit.outcome.scored import WORST, Scored, equal_parts, percent, ratio

MATRIX_LABELS = 40  # a larger matrix cannot be read
CONFUSIONS = 30
BINS, BIN_ROWS = 10, 10  # at most so many bins of at least so many rows


def findings(scored: Scored) -> list[Finding]:
    """Of a task with one label a row."""
    found = label_findings(scored.task.labels, scored.golds, scored.answers, "label", scored.where)
    if all("probabilities" in prediction for prediction in scored.predictions):
        found += [calibration_of(scored), most_wrong(scored)]
    return found


def label_findings(
    labels: Sequence[str], golds: Sequence[str], answers: Sequence[str], what: str, where: str
) -> list[Finding]:
    """The confusion matrix and a table by label, over the labels that occur on either side."""
    occurring = {*golds, *answers}
    labels = [label for label in labels if label in occurring]
    code = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, ([code[gold] for gold in golds], [code[answer] for answer in answers]), 1)
    table = by_label(labels, counts.diagonal(), counts.sum(1), counts.sum(0), what, where)
    if len(labels) > MATRIX_LABELS:
        return [confusions(labels, counts, where), table] if golds != answers else [table]
    matrix = Heatmap(
        title="Confusion",
        caption=f"Rows: gold; columns: predicted; counts. On {where}.",
        row_label="gold",
        column_label="predicted",
        rows=tuple(labels),
        columns=tuple(labels),
        values=tuple(tuple(map(float, row)) for row in counts),
    )
    return [matrix, table]


def confusions(labels: Sequence[str], counts: np.ndarray, where: str) -> Table:
    """The most frequent mistakes, for tasks with more labels than a matrix can show."""
    wrong = counts * (1 - np.eye(len(labels), dtype=np.int64))
    positions = [
        divmod(index, len(labels)) for index in np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS].tolist()
    ]
    return Table(
        title="Most frequent confusions",
        caption=f"Share: of the rows with that gold label. On {where}.",
        columns=("gold", "predicted", "count", "share"),
        rows=tuple(
            (labels[gold], labels[given], int(wrong[gold, given]), ratio(wrong[gold, given], counts[gold].sum()))
            for gold, given in positions
            if wrong[gold, given]
        ),
    )


def by_label(
    labels: Sequence[str], right: np.ndarray, golds: np.ndarray, given: np.ndarray, what: str, where: str
) -> Table:
    """Counts, precision, recall and F1 of each label.

    Args:
        labels: C names.
        right: (C,) how often a label was predicted and gold.
        golds: (C,) how often it is gold.
        given: (C,) how often it was predicted.
        what: what a label is called.
        where: the split and its size.
    """
    return Table(
        title=f"By {what}",
        caption=f"Count: how often the {what} is gold. On {where}.",
        columns=(what, "count", "predicted", "precision", "recall", "f1"),
        rows=tuple(
            (label, gold, guess, ratio(hit, guess), ratio(hit, gold), ratio(2 * hit, gold + guess))
            for label, hit, gold, guess in zip(labels, right.tolist(), golds.tolist(), given.tolist(), strict=True)
        ),
    )


def calibration_of(scored: Scored) -> Series:
    confidence = [
        prediction["probabilities"][answer]
        for prediction, answer in zip(scored.predictions, scored.answers, strict=True)
    ]
    is_right = [gold == answer for gold, answer in zip(scored.golds, scored.answers, strict=True)]
    bins = int(np.clip(len(confidence) // BIN_ROWS, 1, BINS))
    return calibration(np.array(confidence), np.array(is_right), bins, scored.split)


def calibration(confidence: np.ndarray, is_right: np.ndarray, bins: int, split: str) -> Series:
    """Accuracy against confidence, in bins of equally many rows.

    Args:
        confidence: (N,) probability of each answer.
        is_right: (N,) bool.
        bins: how many at most; equal confidences are never parted.
        split: for the caption.

    Source: Guo et al. 2017, section 2; their bins are of equal width.
    """
    parts = equal_parts(confidence, bins)
    means = [float(confidence[part].mean()) for part in parts]
    accuracy = [float(is_right[part].mean()) for part in parts]
    error = sum(len(p) * abs(a - m) for p, a, m in zip(parts, accuracy, means, strict=True)) / len(confidence)
    return Series(
        title="Calibration",
        caption=(
            f"Expected calibration error: {percent(error)} ({split}, n = {len(confidence):,}). It is the distance "
            "between accuracy and mean confidence in a bin, averaged over the rows; "
            f"{counted(len(parts), 'bin')} of about equally many rows. "
            "Confidence is the probability of the answer (Guo et al. 2017). Both times 100."
        ),
        x_label="mean confidence",
        y_label="accuracy",
        x=tuple(means),
        lines={"accuracy": tuple(accuracy), "perfect": tuple(means)},
        shares=("x", "y"),
    )


def most_wrong(scored: Scored) -> Passages:
    """Rows whose wrong answer got the most probability, the most probable first."""
    wrong = [
        (prediction["probabilities"][answer], number, gold, answer)
        for number, (gold, answer, prediction) in enumerate(
            zip(scored.golds, scored.answers, scored.predictions, strict=True)
        )
        if gold != answer
    ]
    worst = sorted(wrong, key=lambda entry: -entry[0])[:WORST]
    return Passages(
        title="Most wrong",
        caption=f"{len(worst)} of {len(wrong):,} wrong rows ({scored.where}), those it was surest of first.",
        passages=tuple(
            scored.passage(number, {"gold": gold, "predicted": answer, "probability": percent(share)})
            for share, number, gold, answer in worst
        ),
    )


def label_set_findings(scored: Scored) -> list[Finding]:
    """Of a task with any number of labels a row: a table by label, and the rows with most wrong labels."""
    golds, answers, labels = [*map(set, scored.golds)], [*map(set, scored.answers)], scored.task.labels
    right = [gold & answer for gold, answer in zip(golds, answers, strict=True)]
    counts = [np.array([sum(label in entry for entry in rows) for label in labels]) for rows in (right, golds, answers)]
    missed = [gold ^ answer for gold, answer in zip(golds, answers, strict=True)]
    wrong = sorted((number for number, some in enumerate(missed) if some), key=lambda number: -len(missed[number]))

    def shown(chosen: set[str]) -> str:
        return ", ".join(label for label in labels if label in chosen) or "none"

    worst = Passages(
        title="Most wrong",
        caption=f"{len(wrong[:WORST])} of {len(wrong):,} wrong rows ({scored.where}), most wrong labels first.",
        passages=tuple(
            scored.passage(number, {"gold": shown(golds[number]), "predicted": shown(answers[number])})
            for number in wrong[:WORST]
        ),
    )
    return [by_label(labels, *counts, "label", scored.where), worst]

"""Of classes, labels and numbers: which are mistaken for which, how far to trust them, and the rows most wrong."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from types import MappingProxyType

import numpy as np

from bertkit.findings import Finding, Heatmap, Passage, Series, label_table, tabulate, worst_first
from bertkit.metrics.shown import mean, percent
from bertkit.outcome import thresholds
from bertkit.outcome.scored import Scored, equal_parts

MATRIX_LABELS = 40  # a larger matrix cannot be read
CONFUSIONS = 30
BINS, BIN_ROWS = 10, 10  # at most so many bins of at least so many rows
GROUPS = 5  # of gold numbers
FEW = 10  # so many different gold numbers are shown one by one


def findings(scored: Scored) -> list[Finding]:
    """Of a task with one label a row."""
    golds, answers = scored.columns
    found = label_findings(scored.task.labels, golds, answers, "label", scored.where, thresholds.beside(scored))
    if not scored.has_probabilities:
        return found
    sure = [prediction["probabilities"][answer] for prediction, answer in zip(scored.predictions, answers, strict=True)]
    is_right = np.array([gold == answer for gold, answer in zip(golds, answers, strict=True)])
    bins = int(np.clip(len(sure) // BIN_ROWS, 1, BINS))
    worst = worst_first(
        f"wrong rows ({scored.where}), the surest answers first.",
        {number: sure[number] for number in np.flatnonzero(~is_right).tolist()},
        lambda number: scored.passage(
            number, {"gold": golds[number], "predicted": answers[number], "probability": percent(sure[number])}
        ),
    )
    return [*found, *thresholds.findings(scored), calibration(np.array(sure), is_right, bins, scored.split), worst]


def label_findings(
    labels: Sequence[str],
    golds: Sequence[str],
    answers: Sequence[str],
    what: str,
    where: str,
    beside: Mapping[str, Mapping[str, float | None]] = MappingProxyType({}),
) -> list[Finding]:
    """The confusion matrix, or the most frequent mistakes, and a table by label; over labels that either side has."""
    pairs, gold_count, given_count = Counter(zip(golds, answers, strict=True)), Counter(golds), Counter(answers)
    labels = [label for label in labels if label in gold_count or label in given_count]
    counts = {label: (pairs[label, label], given_count[label], gold_count[label]) for label in labels}
    table = label_table(what, f"Count: how often the {what} is gold. On {where}.", counts, beside)
    if len(labels) <= MATRIX_LABELS:
        names, caption = tuple(labels), f"Rows: gold; columns: predicted; counts. On {where}."
        sides = {"row_label": "gold", "column_label": "predicted", "rows": names, "columns": names}
        values = tuple(tuple(float(pairs[gold, given]) for given in labels) for gold in labels)
        return [Heatmap(title="Confusion", caption=caption, values=values, **sides), table]
    place = {label: number for number, label in enumerate(labels)}
    wrong = sorted((-pairs[gold, given], place[gold], place[given]) for gold, given in pairs if gold != given)
    caption = f"Share: of the rows with that gold label. On {where}."
    rows = ((labels[g], labels[a], -count, -count / gold_count[labels[g]]) for count, g, a in wrong[:CONFUSIONS])
    confusions = tabulate("Most frequent confusions", caption, ("gold", "predicted", "count", "share"), rows)
    return [confusions, table] if wrong else [table]


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
        caption=f"Expected calibration error: {percent(error)} ({split}, n = {len(confidence):,}). It is the distance "
        "between accuracy and mean confidence in a bin, averaged over the rows. Bins of about equally many rows: "
        f"{len(parts)}. Confidence is the probability of the answer (Guo et al. 2017). Both times 100.",
        x_label="mean confidence",
        y_label="accuracy",
        x=tuple(means),
        lines={"accuracy": tuple(accuracy), "perfect": tuple(means)},
        shares=("x", "y"),
    )


def label_set_findings(scored: Scored) -> list[Finding]:
    """Of a task with any number of labels a row: a table by label, and the rows with most wrong labels."""
    labels, (golds, answers) = scored.task.labels, ([*map(set, column)] for column in scored.columns)
    right = [gold & answer for gold, answer in zip(golds, answers, strict=True)]
    wrong = [len(gold ^ answer) for gold, answer in zip(golds, answers, strict=True)]
    counts = [Counter(chain.from_iterable(sets)) for sets in (right, answers, golds)]
    by_label = {label: tuple(count[label] for count in counts) for label in labels}

    def shown(chosen: set[str]) -> str:
        return ", ".join(label for label in labels if label in chosen) or "none"

    caption = f"Count: how often the label is gold. On {scored.where}."
    return [
        label_table("label", caption, by_label, thresholds.beside(scored)),
        *thresholds.findings(scored),
        worst_first(
            f"wrong rows ({scored.where}), most wrong labels first.",
            {number: count for number, count in enumerate(wrong) if count},
            lambda number: scored.passage(number, {"gold": shown(golds[number]), "predicted": shown(answers[number])}),
        ),
    ]


def number_findings(scored: Scored) -> list[Finding]:
    """Of a task with a number a row: means by gold number, equal ones in one group, and the rows most wrong."""
    golds, given = np.array(scored.golds, np.float64), np.array(scored.answers, np.float64)
    errors, values = given - golds, np.unique(golds)
    groups = [np.flatnonzero(golds == value) for value in values] if len(values) <= FEW else equal_parts(golds, GROUPS)
    names = [dict.fromkeys(f"{edge:g}" for edge in (golds[group].min(), golds[group].max())) for group in groups]
    rows = (
        (" to ".join(name), len(group), *(mean(column[group]) for column in (golds, given, np.abs(errors))))
        for name, group in zip(names, groups, strict=True)
    )
    caption = (
        "Any imperfect prediction is drawn towards the mean: too high for low gold numbers, too low for high ones. "
        f"On {scored.where}."
    )
    plain = ("mean gold", "mean predicted", "mean absolute error")
    table = tabulate("By gold number", caption, ("gold", "count", *plain), rows, plain=plain)

    def passage(number: int) -> Passage:
        gold, answer, error = golds[number], given[number], errors[number]
        return scored.passage(number, {"gold": f"{gold:g}", "predicted": f"{answer:.3f}", "error": f"{error:+.3f}"})

    caption = f"rows ({scored.where}), the largest errors first."
    return [table, worst_first(caption, dict(enumerate(np.abs(errors).tolist())), passage, title="Largest errors")]

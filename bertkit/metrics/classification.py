"""How often predicted labels are right, one label or several labels a row.

Computed from counts with numpy: importing scikit-learn for them costs a second of every run. Tests hold them to it.
"""

import math
from collections.abc import Collection, Sequence

import numpy as np

from bertkit.errors import BertkitError, did_you_mean
from bertkit.metrics.shown import mean


def classification(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float | None]:
    """Score one label a row: accuracy, macro F1, and Matthews correlation in its multi-class form.

    Args:
        predictions, references: (N,) labels.
    Returns:
        `accuracy`, the headline; `f1_macro`, over the labels that occur in either column, so that one which is only
        predicted counts 0; `matthews`, -1 to 1, None ("undefined") when all predictions or all references are the same
        label: its denominator is zero there, though libraries answer 0. All three are None when there is no row.

    Source: Matthews 1975; Gorodkin 2004 (more than two classes).
    """
    return scores_of(count_pairs(predictions, references))


def scores_of(counts: np.ndarray) -> dict[str, float | None]:
    """The scores of `classification`, from what `count_pairs` gives."""
    f1_macro = mean_f1(np.diag(counts), counts.sum(0), counts.sum(1))
    return {"accuracy": accuracy(counts), "f1_macro": f1_macro, "matthews": matthews(counts)}


def count_pairs(predictions: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(C, C) int64, references by predictions: how often each pair of labels occurs."""
    assert len(predictions) == len(references), f"{len(predictions)} predictions for {len(references)} references"
    codes = {label: code for code, label in enumerate(dict.fromkeys([*references, *predictions]))}
    guesses, truths = (
        np.fromiter(map(codes.__getitem__, column), np.int64, len(column)) for column in (predictions, references)
    )
    return np.bincount(truths * len(codes) + guesses, minlength=len(codes) ** 2).reshape(len(codes), len(codes))


def accuracy(counts: np.ndarray) -> float | None:
    """The share that is right; None without a row."""
    total = counts.sum()
    return float(np.trace(counts) / total) if total else None


def matthews(counts: np.ndarray) -> float | None:
    """Matthews correlation; None when one of the columns is constant or empty."""
    total, right = int(counts.sum()), int(np.trace(counts))
    truths, guesses = counts.sum(1).tolist(), counts.sum(0).tolist()
    # Python's integers: products of four counts pass 2**63 from 55,000 rows on
    below = (total**2 - sum(n * n for n in truths)) * (total**2 - sum(n * n for n in guesses))
    if not below:
        return None
    above = right * total - sum(truth * guess for truth, guess in zip(truths, guesses, strict=True))
    return float(np.clip(above / math.sqrt(below), -1.0, 1.0))  # clip: rounding may pass the bounds by 1e-16


def f1_of(right: int, found: int, true: int) -> float | None:
    """F1 of what is predicted `found` times, is true `true` times, and both `right` times; None when it is neither."""
    return float(2 * right / (found + true)) if found + true else None


def mean_f1(right: np.ndarray, found: np.ndarray, true: np.ndarray) -> float | None:
    """The unweighted mean of the F1 of each label that occurs, from (C,) counts; None where none does."""
    occurs = found + true > 0
    return mean(2 * right[occurs] / (found + true)[occurs])


def binary_f1(predictions: Sequence[str], references: Sequence[str], positive: str) -> dict[str, float | None]:
    """F1 of one class of two, as GLUE scores MRPC and QQP, where `positive` is the label for a paraphrase.

    Returns:
        `f1`; None when `positive` occurs neither in the predictions nor in the references.
    """
    assert len(predictions) == len(references), f"{len(predictions)} predictions for {len(references)} references"
    right = sum(guess == truth == positive for guess, truth in zip(predictions, references, strict=True))
    return {"f1": f1_of(right, list(predictions).count(positive), list(references).count(positive))}


def multilabel(
    predictions: Sequence[Collection[str]], references: Sequence[Collection[str]], labels: Sequence[str]
) -> dict[str, float | None]:
    """Score rows that carry any number of labels, none included.

    Args:
        predictions, references: (N,) sets of labels.
        labels: every label of the task, once.
    Returns:
        `f1_micro`, the headline, over all (row, label) decisions; `f1_macro`, the mean over the labels that occur on
        either side; both None when none does. `subset_accuracy`, the share of rows whose set is exactly right; None
        when there is no row.
    Raises:
        BertkitError: a row holds a label that is not in `labels`.
    """
    assert len(predictions) == len(references), f"{len(predictions)} predictions for {len(references)} references"
    assert len(set(labels)) == len(labels), f"labels: a name occurs twice in {list(labels)}"
    guesses, truths = indicators(predictions, labels, "predictions"), indicators(references, labels, "references")
    right = guesses & truths
    return {
        "f1_micro": f1_of(right.sum(), guesses.sum(), truths.sum()),
        "f1_macro": mean_f1(right.sum(0), guesses.sum(0), truths.sum(0)),
        "subset_accuracy": mean((guesses == truths).all(axis=1)),
    }


def indicators(rows: Sequence[Collection[str]], labels: Sequence[str], column: str) -> np.ndarray:
    """(N, C) bool: which row has which label; `column` names the argument in the error."""
    position = {label: index for index, label in enumerate(labels)}
    table = np.zeros((len(rows), len(position)), dtype=bool)
    for number, row in enumerate(rows):
        for label in row:
            if label not in position:
                raise BertkitError(
                    f"{column}: row {number} has the label {label!r}, which the task does not have",
                    hint=did_you_mean(label, labels),
                )
            table[number, position[label]] = True
    return table

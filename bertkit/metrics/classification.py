"""How often predicted labels are right, one label or several labels a row."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence

import numpy as np

from bertkit.errors import BertkitError, did_you_mean


def classification(predictions: Sequence[str], references: Sequence[str]) -> dict[str, float | None]:
    """Score one label a row: accuracy, macro F1, and Matthews correlation in its multi-class form.

    Args:
        predictions: (N,) labels.
        references: (N,) labels.
    Returns:
        `accuracy`, the headline; `f1_macro`, over the labels that occur in either column; `matthews`, -1 to 1.
        Matthews is None ("undefined") when all predictions or all references are the same label: its denominator is
        zero there, though libraries answer 0. All three are None when there is no row.

    Source: Matthews 1975; Gorodkin 2004 (more than two classes).
    """
    guesses, truths = label_codes(predictions, references)
    return {
        "accuracy": float(np.mean(guesses == truths)) if len(truths) else None,
        "f1_macro": f1_macro(predictions, references),
        "matthews": matthews(guesses, truths),
    }


def f1_macro(predictions: Sequence[str], references: Sequence[str]) -> float | None:
    """Unweighted mean of the F1 of each label that occurs in the references or in the predictions.

    A label that the task has but that occurs in neither does not enter: its F1 is undefined. A wrongly predicted label
    that no reference has does enter, with 0. None when there is no row.
    """
    guesses, truths = label_codes(predictions, references)
    if not len(truths):
        return None
    from sklearn.metrics import f1_score

    labels = np.arange(max(guesses.max(), truths.max()) + 1)
    return float(f1_score(truths, guesses, labels=labels, average="macro", zero_division=0.0))


def binary_f1(predictions: Sequence[str], references: Sequence[str], positive: str) -> dict[str, float | None]:
    """F1 of one class of two, as GLUE scores MRPC and QQP, where `positive` is the label for a paraphrase.

    Returns:
        `f1`; None when `positive` occurs neither in the predictions nor in the references.
    """
    assert len(predictions) == len(references), f"{len(predictions)} predictions for {len(references)} references"
    guesses = np.array([label == positive for label in predictions], dtype=bool)
    truths = np.array([label == positive for label in references], dtype=bool)
    return {"f1": positive_f1(guesses, truths)}


def multilabel(
    predictions: Sequence[Collection[str]], references: Sequence[Collection[str]], labels: Sequence[str]
) -> dict[str, float | None]:
    """Score rows that carry any number of labels, none included.

    Args:
        predictions: (N,) sets of labels.
        references: (N,) sets of labels.
        labels: every label of the task, once.
    Returns:
        `f1_micro`, the headline, over all (row, label) decisions; `f1_macro`, the mean over the labels that occur in a
        prediction or a reference; both None when no row has any label on either side. `subset_accuracy`, the part of
        the rows whose set is exactly right; None when there is no row.
    Raises:
        BertkitError: a row holds a label that is not in `labels`.
    """
    assert len(predictions) == len(references), f"{len(predictions)} predictions for {len(references)} references"
    assert len(set(labels)) == len(labels), f"labels: a name occurs twice in {list(labels)}"
    guesses, truths = indicators(predictions, labels, "predictions"), indicators(references, labels, "references")
    # label by label: scikit-learn reads a table of one column as one binary label and would answer its accuracy
    by_label = [positive_f1(guess, truth) for guess, truth in zip(guesses.T, truths.T, strict=True)]
    defined = [value for value in by_label if value is not None]
    exact = (guesses == truths).all(axis=1)
    return {
        "f1_micro": positive_f1(guesses.ravel(), truths.ravel()),
        "f1_macro": float(np.mean(defined)) if defined else None,
        "subset_accuracy": float(exact.mean()) if len(exact) else None,
    }


def label_codes(predictions: Sequence[Hashable], references: Sequence[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Both columns as (N,) int64 codes over one vocabulary: the labels that occur, 0 to their number - 1."""
    assert len(predictions) == len(references), f"{len(predictions)} predictions for {len(references)} references"
    codes = {label: code for code, label in enumerate(dict.fromkeys([*references, *predictions]))}

    def encode(column: Sequence[Hashable]) -> np.ndarray:
        return np.fromiter((codes[label] for label in column), dtype=np.int64, count=len(column))

    return encode(predictions), encode(references)


def positive_f1(guesses: np.ndarray, truths: np.ndarray) -> float | None:
    """F1 of the True entries of two bool columns; None when neither has any."""
    if not guesses.any() and not truths.any():
        return None
    from sklearn.metrics import f1_score

    return float(f1_score(truths, guesses, zero_division=0.0))


def matthews(guesses: np.ndarray, truths: np.ndarray) -> float | None:
    """Matthews correlation of two columns of codes; None when one of them is constant or empty."""
    if len(np.unique(guesses)) < 2 or len(np.unique(truths)) < 2:
        return None
    from sklearn.metrics import matthews_corrcoef

    return float(np.clip(matthews_corrcoef(truths, guesses), -1.0, 1.0))  # clip: rounding may pass the bounds by 1e-16


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

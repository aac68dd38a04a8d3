"""How well predicted numbers follow the true ones."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from bertkit.metrics.shown import mean


def regression(predictions: Sequence[float], references: Sequence[float]) -> dict[str, float | None]:
    """Score one number a row, as GLUE scores STS-B.

    Args:
        predictions, references: (N,) numbers.
    Returns:
        `pearson_spearman`, the headline, the mean of the next two; `pearson` and `spearman`, -1 to 1, None
        ("undefined"), and the headline with them, when a column is constant, has fewer than two rows, or holds a number
        that is not finite; `mse`, the mean squared error, in the square of the unit of the references, None when it is
        not finite or there is no row.
    """
    assert len(predictions) == len(references), f"{len(predictions)} predictions for {len(references)} references"
    from scipy.stats import pearsonr, spearmanr

    guesses, truths = np.asarray(predictions, dtype=np.float64), np.asarray(references, dtype=np.float64)
    pearson, spearman = correlation(pearsonr, guesses, truths), correlation(spearmanr, guesses, truths)
    with np.errstate(all="ignore"):
        mse = mean((guesses - truths) ** 2)
    return {"pearson_spearman": mean([pearson, spearman]), "pearson": pearson, "spearman": spearman, "mse": mse}


def correlation(measure: Callable, guesses: np.ndarray, truths: np.ndarray) -> float | None:
    """What scipy's `measure` says about two columns, or None where it would say NaN."""
    for column in (guesses, truths):
        if len(column) < 2 or not np.isfinite(column).all() or (column == column[0]).all():
            return None
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # scipy warns of nearly constant columns: the number still stands
        value = measure(guesses, truths).statistic
    return float(np.clip(value, -1.0, 1.0)) if np.isfinite(value) else None

"""How far predicted numbers are from the true ones, and where."""

from __future__ import annotations

import numpy as np

from bertkit.findings import Finding, Passages, Table
from bertkit.outcome.scored import WORST, Scored, equal_parts, mean

GROUPS = 5
FEW = 10  # so many different gold numbers are shown one by one


def findings(scored: Scored) -> list[Finding]:
    """Means by gold number, and the rows with the largest errors."""
    golds, given = np.array(scored.golds, np.float64), np.array(scored.answers, np.float64)
    return [by_gold(golds, given, scored.where), largest_errors(scored, golds, given)]


def by_gold(golds: np.ndarray, given: np.ndarray, where: str) -> Table:
    """Mean prediction and error in groups of gold numbers; equal gold numbers are never parted."""
    values = np.unique(golds)
    groups = [np.flatnonzero(golds == value) for value in values] if len(values) <= FEW else equal_parts(golds, GROUPS)
    plain = ("mean gold", "mean predicted", "mean absolute error")
    return Table(
        title="By gold number",
        caption=(
            "Any imperfect prediction is drawn towards the mean: too high for low gold numbers, too low for high ones. "
            f"On {where}."
        ),
        columns=("gold", "count", *plain),
        rows=tuple(
            (
                " to ".join(dict.fromkeys(f"{edge:g}" for edge in (golds[group].min(), golds[group].max()))),
                len(group),
                mean(golds[group]),
                mean(given[group]),
                mean(np.abs(given[group] - golds[group])),
            )
            for group in groups
        ),
        plain=plain,
    )


def largest_errors(scored: Scored, golds: np.ndarray, given: np.ndarray) -> Passages:
    errors = given - golds
    worst = np.argsort(-np.abs(errors), kind="stable")[:WORST].tolist()
    return Passages(
        title="Largest errors",
        caption=f"{len(worst)} rows; on {scored.where}.",
        passages=tuple(
            scored.passage(
                number,
                {"gold": f"{golds[number]:g}", "predicted": f"{given[number]:.3f}", "error": f"{errors[number]:+.3f}"},
            )
            for number in worst
        ),
    )

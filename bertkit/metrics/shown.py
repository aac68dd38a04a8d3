"""Scores as people read them, and which of them are better when they are low."""

from __future__ import annotations

import math
from collections.abc import Mapping

LOWER_IS_BETTER = frozenset({"mse"})


def is_share(name: str) -> bool:
    """Whether a score is a fraction, which readers see times 100; thresholds and errors are not."""
    return name not in LOWER_IS_BETTER and "threshold" not in name


def show_score(name: str, value: float | None) -> str:
    """One score: times 100, undefined by that word, a count as it is."""
    if value is None or math.isnan(value):
        return "undefined"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{100 * value:.2f}" if is_share(name) else f"{value:.3f}"


def describe_scores(scores: Mapping[str, float | None]) -> str:
    """Scores in one line, counts before their names."""
    shown = []
    for name, value in scores.items():
        pair = (show_score(name, value), name) if isinstance(value, int) else (name, show_score(name, value))
        shown.append(" ".join(pair))
    return ", ".join(shown)

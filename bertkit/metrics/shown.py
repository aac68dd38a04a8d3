"""Scores as people read them, and which of them are better when they are low."""

from __future__ import annotations

from collections.abc import Mapping

LOWER_IS_BETTER = frozenset({"mse"})


def describe_scores(scores: Mapping[str, object]) -> str:
    """Scores in one line: times 100, undefined ones by that word, counts as they are."""
    shown = []
    for name, value in scores.items():
        if value is None:
            shown.append(f"{name} undefined")
        elif isinstance(value, int):
            shown.append(f"{value:,} {name}")
        else:
            # thresholds and errors are not fractions
            is_share = name not in LOWER_IS_BETTER and "threshold" not in name
            shown.append(f"{name} {100 * value:.2f}" if is_share else f"{name} {value:.3f}")
    return ", ".join(shown)

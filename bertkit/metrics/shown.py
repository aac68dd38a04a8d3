"""Scores, counts and checkpoints as people read them, and which scores are better when lower."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LOWER_IS_BETTER = frozenset({"mse", "loss", "perplexity"})


def mean(values: np.ndarray | Sequence[float | None]) -> float | None:
    """The mean; None when there is no value, when one is None, or when it is not finite."""
    import numpy as np

    value = float(np.asarray(values, np.float64).mean()) if len(values) else math.nan
    return value if math.isfinite(value) else None


def is_share(name: str) -> bool:
    """Whether a score is a fraction, which is shown times 100; thresholds and errors are not."""
    return name not in LOWER_IS_BETTER and "threshold" not in name


def show_score(name: str, value: float | None) -> str:
    """One score: a fraction times 100, a count as it is, None as `undefined`."""
    if value is None or math.isnan(value):
        return "undefined"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{100 * value:.2f}" if is_share(name) else f"{value:.3f}"


def percent(share: float) -> str:
    """A fraction as people read it."""
    return f"{100 * share:.1f} %"


def describe_scores(scores: Mapping[str, float | None]) -> str:
    """Scores in one line; counts stand before their names."""
    shown = []
    for name, value in scores.items():
        if isinstance(value, int):
            shown.append(counted(value, "row") if name == "rows" else f"{value:,} {name}")
        else:
            shown.append(f"{name} {show_score(name, value)}")
    return ", ".join(shown)


def counted(count: int, noun: str) -> str:
    """A count with its noun: `1 row`, `2,345 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def short_name(checkpoint: str) -> str:
    """A Hub id as it is; of a folder its name, or its parent's name if it is the `model/` of a run."""
    parts = [part for part in PurePosixPath(checkpoint.replace("\\", "/")).parts if part != "model"]
    is_hub_id = len(parts) < 3 and not checkpoint.startswith(("/", "."))
    return checkpoint if is_hub_id or not parts else parts[-1]

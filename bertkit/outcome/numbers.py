"""How far predicted numbers are from the true ones, and where."""

import numpy as np

from bertkit.findings import Finding, Passage, Table, worst_first
from bertkit.metrics.shown import mean
from bertkit.outcome.scored import Scored, equal_parts

GROUPS = 5
FEW = 10  # so many different gold numbers are shown one by one


def findings(scored: Scored) -> list[Finding]:
    """Means by gold number, and the rows with the largest errors; equal gold numbers are in one group."""
    golds, given = np.array(scored.golds, np.float64), np.array(scored.answers, np.float64)
    errors, values = given - golds, np.unique(golds)
    groups = [np.flatnonzero(golds == value) for value in values] if len(values) <= FEW else equal_parts(golds, GROUPS)
    names = [dict.fromkeys(f"{edge:g}" for edge in (golds[group].min(), golds[group].max())) for group in groups]
    plain = ("mean gold", "mean predicted", "mean absolute error")
    table = Table(
        title="By gold number",
        caption=(
            "Any imperfect prediction is drawn towards the mean: too high for low gold numbers, too low for high ones. "
            f"On {scored.where}."
        ),
        columns=("gold", "count", *plain),
        rows=tuple(
            (" to ".join(name), len(group), mean(golds[group]), mean(given[group]), mean(np.abs(errors[group])))
            for name, group in zip(names, groups, strict=True)
        ),
        plain=plain,
    )

    def passage(number: int) -> Passage:
        gold, answer, error = golds[number], given[number], errors[number]
        return scored.passage(number, {"gold": f"{gold:g}", "predicted": f"{answer:.3f}", "error": f"{error:+.3f}"})

    caption = f"rows ({scored.where}), the largest errors first."
    return [table, worst_first(caption, dict(enumerate(np.abs(errors).tolist())), passage, title="Largest errors")]

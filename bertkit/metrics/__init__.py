"""The scores of the toolkit, each of them also on offer as an `evaluate.Metric` that needs no network.

bertkit itself calls the plain functions in the files beside this one; `load` wraps them for programs that speak
`evaluate`, whose own `evaluate.load("accuracy")` fetches its code from the Hub and fails offline. Scores are fractions;
the first key of a result is its headline; a score that is not defined is None.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bertkit.errors import BertkitError, did_you_mean

if TYPE_CHECKING:
    import evaluate

# The type of each column that a metric reads: a type's name, or [name] for a list in each row.
LABELS = {"predictions": "string", "references": "string"}
TAGS = {"predictions": ["string"], "references": ["string"]}
TEXTS = {"predictions": "string", "references": ["string"]}

# The module of a metric, by name: binding `classification` here would hide the module of that name; and its columns.
METRICS = {
    "classification": ("classification", LABELS),
    "binary_f1": ("classification", LABELS),
    "multilabel": ("classification", TAGS),
    "regression": ("regression", {"predictions": "float64", "references": "float64"}),
    "tagging": ("tagging", TAGS),
    "spans": ("tagging", TAGS),
    "squad": ("squad", TEXTS),
    "squad_v2": ("squad", TEXTS | {"no_answer_scores": "float64"}),
}


def names() -> tuple[str, ...]:
    """The metrics that `load` knows."""
    return tuple(METRICS)


def load(name: str) -> evaluate.Metric:
    """Wrap the metric `name`, one of `names()`, as an `evaluate.Metric`; without one of that name, a BertkitError.

    What the function takes beside its columns (`positive`, `labels`, `language`, `threshold`) goes to `compute`.
    Importing `evaluate` costs about five seconds of CPU, so it happens here, on the first call.
    """
    if name not in METRICS:
        raise BertkitError(f"metrics: there is no metric {name!r}", hint=did_you_mean(name, METRICS))
    import datasets
    import evaluate

    module, columns = METRICS[name]
    score = getattr(importlib.import_module(f"bertkit.metrics.{module}"), name)

    class OfflineMetric(evaluate.Metric):
        def _info(self) -> evaluate.MetricInfo:
            types = {
                column: datasets.Sequence(datasets.Value(kind[0])) if isinstance(kind, list) else datasets.Value(kind)
                for column, kind in columns.items()
            }
            return evaluate.MetricInfo(
                description=score.__doc__.split("\n")[0], citation="", features=datasets.Features(types),
                inputs_description="",
            )  # fmt: skip

        def _compute(self, **columns_and_options: object) -> dict[str, float | None]:
            return score(**columns_and_options)

    OfflineMetric.__name__ = name  # evaluate names the metric, and its cache folder, after the class
    return OfflineMetric()

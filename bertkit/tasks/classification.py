"""Which class, which labels or what number has a text, or a pair of texts? The windows of long texts are averaged."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from bertkit.config import knob
from bertkit.data.sources import Columns
from bertkit.data.windows import Inputs, Pair, Window
from bertkit.errors import BertkitError, did_you_mean
from bertkit.metrics import classification, regression
from bertkit.metrics.shown import mean
from bertkit.metrics.thresholds import USUAL, cuts
from bertkit.tasks.base import Output, Prediction, Row, Scores, Target, Task, softmax

Share = Annotated[float, Field(ge=0, le=1)]


class Classification(Task):
    """One or two texts -> a class, several labels, or a number."""

    name: str = "classification"
    labels: tuple[str, ...] = knob((), "class names in the order of their ids; empty: found in the data")
    pair: bool = knob(False, "read two texts together, in the columns text and second")
    kind: Literal["class", "labels", "number"] = knob("class", "one class, any number of labels, or a number")
    metric: Literal["accuracy", "f1_macro", "matthews", "f1", "accuracy_f1"] = knob(
        "accuracy",
        "metric that ranks checkpoints (kind: class); accuracy_f1 is the mean of accuracy and f1, as GLUE "
        "scores MRPC and QQP; f1 and accuracy_f1 need positive",
    )
    positive: str | None = knob(None, "the label that f1 counts as positive, for two classes")
    threshold: Share | dict[str, Share] | Literal["tuned"] | None = knob(
        None,
        "probability from which on a label is chosen: of every label, or {label: probability} (kind: labels; usually "
        "0.5); of the positive one of two classes; tuned: what is best on validation, by the F1 of each label or by "
        "the metric; null: 0.5, or the most probable class",
    )

    answer = "label"

    @property
    def head(self) -> str:
        return "multilabel" if self.kind == "labels" else self.kind

    @property
    def headline(self) -> str:
        return {"class": self.metric, "labels": "f1_micro", "number": "pearson_spearman"}[self.kind]

    @model_validator(mode="after")
    def _metric_and_positive_fit(self) -> Self:
        for name in ("metric", "positive") if self.kind != "class" else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: only kind class has it, and kind is {self.kind}")
        if self.metric in ("f1", "accuracy_f1") and self.positive is None:
            raise ValueError(f"metric: {self.metric} needs the label that counts as positive, task.positive")
        if self.positive is not None and self.labels and self.positive not in self.labels:
            # F1 would be undefined at every evaluation
            raise ValueError(f"positive: {self.positive!r} is none of the labels {', '.join(self.labels)}")
        return self

    @model_validator(mode="after")
    def _threshold_fits(self) -> Self:
        names = self.threshold if isinstance(self.threshold, dict) else None
        has_two = self.kind == "class" and self.positive is not None and len(self.labels) <= 2
        if self.threshold is not None and not (self.kind == "labels" or (has_two and names is None)):
            here = (
                f"kind is {self.kind}, positive is {self.positive}, labels are {', '.join(self.labels) or 'not named'}"
            )
            which = "kind labels has one for each label, kind class one for the positive of two labels"
            raise ValueError(f"threshold: {which}; here {here}")
        for label in names or ():
            if self.labels and label not in self.labels:
                message = f"task.threshold: there is no label {label!r}"
                raise BertkitError(message, hint=did_you_mean(label, self.labels))
        return self

    @property
    def thresholds(self) -> Mapping[str, float]:
        two = (self.positive,) if self.kind == "class" and self.positive is not None and len(self.labels) == 2 else ()
        usual = self.threshold if isinstance(self.threshold, float) else USUAL
        own = self.threshold if isinstance(self.threshold, dict) else {}
        return {label: own.get(label, usual) for label in (self.labels if self.kind == "labels" else two)}

    @property
    def texts(self) -> tuple[str, ...]:
        """The text columns."""
        return ("text", "second") if self.pair else ("text",)

    @property
    def reads(self) -> Columns:
        gold = {"class": {"label": "label"}, "labels": {"labels": "label"}, "number": {"number": "label"}}
        return Columns(text=self.texts, **gold[self.kind])

    def labels_of(self, row: Row) -> Sequence[str]:
        return {"class": (row["label"],), "labels": row["label"], "number": ()}[self.kind]

    def inputs(self, row: Row) -> Inputs:
        texts = [row[column] for column in self.texts]
        return Pair(*texts) if len(texts) == 2 else texts[0]

    def target(self, row: Row, window: Window) -> Target:
        if self.kind == "class":
            return (self.labels.index(row["label"]),)
        if self.kind == "labels":
            return (np.array([label in row["label"] for label in self.labels], np.float32),)
        return (np.float32(row["label"]),)

    def decode(self, row: Row, outputs: Sequence[Output]) -> Prediction:
        in_order = sorted(outputs, key=lambda output: output.window.number)  # sums of floats depend on the order
        logits = np.mean([output.logits[0] for output in in_order], axis=0, dtype=np.float64)
        if self.kind == "number":
            return {"label": float(logits[0])}
        shares = softmax(logits) if self.kind == "class" else 1 / (1 + np.exp(-logits))
        probabilities = dict(zip(self.labels, shares.tolist(), strict=True))
        return {"label": self._chosen(probabilities), "probabilities": probabilities}

    def _chosen(self, probabilities: Mapping[str, float]) -> str | tuple[str, ...]:
        if self.kind == "class" and not isinstance(self.threshold, float):
            return max(probabilities, key=probabilities.__getitem__)
        chosen = tuple(label for label, least in self.thresholds.items() if probabilities[label] >= least)
        if self.kind == "labels":
            return chosen
        return next(label for label in self.labels if (label == self.positive) == bool(chosen))

    def describe(self, rows: Sequence[Row], where: str) -> str:
        if self.threshold == "tuned" and where == "validation" and not rows:
            message = "task.threshold: tuned, and there are no validation rows to tune it on"
            raise BertkitError(message, hint="give --validation FILE, or a number")
        return ""

    def tuned(self, predictions: Sequence[Prediction], rows: Sequence[Row]) -> Self:
        """The thresholds that are best on these rows: for the F1 of each label, or for the metric of two classes."""
        if self.threshold != "tuned":
            return self
        found: dict[str, float] = {}
        for label in self.thresholds:
            shares = [prediction["probabilities"][label] for prediction in predictions]
            own = cuts(shares, [label in self.labels_of(row) for row in rows])
            if own.true:  # the others keep what is usual
                found[label] = own.best(own.f1 if self.kind == "labels" else [*map(self._worth, own.tables)])
        if self.kind == "class":
            return self.model_copy(update={"threshold": found.get(self.positive)})
        return self.model_copy(update={"threshold": {label: found.get(label, USUAL) for label in self.labels}})

    def _worth(self, counts: np.ndarray) -> float | None:
        """What the metric makes of (2, 2) counts, the positive label last."""
        f1 = classification.f1_of(counts[1, 1], counts[:, 1].sum(), counts[1].sum())
        return self._ranked({**classification.scores_of(counts), "f1": f1})[self.headline]

    def settled(self, predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        if self.threshold is None:
            return predictions
        return [{**one, "label": self._chosen(one["probabilities"])} for one in predictions]

    def is_recovered(self, row: Row, prediction: Prediction) -> bool:
        given, right = prediction["label"], row["label"]
        if self.kind == "labels":
            return set(given) == set(right)
        # a model puts out float32, which has no 0.1
        return bool(np.float32(given) == np.float32(right)) if self.kind == "number" else given == right

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row]) -> Scores:
        given, right = [prediction["label"] for prediction in predictions], [row["label"] for row in rows]
        if self.kind == "number":
            return regression.regression(given, right)
        if self.kind == "labels":
            return classification.multilabel(given, right, self.labels)
        scores = classification.classification(given, right)
        if self.positive is not None:
            scores |= classification.binary_f1(given, right, self.positive)
        return self._ranked(scores)

    def _ranked(self, scores: Scores) -> Scores:
        """The scores of a class, the headline first."""
        if self.metric == "accuracy_f1":
            both = {name: scores.pop(name) for name in ("accuracy", "f1")}
            return {"accuracy_f1": mean([*both.values()]), **both, **scores}
        return {self.headline: scores.pop(self.headline), **scores}

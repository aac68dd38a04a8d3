"""Which class, which labels or what number has a text, or a pair of texts? The windows of long texts are averaged."""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from bertkit.config import knob
from bertkit.data.sources import Columns
from bertkit.data.windows import Inputs, Pair, Window
from bertkit.metrics import classification, regression
from bertkit.metrics.shown import mean
from bertkit.tasks.base import Output, Prediction, Row, Scores, Target, Task, softmax


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
        if self.kind == "class":
            return {"label": self.labels[int(shares.argmax())], "probabilities": probabilities}
        chosen = tuple(label for label, share in probabilities.items() if share >= 0.5)
        return {"label": chosen, "probabilities": probabilities}

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
        if self.metric == "accuracy_f1":
            both = {name: scores.pop(name) for name in ("accuracy", "f1")}
            return {"accuracy_f1": mean([*both.values()]), **both, **scores}
        return {self.headline: scores.pop(self.headline), **scores}

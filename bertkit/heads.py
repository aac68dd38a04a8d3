"""The one table of heads: which Auto class carries a head, what it is trained on and what it puts out."""

from __future__ import annotations

from typing import Literal, NamedTuple

HeadName = Literal["class", "labels", "number", "token", "span"]


class Head(NamedTuple):
    """A head on top of the encoder.

    Attributes:
        auto_class: name of the transformers Auto class whose model carries it.
        loss: which loss of `train.loss` it is trained with.
        outputs: names of the model's output fields, in the order that `decode` receives them.
        targets: names of the target arrays, as transformers calls them.
        per_token: whether outputs and targets have one entry a token; otherwise one a window.
    """

    auto_class: str
    loss: str
    outputs: tuple[str, ...]
    targets: tuple[str, ...]
    per_token: bool


HEADS: dict[HeadName, Head] = {
    # a linear layer on [CLS] (through the pooler, where the architecture has one)
    "class": Head("AutoModelForSequenceClassification", "cross_entropy", ("logits",), ("labels",), False),
    "labels": Head("AutoModelForSequenceClassification", "binary", ("logits",), ("labels",), False),
    "number": Head("AutoModelForSequenceClassification", "squared", ("logits",), ("labels",), False),
    # a linear layer on each token
    "token": Head("AutoModelForTokenClassification", "cross_entropy", ("logits",), ("labels",), True),
    # a start and an end vector (Devlin et al. 2019, section 4.2)
    "span": Head(
        "AutoModelForQuestionAnswering", "span", ("start_logits", "end_logits"), ("start_positions", "end_positions"),
        True,
    ),
}  # fmt: skip

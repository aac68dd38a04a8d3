"""The heads by name, a file each: what a model is trained on, what it puts out and what of it counts."""

from __future__ import annotations

from bertkit.heads.base import IGNORED, Head, HeadName, LossSettings, balanced_weights
from bertkit.heads.class_ import ClassHead
from bertkit.heads.multilabel import MultilabelHead
from bertkit.heads.number import NumberHead
from bertkit.heads.span import SpanHead
from bertkit.heads.token import TokenHead

__all__ = ("HEADS", "IGNORED", "Head", "HeadName", "LossSettings", "balanced_weights")

HEADS: dict[HeadName, Head] = {
    "class": ClassHead(), "multilabel": MultilabelHead(), "number": NumberHead(), "token": TokenHead(),
    "span": SpanHead(),
}  # fmt: skip

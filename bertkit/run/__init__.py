"""The verbs: finetune, evaluate, predict; and load, which opens a run."""

from __future__ import annotations

from bertkit.run.answer import evaluate, load, predict
from bertkit.run.finetune import finetune

__all__ = ("evaluate", "finetune", "load", "predict")

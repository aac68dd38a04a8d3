"""Rows with answers: the task says what is right, its head what to learn from it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bertkit.encode import Part
from bertkit.errors import BertkitError, did_you_mean
from bertkit.heads import HEADS, LossSettings, balanced_weights
from bertkit.heads.base import label_weights
from bertkit.metrics.shown import LOWER_IS_BETTER
from bertkit.objectives.base import Objective
from bertkit.recipe import TrainConfig
from bertkit.tasks.base import Row, Task


class Labelled(Objective):
    """The objective of fine-tuning."""

    def __init__(self, material, recipe, predictor):
        task, targets, store = material.task, material.targets, material.train.store
        self.head, self.settings = HEADS[task.head], loss_settings(recipe.train, task, material.train, targets)
        self.collate = predictor.collator(store, targets)
        self.weights = self.head.weights(targets, store, self.settings)  # (N,) float64 of all training windows
        self.predictor = predictor
        self.scored = material.scored.get("validation", ())  # as windows; empty where there are none
        self.has_scores, self.best_by = bool(self.scored), material.best_by
        self.lower_is_better = self.best_by in LOWER_IS_BETTER

    def follow(self, taught):
        # as much as the label beside it; a word that the teacher has no piece of has nothing to follow
        labels = self.collate.targets["labels"]
        worth = label_weights(labels, self.settings) if self.head.per_token_targets else self.weights
        worth = np.where(np.isnan(taught).any(-1), 0.0, worth).astype(np.float32)
        self.collate = replace(self.collate, targets={**self.collate.targets, "taught": taught, "worth": worth})

    def batch(self, step, windows, budget):
        return self.collate(windows, budget)

    def weight(self, step, windows):
        return self.weights[windows]

    def loss(self, outputs, targets):
        logits, settings = [getattr(outputs, name) for name in self.head.outputs], self.settings
        loss = self.head.loss(logits, targets, settings)
        if settings.teacher is None:
            return loss
        taught, share = targets["taught"].nan_to_num(), settings.distillation_share
        each = self.head.distance(logits, taught, settings.distillation_temperature)
        return (1 - share) * loss + share * (each * targets["worth"].nan_to_num()).sum()

    def evaluate(self):
        return self.predictor.evaluate(self.scored)


def check_settings(train: TrainConfig, task: Task, validation: Sequence[Row]) -> str:
    """Refuse what this task cannot honour; returns the metric that picks the best weights.

    Raises:
        BertkitError: a setting of the loss that its head does not have, or a metric that the task does not give.
    """
    honours = HEADS[task.head].honours
    for name, usual in LossSettings._field_defaults.items():
        if getattr(train, name) != usual and name not in honours:
            raise BertkitError(
                f"train.{name}: {getattr(train, name)} would change nothing: the loss of {task.name} does not use it",
                hint="leave it out",
            )
    asked = train.best_by
    if asked is None or not validation:
        return task.headline
    known = list(task.score([task.right_answer(validation[0])], [validation[0]]))
    name = asked.removeprefix("eval_").removeprefix("validation_")
    if name not in known:
        raise BertkitError(f"train.best_by: {task.name} has no metric {asked!r}", hint=did_you_mean(name, known))
    return name


def loss_settings(train: TrainConfig, task: Task, part: Part, targets: Mapping[str, np.ndarray]) -> LossSettings:
    """The settings of the loss, with a weight for each class; a BertkitError names a label that is not there."""
    asked = train.class_weights
    if asked == "balanced":
        # a row counts once, however many windows it needs; a word does anyway
        counted = targets["labels"] if HEADS[task.head].per_token else targets["labels"][part.store.numbers == 0]
        weights = balanced_weights(counted, len(task.labels))
    elif asked is None:
        weights = None
    elif unknown := sorted(asked.keys() - set(task.labels)):
        raise BertkitError(f"train.class_weights: no label {unknown[0]!r}", hint=did_you_mean(unknown[0], task.labels))
    else:
        weights = [float(asked.get(label, 1.0)) for label in task.labels]
    return LossSettings(train.label_smoothing, weights, train.teacher,
                        train.distillation_temperature, train.distillation_share)  # fmt: skip

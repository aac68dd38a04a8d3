"""A number a text, such as a similarity: squared error, on [CLS]."""

import numpy as np

from bertkit.heads.base import TAUGHT, Head, add_up, given


class NumberHead(Head):
    """Logits (B, 1), labels (B,) float32."""

    name = "number"
    dtype = np.float32
    honours = TAUGHT - {"distillation_temperature"}

    def loss(self, logits, targets, settings):
        wanted, is_given = given(targets["labels"])
        return add_up((logits[0].float().squeeze(-1) - wanted).square() * is_given, targets)

    def evidence(self, logits, targets):
        return add_up(logits[0].float().squeeze(-1), targets)  # the number itself

    def distance(self, logits, taught, temperature):
        return (logits[0].float() - taught).square().squeeze(-1)

    def oracle(self, target, window, class_count):
        return (np.array([target[0]], np.float32),)

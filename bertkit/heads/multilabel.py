"""Any number of labels a text: a yes or no for each, on [CLS]."""

import numpy as np

from bertkit.heads.base import CERTAIN, TAUGHT, Head, add_up, divergence, given


class MultilabelHead(Head):
    """Logits (B, C), labels (B, C) float32, 0 or 1."""

    name = "multilabel"
    dtype = np.float32
    honours = TAUGHT

    def loss(self, logits, targets, settings):
        from torch.nn import functional

        wanted, is_given = given(targets["labels"])
        each = functional.binary_cross_entropy_with_logits(logits[0].float(), wanted, reduction="none")
        return add_up((each * is_given).mean(-1), targets)

    def evidence(self, logits, targets):
        return add_up((logits[0].float() * (2 * targets["labels"] - 1)).mean(-1), targets)

    def distance(self, logits, taught, temperature):
        # a yes or no is a choice between its logit and 0
        ours, its = (scores[..., None] * scores.new_tensor([1.0, 0.0]) for scores in (logits[0], taught))
        return divergence(ours, its, temperature).mean(-1)

    def averaged(self, logits):
        import torch
        from torch.nn.functional import logsigmoid

        every = torch.stack(list(logits))
        return logsigmoid(every).logsumexp(0) - logsigmoid(-every).logsumexp(0)

    def oracle(self, target, window, class_count):
        return (CERTAIN * (2 * np.asarray(target[0], np.float32) - 1),)

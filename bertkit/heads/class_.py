"""One class a text: a linear layer on [CLS], through the pooler where the architecture has one."""

import numpy as np

from bertkit.heads.base import CERTAIN, IGNORED, TAUGHT, Head, add_up, divergence, label_weights, log_odds


class ClassHead(Head):
    """Logits (B, C), labels (B,)."""

    name = "class"
    honours = frozenset({"label_smoothing", "class_weights"}) | TAUGHT

    def weights(self, targets, store, settings):
        return label_weights(targets["labels"], settings) * super().weights(targets, store, settings)

    def loss(self, logits, targets, settings):
        """Cross entropy, summed over labels that are not IGNORED, each window with its share."""
        import torch
        from torch.nn import functional

        scores, weights, has_shares = logits[0].float(), settings.class_weights, "share" in targets
        each = functional.cross_entropy(
            scores.reshape(-1, scores.shape[-1]),
            targets["labels"].reshape(-1),
            weight=None if weights is None else torch.tensor(weights, dtype=torch.float32, device=scores.device),
            ignore_index=IGNORED,
            reduction="none" if has_shares else "sum",
            label_smoothing=settings.label_smoothing,
        )
        return add_up(each, targets) if has_shares else each

    def evidence(self, logits, targets):
        return add_up(log_odds(logits[0].float(), targets["labels"]), targets)

    def distance(self, logits, taught, temperature):
        return divergence(logits[0], taught, temperature)

    def averaged(self, logits):
        import torch

        return torch.stack([one.log_softmax(-1) for one in logits]).logsumexp(0)

    def oracle(self, target, window, class_count):
        return (CERTAIN * np.eye(class_count, dtype=np.float32)[target[0]],)

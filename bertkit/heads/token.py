"""A label a word: a linear layer on each token, of which the first piece of each word counts."""

import numpy as np

from bertkit.heads.base import CERTAIN, label_weights
from bertkit.heads.class_ import ClassHead


class TokenHead(ClassHead):
    """Logits (B, S, C), labels (B, S); each word is owned by one window, so no row weighs more for having several."""

    name = "token"
    auto_class = "AutoModelForTokenClassification"
    per_token = per_token_targets = True

    def stack(self, targets, store):
        return {"labels": np.concatenate([target[0] for target in targets]).astype(np.int64)}

    def weights(self, targets, store, settings):
        each = label_weights(targets["labels"], settings)
        return np.diff(np.concatenate([[0.0], np.cumsum(each)])[store.offsets])

    def kept(self, logits, window):
        return logits[np.flatnonzero(window.words >= 0)]

    def oracle(self, target, window, class_count):
        return (CERTAIN * np.eye(class_count, dtype=np.float32)[np.asarray(target[0])[window.words >= 0]],)

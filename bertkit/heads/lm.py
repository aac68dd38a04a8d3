"""A word of the vocabulary for each place that is asked for: a masked language model."""

from bertkit.heads.base import IGNORED, Head


class LanguageModelHead(Head):
    """Logits (1, M, V) of the M places of a batch, labels (M,); see `bertkit.models.places`."""

    name = "lm"
    auto_class = "AutoModelForMaskedLM"

    def loss(self, logits, targets, settings):
        """Cross entropy in nats, summed over the places."""
        from torch.nn import functional

        scores = logits[0].float().flatten(0, -2)
        return functional.cross_entropy(scores, targets["labels"], ignore_index=IGNORED, reduction="sum")

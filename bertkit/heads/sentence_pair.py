"""A masked language model that also says how its two texts belong together: BERT's and ALBERT's pre-training."""

from bertkit.heads.lm import LanguageModelHead


class SentencePairHead(LanguageModelHead):
    """As `lm`, and logits (B, 2) on [CLS] with labels (B,): 0 where the second text follows the first."""

    name = "sentence_pair"
    auto_class = "AutoModelForPreTraining"
    outputs = ("prediction_logits", "seq_relationship_logits")
    targets = ("labels", "relations")

    def loss(self, logits, targets, settings):
        raise AssertionError("its two parts are divided by counts of their own: the objective adds them up")

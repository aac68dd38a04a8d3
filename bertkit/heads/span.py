"""A span of the document, by its first and last token (Devlin et al. 2019, section 4.2)."""

import numpy as np

from bertkit.heads.base import CERTAIN, Head, log_odds


class SpanHead(Head):
    """Logits (B, S) twice, positions (B,) twice; each window counts, because each asks whether the answer is there."""

    name = "span"
    auto_class = "AutoModelForQuestionAnswering"
    outputs = ("start_logits", "end_logits")
    targets = ("start_positions", "end_positions")
    per_token = True

    def stack(self, targets, store):
        positions = np.array(targets, np.int64).reshape(-1, 2)
        return dict(zip(self.targets, positions.T.copy(), strict=True))

    def loss(self, logits, targets, settings):
        from torch.nn import functional

        # only positions that can answer compete, as in decoding: the loss does not depend on the padding; a window
        # that has no target at all has IGNORED, which cross entropy leaves out
        closed = ~targets["answerable"]
        start, end = (scores.float().masked_fill(closed, float("-inf")) for scores in logits)
        return 0.5 * (
            functional.cross_entropy(start, targets["start_positions"], reduction="sum")
            + functional.cross_entropy(end, targets["end_positions"], reduction="sum")
        )

    def evidence(self, logits, targets):
        closed = ~targets["answerable"]
        scores = (one.float().masked_fill(closed, float("-inf")) for one in logits)
        return sum(log_odds(one, targets[name]).sum() for one, name in zip(scores, self.targets, strict=True))

    def holders(self, targets, store):
        held = targets["start_positions"] > 0  # position 0 stands for no answer in this window
        return held if held.any() else ~held

    def kept(self, logits, window):
        return logits[: len(window.spans)].copy()

    def oracle(self, target, window, class_count):
        return tuple(CERTAIN * np.eye(len(window.spans), dtype=np.float32)[position] for position in target)

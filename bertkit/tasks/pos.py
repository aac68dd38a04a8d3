"""Which part of speech is each word? One tag a word, whatever the number of pieces or windows."""

from collections.abc import Sequence

import numpy as np

from bertkit.config import knob
from bertkit.data.sources import Columns
from bertkit.data.windows import Inputs, Window, Words
from bertkit.errors import BertkitError
from bertkit.heads import IGNORED
from bertkit.metrics import tagging
from bertkit.tasks.base import Output, Prediction, Row, Scores, Target, Task, softmax

# the closed inventory of Universal Dependencies, https://universaldependencies.org/u/pos/
UNIVERSAL_TAGS = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT", "SCONJ",
    "SYM", "VERB", "X",
)  # fmt: skip


class Tagging(Task):
    """Words -> one tag a word; what the tags mean, and how they are scored, is said by a subclass."""

    labels: tuple[str, ...] = knob((), "tags in the order of their ids; empty: found in the data")
    fallback: str | None = knob(
        None, "tag of a word that the tokenizer makes no piece of; null: X or O if that is a tag, else the first"
    )

    head = "token"
    reads = Columns(words=("words",), tags="tags")
    answer = "tags"

    @property
    def fallback_tag(self) -> str:
        """The tag of words that no window can see: empty, zero-width and the like."""
        if self.fallback is not None and self.fallback not in self.labels:
            raise BertkitError(f"task.fallback: {self.fallback!r} is no tag", hint=f"one of: {', '.join(self.labels)}")
        return self.fallback or next((tag for tag in ("X", "O") if tag in self.labels), self.labels[0])

    def labels_of(self, row: Row) -> Sequence[str]:
        return row["tags"]

    def inputs(self, row: Row) -> Inputs:
        return Words(row["words"])

    def target(self, row: Row, window: Window) -> Target:
        # (S,) tag ids at the first piece of each word that this window owns: a word is learned once
        ids = np.array([self.labels.index(tag) for tag in row["tags"]] + [IGNORED], np.int64)
        return (ids[window.words],)

    def decode(self, row: Row, outputs: Sequence[Output]) -> Prediction:
        words = row["words"]
        tags, certainty = [self.fallback_tag] * len(words), [0.0] * len(words)
        for output in outputs:
            owned = output.window.words[output.window.words >= 0]
            shares = softmax(output.logits[0])
            best = shares.argmax(-1)
            for index, word in enumerate(owned.tolist()):
                tags[word], certainty[word] = self.labels[best[index]], float(shares[index, best[index]])
        return {"words": list(words), "tags": tags, "probabilities": certainty}


class Pos(Tagging):
    """Words -> one tag a word, scored by the words that have the right one."""

    name: str = "pos"
    inventory = UNIVERSAL_TAGS
    headline = "accuracy"

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row]) -> Scores:
        return tagging.tagging([prediction["tags"] for prediction in predictions], [row["tags"] for row in rows])

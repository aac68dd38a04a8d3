"""One split, answered and scored: what the findings of every task are made from."""

from collections.abc import Mapping, Sequence, Set
from itertools import chain
from typing import NamedTuple

import numpy as np

from bertkit.encode import Coverage
from bertkit.findings import Note, Passage, Span
from bertkit.metrics.shown import counted
from bertkit.tasks.base import Prediction, Row, Scores, Task


class Background(NamedTuple):
    """What is known of a run's rows before training."""

    covered: Mapping[str, Coverage]  # split -> what windows and decoding leave reachable
    tags_seen: Mapping[str, Set[str]]  # word -> its tags in train; empty for tasks that tag no words
    notes: tuple[Note, ...]  # what a reader of the scores must know of the rows


class Scored(NamedTuple):
    """A split, its answers and its scores."""

    split: str
    task: Task  # with its labels and settings
    rows: Sequence[Row]  # with gold answers
    predictions: Sequence[Prediction]  # one a row
    scores: Scores  # what `task.score` says of them
    window_counts: Sequence[int]  # of each row; none where they are not known
    tags_seen: Mapping[str, Set[str]]  # of `Background`
    untuned: Scores | None = None  # what they were before settings were chosen on these rows

    @property
    def golds(self) -> list:
        """What is right, by row."""
        return [row[self.task.gold] for row in self.rows]

    @property
    def answers(self) -> list:
        """What was answered, by row."""
        return [prediction[self.task.answer] for prediction in self.predictions]

    @property
    def columns(self) -> tuple[list, list]:
        """What is right and what was answered, by row; by word, where words are tagged."""
        both = self.golds, self.answers
        return tuple(list(chain.from_iterable(column)) for column in both) if self.task.head == "token" else both

    @property
    def has_probabilities(self) -> bool:
        """Whether each answer comes with the probability of every label."""
        return all("probabilities" in prediction for prediction in self.predictions)

    @property
    def where(self) -> str:
        """The split and its size, for captions."""
        return f"{self.split}, {counted(len(self.rows), 'row')}"

    def passage(self, number: int, facts: Mapping[str, str], marks: Sequence[Span] = ()) -> Passage:
        """One row to read, with all its texts, of which the last is marked."""
        row = self.rows[number]
        texts = self.task.texts_in(row)
        spans = {[*texts][-1]: tuple(marks)} if marks else {}
        return Passage(title=str(row["id"]), facts=facts, texts=texts, spans=spans)


def equal_parts(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Cut N numbers by size into at most `count` groups of about equally many; equal numbers are never parted.

    Returns:
        Indices of each group, the smallest numbers first; fewer groups where equal numbers leave some empty.
    """
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - counts / 2  # equal numbers share the middle of their ranks
    group = (ranks / max(len(values), 1) * count).astype(int)[which]
    return [np.flatnonzero(group == number) for number in np.unique(group)]

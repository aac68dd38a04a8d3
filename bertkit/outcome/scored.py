"""One split, answered and scored: what the findings of every task are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np

from bertkit.encode import Coverage
from bertkit.findings import Note, Passage, Span
from bertkit.tasks.base import Prediction, Row, Scores, Task

WORST = 20  # rows to read


class Background(NamedTuple):
    """What is known of a run's rows before training.

    Attributes:
        covered: split -> what windows and decoding leave reachable.
        tags_seen: word -> its tags in train; empty for tasks that tag no words.
        notes: what a reader of the scores must know of the rows.
    """

    covered: Mapping[str, Coverage]
    tags_seen: Mapping[str, Set[str]]
    notes: tuple[Note, ...]


class Scored(NamedTuple):
    """A split, its answers and its scores.

    Attributes:
        split: its name.
        task: with its labels and settings.
        rows: with gold answers.
        predictions: one a row.
        scores: what `task.score` says of them.
        window_counts: windows of each row.
        tags_seen: of `Background`.
    """

    split: str
    task: Task
    rows: Sequence[Row]
    predictions: Sequence[Prediction]
    scores: Scores
    window_counts: Sequence[int]
    tags_seen: Mapping[str, Set[str]]

    @property
    def golds(self) -> list:
        """What is right, by row."""
        return [row[self.task.gold] for row in self.rows]

    @property
    def answers(self) -> list:
        """What was answered, by row."""
        return [prediction[self.task.answer] for prediction in self.predictions]

    @property
    def where(self) -> str:
        """The split and its size, for captions."""
        return f"{self.split}, {len(self.rows):,} {'row' if len(self.rows) == 1 else 'rows'}"

    def passage(
        self, number: int, facts: Mapping[str, str], spans: Mapping[str, tuple[Span, ...]] | None = None
    ) -> Passage:
        """One row to read, with all its texts."""
        row = self.rows[number]
        texts = {name: row[name] for name in self.task.reads.text}
        return Passage(title=str(row["id"]), facts=dict(facts), texts=texts, spans=dict(spans or {}))


def ratio(part: float, whole: float) -> float | None:
    """A share; None, not 0, of nothing."""
    return float(part) / float(whole) if whole else None


def mean(values: np.ndarray) -> float | None:
    """The mean of some numbers; None when there is none or it is not finite."""
    value = float(np.mean(values)) if len(values) else float("nan")
    return value if np.isfinite(value) else None


def percent(share: float) -> str:
    """A fraction as people read it."""
    return f"{100 * share:.1f} %"


def equal_parts(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Cut N numbers by size into at most `count` groups of about equally many; equal numbers are never parted.

    Args:
        values: (N,) numbers.
        count: groups; fewer come back where equal numbers leave some empty.
    Returns:
        Indices of each group, the smallest numbers first.
    """
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - counts / 2  # equal numbers share the middle of their ranks
    group = (ranks / max(len(values), 1) * count).astype(int)[which]
    return [np.flatnonzero(group == number) for number in np.unique(group)]

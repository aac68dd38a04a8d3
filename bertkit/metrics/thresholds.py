"""From which probability on a label is chosen: every way in which that parts the rows, and the best of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

USUAL = 0.5


class Cuts(NamedTuple):
    """All K ways to part N rows by a threshold, from the one that chooses the fewest to the one that chooses all."""

    thresholds: np.ndarray  # (K,) float64, in the middle between two probabilities, so that new rows may differ a bit
    right: np.ndarray  # (K,) int64, how many of the chosen rows have the label
    found: np.ndarray  # (K,) int64, how many are chosen
    true: int  # rows that have the label
    count: int  # N

    @property
    def precision(self) -> np.ndarray:
        """(K,) float64; 0 where nothing is chosen."""
        return self.right / np.maximum(self.found, 1)

    @property
    def recall(self) -> np.ndarray:
        """(K,) float64, which never falls; 0 where no row has the label."""
        return self.right / max(self.true, 1)

    @property
    def average_precision(self) -> float | None:
        """The mean of the precision over the recall, without interpolation; None where no row has the label."""
        return float(np.diff(self.recall, prepend=0.0) @ self.precision) if self.true else None

    @property
    def f1(self) -> np.ndarray:
        """(K,) float64; 0 where no row has the label."""
        return 2 * self.right / np.maximum(self.found + self.true, 1)

    @property
    def tables(self) -> np.ndarray:
        """(K, 2, 2) int64, what is right by what is chosen: not the label, then the label."""
        missed, wrong = self.true - self.right, self.found - self.right
        return np.stack([self.count - self.true - wrong, wrong, missed, self.right], -1).reshape(-1, 2, 2)

    def best(self, worth: Sequence[float | None]) -> float:
        """The threshold that is worth most, the nearest to 0.5 of equal ones.

        Args:
            worth: (K,), None where undefined.
        """
        values = np.array([-np.inf if value is None else value for value in worth])
        equal = self.thresholds[values == values.max()]
        return float(equal[np.abs(equal - USUAL).argmin()])


def cuts(shares: Sequence[float], has_label: Sequence[bool]) -> Cuts:
    """Every way to part rows by their probability of a label; one that equals the threshold is chosen.

    Args:
        shares: (N,) probabilities, 0 to 1.
        has_label: (N,) whether the row has the label.
    """
    shares, has_label = np.asarray(shares, np.float64), np.asarray(has_label, bool)
    levels = np.unique(np.append(shares, 1.0))[::-1]
    below = np.append(levels[1:], 0.0)
    middle = (levels + below) / 2
    found, right = (len(some) - np.searchsorted(np.sort(some), levels) for some in (shares, shares[has_label]))
    # there may be no number between two that are next to each other
    return Cuts(np.where(middle > below, middle, levels), right, found, int(has_label.sum()), len(shares))

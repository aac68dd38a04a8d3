"""Which windows each step sees: a pure function of (seed, epoch), whatever the devices."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

BUCKET_BATCHES = 50  # batches sorted together by order=length; 50 was measured to leave 5 % padding


class Budget(NamedTuple):
    """What one pass through a model, a micro-batch, may hold and costs."""

    tokens: int  # padded tokens of a pass, at most; a single window may have more
    overhead: int = 0  # what a pass costs whatever it holds, as so many tokens
    widths: tuple[int, ...] = ()  # lengths that windows are padded to, ascending; empty where any length will do
    rows: int = 0  # with `widths`, rows of every pass, at most; each width then has one number of rows

    def width(self, length: int) -> int:
        """What a window of that length is padded to, if it is the longest."""
        return next((width for width in self.widths if width >= length), length)

    def shape(self, count: int, longest: int) -> tuple[int, int]:
        """Rows and tokens of the batch that so many windows make."""
        width = self.width(longest)
        return (max(count, self.fitting(width)) if self.widths else count), width

    def fitting(self, width: int) -> int:
        """Windows that a pass holds at most, padded to that width."""
        most = max(1, self.tokens // width)
        return min(most, self.rows) if self.widths else most


@dataclass(frozen=True, eq=False)
class Plan:
    """The batches of a training run."""

    lengths: np.ndarray  # (N,) tokens of each window
    batch_size: int  # windows of one step, over all devices; the last step of an epoch takes what is left
    epochs: int  # passes over the windows
    steps: int | None  # cap on the steps
    order: str  # random, or length (buckets of similar length, shuffled)
    seed: int  # of the run

    @property
    def steps_per_epoch(self) -> int:
        """Steps that one pass takes."""
        return -(-len(self.lengths) // self.batch_size)

    @property
    def step_count(self) -> int:
        """Steps of the whole run."""
        planned = self.steps_per_epoch * self.epochs
        return planned if self.steps is None else min(planned, self.steps)

    def batch(self, step: int) -> np.ndarray:
        """The windows of step `step` (from 0), the same whoever asks and whenever."""
        epoch, index = divmod(step, self.steps_per_epoch)
        return _epoch_batches(self, epoch)[index]


@lru_cache(maxsize=2)
def _epoch_batches(plan: Plan, epoch: int) -> list[np.ndarray]:
    rng = np.random.default_rng((plan.seed, epoch))
    order = rng.permutation(len(plan.lengths))
    if plan.order == "length":
        size = plan.batch_size * BUCKET_BATCHES
        buckets = [order[start : start + size] for start in range(0, len(order), size)]
        order = np.concatenate([bucket[np.argsort(plan.lengths[bucket], kind="stable")] for bucket in buckets])
    batches = [order[start : start + plan.batch_size] for start in range(0, len(order), plan.batch_size)]
    if plan.order == "length":
        # the short last batch stays last, so that steps keep their size in every epoch
        shuffled = rng.permutation(len(batches) - 1)
        batches = [*(batches[index] for index in shuffled), batches[-1]]
    return batches


def deal(windows: np.ndarray, lengths: np.ndarray, world: int, budget: Budget) -> list[list[np.ndarray]]:
    """Deal the windows of a step to `world` ranks, as micro-batches of similar length; `lengths` are the plan's.

    Every rank gets the same number of micro-batches, as data-parallel training demands; a rank with too few windows
    gets empty ones. What is learned does not change: the loss is a sum over the step.
    """
    longest_first = windows[np.argsort(-lengths[windows], kind="stable")]
    # there and back again, so that ranks get about the same tokens
    turns = np.arange(len(longest_first)) % (2 * world)
    ranks = np.minimum(turns, 2 * world - 1 - turns)
    dealt = [cut_passes(longest_first[ranks == rank], lengths, budget) for rank in range(world)]
    micro_count = max(map(len, dealt))
    return [_split_into(micro_batches, micro_count) for micro_batches in dealt]


def cut_passes(longest_first: np.ndarray, lengths: np.ndarray, budget: Budget) -> list[np.ndarray]:
    """Cut windows, sorted from long to short, where the passes and their padding cost least together.

    A pass of B windows padded to the longest, S, costs B * S + overhead, with B * S <= budget.tokens; where shapes are
    fixed, B and S are those of the shape. The best cut of the first windows is the best cut of fewer and one more pass,
    at every point where lengths change; windows of one length that do not fit into a pass are shared out evenly.
    """
    if not len(longest_first):
        return []
    sorted_lengths = lengths[longest_first]
    first = np.flatnonzero(np.diff(sorted_lengths, prepend=-1))  # of each length
    ends = np.append(first[1:], len(sorted_lengths))
    longest = np.array([budget.width(length) for length in sorted_lengths[first].tolist()])
    fitting = np.array([budget.fitting(width) for width in longest.tolist()])
    cost, begin = np.zeros(len(first) + 1), np.zeros(len(first) + 1, np.int64)
    for group, end in enumerate(ends, start=1):
        counts = end - first[:group]
        passes = -(-counts // fitting[:group])
        padded = longest[:group] * (passes * fitting[:group] if budget.widths else counts)
        totals = cost[:group] + padded + passes * budget.overhead
        begin[group] = totals.argmin()
        cost[group] = totals[begin[group]]
    cuts, group = [], len(first)
    while group:
        start = begin[group]
        stretch = longest_first[first[start] : ends[group - 1]]
        cuts = [*np.array_split(stretch, -(-len(stretch) // fitting[start])), *cuts]
        group = start
    return cuts


def _split_into(micro_batches: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    parts = list(micro_batches)
    while len(parts) < count:
        largest = max(range(len(parts)), key=lambda index: len(parts[index]), default=None)
        if largest is None or len(parts[largest]) < 2:
            parts.append(np.zeros(0, np.int64))
        else:
            half = len(parts[largest]) // 2
            parts[largest : largest + 1] = [parts[largest][:half], parts[largest][half:]]
    return parts

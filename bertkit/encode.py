"""Windows meet their task: target arrays for the loss, and what windows and decoding leave reachable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bertkit.data.windows import Pair, WindowMaker, WindowStore
from bertkit.findings import Table
from bertkit.heads import HEADS
from bertkit.tasks.base import Row, Target, Task, oracle


class Encoded(NamedTuple):
    """Rows as windows with targets.

    Attributes:
        store: the windows, N of them.
        targets: name -> array over windows, or over tokens for token heads.
        coverage: what an oracle reaches.
    """

    store: WindowStore
    targets: dict[str, np.ndarray]
    coverage: Coverage


class Coverage(NamedTuple):
    """What a perfect model could score on some rows.

    Attributes:
        rows: how many.
        windows: how many.
        windowed: rows that need more than one window.
        reached: rows whose answer an oracle gets back exactly.
        unreached: ids of the others.
        shortened: ids of rows whose short side (a question) was cut to fit.
        crowded: ids of rows with a smaller overlap than asked for.
        pieceless: words that the tokenizer makes no piece of.
    """

    rows: int
    windows: int
    windowed: int
    reached: int
    unreached: tuple[str, ...]
    shortened: tuple[str, ...]
    crowded: tuple[str, ...]
    pieceless: int

    def describe(self) -> str:
        """One line that names everything a reader could lose by."""
        text = f"{self.rows:,} rows, {self.windows:,} windows ({self.windowed:,} rows in several)"
        for count, what, ids in (
            (len(self.unreached), "not exactly reachable", self.unreached),
            (len(self.shortened), "with the short side cut to fit", self.shortened),
            (len(self.crowded), "with a smaller overlap", self.crowded),
        ):
            if count:
                text += f"; {count:,} {what} ({', '.join(ids[:3])}{', ...' if count > 3 else ''})"
        if self.pieceless:
            text += f"; {self.pieceless:,} words without any piece (they get the fallback tag)"
        return text


def coverage_table(parts: dict[str, Coverage]) -> Table:
    """The coverage of each split, for findings.json."""
    return Table(
        title="Coverage",
        caption="What windows and decoding leave to a perfect model; nothing else is cut.",
        columns=("split", "rows", "windows", "rows in several windows", "reachable", "short side cut", "smaller overlap", "words without pieces"),
        rows=tuple(
            (split, part.rows, part.windows, part.windowed, part.reached / max(part.rows, 1), len(part.shortened), len(part.crowded), part.pieceless)
            for split, part in parts.items()
        ),
    )  # fmt: skip


def encode(task: Task, rows: Sequence[Row], maker: WindowMaker) -> Encoded:
    """Cut rows into windows and write down what is right in each.

    Args:
        task: with its labels bound.
    """
    store = maker((task.inputs(row) for row in rows), spans=task.with_spans)
    targets = [task.target(rows[int(row)], store[window]) for window, row in enumerate(store.rows)]
    return Encoded(store, _stack(task, targets), _cover(task, rows, store, targets))


def _stack(task: Task, targets: Sequence[Target]) -> dict[str, np.ndarray]:
    head = HEADS[task.head]
    arrays = {}
    for place, name in enumerate(head.targets):
        values = [target[place] for target in targets]
        arrays[name] = np.concatenate(values) if task.head == "token" else np.stack(values) if values else np.zeros(0)
    return {name: array if array.dtype == np.float32 else array.astype(np.int64) for name, array in arrays.items()}


def _cover(task: Task, rows: Sequence[Row], store: WindowStore, targets: Sequence[Target]) -> Coverage:
    unreached, window = [], 0
    for row, count in zip(rows, store.counts.tolist(), strict=True):
        numbers = range(window, window + count)
        window += count
        # class heads answer from any window, so an oracle is always right
        if HEADS[task.head].per_token:
            prediction = task.decode(row, [oracle(task, store[number], targets[number]) for number in numbers])
            if not task.is_recovered(row, prediction):
                unreached.append(str(row["id"]))
    return Coverage(
        len(rows), len(store), int((store.counts > 1).sum()), len(rows) - len(unreached), tuple(unreached),
        tuple(str(rows[row]["id"]) for row in store.shortened), tuple(str(rows[row]["id"]) for row in store.crowded),
        store.pieceless,
    )  # fmt: skip


def row_size(task: Task, row: Row) -> int:
    """Characters that a row makes the tokenizer read, to cut many rows into parts of bounded memory."""
    inputs = task.inputs(row)
    if isinstance(inputs, str):
        return len(inputs)
    return sum(map(len, inputs[:2])) if isinstance(inputs, Pair) else sum(map(len, inputs.words))

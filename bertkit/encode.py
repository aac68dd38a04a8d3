"""Windows meet their task: target arrays for the loss, and what windows and decoding leave reachable."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from bertkit.data.token_cache import cut
from bertkit.data.windows import Window, WindowMaker, WindowStore, batched, size_of
from bertkit.findings import Table
from bertkit.heads import HEADS
from bertkit.metrics.shown import counted
from bertkit.tasks.base import Row, Target, Task, oracle

PART_ROWS, PART_CHARACTERS = 2000, 4_000_000  # rows that are in memory as windows at once


class Coverage(NamedTuple):
    """What a perfect model could score on some rows."""

    rows: int
    windows: int
    windowed: int  # rows that need more than one window
    reached: int  # rows whose answer an oracle gets back exactly
    unreached: tuple[str, ...]  # ids of the others
    shortened: tuple[str, ...]  # ids of rows whose short side (a question) was cut to fit
    crowded: tuple[str, ...]  # ids of rows with a smaller overlap than asked for
    pieceless: int  # words that the tokenizer makes no piece of

    def describe(self) -> str:
        """The counts in one line."""
        several = counted(self.windowed, "row")
        return f"{counted(self.rows, 'row')}, {counted(self.windows, 'window')} ({several} in several)"

    def losses(self) -> str:
        """Everything a reader could lose by, in one line; empty where there is nothing."""
        found = [
            f"{counted(len(ids), 'row')} {what} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})"
            for what, ids in (
                ("not exactly reachable", self.unreached),
                ("with the short side cut to fit", self.shortened),
                ("with a smaller overlap", self.crowded),
            )
            if ids
        ]
        if self.pieceless:
            found.append(f"{counted(self.pieceless, 'word')} without any piece (they get the fallback tag)")
        return "; ".join(found)


def coverage_table(parts: dict[str, Coverage]) -> Table:
    """The coverage of each split, for findings.json."""
    columns = (
        "split", "rows", "windows", "rows in several windows", "reachable", "short side cut", "smaller overlap",
        "words without pieces",
    )  # fmt: skip
    rows = (
        (split, part.rows, part.windows, part.windowed, part.reached / max(part.rows, 1), len(part.shortened),
         len(part.crowded), part.pieceless)
        for split, part in parts.items()
    )  # fmt: skip
    caption = "What windows and decoding leave to a perfect model; nothing else is cut."
    return Table(title="Coverage", caption=caption, columns=columns, rows=tuple(rows))


class Part(NamedTuple):
    """Some rows and their windows."""

    rows: Sequence[Row]
    store: WindowStore


def cut_rows(task: Task, rows: Sequence[Row], maker: WindowMaker) -> Part:
    """Rows as windows, in one part."""
    return Part(rows, cut(maker, (task.inputs(row) for row in rows), task.with_spans))


def cut_parts(task: Task, rows: Iterable[Row], maker: WindowMaker, first: int | None = None) -> Iterator[Part]:
    """Rows as windows, a bounded part at a time; from `first` rows on parts grow, for those who wait for an answer."""
    rows, most = iter(rows), first or PART_ROWS
    while some := next(batched(rows, lambda row: size_of(task.inputs(row)), most, PART_CHARACTERS), None):
        yield cut_rows(task, some, maker)
        most = min(4 * most, PART_ROWS)


def targets_of(task: Task, part: Part) -> list[Target]:
    """What is right in each window, for a task with its labels bound."""
    return [task.target(part.rows[row], part.store[window]) for window, row in enumerate(part.store.rows.tolist())]


def stack_targets(task: Task, part: Part) -> dict[str, np.ndarray]:
    """Target arrays by name, over windows; over the tokens of all windows for token heads."""
    return HEADS[task.head].stack(targets_of(task, part), part.store)


def cover(task: Task, parts: Sequence[Part]) -> Coverage:
    """Let an oracle answer from the windows, and count what it cannot reach."""
    # class heads answer from any window, so an oracle is always right there
    doubtful = parts if HEADS[task.head].per_token else ()
    unreached = [name for part in doubtful for name in _unreached(task, part)]
    row_count = sum(len(rows) for rows, _ in parts)
    return Coverage(
        rows=row_count,
        windows=sum(len(store) for _, store in parts),
        windowed=sum(int((store.counts > 1).sum()) for _, store in parts),
        reached=row_count - len(unreached),
        unreached=tuple(unreached),
        shortened=tuple(str(rows[row]["id"]) for rows, store in parts for row in store.shortened),
        crowded=tuple(str(rows[row]["id"]) for rows, store in parts for row in store.crowded),
        pieceless=sum(store.pieceless for _, store in parts),
    )


def _unreached(task: Task, part: Part) -> Iterator[str]:
    """Ids of the rows whose answer an oracle does not get back."""
    windows = map(part.store.__getitem__, range(len(part.store)))
    for row, count in zip(part.rows, part.store.counts.tolist(), strict=True):
        some = list(islice(windows, count))
        if not any(_is_reached(task, wanted, some) for wanted in task.alternatives(row)):
            yield str(row["id"])


def _is_reached(task: Task, row: Row, windows: Sequence[Window]) -> bool:
    outputs = [oracle(task, window, task.target(row, window)) for window in windows]
    return task.is_recovered(row, task.decode(row, outputs))

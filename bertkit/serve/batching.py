"""One thread answers for all who ask: what waits while it computes is answered together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from bertkit.tasks.base import Prediction, Row

Answering = Callable[[Sequence[Row]], list[Prediction]]


class Full(Exception):
    """Too many rows wait already."""


class Waiting(NamedTuple):
    """Rows of one request."""

    rows: Sequence[Row]
    answer: Answering
    future: Future


class Batcher:
    """Takes rows from many threads, and gives each request the answers to its own.

    A model is not asked by two threads at once, and answers many rows together faster than one after the other. Nobody
    waits for a batch to fill: it holds what came while the one before it was computed.
    """

    def __init__(self, most_rows: int, most_waiting: int, told: Callable[[int], None] = lambda rows: None) -> None:
        """Start the thread.

        Args:
            most_rows: of a batch, but for a request that has more.
            most_waiting: rows that may wait; more are refused.
            told: is told the rows of each batch.
        """
        self.most_rows, self.most_waiting, self.told = most_rows, most_waiting, told
        self.waiting = 0  # rows
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def ask(self, rows: Sequence[Row], answer: Answering) -> Future:
        """The answers to come; requests with the same `answer` may share a batch.

        Raises:
            Full: too many rows wait already.
        """
        with self._lock:
            if self.waiting and self.waiting + len(rows) > self.most_waiting:
                raise Full
            self.waiting += len(rows)
        asked = Waiting(rows, answer, Future())
        self._queue.put(asked)
        return asked.future

    def close(self) -> None:
        """Answer what has been taken, and stop."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        is_open, kept = True, None
        while is_open or kept:
            first = kept or self._queue.get()
            if first is None:
                return
            batch, size, kept = [first], len(first.rows), None
            while not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    is_open = False
                    break
                if following.answer != first.answer or size + len(following.rows) > self.most_rows:
                    kept = following
                    break
                batch.append(following)
                size += len(following.rows)
            # who has given up is not answered
            live = [asked for asked in batch if asked.future.set_running_or_notify_cancel()]
            self._answer(live)
            with self._lock:
                self.waiting -= size

    def _answer(self, batch: Sequence[Waiting]) -> None:
        if not batch:
            return
        rows = [row for asked in batch for row in asked.rows]
        self.told(len(rows))
        try:
            answers = batch[0].answer(rows)
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:  # a row of one request is no reason to refuse the others
                for asked in batch:
                    self._answer([asked])
            return
        at = 0
        for asked in batch:
            asked.future.set_result(answers[at : at + len(asked.rows)])
            at += len(asked.rows)

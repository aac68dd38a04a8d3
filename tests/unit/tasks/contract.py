"""What every task owes: inherit `TaskContract`, supply the task and three rows, and its laws are tested."""

from __future__ import annotations

import copy
import itertools
import json
import random
from collections.abc import Sequence

import numpy as np
import pytest

from bertkit.data.windows import WindowMaker
from bertkit.encode import cut_rows, targets_of
from bertkit.heads import HEADS
from bertkit.tasks.base import Output, Prediction, Row, Task, make_task, oracle
from tests.families import FAMILIES, maker_of


def grouped(outputs: Sequence[Output], counts: Sequence[int]) -> list[list[Output]]:
    """Outputs of all windows, by row."""
    places = np.cumsum([0, *counts])
    return [list(outputs[start:stop]) for start, stop in itertools.pairwise(places)]


def oracle_outputs(task: Task, rows: Sequence[Row], maker: WindowMaker) -> list[list[Output]]:
    """What a model that knows the answers says of each row's windows."""
    part = cut_rows(task, rows, maker)
    outputs = [oracle(task, part.store[number], target) for number, target in enumerate(targets_of(task, part))]
    return grouped(outputs, part.store.counts)


def random_outputs(task: Task, rows: Sequence[Row], maker: WindowMaker, seed: int = 0) -> list[list[Output]]:
    """What an untrained model says of each row's windows; the rows need no gold answers."""
    part = cut_rows(task, rows, maker)
    rng = np.random.default_rng(seed)
    outputs = []
    for window in map(part.store.__getitem__, range(len(part.store))):
        length = int(part.store.lengths[len(outputs)])
        shape = {
            "span": (length,), "token": (int((window.words >= 0).sum()), len(task.labels)), "number": (1,)
        }.get(task.head, (len(task.labels),))  # fmt: skip
        logits = [rng.normal(0, 3, shape).astype(np.float32) for _ in HEADS[task.head].outputs]
        outputs.append(Output(window, tuple(logits)))
    return grouped(outputs, part.store.counts)


def decoded(task: Task, rows: Sequence[Row], outputs: Sequence[Sequence[Output]]) -> list[Prediction]:
    return [task.decode(row, some) for row, some in zip(rows, outputs, strict=True)]


def with_text(task: Task, row: Row, text: str) -> Row:
    """The row with this text in every column that the task reads."""
    read = dict.fromkeys(task.reads.text, text) | dict.fromkeys(task.reads.words, text.split())
    return {**row, **read}


def longer(task: Task, row: Row, times: int = 10) -> Row:
    """The row so many times as long, with answers and tags that stay right."""
    columns = task.reads
    # a question stays as it is: an answer stands in the last text
    texts = columns.text[-1:] if columns.answers else columns.text
    grown = {name: " ".join([row[name]] * times) for name in texts}
    grown |= {name: list(row[name]) * times for name in (*columns.words, *filter(None, [columns.tags]))}
    return {**row, **grown}


class TaskContract:
    """The laws of a task.

    Attributes:
        task: with its labels bound.
        rows: three rows with gold answers.
    """

    task: Task
    rows: Sequence[Row]

    @pytest.fixture(params=FAMILIES)
    def maker(self, tiny, request) -> WindowMaker:
        """Windows of 40 tokens with an overlap of 16, by each family of tokenizers."""
        return maker_of(tiny, request.param, 40, 16, words=bool(self.task.reads.words))

    def test_the_contract_has_three_rows(self):
        assert len(self.rows) == 3

    def test_an_oracle_scores_best_whatever_the_number_of_windows(self, maker):
        for times in (1, 10):
            rows = [longer(self.task, row, times) for row in self.rows]
            outputs = oracle_outputs(self.task, rows, maker)
            assert times == 1 or min(map(len, outputs)) > 1
            predictions = decoded(self.task, rows, outputs)
            scores = self.task.score(predictions, rows)
            assert next(iter(scores)) == self.task.headline
            assert scores[self.task.headline] == pytest.approx(1.0)
            assert all(map(self.task.is_recovered, rows, predictions))

    def test_the_order_of_windows_changes_nothing(self, maker):
        rows = [longer(self.task, row) for row in self.rows]
        for row, outputs in zip(rows, random_outputs(self.task, rows, maker), strict=True):
            assert len(outputs) > 1
            expected = json.dumps(self.task.decode(row, outputs))
            for seed in range(5):
                assert json.dumps(self.task.decode(row, random.Random(seed).sample(outputs, len(outputs)))) == expected

    def test_settings_chosen_later_answer_as_decoding_anew_would(self, maker):
        rows = [longer(self.task, row) for row in self.rows]
        outputs = random_outputs(self.task, rows, maker)
        predictions = decoded(self.task, rows, outputs)
        tuned = self.task.tuned(predictions, rows)
        assert list(tuned.settled(predictions)) == decoded(tuned, rows, outputs)

    @pytest.mark.parametrize("text", ["", " ", "a", "\u200b", "🙂"])
    def test_texts_of_a_token_or_none_are_answered(self, maker, text):
        rows = [with_text(self.task, row, text) for row in self.rows]
        outputs = random_outputs(self.task, rows, maker)
        assert [len(some) for some in outputs] == [1, 1, 1]
        for prediction in decoded(self.task, rows, outputs):
            assert self.task.answer in json.loads(json.dumps(prediction, allow_nan=False))

    def test_a_text_ten_times_as_long_is_answered(self, maker):
        rows = [longer(self.task, row) for row in self.rows]
        store = cut_rows(self.task, rows, maker).store
        assert store.counts.min() > 1
        assert store.lengths.max() <= 40
        for prediction in decoded(self.task, rows, random_outputs(self.task, rows, maker)):
            assert self.task.answer in json.loads(json.dumps(prediction, allow_nan=False))

    def test_rows_stay_as_they_are(self, maker):
        rows = copy.deepcopy(list(self.rows))
        predictions = decoded(self.task, rows, oracle_outputs(self.task, rows, maker))
        self.task.score(predictions, rows)
        assert rows == list(self.rows)

    def test_labels_and_settings_survive_saving(self):
        saved = json.loads(json.dumps(self.task.model_dump(mode="json")))
        loaded = make_task(saved)
        assert loaded == self.task
        assert loaded.labels == self.task.labels
        assert (loaded.head, loaded.headline, loaded.reads) == (self.task.head, self.task.headline, self.task.reads)

    def test_the_rows_hold_every_label_and_no_other(self):
        assert {label for row in self.rows for label in self.task.labels_of(row)} == set(self.task.labels)

"""Batches hold each window as it is, padded to the longest, and say which tokens may answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.data.collate import IGNORED, Collator
from bertkit.data.plan import Budget
from bertkit.data.windows import Pair, WindowStore, Words
from bertkit.encode import cut_rows, stack_targets
from bertkit.tasks.pos import Pos
from bertkit.tasks.qa import QA
from tests.families import FAMILIES, maker_of

quick = settings(max_examples=60, deadline=None, derandomize=True)
ALL = frozenset({"attention_mask", "token_type_ids"})
PAD = 7


def stored(tiny, with_spans: bool = True) -> WindowStore:
    """Windows of 4 to 16 tokens over pairs of different sizes; `bread  \\n` ends in pieces of white space only."""
    pairs = [Pair("who", "bread  \n" * count, "second") for count in (0, 1, 3, 9)]
    store = maker_of(tiny, "byte-level", 16, 3)([*pairs, Pair("a a a a", "bread", "second")], spans=with_spans)
    assert len(store) >= 7
    return store


def plain_batch(store: WindowStore, windows: list[int], budget: Budget) -> dict[str, list[list[int]]]:
    """The batch, one token at a time."""
    width = max(int(store.lengths[window]) for window in windows)
    if budget.widths:
        width = min(fixed for fixed in budget.widths if fixed >= width)
        windows = windows + windows[:1] * (budget.rows - len(windows))
    batch: dict[str, list[list[int]]] = {
        name: [] for name in ("input_ids", "attention_mask", "token_type_ids", "answerable")
    }
    for window in windows:
        start, stop = store.offsets[window], store.offsets[window + 1]
        padding = [0] * (width - (stop - start))
        batch["input_ids"].append([*store.input_ids[start:stop].tolist(), *(PAD for _ in padding)])
        batch["attention_mask"].append([1] * (stop - start) + padding)
        batch["token_type_ids"].append([*store.token_type_ids[start:stop].tolist(), *padding])
        if store.spans is not None:
            spans = store.spans[start:stop].tolist()
            can_answer = [int(not place or end > begin) for place, (begin, end) in enumerate(spans)]
            batch["answerable"].append(can_answer + padding)
    return batch


chosen = st.lists(st.integers(0, 6), min_size=1, max_size=8)
shapes = st.just(Budget(0)) | st.integers(8, 10).map(lambda rows: Budget(10**6, 0, (8, 16), rows))


@quick
@given(chosen, shapes, st.booleans(), st.sets(st.sampled_from(sorted(ALL))))
def test_a_batch_is_its_windows_one_by_one(tiny, windows, budget, with_spans, names):
    store = stored(tiny, with_spans)
    inputs, targets = Collator(store, PAD, frozenset(names))(windows, budget)
    expected = plain_batch(store, windows, budget)
    assert set(inputs) == {"input_ids", *names}
    assert set(targets) == ({"answerable"} if with_spans else set())
    for name, tensor in (inputs | targets).items():
        assert tensor.dtype == (torch.bool if name == "answerable" else torch.int64)
        assert tensor.int().tolist() == expected[name], name


@quick
@given(chosen, shapes)
def test_targets_follow_their_windows_and_tokens(tiny, windows, budget):
    store = stored(tiny)
    per_window = {
        "labels": np.arange(len(store)) * 10,
        "several": np.arange(2 * len(store), dtype=np.float32).reshape(-1, 2),
    }
    _, targets = Collator(store, PAD, ALL, per_window)(windows, budget)
    count = len(windows)
    assert targets["labels"][:count].tolist() == [10 * window for window in windows]
    assert targets["several"][:count].tolist() == [[2 * window, 2 * window + 1] for window in windows]
    assert set(targets["labels"][count:].tolist()) <= {IGNORED}
    assert targets["several"][count:].isnan().all()
    per_token = {"labels": np.arange(len(store.input_ids))}
    inputs, targets = Collator(store, PAD, ALL, per_token, per_token=True)(windows, budget)
    assert set(targets["labels"][count:].flatten().tolist()) <= {IGNORED}
    masks = inputs["attention_mask"].bool()[:count]
    for window, row, mask in zip(windows, targets["labels"][:count], masks, strict=True):
        assert row[mask].tolist() == list(range(store.offsets[window], store.offsets[window + 1]))
        assert set(row[~mask].tolist()) <= {IGNORED}


@pytest.mark.parametrize("family", FAMILIES)
def test_right_answers_are_always_answerable(tiny, family):
    context = "bread \n  is old\u200b, 面包 cafe\u0301 🙂 " * 6
    answers = ["old", "\n  is", "面包", "cafe\u0301 🙂 ", " "]
    golds = [[{"text": text, "start": context.rindex(text)}] for text in answers]
    rows = [{"id": "0", "question": "who", "context": context, "answers": gold} for gold in golds]
    part = cut_rows(QA(), rows, maker_of(tiny, family, 32, 12))
    targets = stack_targets(QA(), part)
    _, batch = Collator(part.store, PAD, ALL, targets)(np.arange(len(part.store)))
    assert (batch["start_positions"] > 0).any()
    for name in ("start_positions", "end_positions"):
        assert batch["answerable"].gather(1, batch[name][:, None]).all()


def test_each_word_is_learned_at_its_first_piece_alone(tiny):
    task = Pos(labels=("A", "B"))
    row = {"id": "0", "words": ["bread", "unbelievably"] * 20, "tags": ["A", "B"] * 20}
    part = cut_rows(task, [row], maker_of(tiny, "wordpiece", 16, 5, words=True))
    collate = Collator(part.store, PAD, ALL, stack_targets(task, part), per_token=True)
    learned = []
    for window in range(len(part.store)):
        inputs, targets = collate([window])
        for place, label in enumerate(targets["labels"][0].tolist()):
            if label != IGNORED:
                word = int(part.store[window].words[place])
                assert label == word % 2
                assert inputs["attention_mask"][0, place]
                learned.append(word)
    assert sorted(learned) == list(range(40))


def test_words_keep_no_spans(tiny):
    store = maker_of(tiny, words=True)([Words(["bread", "rises"])])
    assert store.spans is None
    assert Collator(store, PAD, ALL)([0])[1] == {}


def test_a_batch_is_made_on_the_device_without_waiting_for_it(tiny):
    """On the meta device tensors have no values: whoever wants to read one, and would wait for a GPU, fails."""
    store = stored(tiny)
    collate = Collator(store, PAD, ALL, {"labels": np.arange(len(store))}, device=torch.device("meta"))
    inputs, targets = collate([0, 3])
    assert {tensor.device.type for tensor in (inputs | targets).values()} == {"meta"}
    assert inputs["attention_mask"].lengths == store.lengths[[0, 3]].tolist()

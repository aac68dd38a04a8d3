"""Rows are held back by group and drawn by label: keyed, disjoint, of the right size, and fair to every label."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.data.draws import fold_of, group_keys, group_rows, hold_back, subset
from bertkit.data.rules import Columns

quick = settings(max_examples=200, deadline=None, derandomize=True)

seeds = st.integers(0, 2**63 - 1)
shares = st.floats(0.001, 0.999)
# one to five labels, some of them rare; each row has one
labelled = st.lists(st.sampled_from("aaaaabbbcd"), min_size=2, max_size=300).map(lambda names: [(n,) for n in names])


def alone(count: int) -> list[int]:
    return list(range(count))


@quick
@given(st.lists(st.integers(0, 20), min_size=2, max_size=100), st.data(), shares, seeds)
def test_no_group_has_rows_on_both_sides(groups, data, share, seed):
    groups = [*groups, 99]  # two groups or more
    labels = [(data.draw(st.sampled_from("abc")),) for _ in groups]
    train, validation = hold_back(groups, labels, share, seed)
    assert sorted(train + validation) == alone(len(groups))
    assert train
    assert validation
    assert train == sorted(train)
    assert validation == sorted(validation)
    assert not {groups[row] for row in train} & {groups[row] for row in validation}
    assert (train, validation) == hold_back(groups, labels, share, seed)


@quick
@given(labelled, shares, seeds)
def test_rows_that_share_nothing_are_held_back_to_the_row(labels, share, seed):
    train, validation = hold_back(alone(len(labels)), labels, share, seed)
    assert min(len(train), len(validation)) >= 1
    assert abs(len(validation) - len(labels) * share) <= 1


@quick
@given(labelled, st.floats(0.001, 0.5), seeds)
def test_each_label_has_its_share_on_both_sides(labels, share, seed):
    train, validation = hold_back(alone(len(labels)), labels, share, seed)
    counts, held = Counter(labels), Counter(labels[row] for row in validation)
    assert all(abs(held[label] - count * share) < 3 for label, count in counts.items())
    if len(counts) <= len(train):
        assert {labels[row] for row in train} == set(labels)


@quick
@given(labelled, st.integers(1, 400), seeds, st.sampled_from(["train", "validation"]))
def test_a_subset_has_the_wanted_size_in_file_order_and_each_label_its_share(labels, wanted, seed, split):
    rows = subset(labels, wanted, seed, split)
    count = min(len(labels), wanted)
    assert rows == sorted(set(rows))
    assert set(rows) <= set(alone(len(labels)))
    assert len(rows) == count
    assert rows == subset(labels, wanted, seed, split)
    drawn = Counter(labels[row] for row in rows)
    assert all(abs(drawn[label] - some * count / len(labels)) < 3 for label, some in Counter(labels).items())


@quick
@given(labelled, st.data(), seeds)
def test_a_larger_draw_holds_the_smaller_one(labels, data, seed):
    few = data.draw(st.integers(1, len(labels)))
    many = data.draw(st.integers(few, len(labels)))
    assert set(subset(labels, few, seed, "train")) <= set(subset(labels, many, seed, "train"))
    held = [set(hold_back(alone(len(labels)), labels, n / (len(labels) + 1), seed)[1]) for n in (few, many)]
    assert held[0] <= held[1]


def test_draws_are_keyed_by_seed_and_split():
    none = [()] * 1000
    draws = {tuple(subset(none, 10, seed, split)) for seed in range(5) for split in ("train", "validation", "test")}
    draws |= {tuple(hold_back(alone(1000), none, 0.01, seed)[1]) for seed in range(5)}
    assert len(draws) == 20


@quick
@given(st.lists(st.lists(st.integers(0, 30), max_size=3), max_size=60))
def test_groups_are_what_chains_of_shared_keys_connect(keys):
    found = group_rows(keys)
    members = [{row} for row in range(len(keys))]
    for _ in keys:  # the plain way: join until nothing changes
        for one in range(len(keys)):
            for other in range(len(keys)):
                if set(keys[one]) & set(keys[other]):
                    members[one] |= members[other]
    assert [{row for row, group in enumerate(found) if group == found[one]} for one in range(len(keys))] == members


def test_what_a_task_reads_says_what_its_rows_share():
    question = {"question": "Who?", "context": "Ann  sang."}
    asks = Columns(text=("question", "context"), answers="answers")
    pair = Columns(text=("premise", "hypothesis"), label="label")
    shared = {
        "document": (asks, question, {"question": "What?", "context": "ann sang. "}),
        "premise": (pair, {"premise": "A", "hypothesis": "B"}, {"premise": "a", "hypothesis": "C"}),
        "pair the other way round": (pair, {"premise": "A", "hypothesis": "B"}, {"premise": "B", "hypothesis": "A"}),
        "text": (Columns(text=("text",)), {"text": "So good"}, {"text": "so  good"}),
        "words": (Columns(words=("words",)), {"words": ["So", "good"]}, {"words": ["so", "good"]}),
    }
    for what, (columns, one, other) in shared.items():
        assert len(set(group_rows([group_keys(columns, one), group_keys(columns, other)]))) == 1, what
    other = {"premise": "C", "hypothesis": "B"}  # a short second text is shared by many
    assert len(set(group_rows([group_keys(pair, {"premise": "A", "hypothesis": "B"}), group_keys(pair, other)]))) == 2


def test_a_hundred_thousand_rows_are_grouped_and_parted_in_seconds():
    import time

    began = time.process_time()
    groups = group_rows([(f"document {row // 3}",) for row in range(100_000)])
    train, validation = hold_back(groups, [(str(row % 7),) for row in range(100_000)], 0.1, 0)
    assert abs(len(validation) - 10_000) <= 1
    assert len(train) + len(validation) == 100_000
    assert time.process_time() - began < 30  # a square of the rows would take hours


@quick
@given(st.lists(st.integers(0, 20), min_size=5, max_size=100), st.data(), st.integers(2, 5), seeds)
def test_folds_keep_groups_together(groups, data, folds, seed):
    labels = [(data.draw(st.sampled_from("abc")),) for _ in groups]
    found = fold_of(groups, labels, folds, seed)
    assert set(found) <= set(range(folds))
    assert len({(group, fold) for group, fold in zip(groups, found, strict=True)}) == len(set(groups))
    assert found == fold_of(groups, labels, folds, seed)


@quick
@given(labelled.filter(lambda labels: len(labels) >= 5), st.integers(2, 5), seeds)
def test_folds_are_of_one_size_and_each_has_its_share_of_each_label(labels, folds, seed):
    found = fold_of(alone(len(labels)), labels, folds, seed)
    for label, count in Counter(labels).items():
        each = Counter(fold for fold, other in zip(found, labels, strict=True) if other == label)
        assert all(count // folds <= each[fold] <= -(-count // folds) for fold in range(folds))
    sizes = [found.count(fold) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= 1


@quick
@given(seeds)
def test_a_large_group_is_made_up_for_by_many_small_ones(seed):
    found = fold_of([0] * 10 + [*range(1, 11)], [("a",)] * 20, 2, seed)
    assert Counter(found) == {0: 10, 1: 10}

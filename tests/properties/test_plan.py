"""What a step sees is a pure function of (seed, epoch), whoever asks, whenever, on however many devices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.data.plan import BUCKET_BATCHES, Budget, Plan, cut_passes, deal

quick = settings(max_examples=150, deadline=None, derandomize=True)


budgets = st.tuples(st.integers(1, 400), st.integers(0, 200)).map(lambda pair: Budget(*pair))


@st.composite
def plans(draw: st.DrawFn, order: str | None = None, least: int = 1) -> Plan:
    return Plan(
        lengths=np.array(draw(st.lists(st.integers(2, 64), min_size=1, max_size=120))),
        batch_size=draw(st.integers(least, 16)),
        epochs=draw(st.integers(1, 4)),
        steps=draw(st.none() | st.integers(1, 60)),
        order=order or draw(st.sampled_from(["random", "length"])),
        seed=draw(st.integers(0, 2**63 - 1)),
    )


def steps_of(plan: Plan, order: list[int] | None = None) -> dict[int, list[int]]:
    """The batches of all steps, asked for in the given order."""
    asked = range(plan.step_count) if order is None else order
    return {step: plan.batch(step).tolist() for step in asked}


def copy(plan: Plan) -> Plan:
    """The same plan, which nobody has asked yet."""
    return Plan(plan.lengths.copy(), plan.batch_size, plan.epochs, plan.steps, plan.order, plan.seed)


@quick
@given(plans())
def test_every_epoch_is_a_permutation_in_full_batches(plan):
    count, size = len(plan.lengths), plan.batch_size
    assert plan.steps_per_epoch == len(range(0, count, size))
    assert plan.step_count == min(plan.epochs * plan.steps_per_epoch, plan.steps or 10**9)
    whole = Plan(plan.lengths, size, plan.epochs, None, plan.order, plan.seed)
    for epoch in range(plan.epochs):
        first = epoch * whole.steps_per_epoch
        batches = [whole.batch(first + place).tolist() for place in range(whole.steps_per_epoch)]
        assert sorted(window for batch in batches for window in batch) == list(range(count))
        assert [len(batch) for batch in batches] == [min(size, count - start) for start in range(0, count, size)]


@quick
@given(plans(), st.data())
def test_a_step_does_not_depend_on_who_asked_before(plan, data):
    straight = steps_of(plan)
    order = data.draw(st.permutations(range(plan.step_count)))
    others = [copy(plan), copy(plan), copy(plan)]  # more plans than are remembered
    shuffled: dict[int, list[int]] = {}
    for step in order:
        shuffled |= steps_of(others[step % 3], [step])
    assert shuffled == straight


@quick
@given(plans(), st.data())
def test_a_plan_from_step_k_is_the_tail_of_the_plan(plan, data):
    straight = steps_of(plan)
    first = data.draw(st.integers(0, plan.step_count))
    assert steps_of(copy(plan), list(range(first, plan.step_count))) == {
        step: batch for step, batch in straight.items() if step >= first
    }


@quick
@given(plans(), st.integers(1, 4), st.none() | st.integers(1, 60))
def test_more_epochs_or_steps_leave_earlier_steps_as_they_were(plan, epochs, steps):
    other = Plan(plan.lengths, plan.batch_size, epochs, steps, plan.order, plan.seed)
    shared = range(min(plan.step_count, other.step_count))
    assert steps_of(plan, list(shared)) == steps_of(other, list(shared))


@pytest.mark.parametrize("order", ["random", "length"])
def test_epochs_and_seeds_have_orders_of_their_own(order):
    def batches(seed: int, epoch: int) -> list[list[int]]:
        plan = Plan(np.arange(2, 66), 4, 3, None, order, seed)
        return [plan.batch(epoch * 16 + place).tolist() for place in range(16)]

    seen = [batches(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(seen[one] != seen[other] for one in range(9) for other in range(one))


@quick
@given(plans(order="length", least=3))
def test_length_order_never_mixes_long_and_short(plan):
    # one bucket holds all of these windows, so the batches are stretches of the sorted lengths
    assert len(plan.lengths) <= BUCKET_BATCHES * plan.batch_size
    stretches = sorted(sorted(plan.lengths[batch].tolist()) for batch in map(plan.batch, range(plan.steps_per_epoch)))
    assert [length for stretch in stretches for length in stretch] == sorted(plan.lengths.tolist())


def test_length_order_shuffles_its_batches_and_pads_little():
    lengths = np.random.default_rng(0).integers(8, 384, 5000)
    padding, first = {}, {}
    for order in ("random", "length"):
        plan = Plan(lengths, 16, 1, None, order, 7)
        batches = [plan.batch(step) for step in range(plan.steps_per_epoch)]
        padded = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
        padding[order] = 1 - lengths.sum() / padded
        first[order] = [float(lengths[batch].mean()) for batch in batches]
    assert padding["random"] > 0.3
    assert padding["length"] < 0.05
    # a bucket that came sorted would begin with its shortest batch
    trend = np.corrcoef(first["length"][:BUCKET_BATCHES], np.arange(BUCKET_BATCHES))[0, 1]
    assert abs(trend) < 0.4


@quick
@given(plans(), st.integers(1, 6), budgets)
def test_dealing_gives_every_window_to_one_micro_batch_within_the_budget(plan, world, budget):
    for windows in map(plan.batch, range(plan.steps_per_epoch)):
        ranks = deal(windows, plan.lengths, world, budget)
        assert len(ranks) == world
        assert len({len(micro_batches) for micro_batches in ranks}) == 1
        dealt = [window for micro_batches in ranks for batch in micro_batches for window in batch.tolist()]
        assert sorted(dealt) == sorted(windows.tolist())
        shares = [sum(map(len, micro_batches)) for micro_batches in ranks]
        assert max(shares) - min(shares) <= 1
        for micro_batches in ranks:
            assert len(micro_batches) >= 1
            for batch in micro_batches:
                assert batch.dtype == np.int64
                assert len(batch) <= 1 or len(batch) * plan.lengths[batch].max() <= budget.tokens


@quick
@given(plans(), st.integers(1, 6), budgets)
def test_dealing_takes_no_more_micro_batches_than_the_fullest_rank_needs(plan, world, budget):
    windows = plan.batch(0)
    ranks = deal(windows, plan.lengths, world, budget)
    needed = max(
        len(cut_passes(rank[np.argsort(-plan.lengths[rank], kind="stable")], plan.lengths, budget))
        for rank in (np.concatenate(micro_batches) for micro_batches in ranks)
    )
    assert len(ranks[0]) == needed


def test_ranks_get_about_the_same_tokens():
    lengths = np.random.default_rng(0).integers(8, 384, 64)
    for world in (2, 3, 4, 8):
        tokens = [
            sum(int(lengths[batch].sum()) for batch in micro_batches)
            for micro_batches in deal(np.arange(64), lengths, world, Budget(2048))
        ]
        assert max(tokens) < 1.1 * min(tokens)


def test_a_rank_without_windows_gets_empty_micro_batches():
    ranks = deal(np.array([5]), np.full(8, 10), world=3, budget=Budget(64))
    assert [[batch.tolist() for batch in micro_batches] for micro_batches in ranks] == [[[5]], [[]], [[]]]


def cost(batches: list[np.ndarray], lengths: np.ndarray, budget: Budget) -> int:
    """What these passes cost, as the budget counts."""
    return sum(len(batch) * int(lengths[batch].max()) + budget.overhead for batch in batches)


def least_cost(sorted_lengths: list[int], budget: Budget) -> int:
    """Of all ways to cut sorted windows into passes within the budget: one pass after the other, every size tried."""
    best = [0]
    for end in range(1, len(sorted_lengths) + 1):
        best.append(min(
            best[start] + (end - start) * sorted_lengths[start] + budget.overhead
            for start in range(end)
            if end - start == 1 or (end - start) * sorted_lengths[start] <= budget.tokens
        ))  # fmt: skip
    return best[-1]


@quick
@given(st.lists(st.integers(1, 12), max_size=30), budgets)
def test_passes_are_cut_where_they_cost_little(lengths, budget):
    lengths = np.array(lengths, int)
    order = np.argsort(-lengths, kind="stable")
    batches = cut_passes(order, lengths, budget)
    assert [window for batch in batches for window in batch.tolist()] == order.tolist()
    # cuts within windows of one length are not tried: each length may cost a pass more than it must
    found, least = cost(batches, lengths, budget), least_cost(lengths[order].tolist(), budget)
    assert least <= found <= least + budget.overhead * len(set(lengths.tolist()))


@quick
@given(st.lists(st.integers(1, 64), unique=True, max_size=30), budgets)
def test_no_cut_of_different_lengths_costs_less(lengths, budget):
    lengths = np.array(lengths, int)
    order = np.argsort(-lengths, kind="stable")
    alone = Budget(10**6, budget.overhead)  # what does not fit is another matter
    assert cost(cut_passes(order, lengths, alone), lengths, alone) == least_cost(lengths[order].tolist(), alone)


def test_a_dear_pass_is_filled_and_a_free_one_never_pads():
    lengths = np.array([9, 9, 8, 7, 7, 7, 2, 2])
    order = np.arange(8)
    assert [batch.tolist() for batch in cut_passes(order, lengths, Budget(1000, 1000))] == [order.tolist()]
    free = cut_passes(order, lengths, Budget(1000, 0))
    assert [batch.tolist() for batch in free] == [[0, 1], [2], [3, 4, 5], [6, 7]]


@quick
@given(st.lists(st.integers(1, 64), max_size=60), st.integers(1, 400), st.integers(1, 20))
def test_fixed_shapes_are_few_and_hold_every_pass(lengths, tokens, rows):
    lengths = np.array(lengths, int)
    budget = Budget(tokens, 16, (16, 32, 64), rows)
    batches = cut_passes(np.argsort(-lengths, kind="stable"), lengths, budget)
    assert sorted(window for batch in batches for window in batch.tolist()) == list(range(len(lengths)))
    shapes = [budget.shape(len(batch), int(lengths[batch].max())) for batch in batches]
    assert set(shapes) <= {(budget.fitting(width), width) for width in budget.widths}
    for batch, (count, width) in zip(batches, shapes, strict=True):
        assert len(batch) <= count
        assert lengths[batch].max() <= width
        assert count == 1 or count * width <= tokens

"""Losses are sums that any split of a batch adds up to; learning rates are a pure function of the step."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from bertkit.encode import cut_rows, stack_targets
from bertkit.errors import BertkitError
from bertkit.heads import HEADS, IGNORED, LossSettings, balanced_weights
from bertkit.objectives.labelled import check_settings, loss_settings
from bertkit.recipe import TrainConfig
from bertkit.tasks.classification import Classification
from bertkit.tasks.pos import Pos
from bertkit.tasks.qa import QA
from bertkit.train.optim import learning_rate_at, make_optimizer
from tests.families import maker_of

quick = settings(max_examples=60, deadline=None, derandomize=True)
PLAIN = LossSettings()
C, S = 3, 7  # classes, padded length


def batch_of(head: str, rows: int, seed: int) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Logits and targets of some windows, (B, ...) each; of the tokens of a tagged window, some have no target."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=source) * 3

    if head == "multilabel":
        return [normal(rows, C)], {"labels": (normal(rows, C) > 0).float()}
    if head == "number":
        return [normal(rows, 1)], {"labels": normal(rows)}
    if head == "span":
        answerable = normal(rows, S) > 0
        answerable[:, 0] = True
        places = [torch.multinomial(answerable.float(), 1, generator=source).squeeze(1) for _ in range(2)]
        targets = {"start_positions": places[0], "end_positions": places[1], "answerable": answerable}
        return [normal(rows, S), normal(rows, S)], targets
    shape = (rows, S) if head == "token" else (rows,)
    labels = torch.randint(0, C, shape, generator=source)
    if head == "token":
        labels = labels.masked_fill(normal(rows, S) > 0, IGNORED)
    return [normal(*shape, C)], {"labels": labels}


class Windows:
    """Stands for a store of windows: their offsets, and which row each is of."""

    def __init__(self, offsets: np.ndarray, rows: np.ndarray | None = None) -> None:
        self.offsets = offsets
        self.rows = np.arange(len(offsets) - 1) if rows is None else rows
        self.counts = np.bincount(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def weights_of(head: str, targets: dict[str, torch.Tensor], settings: LossSettings = PLAIN) -> np.ndarray:
    """The weights of a padded batch, as of windows that are all S tokens long."""
    rows = len(next(iter(targets.values())))
    arrays = {name: tensor.numpy() for name, tensor in targets.items()}
    if head == "token":
        arrays["labels"] = arrays["labels"].reshape(-1)
    return HEADS[head].weights(arrays, Windows(np.arange(rows + 1) * S), settings)


def options(head: str, is_weighted: bool, smoothing: float) -> LossSettings:
    has_classes = head in ("class", "token")
    return LossSettings(smoothing if has_classes else 0.0, [0.5, 1.0, 2.5] if is_weighted and has_classes else None)


@pytest.mark.parametrize("head", HEADS)
@quick
@given(st.integers(1, 9), st.integers(0, 999), st.booleans(), st.sampled_from([0.0, 0.1]), st.data())
def test_any_split_of_a_batch_adds_up_to_the_same_sum_and_weight(head, rows, seed, is_weighted, smoothing, data):
    chosen = options(head, is_weighted, smoothing)
    loss = partial(HEADS[head].loss, settings=chosen)
    logits, targets = batch_of(head, rows, seed)
    order = data.draw(st.permutations(range(rows)))
    cuts = sorted(data.draw(st.sets(st.integers(1, rows), max_size=4)))
    parts = [part for part in np.split(np.array(order), cuts) if len(part)]
    some = [{name: values[part] for name, values in targets.items()} for part in map(torch.from_numpy, parts)]
    summed = sum(loss([scores[part] for scores in logits], some[place]) for place, part in enumerate(parts))
    whole = loss(logits, targets)
    assert whole.dtype == torch.float32
    assert whole.shape == ()
    assert summed.item() == pytest.approx(whole.item(), rel=1e-5, abs=1e-5)
    weights = weights_of(head, targets, chosen)
    assert weights.shape == (rows,)
    assert np.concatenate([weights_of(head, part, chosen) for part in some]).tolist() == weights[order].tolist()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("head", ["class", "token"])
def test_sum_over_weight_is_the_mean_of_torch(head, is_weighted, smoothing):
    chosen = options(head, is_weighted, smoothing)
    logits, targets = batch_of(head, 6, seed=1)
    ours = HEADS[head].loss(logits, targets, chosen) / weights_of(head, targets, chosen).sum()
    scores, labels = logits[0].reshape(-1, C), targets["labels"].reshape(-1)
    weight = None if chosen.class_weights is None else torch.tensor(chosen.class_weights)
    torchs = functional.cross_entropy(scores, labels, weight=weight, label_smoothing=smoothing)
    assert ours.item() == pytest.approx(torchs.item(), rel=1e-6)


def test_sum_over_weight_is_the_mean_of_torch_for_other_heads():
    for head, expected in (
        ("multilabel", lambda logits, targets: functional.binary_cross_entropy_with_logits(
            logits[0], targets["labels"]
        )),
        ("number", lambda logits, targets: functional.mse_loss(logits[0].squeeze(-1), targets["labels"])),
        ("span", lambda logits, targets: sum(
            functional.cross_entropy(scores.masked_fill(~targets["answerable"], -1e30), targets[name])
            for scores, name in zip(logits, ("start_positions", "end_positions"), strict=True)
        ) / 2),
    ):  # fmt: skip
        logits, targets = batch_of(head, 6, seed=2)
        ours = HEADS[head].loss(logits, targets, PLAIN) / weights_of(head, targets).sum()
        assert ours.item() == pytest.approx(expected(logits, targets).item(), rel=1e-6), head


def test_numbers_stay_numbers_and_are_never_rounded_to_classes():
    windows = Windows(np.arange(3))
    for head, targets in (("number", [(0.5,), (3,)]), ("number", [(2,), (3,)]), ("multilabel", [([0.0, 1.0],)] * 2)):
        labels = HEADS[head].stack(targets, windows)["labels"]
        assert labels.dtype == np.float32, "a row that only fills a batch has NaN, which integers have not"
        assert labels.tolist() == [target[0] for target in targets]
    with pytest.raises(TypeError, match="float64"):
        HEADS["class"].stack([(0.5,), (3,)], windows)


def test_one_row_of_a_number_head_is_no_batch_of_rows():
    # (1, 1) must become (1,), not a scalar that spreads over others
    loss = HEADS["number"].loss([torch.tensor([[2.0]])], {"labels": torch.tensor([5.0])}, PLAIN)
    assert loss.item() == 9.0


def test_weights_of_windows_of_different_lengths():
    labels, windows = np.array([0, IGNORED, 2, IGNORED, IGNORED, 1, 1, 0]), Windows(np.array([0, 3, 5, 5, 8]))
    weighted = LossSettings(class_weights=[1.0, 0.5, 4.0])
    assert HEADS["token"].weights({"labels": labels}, windows, PLAIN).tolist() == [2, 0, 0, 3]
    assert HEADS["token"].weights({"labels": labels}, windows, weighted).tolist() == [5, 0, 0, 2]
    two = Windows(np.array([0, 4, 9]))
    assert HEADS["class"].weights({"labels": np.array([2, 0])}, two, weighted).tolist() == [4, 1]


@pytest.mark.parametrize("head", ["class", "multilabel", "number"])
def test_every_row_weighs_one_however_many_windows_it_needs(head):
    """Of 31 rows the last is a long one: 124 windows with the same logits have the loss of one."""
    logits, targets = batch_of(head, 31, seed=4)
    times = np.array([1] * 30 + [124])
    windows = Windows(np.arange(times.sum() + 1), np.repeat(np.arange(31), times))
    each = [(targets["labels"][row].numpy(),) for row in windows.rows]
    arrays = HEADS[head].stack(each, windows)
    chosen = options(head, True, 0.1)
    weights = HEADS[head].weights(arrays, windows, chosen)
    alone = weights_of(head, targets, chosen)
    assert np.bincount(windows.rows, weights).tolist() == pytest.approx(alone.tolist())
    loss = HEADS[head].loss(
        [logits[0][windows.rows]], {name: torch.from_numpy(values) for name, values in arrays.items()}, chosen
    )
    assert loss.item() == pytest.approx(HEADS[head].loss(logits, targets, chosen).item(), rel=1e-5)


def test_balance_counts_rows_and_not_windows(tiny):
    task = Classification(labels=("long", "short"))
    rows = [{"id": str(n), "text": "bread", "label": "short"} for n in range(30)]
    rows.append({"id": "30", "text": "bread " * 600, "label": "long"})
    part = cut_rows(task, rows, maker_of(tiny))
    assert part.store.counts[30] > 20
    settings = loss_settings(TrainConfig(class_weights="balanced"), task, part, stack_targets(task, part))
    assert settings.class_weights == pytest.approx([31 / 2, 31 / 60])


SETTINGS = {"label_smoothing": 0.1, "class_weights": "balanced"}


# what no task has is for running text, whose settings tests/training/test_pretrain.py looks at
TASK_OF = {
    "class": Classification(labels=("a", "b", "c")), "multilabel": Classification(labels=("a", "b"), kind="labels"),
    "number": Classification(kind="number"), "token": Pos(labels=("A", "B", "C")), "span": QA(),
}  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("head", TASK_OF)
def test_a_setting_of_the_loss_changes_it_or_is_refused(head, setting):
    train, task = TrainConfig(**{setting: SETTINGS[setting]}), TASK_OF[head]
    logits, targets = batch_of(head, 5, seed=3)
    changed = LossSettings()._replace(**{setting: {"label_smoothing": 0.1, "class_weights": [1.0, 2.0, 3.0]}[setting]})
    if HEADS[head].loss(logits, targets, changed).item() != HEADS[head].loss(logits, targets, PLAIN).item():
        assert check_settings(train, task, ()) == task.headline
        return
    with pytest.raises(BertkitError, match=rf"train\.{setting}: .* would change nothing") as caught:
        check_settings(train, task, ())
    assert caught.value.hint == "leave it out"


def test_a_batch_in_which_no_token_has_a_target_learns_nothing():
    logits, targets = batch_of("token", 2, seed=0)
    logits[0].requires_grad_()
    targets["labels"].fill_(IGNORED)
    loss = HEADS["token"].loss(logits, targets, LossSettings(label_smoothing=0.1))
    loss.backward()
    assert loss.item() == 0
    assert logits[0].grad.abs().max() == 0
    assert weights_of("token", targets).tolist() == [0, 0]


@quick
@given(st.integers(1, 6), st.integers(0, 999), st.integers(1, 9))
def test_padding_changes_neither_loss_nor_gradient_of_spans_and_tags(rows, seed, padding):
    for head in ("span", "token"):
        loss = partial(HEADS[head].loss, settings=PLAIN)
        logits, targets = batch_of(head, rows, seed)
        closed = {"answerable": False, "labels": IGNORED}
        padded = {
            name: functional.pad(values, (0, padding), value=closed[name]) if name in closed else values
            for name, values in targets.items()
        }
        wide = [torch.cat([scores, torch.full((rows, padding, *scores.shape[2:]), 99.0)], 1) for scores in logits]
        for scores in (*logits, *wide):
            scores.requires_grad_()
        short, long = loss(logits, targets), loss(wide, padded)
        assert long.item() == pytest.approx(short.item(), rel=1e-6)
        short.backward()
        long.backward()
        for ours, wider in zip(logits, wide, strict=True):
            assert torch.allclose(ours.grad, wider.grad[:, :S], atol=1e-6)
            assert not wider.grad[:, S:].any()


def test_question_and_white_space_do_not_compete_in_the_span_loss():
    targets = {
        "start_positions": torch.tensor([2]),
        "end_positions": torch.tensor([2]),
        "answerable": torch.tensor([[True, False, True, False]]),
    }
    scores = torch.tensor([[0.0, 50.0, 3.0, 50.0]])
    loss = HEADS["span"].loss([scores, scores], targets, PLAIN)
    assert loss.item() == pytest.approx(np.log(1 + np.exp(-3)), rel=1e-5)


def test_half_precision_logits_are_summed_in_float32():
    logits, targets = batch_of("class", 9, seed=0)
    half = [scores.bfloat16() for scores in logits]
    loss = partial(HEADS["class"].loss, settings=PLAIN)
    assert loss(half, targets).dtype == torch.float32
    assert loss(half, targets).item() == loss([scores.float() for scores in half], targets).item()


@quick
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_balanced_weights_are_those_of_scikit_learn(labels):
    from sklearn.utils.class_weight import compute_class_weight

    weights = balanced_weights(np.array([*labels, IGNORED]), 5)
    classes = np.unique(labels)
    # scikit-learn knows only the classes that it sees
    expected = compute_class_weight("balanced", classes=classes, y=np.array(labels)) * len(classes) / 5
    assert [weights[label] for label in classes] == pytest.approx(expected.tolist())
    assert np.isfinite(weights).all()


# Learning rates.


def rates(step_count: int, **settings: object) -> list[float]:
    config = TrainConfig(learning_rate=2.0, **settings)
    return [learning_rate_at(step, step_count, config) for step in range(step_count)]


def peer_rates(make, step_count: int, warmup: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = make(optimizer, warmup, step_count)
    found = []
    for _ in range(step_count):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "make"), [("linear", get_linear_schedule_with_warmup), ("cosine", get_cosine_schedule_with_warmup)]
)
@pytest.mark.parametrize(("step_count", "warmup"), [(20, 0), (20, 5), (7, 1), (50, 49), (1, 0)])
def test_rates_after_the_warm_up_are_those_of_transformers(schedule, make, step_count, warmup):
    ours = rates(step_count, schedule=schedule, warmup=warmup)
    assert ours[warmup:] == pytest.approx(peer_rates(make, step_count, warmup)[warmup:], abs=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@quick
@given(st.integers(1, 200), st.one_of(st.floats(0, 0.999), st.integers(1, 300)))
def test_rates_rise_to_the_peak_and_never_leave_it_behind(schedule, step_count, warmup):
    found = rates(step_count, schedule=schedule, warmup=warmup)
    assert all(0 < rate <= 2.0 for rate in found)
    warmed = int(np.ceil(warmup * step_count if warmup < 1 else warmup))
    rising, falling = found[:warmed], found[warmed:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    if warmed > 1 and step_count > 1:
        assert rising[0] < rising[1]
    if schedule == "constant":
        assert set(falling) <= {2.0}


def test_a_warm_up_is_a_share_below_one_and_steps_from_one_on():
    assert rates(10, warmup=0.4, schedule="constant") == rates(10, warmup=4, schedule="constant")
    assert rates(10, warmup=4, schedule="constant") == pytest.approx([0.4, 0.8, 1.2, 1.6] + [2.0] * 6)
    assert rates(4, warmup=1, schedule="constant") == [1.0, 2.0, 2.0, 2.0]
    assert rates(4, warmup=0, schedule="linear") == [2.0, 1.5, 1.0, 0.5]


# The optimiser.


def test_biases_and_norms_do_not_decay():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    model[0].weight.requires_grad_(False)
    config = TrainConfig(weight_decay=0.1, learning_rate=0.5, adam_betas=(0.8, 0.9), adam_epsilon=1e-6)
    decayed, free = make_optimizer(model, config).param_groups
    assert [id(parameter) for parameter in decayed["params"]] == [id(model[1].weight)]
    assert {*map(id, free["params"])} == {id(model[1].bias), id(model[2].weight), id(model[2].bias)}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    for group in (decayed, free):
        assert (group["lr"], group["betas"], group["eps"]) == (0.5, (0.8, 0.9), 1e-6)


@pytest.mark.parametrize("head", HEADS)
def test_a_row_that_only_fills_a_fixed_shape_has_no_loss_and_no_gradient(head):
    logits, targets = batch_of(head, 5, seed=1)
    loss = partial(HEADS[head].loss, settings=PLAIN)
    expected = loss([part[:3] for part in logits], {name: part[:3] for name, part in targets.items()})
    for name, part in targets.items():
        if name != "answerable":
            part[3:] = torch.nan if part.is_floating_point() else IGNORED
    logits = [part.requires_grad_() for part in logits]
    found = loss(logits, targets)
    torch.testing.assert_close(found, expected)
    found.backward()
    for part in logits:
        assert part.grad[:3].abs().sum() > 0
        assert torch.equal(part.grad[3:], torch.zeros_like(part.grad[3:]))

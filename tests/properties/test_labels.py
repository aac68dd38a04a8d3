"""Labels are a bijection decided by the best authority there is."""

from __future__ import annotations

import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bertkit.data.labels import check_labels, resolve_labels
from bertkit.errors import BertkitError, one_line

quick = settings(max_examples=200, deadline=None, derandomize=True)

# as readers give them: no white space around; messages fold it inside
names = st.text("abcXYZé北0129 -_'", min_size=1, max_size=6).filter(lambda name: one_line(name) == name)
label_sets = st.lists(names, min_size=2, max_size=6, unique_by=str.lower)
seeds = st.integers(0, 2**63 - 1)


def shuffled(labels: list[str], seed: int) -> list[str]:
    return random.Random(seed).sample(labels, len(labels))


def flipped(label: str) -> str:
    """The name in other letters, where it has letters that come back."""
    other = label.swapcase()
    return other if other.lower() == label.lower() else label


@quick
@given(label_sets, st.lists(st.booleans(), min_size=4, max_size=4), st.integers(0, 1000))
def test_the_best_authority_decides_and_others_are_not_asked(labels, given_flags, seed):
    # each authority has its own order, so the result tells who decided
    recipe, checkpoint, features, inventory = (shuffled([*labels, "extra"], seed + place) for place in range(4))
    authorities = {
        "recipe": recipe,
        "checkpoint": dict(enumerate(map(flipped, checkpoint))),
        "features": features,
        "inventory": inventory,
    }
    assume("extra" not in labels)
    asked = {name: value for (name, value), is_given in zip(authorities.items(), given_flags, strict=True) if is_given}
    expected = {
        "recipe": recipe,
        # the rows' spelling is kept, where the rows have the label
        "checkpoint": [name if name in labels else flipped(name) for name in checkpoint],
        "features": features,
        "inventory": inventory,
    }
    decided = next((expected[name] for name in asked), None)
    found = resolve_labels(labels, **asked)
    assert sorted(found) == sorted(labels) if decided is None else list(found) == decided
    assert set(labels) <= set(found)
    assert len(set(found)) == len(found)
    assert [{label: id for id, label in enumerate(found)}[label] for label in found] == list(range(len(found)))


@quick
@given(label_sets, st.integers(0, 1000))
def test_repeats_and_their_order_change_nothing(labels, seed):
    assert resolve_labels(iter(shuffled(labels * 3, seed))) == resolve_labels(labels)


@quick
@given(label_sets, st.sampled_from(["checkpoint", "features", "inventory"]))
def test_an_authority_that_misses_a_label_is_passed_over(labels, authority):
    partial = [*labels[1:], "zz"]
    asked = {authority: dict(enumerate(partial)) if authority == "checkpoint" else partial}
    assert resolve_labels(labels, **asked) == resolve_labels(labels)


def test_names_that_differ_only_in_case_are_not_mistaken_for_each_other():
    checkpoint = {0: "us", 1: "them"}
    assert resolve_labels(["US", "us", "them"], checkpoint=checkpoint) == ("US", "them", "us")
    assert resolve_labels(["a", "b"], checkpoint={0: "B", 1: "b", 2: "a"}) == ("a", "b")
    assert resolve_labels(["a", "b"], checkpoint={1: "A", 0: "B"}) == ("b", "a")


def test_placeholder_names_of_a_checkpoint_decide_nothing():
    assert resolve_labels(["neg", "pos"], checkpoint={0: "LABEL_0", 1: "LABEL_1"}) == ("neg", "pos")


def test_sorted_labels_put_numbers_in_their_order_and_before_words():
    assert resolve_labels(["10", "2", "b", "B", "1", "-1"]) == ("1", "2", "10", "-1", "B", "b")


UNKNOWN = (
    "one of: a, b; leave such rows out with data.ignore_labels, or list every label in task.labels before training"
)


@pytest.mark.parametrize(
    ("seen", "recipe", "message", "hint"),
    [
        (["a"], None, "train: a classifier needs two labels or more, and there is only 'a'",
         "name all labels in task.labels, or check data.columns and data.train_rows"),
        ([], None, "train: a classifier needs two labels or more, and there is none",
         "name all labels in task.labels, or check data.columns and data.train_rows"),
        (["a"], ["a"], "task.labels: a classifier needs two labels or more, and there is only 'a'",
         "name all labels in task.labels"),
        (["a"], ["a", "b", "a"], "task.labels: 'a' stands twice", "name each label once"),
        (["a", "x"], ["a", "b"], "train: unknown label 'x'; the labels are a, b", UNKNOWN),
        (list("acdefghi"), ["a", "b"],
         "train: unknown label 'c', 'd', 'e', 'f', 'g' and 2 more; the labels are a, b", UNKNOWN),
    ],
)  # fmt: skip
def test_labels_that_cannot_work_are_refused_with_a_way_out(seen, recipe, message, hint):
    with pytest.raises(BertkitError) as caught:
        resolve_labels(seen, recipe=recipe)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@quick
@given(label_sets, st.lists(names, max_size=8))
def test_unknown_labels_are_refused_and_known_ones_pass(labels, found):
    unknown = set(found) - set(labels)
    if not unknown:
        check_labels(found, labels, where="test")
        return
    with pytest.raises(BertkitError) as caught:
        check_labels(found, labels, where="test")
    assert caught.value.message.startswith("test: unknown label ")
    assert sum(repr(label) in caught.value.message for label in unknown) >= min(len(unknown), 5)

"""A tuned threshold is never worse than one half on its own rows, whatever their order; what equals it is chosen."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.tasks.base import Output
from bertkit.tasks.classification import Classification

relaxed = settings(deadline=None, max_examples=60)
# probabilities that meet, and those that are next to each other
share = st.sampled_from([0.0, 0.1, np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1), 0.9, 1.0]) | st.floats(0, 1)
METRICS = ("accuracy", "f1", "f1_macro", "matthews", "accuracy_f1")


def answered(task: Classification, drawn: list) -> tuple[list, list]:
    """Rows and predictions; of each come the probability of `yes`, or of two labels, and what is gold."""
    rows, predictions = [], []
    for shares, golds in drawn:
        if task.kind == "class":
            probabilities, gold = {"no": 1 - shares[0], "yes": shares[0]}, ("no", "yes")[golds[0]]
            label = max(probabilities, key=probabilities.__getitem__)
        else:
            probabilities = dict(zip(task.labels, shares, strict=True))
            gold = tuple(name for name, is_gold in zip(task.labels, golds, strict=True) if is_gold)
            label = tuple(name for name in task.labels if probabilities[name] >= 0.5)
        rows.append({"label": gold})
        predictions.append({"label": label, "probabilities": probabilities})
    return predictions, rows


drawn_rows = st.lists(
    st.tuples(st.tuples(share, share), st.tuples(st.booleans(), st.booleans())), min_size=1, max_size=12
)


@relaxed
@given(drawn_rows, st.sampled_from(METRICS), st.integers(0, 99))
def test_two_classes_are_chosen_as_well_or_better_for_every_metric(drawn, metric, seed):
    task = Classification(labels=("no", "yes"), positive="yes", metric=metric, threshold="tuned")
    predictions, rows = answered(task, drawn)
    before = task.score(predictions, rows)[metric]
    tuned = task.tuned(predictions, rows)
    after = tuned.score(tuned.settled(predictions), rows)[metric]
    assert 0 <= tuned.threshold <= 1 if any(golds[0] for _, golds in drawn) else tuned.threshold is None
    assert before is None or after >= before
    pairs = random.Random(seed).sample([*zip(predictions, rows, strict=True)], len(rows))
    assert task.tuned(*map(list, zip(*pairs, strict=True))) == tuned


@relaxed
@given(drawn_rows, st.integers(0, 99))
def test_each_label_has_at_least_the_f1_that_one_half_gives(drawn, seed):
    task = Classification(kind="labels", labels=("a", "b"), threshold="tuned")
    predictions, rows = answered(task, drawn)
    tuned = task.tuned(predictions, rows)
    settled = tuned.settled(predictions)
    for label in task.labels:
        one = Classification(kind="labels", labels=(label, "other"))
        gold = [{"label": [name for name in row["label"] if name == label]} for row in rows]
        f1 = [
            one.score([{"label": [name for name in some["label"] if name == label]} for some in given], gold)[
                "f1_macro"
            ]
            for given in (predictions, settled)
        ]
        assert f1[0] is None or f1[1] >= f1[0]
        if not any(row["label"] for row in gold):
            assert tuned.threshold[label] == 0.5
    pairs = random.Random(seed).sample([*zip(predictions, rows, strict=True)], len(rows))
    assert task.tuned(*map(list, zip(*pairs, strict=True))) == tuned


@relaxed
@given(st.floats(-9, 9, width=32), st.sampled_from(["class", "labels"]))
def test_a_probability_that_equals_the_threshold_is_chosen(logit, kind):
    task = Classification(kind=kind, labels=("a", "b"), **{"positive": "b"} if kind == "class" else {})
    outputs = [Output(type("Window", (), {"number": 0}), (np.array([0.0, logit], np.float32),))]
    least = task.decode({}, outputs)["probabilities"]["b"]
    for threshold, is_chosen in ((least, True), (float(np.nextafter(least, 2)), False)):
        if threshold <= 1:
            held = Classification.model_validate({**task.model_dump(), "threshold": threshold})
            assert ("b" in held.decode({}, outputs)["label"]) == is_chosen

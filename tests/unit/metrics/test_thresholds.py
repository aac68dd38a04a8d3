"""Ways to part rows by a probability, worked out by hand and held to scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from bertkit.metrics.thresholds import cuts


def test_each_way_to_part_four_rows_is_there_once():
    found = cuts([0.2, 0.8, 0.8, 0.6], [False, True, False, True])
    assert found.thresholds == pytest.approx([0.9, 0.7, 0.4, 0.1])
    assert (found.found.tolist(), found.right.tolist()) == ([0, 2, 3, 4], [0, 1, 2, 2])
    assert found.tables[1].tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("digits", [1, 2, 17])
def test_curve_and_average_precision_are_those_of_scikit_learn(digits):
    rng = np.random.default_rng(digits)
    has_label = rng.random(300) < 0.3
    shares = np.clip(rng.normal(0.3 + 0.2 * has_label, 0.2).round(digits), 0, 1)
    found, is_chosen = cuts(shares, has_label), slice(None, None, -1)
    precision, recall, levels = precision_recall_curve(has_label, shares)
    some = found.found > 0
    assert found.precision[some] == pytest.approx(precision[:-1][is_chosen])
    assert found.recall[some] == pytest.approx(recall[:-1][is_chosen])
    assert (found.thresholds[some] <= levels[is_chosen]).all()
    assert found.average_precision == pytest.approx(average_precision_score(has_label, shares))


def test_a_threshold_is_in_the_middle_of_its_gap_and_near_one_half_among_equals():
    found = cuts([0.1, 0.3, 0.9], [False, False, True])
    assert found.best(found.f1) == pytest.approx(0.6)
    assert found.best([1.0] * len(found.found)) == pytest.approx(0.6)
    assert found.best([None] * len(found.found)) == pytest.approx(0.6)


def test_between_neighbours_the_higher_one_is_the_threshold():
    low = np.nextafter(0.5, 0)
    found = cuts([low, 0.5], [False, True])
    assert found.best(found.f1) == 0.5


@pytest.mark.parametrize("shares", [[], [0.9, 0.2]])
def test_without_a_row_that_has_the_label_there_is_no_average_precision(shares):
    assert cuts(shares, [False] * len(shares)).average_precision is None

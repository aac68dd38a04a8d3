"""Number scores on cases small enough to check by hand."""

import math

import pytest

from bertkit.metrics.regression import regression

pytestmark = pytest.mark.filterwarnings("error")


def test_scores_of_a_case_counted_by_hand():
    scores = regression([1.0, 2.0, 4.0], [1.0, 3.0, 2.0])
    # deviations (-4/3, -1/3, 5/3) and (-1, 1, 0): 1 / sqrt(14/3 * 2); ranks (1, 2, 3) and (1, 3, 2): 1 - 6 * 2 / 24
    assert list(scores) == ["pearson_spearman", "pearson", "spearman", "mse"]
    assert scores["pearson"] == pytest.approx(1 / math.sqrt(28 / 3))
    assert scores["spearman"] == pytest.approx(0.5)
    assert scores["pearson_spearman"] == pytest.approx((scores["pearson"] + scores["spearman"]) / 2)
    assert scores["mse"] == pytest.approx(5 / 3)


def test_the_order_of_ranks_is_all_that_spearman_sees():
    scores = regression([1.0, 10.0, 100.0], [0.0, 1.0, 2.0])
    assert scores["spearman"] == pytest.approx(1.0)
    assert scores["pearson"] < 0.95


@pytest.mark.parametrize(("predictions", "references"), [([2, 2, 2], [1, 2, 3]), ([1, 2, 3], [2, 2, 2]), ([5], [5])])
def test_correlation_with_a_constant_column_is_undefined(predictions, references):
    scores = regression(predictions, references)
    assert [scores[name] for name in ("pearson_spearman", "pearson", "spearman")] == [None, None, None]
    assert scores["mse"] is not None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_number_that_is_not_finite_makes_every_score_undefined(bad):
    assert set(regression([1.0, bad, 2.0], [1.0, 2.0, 3.0]).values()) == {None}


def test_no_row_leaves_every_score_undefined():
    assert set(regression([], []).values()) == {None}


def test_columns_of_unequal_length_are_our_bug():
    with pytest.raises(AssertionError, match="1 predictions for 2 references"):
        regression([1.0], [1.0, 2.0])


def test_nearly_constant_columns_are_scored_without_a_warning():
    predictions = [1.0, 1.0, 1.0 + 2**-52]
    assert regression(predictions, [1.0, 2.0, 3.0])["spearman"] == pytest.approx(math.sqrt(3) / 2)

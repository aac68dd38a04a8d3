"""Labels: counts that add up, a calibration error worked out by hand, and the surest mistakes first."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support

from bertkit.outcome.classes import calibration, findings, label_findings, label_set_findings
from bertkit.outcome.scored import equal_parts
from bertkit.tasks.classification import Classification
from tests.unit.outcome.made import classes, scored


def error_of(caption: str) -> float:
    return float(caption.removeprefix("Expected calibration error: ").split(" %")[0]) / 100


def test_the_calibration_error_of_four_rows_worked_out_by_hand():
    # bins {0.6, 0.7}: mean 0.65, right 1 of 2, off by 0.15; {0.8, 1.0}: mean 0.9, right 2 of 2, off by 0.1
    found = calibration(np.array([0.8, 0.6, 1.0, 0.7]), np.array([True, False, True, True]), 2, "test")
    assert found.x == pytest.approx((0.65, 0.9))
    assert found.lines["accuracy"] == (0.5, 1.0)
    assert found.lines["perfect"] == found.x
    assert found.caption.startswith("Expected calibration error: 12.5 % (test, n = 4).")


@pytest.mark.parametrize("seed", range(5))
def test_the_calibration_error_is_that_of_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    confidence, is_right = rng.random(200), rng.random(200) < 0.5
    total = 0.0
    ranked = sorted(zip(confidence, is_right, strict=True))
    for start in range(0, 200, 20):
        some = ranked[start : start + 20]
        total += abs(sum(share for share, _ in some) - sum(right for _, right in some))
    found = calibration(confidence, is_right, 10, "test")
    assert error_of(found.caption) == pytest.approx(total / 200, abs=6e-4)  # shown with one decimal
    assert list(found.x) == sorted(set(found.x))


def test_perfect_calibration_has_no_error():
    found = calibration(np.full(10, 0.5), np.arange(10) % 2 == 0, 5, "test")
    assert (found.x, found.lines["accuracy"]) == ((0.5,), (0.5,))  # equal confidences are one bin
    assert error_of(found.caption) == 0


@pytest.mark.parametrize(("count", "parts"), [(1, 1), (7, 3), (100, 10), (3, 10)])
def test_equal_parts_are_equal_and_hold_every_number_once(count, parts):
    found = equal_parts(np.random.default_rng(0).permutation(count), parts)
    assert sorted(np.concatenate(found).tolist()) == list(range(count))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_equal_numbers_are_never_parted():
    values = np.array([1, 1, 1, 1, 1, 1, 2, 3, 3, 0])
    for parts in range(1, 10):
        groups = [set(values[part].tolist()) for part in equal_parts(values, parts)]
        assert sum(map(len, groups)) == 4, parts


def test_every_row_is_counted_once_by_label_and_in_the_matrix():
    golds, given = ["a", "b", "b", "a", "b"], ["a", "a", "b", "b", "b"]
    matrix, table = label_findings(("a", "b", "c"), golds, given, "label", "test")
    assert matrix.rows == matrix.columns == ("a", "b")  # no c anywhere
    assert matrix.values == ((1, 1), (1, 2))
    assert table.columns == ("label", "count", "predicted", "precision", "recall", "f1")
    assert table.rows == (("a", 2, 2, 0.5, 0.5, 0.5), ("b", 3, 3, 2 / 3, 2 / 3, 2 / 3))


def test_a_label_that_is_only_predicted_has_no_recall_and_one_that_never_is_has_no_precision():
    _, table = label_findings(("a", "b"), ["a", "a"], ["b", "b"], "label", "test")
    assert table.rows == (("a", 2, 0, None, 0.0, 0.0), ("b", 0, 2, 0.0, None, 0.0))


def test_scores_by_label_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels = [str(number) for number in range(5)]
    golds, given = (rng.choice(labels, 300).tolist() for _ in range(2))
    _, table = label_findings(labels, golds, given, "label", "test")
    columns = precision_recall_fscore_support(golds, given, labels=labels)
    for row, *expected in zip(table.rows, *columns, strict=True):
        assert row[3:] == pytest.approx(expected[:3])
        assert row[1] == expected[3]


def test_many_labels_are_shown_by_their_most_frequent_confusions():
    labels = [f"l{number:02}" for number in range(41)]
    golds, given = [*labels, "l00", "l00", "l01"], [*labels, "l07", "l07", "l02"]
    found, _ = label_findings(labels, golds, given, "label", "test")
    assert found.rows == (("l00", "l07", 2, 2 / 3), ("l01", "l02", 1, 0.5))
    assert [table.title for table in label_findings(labels, labels, labels, "label", "test")] == ["By label"]


def test_the_surest_mistakes_come_first_and_right_rows_never():
    split = classes([("yes", "no", 0.7), ("yes", "yes", 0.99), ("no", "yes", 0.9), ("no", "yes", 0.7)])
    *_, wrong = findings(split)
    assert [passage.title for passage in wrong.passages] == ["r2", "r0", "r3"]
    assert wrong.passages[0].facts == {"gold": "no", "predicted": "yes", "probability": "90.0 %"}
    assert wrong.passages[0].texts == {"text": "text 2"}
    assert wrong.caption == "3 of 3 wrong rows (test, 4 rows), the surest answers first."


def test_label_sets_are_counted_by_label_and_the_most_wrong_rows_come_first():
    task = Classification(kind="labels", labels=("a", "b", "c"))
    golds, given = [("a", "b"), ("b",), (), ("a",)], [("b", "a"), ("a", "c"), ("c",), ("a",)]
    rows = [{"id": str(number), "text": "x", "label": gold} for number, gold in enumerate(golds)]
    table, wrong = label_set_findings(scored(task, rows, [{"label": labels} for labels in given]))
    assert table.rows == (("a", 2, 3, 2 / 3, 1.0, 0.8), ("b", 2, 1, 1.0, 0.5, 2 / 3), ("c", 0, 2, 0.0, None, 0.0))
    assert [passage.title for passage in wrong.passages] == ["1", "2"]
    assert wrong.passages[1].facts == {"gold": "none", "predicted": "c"}

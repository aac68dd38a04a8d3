"""Numbers: errors where the gold numbers are low and high, each row in one group, largest errors first."""

from __future__ import annotations

import pytest

from bertkit.outcome.classes import number_findings as findings
from bertkit.tasks.classification import Classification
from tests.unit.outcome.made import scored


def numbers(golds: list[float], given: list[float]):
    rows = [{"id": f"n{place}", "text": "x", "label": gold} for place, gold in enumerate(golds)]
    return findings(scored(Classification(kind="number"), rows, [{"label": value} for value in given]))


def test_few_gold_numbers_are_shown_one_by_one():
    table, worst = numbers([1.0, 0.0, 1.0], [0.5, 0.25, 2.0])
    assert table.rows == (("0", 1, 0.0, 0.25, 0.25), ("1", 2, 1.0, 1.25, 0.75))
    assert set(table.plain) == set(table.columns[2:])
    assert [passage.title for passage in worst.passages] == ["n2", "n0", "n1"]
    assert worst.passages[0].facts == {"gold": "1", "predicted": "2.000", "error": "+1.000"}


def test_many_gold_numbers_are_shown_in_five_groups_that_hold_every_row_once():
    table, worst = numbers([number / 10 for number in range(50)], [1.0] * 50)
    assert [row[:2] for row in table.rows] == [(f"{low:g} to {low + 0.9:g}", 10) for low in range(5)]
    assert table.rows[2][2:] == pytest.approx((2.45, 1.0, 1.45))
    assert len(worst.passages) == 20
    assert worst.caption == "20 of 50 rows (test, 50 rows), the largest errors first."

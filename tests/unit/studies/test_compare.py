"""The paired comparison: its fast metrics equal the plain ones, and its intervals behave."""

from __future__ import annotations

import numpy as np
import pytest

from bertkit.data.glue import LAYOUTS
from bertkit.errors import BertkitError
from bertkit.metrics.classification import binary_f1, classification
from bertkit.metrics.regression import regression
from bertkit.studies.glue.compare import compare, difference, draw, to_answers
from tests.unit.studies.studies import write_predictions, write_study

NAMES = ("no", "yes", "maybe")


def records(gold: list, given: list, names: tuple[str, ...] = NAMES[:2]) -> list[dict]:
    return [
        {"id": str(number), "gold": right, "label": label, "probabilities": dict.fromkeys(names, 0.0)}
        for number, (right, label) in enumerate(zip(gold, given, strict=True))
    ]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_metrics_from_counts_equal_the_plain_ones(classes, seed):
    rng = np.random.default_rng(seed)
    names = NAMES[:classes]
    gold, given = (rng.choice(names, size=30).tolist() for _ in range(2))
    answers = to_answers(records(gold, given, names), "here")
    rows = rng.integers(30, size=30)
    gold, given = ([column[row] for row in rows] for column in (gold, given))
    plain = classification(given, gold)
    assert answers.metric("accuracy", rows) == pytest.approx(plain["accuracy"])
    assert answers.metric("matched", rows) == pytest.approx(plain["accuracy"])
    assert answers.metric("matthews", rows) == pytest.approx(plain["matthews"])
    assert answers.metric("f1", rows) == pytest.approx(binary_f1(given, gold, "yes")["f1"])


def test_undefined_metrics_stay_undefined():
    answers = to_answers(records(["no", "no"], ["no", "no"]), "here")
    rows = np.arange(2)
    assert answers.metric("f1", rows) is None
    assert answers.metric("matthews", rows) is None
    assert answers.metric("accuracy", rows) == 1.0


def test_numbers_are_scored_by_the_plain_metric():
    gold, given = [1.0, 2.0, 3.5, 0.0], [0.5, 2.5, 3.0, 1.0]
    answers = to_answers(records(gold, given), "here")
    rows = np.array([0, 1, 1, 2, 3])
    plain = regression([given[row] for row in rows], [gold[row] for row in rows])
    assert answers.metric("pearson", rows) == pytest.approx(plain["pearson"])
    assert answers.metric("spearman", rows) == pytest.approx(plain["spearman"])


def answers(flips: int, rows: int = 200) -> dict:
    """Answers of a model that is wrong on the first `flips` rows."""
    gold = ["yes", "no"] * (rows // 2)
    given = [("no" if right == "yes" else "yes") if row < flips else right for row, right in enumerate(gold)]
    return {"validation": to_answers(records(gold, given), "here")}


def test_equal_answers_differ_by_nothing_in_every_draw():
    drawn = draw("rte", [[answers(40)] * 2, [answers(40)] * 2], 100)
    assert not drawn.any()


def test_the_interval_holds_the_difference_and_is_of_the_right_width():
    # 20 of 200 rows differ: the paired difference is a mean of 200 draws of 0 or 1 with p = 0.1
    drawn = draw("rte", [[answers(40)], [answers(20)]], 2000)
    found = difference("RTE", [[0.8], [0.9]], drawn, 200)
    assert found.difference == pytest.approx(0.1)
    assert drawn.std() == pytest.approx((0.1 * 0.9 / 200) ** 0.5, rel=0.1)
    assert found.low == pytest.approx(0.1 - 1.96 * drawn.std(), abs=0.01)
    assert found.high == pytest.approx(0.1 + 1.96 * drawn.std(), abs=0.01)


def test_pairs_over_seeds_by_hand():
    found = difference("RTE", [[0.5, 0.6, 0.7], [0.6, 0.6, 0.9]], np.array([0.1, 0.2, np.nan]), 10)
    assert (found.first, found.second) == (pytest.approx(0.6), pytest.approx(0.7))
    assert (found.difference, found.deviation) == (pytest.approx(0.1), pytest.approx(0.1))
    assert (found.better, found.seeds, found.undefined) == (2, 3, 1)


def test_an_undefined_score_has_no_interval():
    found = difference("CoLA", [[0.5, None], [0.6, 0.6]], np.array([0.1, 0.2]), 10)
    assert (found.first, found.difference, found.low, found.high) == (None, None, None, None)


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (None, "predictions.jsonl is missing"),
        (0, "predictions.jsonl has 0 rows, but 277 were scored"),
        (100, "predictions.jsonl:1: cannot be read"),
    ],
)
def test_predictions_that_are_not_whole_are_named(tmp_path, kept, message):
    folder = write_study(tmp_path, {"rte": [{"accuracy": 1.0}]})
    path = folder / "runs" / "rte-0" / "predictions.jsonl"
    write_predictions(path, ["entailment"] * 277, ["entailment"] * 277, "rte")
    assert compare(folder, folder, 100)[0].difference == 0.0
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BertkitError) as caught:
        compare(folder, folder, 100)
    assert message in caught.value.message


def test_seeds_with_rows_of_their_own_are_named(tmp_path):
    folder = write_study(tmp_path, {"rte": [{"accuracy": 1.0}] * 2})
    for seed, label in enumerate(LAYOUTS["rte"].labels):
        write_predictions(folder / "runs" / f"rte-{seed}" / "predictions.jsonl", [label] * 277, [label] * 277, "rte")
    with pytest.raises(BertkitError) as caught:
        compare(folder, folder, 100)
    assert caught.value.message == f"{folder}: RTE, seed 1 was scored on other rows than seed 0 of {folder}"
    assert "draws other rows for each seed" in caught.value.hint


@pytest.mark.parametrize(
    "records",
    [
        [{"id": "0", "gold": "x", "label": "a", "probabilities": {"a": 1.0, "b": 0.0}}],
        [{"id": "0", "gold": "a", "label": "x", "probabilities": {"a": 1.0, "b": 0.0}}],
        [{"id": "0", "gold": 1.0, "label": "a"}],
        [{"id": "0", "gold": "a", "label": "a"}],
    ],
)
def test_answers_that_do_not_belong_together_are_named(records):
    with pytest.raises(BertkitError, match=r"predictions of here: .* do not belong together"):
        to_answers(records, "here")

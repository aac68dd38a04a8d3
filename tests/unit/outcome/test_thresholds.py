"""What the report says of thresholds is what the run answers with them."""

from __future__ import annotations

import numpy as np
import pytest

from bertkit.metrics.classification import multilabel
from bertkit.outcome.classes import findings, label_set_findings
from bertkit.outcome.thresholds import ALL, chosen_note
from bertkit.tasks.classification import Classification
from tests.unit.outcome.made import classes, scored

LABELS = tuple("abcdefgh")


def label_sets(threshold: object, count: int = 60, labels: tuple[str, ...] = LABELS):
    """Rows of many labels, the first of them the most frequent, and answers at these thresholds."""
    rng = np.random.default_rng(0)
    golds = np.arange(count)[:, None] % 10 < np.arange(len(labels) - 1, -1, -1)
    shares = np.clip(rng.normal(0.3 + 0.3 * golds, 0.2), 0, 1)
    task = Classification(kind="labels", labels=labels, threshold=threshold)
    named = [tuple(name for name, is_gold in zip(labels, row, strict=True) if is_gold) for row in golds]
    rows = [{"id": str(number), "text": "", "label": gold} for number, gold in enumerate(named)]
    predictions = [{"label": (), "probabilities": dict(zip(labels, row.tolist(), strict=True))} for row in shares]
    predictions = Classification(kind="labels", labels=labels, threshold=0.5).settled(predictions)
    task = task.tuned(predictions, rows)
    return scored(task, rows, task.settled(predictions))


def test_the_six_most_frequent_labels_and_all_together_have_a_curve_through_their_dot():
    split = label_sets("tuned")
    by_label, series, *_ = label_set_findings(split)
    assert list(series.lines) == [*LABELS[:6], ALL]
    rows = {row[0]: row for row in by_label.rows}
    assert list(series.marks) == [*LABELS[:6]], "the labels together have no threshold of their own"
    for label, (recall, precision) in series.marks.items():
        assert (precision, recall) == pytest.approx(rows[label][3:5])
        assert series.lines[label][series.x.index(recall)] == pytest.approx(precision)
    assert by_label.columns[6:] == ("threshold", "average precision")
    assert rows["h"][6:] == (0.5, None)
    assert rows["a"][6] == split.task.threshold["a"]


def test_the_table_of_thresholds_has_the_scores_of_the_run():
    for threshold, chosen in (("tuned", "each its own (chosen)"), (None, "0.5 (chosen)"), (0.55, "0.55 (chosen)")):
        split = label_sets(threshold)
        table = label_set_findings(split)[2]
        rows = {row[0]: row for row in table.rows}
        assert len(rows) == 9 + (threshold is not None)
        assert rows[chosen][5] == pytest.approx(multilabel(split.answers, split.golds, LABELS)["f1_micro"])
        recall = [row[4] for name, row in rows.items() if "own" not in name]
        assert recall == sorted(recall, reverse=True)


def test_of_two_classes_the_positive_one_has_a_curve():
    split = classes([("yes", "yes", 0.9), ("no", "yes", 0.7), ("yes", "no", 0.6), ("no", "no", 0.8)])
    assert [found.title for found in findings(split)] == ["Confusion", "By label", "Calibration", "Most wrong"]
    split = split._replace(task=Classification(labels=("no", "yes"), positive="yes", threshold=0.65))
    _, by_label, series, table, *_ = findings(split)
    assert (list(series.lines), series.marks) == (["yes"], {"yes": (0.5, 0.5)})
    assert {row[0]: row[6] for row in by_label.rows} == {"no": None, "yes": 0.65}
    assert ("0.65 (chosen)", 2, 2, 0.5, 0.5, 0.5) in table.rows
    assert table.caption.startswith("Of 'yes': ")


def test_without_a_gold_label_nothing_is_drawn():
    split = label_sets("tuned", count=3, labels=("y", "z"))
    rows = [{**row, "label": ()} for row in split.rows]
    titles = [found.title for found in label_set_findings(split._replace(rows=rows))]
    assert titles == ["By label", "By threshold", "Most wrong"]


def test_the_note_has_both_scores_and_n():
    split = label_sets("tuned")._replace(split="validation")
    note = chosen_note({"f1_micro": 0.25}, split)
    assert "f1_micro on validation, 60 rows, is " in note.text
    assert "and 25.00 without" in note.text
    assert "optimistic" in note.text

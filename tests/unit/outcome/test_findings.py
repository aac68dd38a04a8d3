"""What a run concludes: notes first, rows to read last, all of it plain JSON."""

from __future__ import annotations

import json

import pytest

from bertkit.findings import Note, to_json
from bertkit.outcome import Background, Scored, findings, records
from bertkit.tasks.classification import Classification
from bertkit.tasks.pos import Pos
from tests.unit.outcome.made import classes, questions, scored, sentences

HISTORY = [
    {"step": 1, "epoch": 0.5, "loss": 2.0},
    {"step": 2, "epoch": 1.0, "loss": 1.0},
    {"step": 2, "epoch": 1.0, "validation": {"accuracy": 0.5, "f1_macro": 0.4, "mse": 2.0, "matthews": None}},
]
NOTHING = Background({}, {}, ())
SPLITS = {
    "class": classes([("yes", "no", 0.7), ("yes", "yes", 0.9), ("no", "no", 0.6)]),
    "labels": scored(
        Classification(kind="labels", labels=("a", "b")),
        [{"id": "0", "text": "x", "label": ("a",)}, {"id": "1", "text": "y", "label": ()}],
        [{"label": ("a", "b")}, {"label": ()}],
    ),
    "number": scored(
        Classification(kind="number"),
        [{"id": str(number), "text": "x", "label": float(number)} for number in range(3)],
        [{"label": value} for value in (0.5, 0.25, 1.0)],
    ),
    "token": sentences("a/DET/DET dog/NOUN/VERB", tags_seen={"a": {"DET"}}),
    "span": questions([("Who?", "Ada did.", ("Ada",), "did", 0.5)]),
}


def kinds_of(split: Scored | None, best_by: str = "accuracy") -> list[tuple[str, str]]:
    return [(finding.kind, finding.title) for finding in findings(split, NOTHING, HISTORY, best_by)]


def notes_of(split: Scored | None, background: Background = NOTHING) -> dict[str, str]:
    return {note.title: note.text for note in findings(split, background, [], "accuracy") if note.kind == "note"}


@pytest.mark.parametrize("head", SPLITS)
def test_findings_of_every_head_are_plain_json(head):
    found = findings(SPLITS[head], NOTHING, HISTORY, "accuracy")
    values = to_json(found)
    assert json.loads(json.dumps(values, allow_nan=False)) == json.loads(json.dumps(values))
    assert [type(finding).model_validate(value) for finding, value in zip(found, values, strict=True)] == found


@pytest.mark.parametrize("head", SPLITS)
def test_notes_come_first_and_rows_to_read_last(head):
    kinds = [kind for kind, _ in kinds_of(SPLITS[head])]
    assert kinds == sorted(kinds, key=lambda kind: {"note": 0, "passages": 2}.get(kind, 1))
    assert kinds.count("passages") == 1


@pytest.mark.parametrize("head", ["class", "number", "span"])
def test_tables_of_rows_count_every_row_once(head):
    split = SPLITS[head]
    tables = [finding for finding in findings(split, NOTHING, [], "f1") if finding.kind == "table" and finding.rows]
    assert tables
    for table in tables:
        assert sum(row[table.columns.index("count")] for row in table.rows) == len(split.rows), table.title


def test_a_run_without_a_scored_split_has_its_curves():
    titles = ["Validation accuracy", "Training loss", "Coverage"]
    assert [title for _, title in kinds_of(None)] == titles


def test_the_headline_and_the_metric_that_picked_the_weights_are_drawn_over_the_steps():
    found = {finding.title: finding for finding in findings(SPLITS["class"], NOTHING, HISTORY, "f1_macro")}
    curve = found["Validation accuracy and f1_macro"]
    assert (curve.x, curve.lines) == ((2.0,), {"accuracy": (0.5,), "f1_macro": (0.4,)})
    assert found["Training loss"].lines == {"train": (2.0, 1.0)}


def test_metrics_of_another_unit_have_an_axis_of_their_own():
    titles = [title for kind, title in kinds_of(SPLITS["class"], "mse") if kind == "series"]
    assert titles == ["Calibration", "Validation accuracy", "Validation mse", "Training loss"]


def test_an_undefined_score_is_noted_and_drawn_as_a_gap():
    split = classes([("yes", "yes", 0.9), ("yes", "yes", 0.9)])
    note = notes_of(split)["Undefined scores"]
    assert note == "matthews on test, 2 rows: the rows or the answers leave nothing to measure."
    found = {finding.title: finding for finding in findings(split, NOTHING, HISTORY, "matthews")}
    assert found["Validation accuracy and matthews"].lines["matthews"] == (None,)


def test_one_answer_for_every_row_is_noted():
    note = notes_of(classes([("yes", "no", 0.9), ("no", "no", 0.9), ("yes", "no", 0.8)]))
    assert note["The answer is always the same"].startswith("All 3 answers on test are 'no', whatever the row.")
    assert "The answer is always the same" not in notes_of(SPLITS["class"])
    assert "All 2 answers" in notes_of(sentences("a/DET/DET b/NOUN/DET"))["The answer is always the same"]


def test_accuracy_that_the_most_frequent_label_reaches_is_noted_with_both_figures():
    split = classes([("yes", "no", 0.9), ("yes", "yes", 0.9), ("yes", "no", 0.8), ("no", "no", 0.8)])
    assert notes_of(split)["No better than the most frequent label"] == (
        "The accuracy on test is 50.0 %; answering 'yes' every time gives 75.0 % (n = 4)."
    )
    better = classes(
        [("yes", "yes", 0.9), ("no", "no", 0.9), ("yes", "no", 0.8), ("yes", "yes", 0.8), ("no", "no", 1.0)]
    )
    assert notes_of(better) == {}


def test_a_split_without_a_mistake_has_no_rows_to_read():
    assert "passages" not in {kind for kind, _ in kinds_of(classes([("yes", "yes", 0.9), ("no", "no", 0.8)]))}


def test_what_is_known_of_the_rows_is_noted():
    note = Note(title="Rows left out", text="These rows are not part of any figure. train: 7 bad rows.")
    assert notes_of(None, Background({}, {}, (note,))) == {note.title: note.text}


def test_a_task_adds_findings_and_replaces_those_of_its_head():
    class Counting(Pos):
        def breakdowns(self, predictions, rows, where):
            return [
                Note(title="Own", text=f"{len(predictions)} of {len(rows)}, {where}"),
                Note(title="By tag", text=""),
            ]

    split = sentences("a/DET/DET dog/NOUN/VERB")
    found = findings(split._replace(task=Counting(labels=split.task.labels)), NOTHING, [], "accuracy")
    assert Note(title="Own", text="1 of 1, test, 1 row") in found
    assert [finding.kind for finding in found if finding.title == "By tag"] == ["note"]
    assert "Confusion" in [finding.title for finding in found]


def test_records_hold_what_was_read_what_is_right_and_what_was_answered():
    split = SPLITS["class"]
    first = next(records(split.task, split.rows, split.predictions))
    assert first == {
        "id": "r0", "text": "text 0", "gold": "yes", "label": "no", "probabilities": {"no": 0.7, "yes": 0.0},
    }  # fmt: skip

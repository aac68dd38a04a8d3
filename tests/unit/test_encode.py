"""Coverage counts and names everything that windows take from a perfect model."""

from __future__ import annotations

import numpy as np
import pytest

from bertkit.encode import Coverage, cover, coverage_table, cut_rows, stack_targets
from bertkit.tasks.classification import Classification
from bertkit.tasks.nli import NLI
from bertkit.tasks.pos import Pos
from bertkit.tasks.qa import QA
from bertkit.tasks.sentiment import Sentiment
from tests.families import maker_of

DOCUMENT = " ".join(["the"] * 50 + ["bread"] + ["a"] * 50)


def question(id: str, context: str, answer: str | None, question: str = "who") -> dict[str, object]:
    answers = [] if answer is None else [{"text": answer, "start": context.index(answer)}]
    return {"id": id, "question": question, "context": context, "answers": answers}


def test_answers_that_no_model_can_give_are_named(tiny):
    rows = [
        question("found", DOCUMENT, "bread"),
        question("short", "bread and a", "bread"),
        question("none", "bread and a", None),
        question("31 tokens", DOCUMENT, " ".join(["a"] * 31)),
        question("30 tokens", DOCUMENT, " ".join(["a"] * 30)),
        question("inside a word", "bread", "rea"),
    ]
    maker = maker_of(tiny, max_length=64, stride=20)
    task = QA(unanswerable=True)
    part = cut_rows(task, rows, maker)
    covered = cover(task, [part])
    assert covered.unreached == ("31 tokens", "inside a word")
    assert (covered.rows, covered.reached) == (6, 4)
    # 101 tokens in windows of 60 that start at 0, 40 and 80
    assert covered.windows == len(part.store) == 3 * 3 + 3
    assert covered.windowed == 3
    assert (covered.shortened, covered.crowded, covered.pieceless) == ((), (), 0)


def test_an_answer_that_the_overlap_cuts_is_named(tiny):
    # windows of 27 tokens start at 0, 22, 44, 66, 88: none holds tokens 40 to 50 whole
    row = question("cut", DOCUMENT, " ".join(["the"] * 10 + ["bread"]))
    for stride, expected in ((5, ("cut",)), (16, ())):
        part = cut_rows(QA(), [row], maker_of(tiny, max_length=31, stride=stride))
        assert cover(QA(), [part]).unreached == expected


def test_questions_that_are_cut_and_overlaps_that_shrink_are_named(tiny):
    long = " ".join(["who"] * 40)
    rows = [
        question("good", DOCUMENT, "bread"),
        question("cut", DOCUMENT, "bread", long),
        question("crowded", DOCUMENT, "bread", " ".join(["who"] * 12)),
        question("fits", "bread", "bread", " ".join(["who"] * 12)),
    ]
    covered = cover(QA(), [cut_rows(QA(), rows, maker_of(tiny, max_length=32, stride=20))])
    assert covered.shortened == ("cut",)
    # half of the 29 places are left to a question that is cut
    assert covered.crowded == ("cut", "crowded")
    assert covered.unreached == ()


def test_words_without_pieces_are_counted_and_their_rows_named(tiny):
    task = Pos(labels=("NOUN", "X"))
    rows = [
        {"id": "lost", "words": ["a", "", "\u200b"], "tags": ["NOUN", "NOUN", "X"]},
        {"id": "lucky", "words": ["a", "\u00ad"], "tags": ["NOUN", "X"]},
        {"id": "long", "words": ["a"] * 100, "tags": ["NOUN"] * 100},
    ]
    covered = cover(task, [cut_rows(task, rows, maker_of(tiny, words=True))])
    assert covered.pieceless == 3
    assert covered.unreached == ("lost",)
    assert (covered.rows, covered.reached, covered.windowed) == (3, 2, 1)


def test_texts_of_any_length_are_reached(tiny):
    task = Sentiment(labels=("a", "b"))
    rows = [{"id": str(count), "text": "bread " * count, "label": "a"} for count in (0, 1, 500)]
    covered = cover(task, [cut_rows(task, rows, maker_of(tiny))])
    assert (covered.rows, covered.reached, covered.unreached, covered.windowed) == (3, 3, (), 1)
    task = NLI(labels=("a", "b"))
    pair = {"id": "7", "premise": "bread " * 50, "hypothesis": "a " * 20, "label": "a"}
    assert cover(task, [cut_rows(task, [pair], maker_of(tiny))]).shortened == ("7",)


def test_parts_are_covered_as_the_whole(tiny):
    rows = [question(str(place), DOCUMENT, "bread", "who " * (place * 5)) for place in range(7)]
    rows += [question("x", "bread", "rea")]
    maker = maker_of(tiny, max_length=32, stride=20)
    whole = cover(QA(), [cut_rows(QA(), rows, maker)])
    assert whole.unreached
    assert whole.shortened
    assert cover(QA(), [cut_rows(QA(), rows[start : start + 3], maker) for start in (0, 3, 6)]) == whole


def test_one_line_names_what_a_reader_could_lose():
    full = Coverage(1234, 5678, 90, 1230, ("a", "b", "c", "d"), ("e",), ("f", "g", "h"), 1000)
    assert full.describe() == "1,234 rows, 5,678 windows (90 rows in several)"
    assert full.losses() == (
        "4 rows not exactly reachable (a, b, c, ...); "
        "1 row with the short side cut to fit (e); 3 rows with a smaller overlap (f, g, h); "
        "1,000 words without any piece (they get the fallback tag)"
    )
    assert Coverage(2, 2, 0, 2, (), (), (), 0).losses() == ""


def test_the_table_has_one_row_a_split():
    parts = {"train": Coverage(4, 8, 1, 3, ("a",), ("b",), ("c", "d"), 5), "test": Coverage(0, 0, 0, 0, (), (), (), 0)}
    table = coverage_table(parts)
    assert dict(zip(table.columns, table.rows[0], strict=True)) == {
        "split": "train", "rows": 4, "windows": 8, "rows in several windows": 1, "reachable": 0.75, "short side cut": 1,
        "smaller overlap": 2, "words without pieces": 5,
    }  # fmt: skip
    assert [row[0] for row in table.rows] == ["train", "test"]


@pytest.mark.parametrize(
    ("task", "label", "expected", "dtype"),
    [
        (Classification(labels=("a", "b")), "b", [1, 1], np.int64),
        (Classification(labels=("a", "b"), kind="labels"), ("b",), [[0, 1]] * 2, np.float32),
        (Classification(kind="number"), 2.5, [2.5] * 2, np.float32),
    ],
)
def test_each_window_of_a_text_learns_the_label_of_the_text(tiny, task, label, expected, dtype):
    part = cut_rows(task, [{"id": "0", "text": "bread " * 60, "label": label}], maker_of(tiny, stride=0))
    arrays = stack_targets(task, part)
    assert arrays["share"].tolist() == [0.5, 0.5]  # the row weighs 1, whatever its windows
    assert arrays["labels"].dtype == dtype
    assert arrays["labels"].tolist() == expected


def test_targets_of_spans_and_words_are_whole_numbers(tiny):
    part = cut_rows(QA(), [question("0", DOCUMENT, "bread")], maker_of(tiny))
    arrays = stack_targets(QA(), part)
    assert {name: (array.dtype, len(array)) for name, array in arrays.items()} == {
        "start_positions": (np.int64, len(part.store)), "end_positions": (np.int64, len(part.store))
    }  # fmt: skip
    task = Pos(labels=("NOUN", "X"))
    part = cut_rows(task, [{"id": "0", "words": ["a"] * 90, "tags": ["X"] * 90}], maker_of(tiny, words=True))
    labels = stack_targets(task, part)["labels"]
    assert (labels.dtype, len(labels)) == (np.int64, len(part.store.input_ids))
    assert labels[labels >= 0].tolist() == [1] * 90

"""Questions: each in one group of every breakdown, scores as the metric gives them, marks that slice to the answers."""

from __future__ import annotations

import pytest

from bertkit.outcome.spans import LENGTHS, findings, group_of, length, question_word
from tests.unit.outcome.made import questions

SPLIT = questions(
    [
        ("Who wrote it?", "It was Ada Lovelace in 1843.", ("Ada Lovelace", "Ada"), "Ada", 0.9),
        ("In what year?", "It was Ada Lovelace in 1843.", ("1843",), "Lovelace", 0.6),
        ("How many?", "Two of the seven dwarfs were there.", ("Two of the seven dwarfs",), "seven dwarfs", 0.8),
        ("Name one.", "Doc, Happy and Bashful", ("Doc",), "Happy", 0.7),
    ],
    window_counts=[1, 2, 3, 7],
)


def tables(split) -> dict:
    return {finding.title: finding.rows for finding in findings(split) if finding.kind == "table"}


def test_every_question_is_counted_once_in_every_table_and_empty_groups_are_left_out():
    found = tables(SPLIT)
    assert found["By question word"] == (
        ("how many/much", 1, 0.0, pytest.approx(2 * 2 / (2 + 4))),  # the article does not count
        ("who", 1, 1.0, 1.0),
        ("what", 1, 0.0, 0.0),
        ("other", 1, 0.0, 0.0),
    )
    assert [row[:2] for row in found["By length of the gold answer"]] == [("1", 2), ("2", 1), ("5-8", 1)]
    assert [row[:2] for row in found["By windows"]] == [("1", 1), ("2", 1), ("3 or more", 2)]


def test_means_over_the_groups_give_the_score_of_the_split():
    for rows in tables(SPLIT).values():
        for column, name in ((2, "exact_match"), (3, "f1")):
            assert sum(row[1] * row[column] for row in rows) / 4 == pytest.approx(SPLIT.scores[name])


def test_unanswerable_questions_are_a_group_and_no_answer_is_right_there():
    split = questions(
        [
            ("Who?", "Ada did.", (), "", 0.9),
            ("Who?", "Ada did.", (), "Ada", 0.8),
            ("Who?", "Ada did.", ("Ada",), "", 0.7),
        ],
        unanswerable=True,
    )
    found = tables(split)
    assert found["Answerable or not"] == (("answerable", 1, 0.0, 0.0), ("unanswerable", 2, 0.5, 0.5))
    assert found["By length of the gold answer"] == (("1", 1, 0.0, 0.0), ("(no answer)", 2, 0.5, 0.5))
    wrong = findings(split)[-1].passages
    assert [passage.facts["gold"] for passage in wrong] == ["(no answer)", "Ada"]
    assert [passage.facts["predicted"] for passage in wrong] == ["Ada", "(no answer)"]
    assert [[span.kind for span in passage.spans["context"]] for passage in wrong] == [["predicted"], ["gold"]]


def test_mistakes_that_share_nothing_come_first_the_surest_before():
    wrong = findings(SPLIT)[-1]
    assert [passage.title for passage in wrong.passages] == ["q3", "q1", "q2"]
    assert wrong.caption.startswith("3 of 3 questions without an exact match (test, 4 rows)")


def test_marks_slice_to_the_gold_answers_and_to_the_predicted_one():
    for passage, (golds, given) in zip(
        findings(SPLIT)[-1].passages,
        [(["Doc"], "Happy"), (["1843"], "Lovelace"), (["Two of the seven dwarfs"], "seven dwarfs")],
        strict=True,
    ):
        text = passage.texts["context"]
        marked = [(span.kind, text[span.start : span.end]) for span in passage.spans["context"]]
        assert marked == [*(("gold", gold) for gold in golds), ("predicted", given)]
        assert passage.facts["gold"] == " | ".join(golds)


@pytest.mark.parametrize(
    ("language", "question", "group"),
    [
        ("en", "Whose dog is it?", "who"),
        ("en", "What's that?", "what"),
        ("en", "In which city, and when?", "which"),
        ("en", "How much does it cost?", "how many/much"),
        ("en", "How does it work?", "how"),
        ("en", "Is there a whatnot somewhere?", "other"),
        ("zh", "尤金袋鼠的体重大约是多少？", "多少/几"),
        ("zh", "蒙泰罗获得第几名？", "多少/几"),
        ("zh", "蒋家旻什么时候被挑选？", "何时/什么时候"),
        ("zh", "韩遂为什么要投靠羌人？", "为什么"),
        ("zh", "那么该棱柱被称为什么？", "什么"),
        ("zh", "位于什么地方？", "什么"),
        ("zh", "总部在哪里？", "哪"),
        ("zh", "王法慧是誰的女儿？", "谁"),
        ("zh", "怎样做面包？", "怎么/如何"),
        ("zh", "参与者都必须裸体吗？", "other"),
    ],
)
def test_the_first_question_word_decides(language, question, group):
    assert question_word(question, language) == group


def test_lengths_fall_into_one_group_each():
    assert list(LENGTHS["en"]) == ["1", "2", "3-4", "5-8", "9+"]
    assert [group_of(count, LENGTHS["en"]) for count in (0, 1, 2, 3, 4, 5, 8, 9, 99)] == [
        "1", "1", "2", "3-4", "3-4", "5-8", "5-8", "9+", "9+",
    ]  # fmt: skip
    assert (length("the old town", "en"), length("约0.304平方公里。", "zh")) == (3, 6)


def test_chinese_questions_are_grouped_and_measured_as_chinese():
    context = "面包起源于埃及。"
    found = tables(questions([("面包起源于哪里？", context, ("埃及",), "埃", 0.9)], language="zh"))
    assert found["By question word"] == (("哪", 1, 0.0, pytest.approx(2 / 3)),)
    assert found["By length of the gold answer"][0][:2] == ("1-2", 1)

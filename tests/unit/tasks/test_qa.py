"""QA keeps the contract of tasks: the best span of the document over all windows, exactly, as text of the document."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import assume, settings
from hypothesis import given as drawing
from hypothesis import strategies as st

from bertkit.data.windows import Window
from bertkit.encode import cut_rows, targets_of
from bertkit.metrics.squad import squad_v2
from bertkit.tasks.base import Output, make_task
from bertkit.tasks.qa import CLS, QA, spans_of
from tests.families import FAMILIES, maker_of
from tests.strategies import ODD
from tests.unit.tasks.contract import TaskContract, decoded, longer, oracle_outputs, random_outputs

quick = settings(max_examples=80, deadline=None, derandomize=True)
families = pytest.mark.parametrize("family", FAMILIES)
WORDS = np.zeros(0, np.int32)


def row_of(context: str, answer: str | None, question: str = "who") -> dict[str, object]:
    answers = [] if answer is None else [{"text": answer, "start": context.index(answer)}]
    return {"id": "0", "question": question, "context": context, "answers": answers}


ROWS = (
    row_of("The baker bakes the bread at night, and sells it at noon.", "at night", "When is bread baked?"),
    row_of("新加坡的面包师半夜烤面包，中午卖。", "半夜", "什么时候？"),
    row_of("Le cafe\u0301 de Beyonce\u0301 🙂 est froid.", "Beyonce\u0301", "Whose?"),
)


class TestQA(TaskContract):
    task = QA()
    rows = ROWS

    def test_an_answer_is_always_a_span_of_the_document(self, maker):
        rows = [longer(self.task, row, times) for row in self.rows for times in (1, 5)]
        for row, given in zip(rows, decoded(self.task, rows, random_outputs(self.task, rows, maker)), strict=True):
            assert given["answer"]
            for entry in (given, *given["n_best"]):
                assert entry["answer"] == row["context"][entry["start"] : entry["end"]] != ""

    def test_the_n_best_are_unique_and_their_probabilities_sum_to_one(self, maker):
        rows = [longer(self.task, row) for row in self.rows]
        for outputs, row in zip(random_outputs(self.task, rows, maker), rows, strict=True):
            n_best = self.task.decode(row, outputs)["n_best"]
            assert len(n_best) == len({(entry["start"], entry["end"]) for entry in n_best}) == 20
            assert sum(entry["probability"] for entry in n_best) == pytest.approx(1)
            shares = [entry["probability"] for entry in n_best]
            assert shares == sorted(shares, reverse=True)


class TestUnanswerable(TaskContract):
    task = QA(unanswerable=True, no_answer_threshold=1.5)
    rows = (*ROWS[:2], row_of("The ferry to the island leaves at seven and again at noon.", None, "Who?"))

    def test_no_answer_is_among_the_n_best_once(self, maker):
        for row, outputs in zip(self.rows, random_outputs(self.task, self.rows, maker), strict=True):
            given = self.task.decode(row, outputs)
            assert [entry["answer"] for entry in given["n_best"]].count("") == 1
            assert sum(entry["probability"] for entry in given["n_best"]) == pytest.approx(1)
            assert given["best_span"]
            assert (given["answer"] == "") == (given["no_answer_score"] > 1.5)


# Windows made by hand.


def window_of(spans: list[tuple[int, int]], number: int = 0, count: int = 1) -> Window:
    return Window(number, count, np.array(spans, np.int32).reshape(-1, 2), WORDS)


def output_of(window: Window, start: list[float], end: list[float]) -> Output:
    return Output(window, (np.array(start, np.float32), np.array(end, np.float32)))


def plain_ranking(outputs: list[Output], n_best: int, max_length: int) -> list[tuple[float, int, int]]:
    """All spans of all windows, the best first; of equal ones the earlier, then the shorter."""
    best: dict[tuple[int, int], float] = {}
    for window, (start, end) in outputs:
        context = [place for place, (first, last) in enumerate(window.spans.tolist()) if last > first >= 0]
        for number, place in enumerate(context):
            for other in context[number : number + max_length]:
                span = int(window.spans[place, 0]), int(window.spans[other, 1])
                best[span] = max(best.get(span, -np.inf), float(start[place] + end[other]))
    return sorted((-score, *span) for span, score in best.items())[:n_best]


@st.composite
def hand_made(draw: st.DrawFn) -> list[Output]:
    """Up to three windows whose pieces may share characters or have none; whole-number scores tie often."""
    count = draw(st.integers(1, 3))
    score = draw(st.sampled_from([st.integers(-2, 2).map(float), st.floats(-9, 9, width=32)]))
    outputs = []
    for number in range(count):
        steps = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12))
        spans, place = [(-1, -1)] * draw(st.integers(1, 4)), draw(st.integers(0, 5))
        for skipped, length in steps:
            # (0, 1) after (0, 1): bytes of one character; length 0: white space
            place += skipped
            spans.append((place, place + length))
        spans.append((-1, -1))
        scores = st.lists(score, min_size=len(spans), max_size=len(spans))
        outputs.append(output_of(window_of(spans, number, count), draw(scores), draw(scores)))
    return outputs


CONTEXT = "".join(map(chr, range(0x4E00, 0x4E00 + 64)))


@settings(max_examples=200, deadline=None, derandomize=True)
@drawing(hand_made(), st.integers(1, 25), st.integers(1, 6), st.randoms())
def test_the_ranking_is_that_of_a_plain_search_over_all_spans(outputs, n_best, max_length, random):
    expected = [(start, end) for _, start, end in plain_ranking(outputs, n_best, max_length)]
    row = {"context": CONTEXT}
    given = QA(n_best=n_best, max_answer_length=max_length).decode(row, random.sample(outputs, len(outputs)))
    assert [(entry["start"], entry["end"]) for entry in given["n_best"]] == (expected or [(None, None)])
    assert (given["start"], given["end"]) == (expected[0] if expected else (None, None))
    one = spans_of(outputs[0], n_best, max_length)
    assert sorted((-score, start, end) for start, end, score in one) == plain_ranking(outputs[:1], n_best, max_length)


@quick
@drawing(hand_made(), st.floats(-5, 5, width=32))
def test_the_surest_window_decides_whether_there_is_no_answer(outputs, threshold):
    given = QA(unanswerable=True, no_answer_threshold=threshold).decode({"context": CONTEXT}, outputs)
    ranking = plain_ranking(outputs, 1, 30)
    null = min(float(start[CLS]) + float(end[CLS]) for _, (start, end) in outputs)
    if not ranking:
        assert (given["answer"], given["best_span"]) == ("", "")
        return
    assert given["no_answer_score"] == pytest.approx(null + ranking[0][0])
    assert given["best_span"] == CONTEXT[slice(*ranking[0][1:])]
    assert given["answer"] == ("" if given["no_answer_score"] > threshold else given["best_span"])


def test_one_window_that_is_sure_of_no_answer_does_not_outvote_one_that_found_it():
    # three windows of [CLS] and two words; the first two are very sure that the answer is not in them
    spans = [[(-1, -1), (0, 2), (3, 5)], [(-1, -1), (3, 5), (6, 8)], [(-1, -1), (6, 8), (9, 11)]]
    scores = [([9, 0, 0], [9, 0, 0]), ([8, 0, 1], [8, 0, 1]), ([1, 0, 5], [1, 0, 4])]
    outputs = [output_of(window_of(spans[number], number, 3), *scores[number]) for number in range(3)]
    given = QA(unanswerable=True).decode({"context": "aa bb cc dd"}, outputs)
    assert given["no_answer_score"] == (1 + 1) - (5 + 4)
    assert (given["answer"], given["start"], given["end"]) == ("dd", 9, 11)
    # were it the only answer, all three windows would have to doubt it
    doubtful = [*outputs[:2], output_of(outputs[2].window, [6, 0, 5], [6, 0, 4])]
    given = QA(unanswerable=True).decode({"context": "aa bb cc dd"}, doubtful)
    assert given["no_answer_score"] == (6 + 6) - (5 + 4)
    assert (given["answer"], given["best_span"], given["start"], given["end"]) == ("", "dd", None, None)
    assert QA(unanswerable=True, no_answer_threshold=3.0).decode({"context": "aa bb cc dd"}, doubtful)["answer"] == "dd"


def test_only_places_of_the_document_compete():
    # [CLS], 50 places of the question with far higher scores, [SEP], four words, [SEP]
    spans = [(-1, -1)] * 52 + [(0, 2), (3, 5), (6, 8), (9, 11)] + [(-1, -1)]
    high = [50.0] * 52
    output = output_of(window_of(spans), [*high, 1, 3, 0, 0, 60], [*high, 1, 0, 2, 0, 60])
    given = QA(n_best=5).decode({"context": "aa bb cc dd"}, [output])
    assert (given["answer"], given["start"], given["end"]) == ("bb cc", 3, 8)
    assert all(entry["start"] is not None for entry in given["n_best"])
    assert len(given["n_best"]) == 5


@pytest.mark.parametrize("unanswerable", [False, True])
def test_a_document_without_any_piece_is_answered_with_nothing(tiny, unanswerable):
    task = QA(unanswerable=unanswerable)
    for context in ("", " \n ", "\u200b"):
        row = row_of(context, None)
        outputs = random_outputs(task, [row], maker_of(tiny))[0]
        given = task.decode(row, outputs)
        assert (given["answer"], given["start"], given["end"]) == ("", None, None)
        assert given["n_best"] == [{"answer": "", "start": None, "end": None, "probability": 1.0}]
        assert "empty" not in json.dumps(given, allow_nan=False)


# What is right, in windows by a tokenizer.


@families
@pytest.mark.parametrize("kind", ODD)
def test_an_answer_of_any_script_is_recovered_to_the_character(tiny, family, kind):
    answer = ODD[kind].strip() or "a\u3000b"
    row = row_of(f"bread  {answer}\n and the rest of it, {answer}", answer)
    task = QA()
    prediction = decoded(task, [row], oracle_outputs(task, [row], maker_of(tiny, family, 48, 16)))[0]
    unseen = {"\u200b", "\u200d", "\ufeff", "\u00ad"}
    if answer[0] in unseen or answer[-1] in unseen:
        # WordPiece makes no piece of it
        assert prediction["answer"] in answer
    else:
        assert prediction["answer"] == answer
        assert prediction["start"] == row["answers"][0]["start"]


@families
def test_white_space_around_a_gold_answer_is_no_loss(tiny, family):
    for answer in ("at night ", " at night", "\u3000at night\n"):
        row = row_of(f"The loaf is baked {answer} by two of them.", answer)
        prediction = decoded(QA(), [row], oracle_outputs(QA(), [row], maker_of(tiny, family, 48, 16)))[0]
        assert prediction["answer"] == "at night"
        assert QA().is_recovered(row, prediction)
        assert not QA().is_recovered(row, {**prediction, "answer": "night"})


@families
def test_marks_stay_with_their_letters(tiny, family):
    for form in ("NFC", "NFD"):
        answer = unicodedata.normalize(form, "Beyoncé")
        row = row_of(f"a {answer} b", answer)
        prediction = decoded(QA(), [row], oracle_outputs(QA(), [row], maker_of(tiny, family, 48, 16)))[0]
        assert prediction["answer"] == answer


@families
def test_white_space_before_a_question_changes_nothing(tiny, family):
    context = "The baker  bakes the bread at night."
    rows = [row_of(context, "bread", question) for question in ("who bakes", "  who bakes", "\n\u3000who bakes ")]
    parts = [cut_rows(QA(), [row], maker_of(tiny, family, 48, 16)) for row in rows]
    for part in parts[1:]:
        assert (part.store.input_ids == parts[0].store.input_ids).all()
        assert (part.store.spans == parts[0].store.spans).all()
        assert targets_of(QA(), part) == targets_of(QA(), parts[0])


def is_whole_in(window: Window, begin: int, end: int) -> bool:
    """Whether the window reads these characters from the first to the last."""
    read = window.spans[window.spans[:, 1] > window.spans[:, 0]]
    return len(read) > 0 and bool(read[0, 0] <= begin) and bool(read[-1, 1] >= end)


@families
def test_a_window_that_holds_only_a_part_of_the_answer_says_no_answer_here(tiny, family):
    answer = "a a a a a a"
    row = row_of(f"{'the ' * 20}{answer}{' the' * 20}", answer)
    begin, end = row["answers"][0]["start"], row["answers"][0]["start"] + len(answer)
    part = cut_rows(QA(), [row], maker_of(tiny, family, 24, 16))
    kinds = []
    for number, target in enumerate(targets_of(QA(), part)):
        window = part.store[number]
        touches = bool(((window.spans[:, 1] > begin) & (window.spans[:, 0] < end) & (window.spans[:, 0] >= 0)).any())
        kinds.append((is_whole_in(window, begin, end), touches))
        if kinds[-1][0]:
            first, last = target
            assert (window.spans[first, 0], window.spans[last, 1]) == (begin, end)
        else:
            assert target == (CLS, CLS)
    # whole, in part and not at all: all three were met
    assert set(kinds) == {(True, True), (False, True), (False, False)}


@families
@settings(max_examples=60, deadline=None, derandomize=True)
@drawing(data=st.data())
def test_windows_that_hold_an_answer_point_at_it_and_others_at_nothing(tiny, family, data):
    word = st.sampled_from(["bread", "the", "a", "北京", "cafe\u0301", "🙂", "in\n\n"])
    words = data.draw(st.lists(word, min_size=3, max_size=30))
    context = " ".join(words)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, min(first + 3, len(words) - 1)))
    answer = " ".join(words[first : last + 1]) + data.draw(st.sampled_from(["", " "]))
    begin = len(" ".join(words[:first])) + bool(first)
    assume(context.startswith(answer, begin))
    row = {**row_of(context, None), "answers": [{"text": answer, "start": begin}]}
    length = data.draw(st.integers(12, 40))
    part = cut_rows(QA(), [row], maker_of(tiny, family, length, data.draw(st.integers(0, length - 8))))
    stripped = answer.strip()
    for number, (start, end) in enumerate(targets_of(QA(), part)):
        window = part.store[number]
        is_whole = is_whole_in(window, begin, begin + len(stripped))
        assert ((start, end) == (CLS, CLS)) == (not is_whole)
        if is_whole:
            assert context[window.spans[start, 0] : window.spans[end, 1]] == stripped


def test_an_answer_is_whole_although_its_edge_leaves_no_piece(tiny):
    # WordPiece drops the marks at both ends of the document, where no other window could hold them
    row = row_of("\ufeffbread rises\u200b", "\ufeffbread rises\u200b")
    part = cut_rows(QA(), [row], maker_of(tiny))
    (start, end), window = targets_of(QA(), part)[0], part.store[0]
    assert (window.spans[start, 0], window.spans[end, 1]) == (1, 12)


@families
def test_answers_are_measured_in_tokens(tiny, family):
    context = " ".join(["a"] * 60)
    maker = maker_of(tiny, family, 100, 60)
    longest = " ".join(["a"] * 30)
    tokens = len(cut_rows(QA(), [row_of(longest, None, "a")], maker_of(tiny, family, 100, 0)).store.input_ids) - len(
        cut_rows(QA(), [row_of("", None, "a")], maker).store.input_ids
    )
    assert tokens >= 30
    for allowed, expected in ((tokens, True), (tokens - 1, False)):
        task = QA(max_answer_length=allowed)
        row = row_of(context, longest)
        prediction = decoded(task, [row], oracle_outputs(task, [row], maker))[0]
        assert task.is_recovered(row, prediction) == expected


def test_thirty_tokens_are_the_longest_answer_unless_told():
    assert QA().max_answer_length == 30


# The threshold.

unanswerable_rows = st.lists(
    st.tuples(st.sampled_from([["a b"], ["b"], [], []]), st.sampled_from(["a b", "b", "c"]), st.floats(-9, 9)),
    min_size=1, max_size=12,
)  # fmt: skip


@quick
@drawing(unanswerable_rows, st.floats(-9, 9))
def test_a_tuned_threshold_keeps_or_improves_f1(drawn, before):
    rows = [{"answers": [{"text": text, "start": 0} for text in golds]} for golds, _, _ in drawn]
    predictions = [{"best_span": span, "no_answer_score": score} for _, span, score in drawn]
    task = QA(unanswerable=True, no_answer_threshold=before)
    tuned = task.tuned(predictions, rows)
    assert tuned.score(predictions, rows)["f1"] >= task.score(predictions, rows)["f1"] - 1e-12
    assert tuned.score(predictions, rows)["f1"] == pytest.approx(tuned.score(predictions, rows)["best_f1"])
    assert tuned.model_copy(update={"no_answer_threshold": before}) == task
    assert QA.model_validate(tuned.model_dump(mode="json")) == tuned


def test_without_unanswerable_questions_nothing_is_tuned():
    assert QA().tuned([], []) == QA()


@quick
@drawing(st.lists(st.tuples(hand_made(), st.sampled_from([CONTEXT[2:4], CONTEXT[5:7], None])), min_size=1, max_size=5))
def test_the_score_is_that_of_the_answers_given(drawn):
    task = QA(unanswerable=True, no_answer_threshold=0.5, language="zh")
    rows = [row_of(CONTEXT, answer) for _, answer in drawn]
    predictions = [task.decode(row, outputs) for row, (outputs, _) in zip(rows, drawn, strict=True)]
    golds = [[answer["text"] for answer in row["answers"]] for row in rows]
    final = squad_v2([given["answer"] for given in predictions], [0.0] * len(rows), golds, "zh", threshold=None)
    scores = task.score(predictions, rows)
    for name in ("f1", "exact_match", "has_answer_f1", "no_answer_accuracy"):
        assert scores[name] == final[name]


def test_a_chinese_answer_may_have_more_tokens_unless_it_is_set():
    assert make_task({"name": "qa"}).max_answer_length == 30
    assert make_task({"name": "qa", "language": "zh"}).max_answer_length == 100
    assert make_task({"name": "qa", "language": "zh", "max_answer_length": 7}).max_answer_length == 7

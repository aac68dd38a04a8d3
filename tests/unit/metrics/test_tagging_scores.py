"""Word and entity scores on cases small enough to check by hand."""

import random
import time

import pytest

from bertkit.errors import BertkitError
from bertkit.metrics.tagging import find_spans, ill_formed_count, scheme_of, spans, spans_by_type, tagging

pytestmark = pytest.mark.filterwarnings("error")


def test_every_word_counts_alike_whatever_its_row():
    scores = tagging([["NOUN"], ["NOUN", "VERB", "VERB"]], [["NOUN"], ["NOUN", "NOUN", "VERB"]])
    assert list(scores) == ["accuracy", "f1_macro"]
    assert scores["accuracy"] == 0.75
    assert scores["f1_macro"] == pytest.approx((4 / 5 + 2 / 3) / 2)


@pytest.mark.parametrize("score", [tagging, spans])
def test_a_row_of_another_length_is_our_bug_and_named(score):
    with pytest.raises(AssertionError, match="row 1: 2 tags predicted for 3 words"):
        score([["O"], ["O", "O"]], [["O"], ["O", "O", "O"]])
    with pytest.raises(AssertionError, match="1 rows predicted for 2 rows"):
        score([["O"]], [["O"], []])


def test_no_word_leaves_every_score_undefined():
    assert tagging([[], []], [[], []]) == {"accuracy": None, "f1_macro": None}
    assert spans([[]], [[]]) == {"f1": None, "precision": None, "recall": None}
    assert spans([], []) == {"f1": None, "precision": None, "recall": None}


def test_an_entity_counts_only_when_whole_and_of_its_type():
    references = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O"]]
    predictions = [["B-PER", "O", "O", "B-LOC"], ["B-LOC", "O"]]
    assert list(spans(predictions, references)) == ["f1", "precision", "recall"]
    assert spans(predictions, references) == pytest.approx({"f1": 1 / 3, "precision": 1 / 3, "recall": 1 / 3})


def test_an_inside_tag_after_another_type_begins_an_entity():
    assert spans([["I-PER", "I-PER", "I-LOC"]], [["B-PER", "I-PER", "B-LOC"]])["f1"] == 1.0


def test_tags_without_a_type_are_entities_of_one_unnamed_type():
    assert spans([["O", "I", "I", "B"]], [["O", "B", "I", "I"]]) == {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert spans([["O", "I", "I", "O"]], [["O", "B", "I", "O"]])["f1"] == 1.0


def test_a_begin_tag_parts_neighbours_of_one_type():
    assert spans([["B-PER", "I-PER"]], [["B-PER", "B-PER"]]) == {"f1": 0.0, "precision": 0.0, "recall": 0.0}


def test_no_entity_crosses_into_the_next_row():
    assert spans([["O", "B-PER"], ["I-PER", "O"]], [["O", "B-PER"], ["B-PER", "O"]])["f1"] == 1.0


def test_entities_on_one_side_only_leave_the_other_sides_share_undefined():
    assert spans([["B-PER"]], [["O"]]) == {"f1": 0.0, "precision": 0.0, "recall": None}
    assert spans([["O"]], [["B-PER"]]) == {"f1": 0.0, "precision": None, "recall": 0.0}


@pytest.mark.parametrize("tag", ["NOUN", "X-PER", "", "b-PER", "BPER"])
def test_entity_scores_refuse_tags_of_no_scheme(tag):
    with pytest.raises(BertkitError, match=f"references: row 1 has the tag '{tag}', which marks no entity") as raised:
        spans([["O"], ["O", "O"]], [["O"], ["O", tag]])
    assert "`tagging`" in raised.value.hint


def test_numbers_in_place_of_tags_are_refused_with_the_setting_that_names_them():
    with pytest.raises(BertkitError, match="row 0 has the tag '3'") as raised:
        spans([["O"]], [["3"]])
    assert "task.labels=[O,B-PER,I-PER]" in raised.value.hint


WRITTEN = {  # one sentence, two entities of one type side by side, then one of a word
    "IOB1": ["I-PER", "I-PER", "B-PER", "I-PER", "I-PER", "O", "I-LOC"],
    "IOB2": ["B-PER", "I-PER", "B-PER", "I-PER", "I-PER", "O", "B-LOC"],
    "BIOES": ["B-PER", "E-PER", "B-PER", "I-PER", "E-PER", "O", "S-LOC"],
    "BILOU": ["B-PER", "L-PER", "B-PER", "I-PER", "L-PER", "O", "U-LOC"],
    "BMES": ["B-PER", "E-PER", "B-PER", "M-PER", "E-PER", "O", "S-LOC"],
}


@pytest.mark.parametrize("scheme", WRITTEN)
def test_every_scheme_is_named_and_says_the_same_entities(scheme):
    rows = [WRITTEN[scheme], ["O"], []]
    assert scheme_of(rows, "train") == scheme
    found = find_spans(rows, "train")
    assert [*zip(found.first.tolist(), found.last.tolist(), found.type.tolist(), strict=True)] == [
        (1, 2, "PER"), (3, 5, "PER"), (7, 7, "LOC")
    ]  # fmt: skip
    assert ill_formed_count(found, scheme) == 0
    assert spans(rows, [WRITTEN["IOB2"], ["O"], []])["f1"] == 1.0


@pytest.mark.parametrize(
    ("scheme", "tags", "count"),
    [
        ("IOB2", ["O", "I-PER", "I-LOC", "O", "B-PER", "I-PER"], 2),
        ("IOB1", ["O", "B-PER", "I-PER", "O", "I-LOC"], 1),
        ("BIOES", ["B-PER", "O", "E-PER", "S-LOC", "B-LOC", "I-LOC", "O", "I-LOC", "E-LOC"], 4),
        ("BILOU", ["U-PER", "U-PER", "B-PER", "L-LOC"], 2),
    ],
)
def test_entities_in_tags_that_their_scheme_forbids_are_read_and_counted(scheme, tags, count):
    assert ill_formed_count(find_spans([tags], "train"), scheme) == count


def test_tags_that_fit_both_ways_of_inside_and_outside_are_called_iob2():
    assert scheme_of([["O", "O"]], "train") == scheme_of([["B-PER"]], "train") == "IOB2"
    assert scheme_of([["I-PER", "O", "B-PER"]], "train") == "IOB2"


def test_entities_are_counted_by_their_type():
    predictions, references = [["B-PER", "O", "B-LOC"]], [["B-PER", "O", "B-ORG"]]
    assert spans_by_type(predictions, references) == {"LOC": (0, 1, 0), "ORG": (0, 0, 1), "PER": (1, 1, 1)}


def test_twenty_five_thousand_words_are_scored_at_once():
    rng = random.Random(0)
    rows = [[rng.choice(["O", "B-PER", "I-PER", "B-LOC"]) for _ in range(10)] for _ in range(2500)]
    for score in (tagging, spans):
        start = time.process_time()
        score(rows, rows[::-1])
        assert time.process_time() - start < 1.0  # 0.04 s measured; room for a busy machine

"""Whatever the predictions, a score is a finite fraction or None, and the truth itself scores best."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.metrics.classification import binary_f1, classification, multilabel
from bertkit.metrics.regression import regression
from bertkit.metrics.squad import best_threshold, squad, squad_v2
from bertkit.metrics.tagging import spans, tagging

pytestmark = pytest.mark.filterwarnings("error")

# the first example of a run pays the import of scipy
relaxed = settings(deadline=None, max_examples=100)


def columns(*elements: st.SearchStrategy, max_size: int = 12) -> st.SearchStrategy:
    """Columns of one common length, a tuple of lists."""
    rows = st.lists(st.tuples(*elements), max_size=max_size)
    return rows.map(lambda drawn: tuple(list(column) for column in zip(*drawn, strict=True)) or ([],) * len(elements))


label = st.sampled_from(["a", "b", "c"])
number = st.floats(allow_nan=True, allow_infinity=True)
text = st.text(alphabet="the an a, 12.北京《》é", max_size=12) | st.text(max_size=12)
cut = st.integers(-3, 3) | st.sampled_from([math.inf, -math.inf])
golds = st.lists(text, max_size=3)
score = st.floats(-1e300, 1e300) | st.sampled_from([math.nan, math.inf, -math.inf])
language = st.sampled_from(["en", "zh"])
tag = st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B", "I"])
tagged = st.lists(st.tuples(tag, tag), max_size=8)


def assert_fractions(scores: dict, low: float = 0.0, free: tuple[str, ...] = ()) -> None:
    """Every score is a float between `low` and 1 or None; those in `free` have another unit."""
    json.dumps(scores, allow_nan=False)
    for name, score in scores.items():
        assert score is None or type(score) is float, (name, score)
        if score is not None and name not in free:
            assert low <= score <= 1.0, (name, score)


@relaxed
@given(columns(label, label))
def test_label_scores_are_fractions(drawn):
    predictions, references = drawn
    scores = classification(predictions, references)
    assert_fractions({name: scores[name] for name in ("accuracy", "f1_macro")})
    assert_fractions({"matthews": scores["matthews"]}, low=-1.0)
    assert_fractions(binary_f1(predictions, references, positive="a"))
    assert (scores["matthews"] is None) == (len(set(predictions)) < 2 or len(set(references)) < 2)


@relaxed
@given(columns(st.sets(label), st.sets(label)))
def test_multilabel_scores_are_fractions(drawn):
    assert_fractions(multilabel(*drawn, labels=["a", "b", "c", "d"]))


@relaxed
@given(columns(number, number))
def test_number_scores_are_correlations_or_none(drawn):
    scores = regression(*drawn)
    assert_fractions(scores, low=-1.0, free=("mse",))
    assert scores["mse"] is None or scores["mse"] >= 0.0


@relaxed
@given(st.lists(tagged, max_size=6))
def test_tag_scores_are_fractions(rows):
    predictions, references = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    assert_fractions(tagging(predictions, references))
    assert_fractions(spans(predictions, references))


@relaxed
@given(columns(text, golds.filter(bool)), language)
def test_answer_scores_are_fractions(drawn, language):
    assert_fractions(squad(*drawn, language))


@relaxed
@given(columns(text, score, golds), language, st.none() | st.floats(-1, 1))
def test_answer_scores_with_silence_are_fractions(drawn, language, threshold):
    scores = squad_v2(*drawn, language, threshold)
    assert_fractions(scores, free=("best_f1_threshold", "best_exact_match_threshold"))
    if threshold is not None and scores["best_f1"] is not None:
        assert scores["f1"] <= scores["best_f1"] + 1e-12  # no threshold beats the best one


@relaxed
@given(columns(cut, st.floats(0, 1), st.booleans()).filter(lambda drawn: any(map(math.isfinite, drawn[0]))))
def test_applying_the_best_threshold_gives_its_f1(drawn):
    scores, worth, has_answer = drawn
    threshold, f1 = best_threshold(scores, worth, has_answer)

    def applied(limit: float) -> float:
        kept = [
            float(not answerable) if score > limit else value
            for score, value, answerable in zip(scores, worth, has_answer, strict=True)
        ]
        return sum(kept) / len(kept)

    assert applied(threshold) == pytest.approx(f1)
    assert f1 == pytest.approx(max(applied(limit) for limit in range(-4, 4)))


@relaxed
@given(st.lists(label, min_size=1), st.lists(golds.filter(bool), min_size=1), st.lists(st.lists(tag)), language)
def test_the_truth_scores_best(labels, gold_rows, tags, language):
    assert classification(labels, labels)["accuracy"] == 1.0
    assert classification(labels, labels)["f1_macro"] == 1.0
    assert classification(labels, labels)["matthews"] in (1.0, None)
    assert spans(tags, tags)["f1"] in (1.0, None)
    first = [golds[0] for golds in gold_rows]
    assert squad(first, gold_rows, language)["exact_match"] == 1.0


@relaxed
@given(columns(label, label, max_size=20), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(drawn, rng):
    rows = list(zip(*drawn, strict=True))
    shuffled = rng.sample(rows, len(rows))
    again = tuple(list(column) for column in zip(*shuffled, strict=True)) or ([], [])
    assert classification(*again) == pytest.approx(classification(*drawn))

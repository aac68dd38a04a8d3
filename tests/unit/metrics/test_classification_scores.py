"""Label scores on cases small enough to check by hand."""

import pytest

from bertkit.errors import BertkitError
from bertkit.metrics.classification import binary_f1, classification, multilabel

pytestmark = pytest.mark.filterwarnings("error")


def test_scores_of_a_case_counted_by_hand():
    scores = classification(["a", "a", "b", "b"], ["a", "b", "b", "b"])
    # a: precision 1/2, recall 1, F1 2/3; b: precision 1, recall 2/3, F1 4/5; (1*2 - 1*0) / sqrt(2 * 1 * 3 * 2)
    assert list(scores) == ["accuracy", "f1_macro", "matthews"]
    assert scores["accuracy"] == 0.75
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert scores["matthews"] == pytest.approx(2 / 12**0.5)


@pytest.mark.parametrize(
    ("predictions", "references"),
    [(["a", "a", "a"], ["a", "b", "a"]), (["a", "b", "a"], ["a", "a", "a"]), (["a"], ["a"]), (["b", "b"], ["a", "a"])],
)
def test_matthews_of_a_constant_column_is_undefined(predictions, references):
    scores = classification(predictions, references)
    assert scores["matthews"] is None
    assert scores["accuracy"] is not None
    assert scores["f1_macro"] is not None


def test_one_class_everywhere_is_still_accurate():
    assert classification(["a", "a"], ["a", "a"]) == {"accuracy": 1.0, "f1_macro": 1.0, "matthews": None}


def test_macro_f1_is_over_the_labels_that_occur():
    # c occurs only in the predictions: it enters with 0; a fourth label of the task would not enter
    assert classification(["a", "c"], ["a", "b"])["f1_macro"] == pytest.approx(1 / 3)


def test_no_row_leaves_every_score_undefined():
    assert classification([], []) == {"accuracy": None, "f1_macro": None, "matthews": None}
    assert binary_f1([], [], positive="1") == {"f1": None}
    assert multilabel([], [], labels=["a"]) == {"f1_micro": None, "f1_macro": None, "subset_accuracy": None}


def test_labels_are_compared_as_they_are():
    assert classification(["é", "a\0"], ["e\u0301", "a"])["accuracy"] == 0.0


def test_columns_of_unequal_length_are_our_bug():
    with pytest.raises(AssertionError, match="1 predictions for 2 references"):
        classification(["a"], ["a", "b"])
    with pytest.raises(AssertionError, match="1 predictions for 2 references"):
        binary_f1(["a"], ["a", "b"], positive="a")
    with pytest.raises(AssertionError, match="1 predictions for 2 references"):
        multilabel([["a"]], [["a"], []], labels=["a"])


def test_binary_f1_counts_the_positive_label_only():
    predictions, references = ["1", "1", "0", "0"], ["1", "0", "1", "0"]
    assert binary_f1(predictions, references, positive="1") == {"f1": 0.5}
    assert binary_f1(["0", "0"], ["1", "0"], positive="1") == {"f1": 0.0}
    assert binary_f1(["1", "1"], ["1", "1"], positive="1") == {"f1": 1.0}


def test_binary_f1_without_a_positive_on_either_side_is_undefined():
    assert binary_f1(["0", "0"], ["0", "0"], positive="1") == {"f1": None}


def test_multilabel_case_counted_by_hand():
    scores = multilabel([{"a"}, {"a", "b"}, set()], [{"a"}, {"b"}, {"c"}], labels=["a", "b", "c", "d"])
    # decisions: 2 right of 3 given and 3 wanted; a: 2/3, b: 1, c: 0, d does not occur
    assert list(scores) == ["f1_micro", "f1_macro", "subset_accuracy"]
    assert scores["f1_micro"] == pytest.approx(2 / 3)
    assert scores["f1_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert scores["subset_accuracy"] == pytest.approx(1 / 3)


def test_multilabel_of_a_single_label_is_f1_and_not_accuracy():
    scores = multilabel([["a"], [], []], [[], [], []], labels=["a"])
    assert scores == {"f1_micro": 0.0, "f1_macro": 0.0, "subset_accuracy": pytest.approx(2 / 3)}


def test_multilabel_rows_without_labels_agree():
    scores = multilabel([[], []], [[], []], labels=["a", "b"])
    assert scores == {"f1_micro": None, "f1_macro": None, "subset_accuracy": 1.0}


def test_multilabel_refuses_a_label_of_no_task():
    with pytest.raises(BertkitError, match="references: row 1 has the label 'sprot'") as raised:
        multilabel([["sport"], []], [["sport"], ["sprot"]], labels=["sport", "politics"])
    assert raised.value.hint == "did you mean 'sport'? one of: sport, politics"
    with pytest.raises(AssertionError, match="a name occurs twice"):
        multilabel([[]], [[]], labels=["a", "a"])

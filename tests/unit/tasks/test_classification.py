"""Classification keeps the contract of tasks with a class, several labels or a number, on one text or two."""

import itertools

import numpy as np
import pytest

from bertkit.data.windows import Pair, Window
from bertkit.errors import BertkitError
from bertkit.tasks.base import Output, make_task
from bertkit.tasks.classification import Classification
from tests.unit.tasks.contract import TaskContract, random_outputs

TEXTS = (
    "The bakery on the corner sold its last loaf before nine.",
    "面包是世界上最古老的食物之一，做法也很简单。",
    "La cre\u0300me bru\u0302le\u0301e was cold, 🙂 and we left early.",
)


class TestClass(TaskContract):
    # labels that YAML and JSON could take for something else
    task = Classification(labels=("no", "1", "é"), metric="f1_macro")
    rows = tuple({"id": str(id), "text": text, "label": ("1", "no", "é")[id]} for id, text in enumerate(TEXTS))

    def test_the_answer_is_the_most_probable_label(self, maker):
        for row, outputs in zip(self.rows, random_outputs(self.task, self.rows, maker), strict=True):
            given = self.task.decode(row, outputs)
            assert list(given["probabilities"]) == list(self.task.labels)
            assert sum(given["probabilities"].values()) == pytest.approx(1)
            assert given["probabilities"][given["label"]] == max(given["probabilities"].values())


class TestPairOfTexts(TaskContract):
    task = Classification(pair=True, labels=("yes", "no"), metric="f1", positive="yes")
    rows = tuple(
        {"id": str(id), "text": TEXTS[id], "second": TEXTS[id - 1], "label": label}
        for id, label in enumerate(("yes", "no", "yes"))
    )

    def test_both_texts_are_read(self):
        assert self.task.inputs(self.rows[1]) == Pair(TEXTS[1], TEXTS[0], "longer")


class TestSeveralLabels(TaskContract):
    task = Classification(kind="labels", labels=("a", "b", "c"))
    rows = tuple({"id": str(id), "text": text, "label": (("a", "c"), (), ("b",))[id]} for id, text in enumerate(TEXTS))

    def test_each_label_is_chosen_from_one_half_on(self, maker):
        window = random_outputs(self.task, self.rows, maker)[0][0].window
        given = self.task.decode(self.rows[0], [Output(window, (np.array([0.0, -0.1, 3.0], np.float32),))])
        assert given["label"] == ("a", "c")
        assert given["probabilities"] == pytest.approx({"a": 0.5, "b": 0.475, "c": 0.953}, abs=1e-3)

    def test_the_order_of_labels_in_a_row_says_nothing(self):
        row = {**self.rows[0], "label": ("c", "a")}
        assert self.task.is_recovered(row, {"label": ("a", "c")})
        assert not self.task.is_recovered(row, {"label": ("a",)})


class TestSeveralLabelsWithThresholds(TaskContract):
    task = Classification(kind="labels", labels=("a", "b", "c"), threshold={"a": 0.7, "c": 0.1})
    rows = TestSeveralLabels.rows

    def test_each_label_is_chosen_from_its_own_threshold_on(self, maker):
        window = random_outputs(self.task, self.rows, maker)[0][0].window
        for logits, chosen in (([0.8, -0.1, -2.3], ()), ([0.9, 0.0, -2.1], ("a", "b", "c"))):
            given = self.task.decode(self.rows[0], [Output(window, (np.array(logits, np.float32),))])
            assert given["label"] == chosen


class TestSeveralLabelsTuned(TaskContract):
    task = Classification(kind="labels", labels=("a", "b", "c"), threshold="tuned")
    rows = TestSeveralLabels.rows


class TestTwoClassesTuned(TaskContract):
    task = Classification(pair=True, labels=("yes", "no"), metric="f1", positive="yes", threshold="tuned")
    rows = TestPairOfTexts.rows


class TestNumber(TaskContract):
    task = Classification(kind="number")
    # 0.1 has no exact float32
    rows = tuple({"id": str(id), "text": text, "label": (0.1, 5.0, -2.5)[id]} for id, text in enumerate(TEXTS))


def test_windows_are_averaged_as_logits():
    task = Classification(labels=("a", "b"))
    outputs = outputs_of([[2.0, 0.0], [0.0, 1.0], [0.0, 0.5]])
    given = task.decode({"label": "a"}, outputs)
    gap = (2.0 - 1.0 - 0.5) / 3
    assert given == {
        "label": "a",
        "probabilities": pytest.approx({"a": 1 / (1 + np.exp(-gap)), "b": 1 / (1 + np.exp(gap))}),
    }


def test_not_even_the_last_digit_depends_on_the_order_of_windows():
    task = Classification(labels=("a", "b"))
    outputs = outputs_of([[1e16, 0.0], [1.0, 0.0], [-1e16, 0.5], [1.0, 0.0]])
    answers = {repr(task.decode({"label": "a"}, order)) for order in itertools.permutations(outputs)}
    assert len(answers) == 1


def outputs_of(logits: list[list[float]]) -> list[Output]:
    nothing = np.zeros((0, 2), np.int32), np.zeros(0, np.int32)
    return [
        Output(Window(number, len(logits), *nothing), (np.array(scores, np.float32),))
        for number, scores in enumerate(logits)
    ]


@pytest.mark.parametrize(
    ("settings", "headline"),
    [
        ({}, "accuracy"),
        ({"metric": "matthews"}, "matthews"),
        ({"metric": "f1", "positive": "a"}, "f1"),
        ({"metric": "accuracy_f1", "positive": "a"}, "accuracy_f1"),
        ({"positive": "a"}, "accuracy"),
        ({"kind": "labels"}, "f1_micro"),
        ({"kind": "number"}, "pearson_spearman"),
    ],
)
def test_the_headline_is_the_first_score(settings, headline):
    task = Classification(labels=("a", "b"), **settings)
    gold = {"class": "a", "labels": ("a",), "number": 1.0}[task.kind]
    assert task.headline == headline
    assert next(iter(task.score([{"label": gold}], [{"label": gold}]))) == headline


@pytest.mark.parametrize("kind", ["labels", "number"])
@pytest.mark.parametrize("setting", [{"metric": "matthews"}, {"positive": "a"}])
def test_settings_of_one_class_are_refused_for_other_kinds(kind, setting):
    with pytest.raises(BertkitError, match=f"{next(iter(setting))}: only kind class has it, and kind is {kind}"):
        make_task({"name": "classification", "kind": kind, **setting})


@pytest.mark.parametrize("metric", ["f1", "accuracy_f1"])
def test_f1_without_a_positive_label_is_refused(metric):
    with pytest.raises(BertkitError) as caught:
        make_task({"name": "classification", "metric": metric})
    assert caught.value.message == f"task: metric: {metric} needs the label that counts as positive, task.positive"


def test_accuracy_f1_is_the_mean_of_both():
    given = [{"label": label} for label in ("yes", "yes", "yes", "no", "no")]
    right = [{"label": label} for label in ("yes", "no", "yes", "no", "no")]
    scores = Classification(labels=("yes", "no"), metric="accuracy_f1", positive="yes").score(given, right)
    assert list(scores) == ["accuracy_f1", "accuracy", "f1", "f1_macro", "matthews"]
    # 4 of 5 are right; three predicted and two true "yes" share two
    assert (scores["accuracy"], scores["f1"]) == (0.8, 0.8)
    assert scores["accuracy_f1"] == pytest.approx(0.8)


def test_accuracy_f1_is_undefined_where_either_is():
    scores = Classification(labels=("yes", "no"), metric="accuracy_f1", positive="yes").score(
        [{"label": "no"}], [{"label": "no"}]
    )
    assert (scores["accuracy_f1"], scores["accuracy"], scores["f1"]) == (None, 1.0, None)


def test_a_positive_label_that_is_no_label_is_refused():
    with pytest.raises(BertkitError) as caught:
        make_task({"name": "classification", "labels": ["yes", "no"], "metric": "f1", "positive": "yess"})
    assert caught.value.message == "task: positive: 'yess' is none of the labels yes, no"


TWO = {"labels": ["yes", "no"], "positive": "yes"}
HERE = (
    "task: threshold: kind labels has one for each label, kind class one for the positive of two labels; here kind is "
)


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"kind": "number", "threshold": 0.3}, f"{HERE}number, positive is None, labels are not named", ""),
        ({"threshold": "tuned"}, f"{HERE}class, positive is None, labels are not named", ""),
        (
            {"labels": ["a", "b", "c"], "positive": "a", "threshold": 0.3},
            f"{HERE}class, positive is a, labels are a, b, c",
            "",
        ),
        ({**TWO, "threshold": {"yes": 0.3}}, f"{HERE}class, positive is yes, labels are yes, no", ""),
        (
            {"kind": "labels", "labels": ["sport", "news"], "threshold": {"sports": 0.3}},
            "task.threshold: there is no label 'sports'",
            "did you mean 'sport'? one of: sport, news",
        ),
        (
            {**TWO, "threshold": 1.5},
            "task.threshold: Input should be less than or equal to 1, not 1.5",
            "threshold: probability from which on",
        ),
        (
            {"kind": "labels", "threshold": {"a": -0.1}},
            "task.threshold.a: Input should be greater than or equal to 0, not -0.1",
            "threshold: probability from which on",
        ),
        ({**TWO, "threshold": True}, "task.threshold: Input should be a number, not True", "threshold: probability"),
        (
            {**TWO, "threshold": "tunde"},
            "task.threshold: Input should be a valid number, unable to parse string as a number, not 'tunde'",
            "threshold: probability from which on",
        ),
    ],
)
def test_a_threshold_that_does_not_fit_is_one_error(settings, message, hint):
    with pytest.raises(BertkitError) as caught:
        make_task({"name": "classification", **settings})
    assert caught.value.message == message
    assert caught.value.hint.startswith(hint)


def test_without_validation_rows_nothing_can_be_tuned():
    task = make_task({"name": "classification", **TWO, "threshold": "tuned"})
    assert task.describe([], "test") == ""
    with pytest.raises(BertkitError, match="tuned, and there are no validation rows"):
        task.describe([], "validation")


def test_without_a_positive_row_two_classes_are_chosen_as_before():
    task = Classification(**TWO, threshold="tuned")
    rows, predictions = [{"label": "no"}], [{"label": "no", "probabilities": {"yes": 0.4, "no": 0.6}}]
    assert task.tuned(predictions, rows).threshold is None

"""The GLUE score by hand, and against every row that was published with its average."""

from __future__ import annotations

import pytest

from bertkit.metrics.glue import (
    HUMAN,
    OFFICIAL,
    PUBLISHED,
    TASKS,
    Average,
    beside_people,
    glue_score,
    is_complete,
    other_averages,
    task_score,
)

OFFICIAL_ROWS = [row for row in (*PUBLISHED, HUMAN) if row.split == "test" and len(row.scores) == 9]
HALVES = {task: dict.fromkeys(OFFICIAL[task], 0.5) for task in TASKS}


def others(scores: dict) -> dict[str, float | None]:
    return {average.name: average.value for average in other_averages(scores)}


def test_the_eight_published_rows_are_there():
    assert len(OFFICIAL_ROWS) == 8


@pytest.mark.parametrize("row", OFFICIAL_ROWS, ids=lambda row: row.name)
def test_the_average_equals_the_published_one(row):
    average = glue_score(row.scores)
    assert average.name == "GLUE"
    assert average.value == pytest.approx(row.average, abs=0.001)  # printed with one decimal of a percent
    # the mean of all columns is another number, by half a point and more
    assert abs(others(row.scores)["flat mean"] - row.average) > 0.005


@pytest.mark.parametrize("name", ["BERT-base (paper)", "BERT-large (paper)"])
def test_the_bert_paper_counts_mnli_twice_and_leaves_out_wnli(name):
    row = next(row for row in PUBLISHED if row.name == name)
    assert others(row.scores)["BERT paper"] == pytest.approx(row.average, abs=0.001)
    assert glue_score(row.scores).name == "mean of 8 of 9 tasks"


def test_the_bert_paper_as_eight_tasks():
    row = next(row for row in PUBLISHED if row.name == "BERT-base (paper)")
    assert others(row.scores)["BERT paper, eight tasks"] == pytest.approx(0.7905, abs=1e-4)


def test_the_example_table_of_transformers_by_the_official_rule():
    row = next(row for row in PUBLISHED if row.name == "bert-base-cased")
    assert row.split == "dev"
    assert glue_score(row.scores).value == pytest.approx(0.7885, abs=1e-4)
    assert others(row.scores)["without WNLI"] == pytest.approx(0.8167, abs=1e-4)


def test_a_task_score_is_the_plain_mean_of_its_metrics():
    assert task_score("mrpc", {"f1": 0.9, "accuracy": 0.8}) == pytest.approx(0.85)
    assert task_score("stsb", {"pearson": 0.5, "spearman": 0.7}) == pytest.approx(0.6)
    assert task_score("mnli", {"matched": 0.4, "mismatched": 0.8}) == pytest.approx(0.6)
    assert task_score("cola", {"matthews": -0.25, "accuracy": 0.9}) == -0.25


def test_mnli_with_one_dev_set_is_not_complete_and_so_not_glue():
    assert task_score("mnli", {"matched": 0.4}) == 0.4
    assert not is_complete("mnli", {"matched": 0.4})
    average = glue_score({**HALVES, "mnli": {"matched": 0.4}})
    assert average == Average(
        "mean of 9 of 9 tasks", pytest.approx(4.4 / 9), "unweighted mean of the task scores; MNLI by matched alone"
    )


def test_glue_means_nine():
    assert glue_score(HALVES) == Average("GLUE", 0.5, "unweighted mean of the nine task scores")
    eight = {task: scores for task, scores in HALVES.items() if task != "wnli"}
    assert glue_score(eight) == Average("mean of 8 of 9 tasks", 0.5, "unweighted mean of the task scores; without WNLI")
    assert glue_score({}).value is None


def test_an_undefined_metric_leaves_its_task_and_the_average_undefined():
    scores = {**HALVES, "cola": {"matthews": None}}
    assert task_score("cola", scores["cola"]) is None
    assert glue_score(scores) == Average("GLUE", None, "unweighted mean of the nine task scores")
    assert set(others(scores).values()) == {None}
    assert beside_people(scores)["cola"] is None
    assert beside_people(scores)["average"] is None


def test_every_other_average_by_hand():
    scores = {
        "cola": {"matthews": 0.1}, "sst2": {"accuracy": 0.9}, "mrpc": {"f1": 0.8, "accuracy": 0.7},
        "stsb": {"pearson": 0.6, "spearman": 0.5}, "qqp": {"f1": 0.4, "accuracy": 0.6},
        "mnli": {"matched": 0.7, "mismatched": 0.5}, "qnli": {"accuracy": 0.9}, "rte": {"accuracy": 0.6},
        "wnli": {"accuracy": 0.3},
    }  # fmt: skip
    assert glue_score(scores).value == pytest.approx((0.1 + 0.9 + 0.75 + 0.55 + 0.5 + 0.6 + 0.9 + 0.6 + 0.3) / 9)
    assert others(scores) == {
        "without WNLI": pytest.approx((0.1 + 0.9 + 0.75 + 0.55 + 0.5 + 0.6 + 0.9 + 0.6) / 8),
        "BERT paper": pytest.approx((0.1 + 0.9 + 0.8 + 0.5 + 0.4 + 0.7 + 0.5 + 0.9 + 0.6) / 9),
        "BERT paper, eight tasks": pytest.approx((0.1 + 0.9 + 0.8 + 0.5 + 0.4 + 0.6 + 0.9 + 0.6) / 8),
        "one metric each": pytest.approx((0.1 + 0.9 + 0.7 + 0.6 + 0.6 + 0.7 + 0.9 + 0.6) / 8),
        "flat mean": pytest.approx((0.1 + 0.9 + 0.8 + 0.7 + 0.6 + 0.5 + 0.4 + 0.6 + 0.7 + 0.5 + 0.9 + 0.6 + 0.3) / 13),
    }


def test_people_are_at_one():
    assert beside_people(HUMAN.scores) == dict.fromkeys((*TASKS, "average"), pytest.approx(1.0))


def test_relative_scores_compare_the_same_tasks_by_the_same_metrics():
    relative = beside_people({"rte": {"accuracy": 0.468}, "mnli": {"matched": 0.46}})
    assert relative == {"rte": pytest.approx(0.5), "mnli": pytest.approx(0.5), "average": pytest.approx(0.5)}

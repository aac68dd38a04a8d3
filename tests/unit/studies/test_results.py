"""Averages over seeds and tasks, and what they may be called."""

from __future__ import annotations

import math

import pytest

from bertkit.errors import BertkitError
from bertkit.findings import Note, to_json
from bertkit.metrics.glue import HUMAN, OFFICIAL, TASKS
from bertkit.rundir import RunDir
from bertkit.studies.base import aligned
from bertkit.studies.glue.results import gather
from bertkit.studies.glue.tables import findings, lines, tasks_table
from tests.unit.studies.studies import write_study

HALVES = {task: [dict.fromkeys(OFFICIAL[task], 0.5)] for task in TASKS}


def notes(folder) -> dict[str, str]:
    return {found.title: found.text for found in findings(gather(folder), True) if isinstance(found, Note)}


def test_nine_whole_dev_sets_make_glue(tmp_path):
    results = gather(write_study(tmp_path, HALVES))
    assert results.headline == "GLUE (dev, 1 seed)"
    assert results.average.value == 0.5
    assert "Not the GLUE score" not in notes(tmp_path)


def test_rows_that_are_not_glues_dev_set_do_not_make_glue(tmp_path):
    sentence = "CoLA: no dev.tsv; the last 16 of 64 training rows are held back instead"
    results = gather(write_study(tmp_path, HALVES, official=False, missing={"cola": sentence}))
    assert results.headline == "mean of 9 of 9 tasks (dev, 1 seed)"
    assert notes(tmp_path)["Data"] == f"{sentence}."
    assert "not on GLUE's dev set: CoLA, SST-2" in notes(tmp_path)["Not the GLUE score"]


def test_a_subset_of_a_dev_set_is_not_the_dev_set(tmp_path):
    write_study(tmp_path, HALVES)
    path = tmp_path / "runs" / "rte-0" / "metrics.json"
    path.write_text(path.read_text().replace('"rows": 277', '"rows": 276'))
    results = gather(tmp_path)
    assert results.unofficial == ["rte"]
    assert results.headline == "mean of 9 of 9 tasks (dev, 1 seed)"


def test_a_part_of_glue_says_too_what_is_not_glues_dev_set(tmp_path):
    results = gather(write_study(tmp_path, {"rte": HALVES["rte"]}, official=False))
    assert results.average.name == "mean of 1 of 9 tasks"
    assert results.average.rule.endswith(", WNLI; not on GLUE's dev set: RTE")


def test_seeds_that_some_tasks_lack_are_not_counted_for_all(tmp_path):
    results = gather(write_study(tmp_path, {**HALVES, "rte": HALVES["rte"] * 3}))
    assert results.headline == "GLUE (dev, 1 to 3 seeds)"
    assert tasks_table(results).rows[-1][-1] == 1


def test_a_task_less_is_counted(tmp_path):
    results = gather(write_study(tmp_path, {task: HALVES[task] for task in ("cola", "rte")}))
    assert results.headline == "mean of 2 of 9 tasks (dev, 1 seed)"


def test_seeds_are_averaged_with_their_sample_deviation_and_best(tmp_path):
    scores = {"mrpc": [{"f1": 0.8, "accuracy": 0.6}, {"f1": 0.9, "accuracy": 0.7}], "rte": [{"accuracy": 0.5}] * 2}
    results = gather(write_study(tmp_path, scores))
    assert results.spread("mrpc") == (pytest.approx(0.75), pytest.approx(0.1 / math.sqrt(2)), pytest.approx(0.8))
    assert results.spread("mrpc", "f1") == (pytest.approx(0.85), pytest.approx(0.1 / math.sqrt(2)), 0.9)
    assert results.scores["mrpc"] == {"f1": pytest.approx(0.85), "accuracy": pytest.approx(0.65)}
    assert results.average_spread == (
        pytest.approx(0.625), pytest.approx(0.05 / math.sqrt(2)), pytest.approx(0.65)
    )  # fmt: skip
    assert results.headline.endswith("(dev, 2 seeds)")


def test_an_undefined_metric_is_never_a_number_and_never_best(tmp_path):
    results = gather(write_study(tmp_path, {**HALVES, "cola": [{"matthews": None}]}))
    assert results.spread("cola") == (None, None, None)
    assert results.average.value is None
    assert "CoLA: a metric is undefined" in notes(tmp_path)["Undefined"]
    one_of_two = gather(write_study(tmp_path / "b", {"cola": [{"matthews": None}, {"matthews": 0.2}]}))
    assert one_of_two.spread("cola") == (None, None, 0.2)


def test_mnli_is_the_mean_of_its_two_dev_sets_or_says_which(tmp_path):
    both = gather(write_study(tmp_path, {"mnli": [{"matched": 0.6, "mismatched": 0.8}]}))
    assert both.spread("mnli").mean == pytest.approx(0.7)
    one = gather(write_study(tmp_path / "b", {"mnli": [{"matched": 0.6}]}))
    assert one.spread("mnli").mean == 0.6
    assert tasks_table(one).rows[0][0] == "MNLI (matched only)"
    assert "MNLI by matched alone" in one.average.rule


def test_wnli_at_its_majority_is_flagged(tmp_path):
    write_study(tmp_path, {"wnli": [{"accuracy": 40 / 71}]})
    assert notes(tmp_path)["WNLI"].startswith("WNLI at 56.3 is not above the most frequent label")
    write_study(tmp_path / "b", {"wnli": [{"accuracy": 0.65}]})
    assert "WNLI" not in notes(tmp_path / "b")
    write_study(tmp_path / "c", {"wnli": [{"accuracy": 0.5}]}, official=False)  # whose majority is another
    assert "WNLI" not in notes(tmp_path / "c")


def test_what_failed_or_waits_is_said(tmp_path):
    states = {"CoLA, seed 0": ("failed", "killed by SIGKILL"), "QQP, seed 0": ("running", "")}
    write_study(tmp_path, {"rte": HALVES["rte"]}, states=states)
    assert notes(tmp_path)["Failed jobs"] == "CoLA, seed 0: killed by SIGKILL"
    assert notes(tmp_path)["Unfinished"] == "Not done yet: QQP, seed 0."


def test_starting_from_mnli_is_said(tmp_path):
    write_study(tmp_path, HALVES, glue={"from_mnli": True})
    assert notes(tmp_path)["From MNLI"].startswith("MRPC, STS-B and RTE started from the MNLI model")


def test_people_are_drawn_at_one_and_published_rows_are_marked(tmp_path):
    write_study(tmp_path, {task: [HUMAN.scores[task]] for task in TASKS})
    (dots,) = (found for found in findings(gather(tmp_path), True) if found.kind == "dots")
    assert dots.x[-1] == "models/tiny (dev)"
    assert dots.curve[-1] == pytest.approx(1.0)
    assert [values[-1] for values in dots.groups.values()] == [pytest.approx(1.0)] * 9
    assert dots.published == dots.x[:-1]
    assert all(name.endswith(" (test)") for name in dots.published)
    assert len(dots.published) == 7
    (alone,) = (found for found in findings(gather(tmp_path), False) if found.kind == "dots")
    assert (alone.x, alone.published) == (("models/tiny (dev)",), ())


def test_the_findings_are_plain_json_and_the_lines_are_aligned(tmp_path):
    write_study(tmp_path, {**HALVES, "cola": [{"matthews": None}]})
    results = gather(tmp_path)
    assert to_json(findings(results, True))
    text = lines(results)
    assert len(text) == 11
    assert text[0].split() == ["task", "score", "human", "relative"]
    assert text[1].split() == ["CoLA", "-", "66.40", "-"]
    assert text[2].split() == ["SST-2", "50.00", "97.80", "0.511"]
    assert len({len(line) for line in text}) == 1
    assert aligned(tasks_table(results))[0].split()[-3:] == ["metrics", "dev", "rows"]


def test_the_spread_is_shown_where_there_is_one(tmp_path):
    results = gather(write_study(tmp_path, {"rte": [{"accuracy": 0.5}, {"accuracy": 0.7}]}))
    assert lines(results)[0].split() == ["task", "score", "deviation", "best", "human", "relative"]
    assert lines(results)[1].split() == ["RTE", "60.00", "14.14", "70.00", "93.60", "0.641"]


def test_a_folder_that_is_no_study_is_said(tmp_path):
    for folder, what in ((tmp_path, "is not a GLUE study (it has no study.json)"), (tmp_path / "no", "does not exist")):
        with pytest.raises(BertkitError) as caught:
            gather(folder)
        assert caught.value.message == f"{folder} {what}"


def test_a_study_without_results_has_none(tmp_path):
    write_study(tmp_path, {"rte": HALVES["rte"]})
    (tmp_path / "runs" / "rte-0" / "metrics.json").unlink()
    results = gather(tmp_path)
    assert results.average == ("mean of 0 of 9 tasks", None, results.average.rule)
    assert notes(tmp_path)["No results yet"] == "No job is done yet."


@pytest.mark.parametrize("labels", [["entailment", "neutral"], [None, None]])
def test_the_diagnostic_set_is_scored_from_what_the_mnli_models_answered(tmp_path, labels):
    write_study(tmp_path, {"mnli": [{"matched": 0.5}] * 2})
    rows = [{"id": str(index), "text": "a", "second": "b", "label": label} for index, label in enumerate(labels)]
    RunDir(tmp_path / "data" / "ax").write_jsonl("test.jsonl", rows)
    answers = [{"id": str(index), "label": label} for index, label in enumerate(["entailment", "neutral"])]
    RunDir(tmp_path / "answers" / "mnli-1").write_jsonl("ax.test.jsonl", answers)
    assert gather(tmp_path).diagnostics == ({1: 1.0} if labels[0] else {})
    RunDir(tmp_path / "answers" / "mnli-1").write_jsonl("ax.test.jsonl", answers[::-1])
    if labels[0]:
        with pytest.raises(BertkitError, match=r"ax.test.jsonl does not answer the rows of"):
            gather(tmp_path)

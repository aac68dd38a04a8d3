"""Studies of a recipe: folds answer every row once; a search goes on where it was."""

from __future__ import annotations

import json

import pytest

from bertkit.errors import BertkitError
from bertkit.recipe import load_recipe
from bertkit.rundir import RunDir
from bertkit.studies import folds, search
from bertkit.tasks.base import make_task
from tests.cli.conftest import SMALL, check

TINY = (*SMALL, "hardware.threads=1", "train.steps=2", "train.batch_size=8")
RECIPE = load_recipe({"task": "sentiment", "data": {"train": "bundled:sentiment.csv"}})


def rows_of(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_folds_answer_every_row_once_and_go_on_without_doing_anything_twice(bertkit, tmp_path):
    command = ("study", "folds", "sentiment", "--train", "bundled:sentiment.csv", "--out", tmp_path / "a", *TINY)
    done = bertkit(*command, "--folds", 2, "--json")
    assert done.code == 0, done.err
    found, rows = json.loads(done.out), rows_of(tmp_path / "a" / "predictions.jsonl")
    assert len({row["id"] for row in rows}) == len(rows) == 160
    right = sum(row["gold"] == row["label"] for row in rows)
    assert found["together"]["accuracy"] == pytest.approx(right / 160)
    each = [found["folds"][f"fold {number}"]["accuracy"] for number in range(2)]
    assert found["mean"]["accuracy"] == pytest.approx(sum(each) / 2)
    assert found["standard_deviation"]["accuracy"] == pytest.approx(abs(each[0] - each[1]) / 2**0.5)
    for number in range(2):  # of the last step, whatever its score
        run = tmp_path / "a" / "runs" / f"fold-{number}"
        assert json.loads((run / "metrics.json").read_text())["step"] == 2
        assert {row["id"] for row in rows_of(run / "predictions.jsonl")} == {
            row["id"] for row in rows if row["fold"] == f"fold {number}"
        }
    assert "Most wrong" in (tmp_path / "a" / "report.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.json")}
    assert bertkit(*command, "--folds", 2, "--resume").code == 0
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.json")}
    check(bertkit(*command, "--folds", 2), "holds a study already", "--resume")
    check(bertkit(*command, "--folds", 3, "--resume"), "was asked something else: folds: 2 -> 3", "")


def test_folds_are_answered_with_nothing_that_was_tuned_on_their_rows(tmp_path):
    recipe = load_recipe({"task": {"name": "qa", "unanswerable": True}})
    run, task = RunDir(tmp_path), make_task(recipe.task)
    run.write_json("task.json", {**task.model_dump(mode="json"), "no_answer_threshold": -1.0})
    n_best = [{"answer": "red", "start": 0, "end": 3}, {"answer": "", "start": None, "end": None}]
    tuned = {"id": "a", "gold": [{"text": "red", "start": 0}], "answer": "", "no_answer_score": -0.5, "n_best": n_best}
    run.write_jsonl("predictions.jsonl", [tuned])
    task = folds.task_of(recipe, run)
    (answer,) = answers = folds.answers_of(task, run)
    assert (answer["answer"], answer["id"]) == ("red", "a")
    assert task.score(answers, folds.rows_of(task, answers))["exact_match"] == 1


def test_scores_that_are_no_shares_are_not_shown_times_100():
    scores = {"fold 0": {"rows": 2, "pearson": 0.5, "mse": 2.5}}
    spread = {"pearson": (0.5, None), "mse": (2.5, None)}
    (table,) = folds.tables(scores, spread, {"pearson": 0.5, "mse": 2.5})
    assert list(table.plain) == ["mse"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["task=classification", "task.kind=labels", "task.threshold=tuned"], "task.threshold: tuned, it would be"),
        (["--folds", "161"], "161 folds are more than the 160 texts"),
        (["data.validation=bundled:sentiment.csv"], "data.validation: each fold is validated by its own rows"),
        (["train.early_stopping=2"], "train.early_stopping: it would stop by the rows that are scored"),
    ],
)
def test_folds_that_cannot_be_are_refused_before_anything_is_written(bertkit, tmp_path, more, message):
    out = tmp_path / "a"
    done = bertkit("study", "folds", "sentiment", "--train", "bundled:sentiment.csv", "--out", out, *TINY, *more, "-q")
    check(done, message, "")
    assert not out.exists()


def test_a_search_keeps_the_best_and_goes_on_with_more_trials(bertkit, tmp_path):
    out = tmp_path / "a"
    space = ("--space", "train.learning_rate=1e-4..1e-1", "--space", "train.batch_size=8,16")
    command = ("study", "search", "sentiment", "--train", "bundled:sentiment.csv", "--out", out, *TINY[:-1], *space)
    assert bertkit(*command, "--trials", 1).code == 0
    first = (out / "runs" / "trial-000" / "metrics.json").stat().st_mtime_ns
    done = bertkit(*command, "--trials", 2, "--resume", "--json")
    found = json.loads(done.out)
    assert (out / "runs" / "trial-000" / "metrics.json").stat().st_mtime_ns == first
    assert found["best"]["value"] == max(trial["value"] for trial in found["trials"])
    for trial in found["trials"]:
        run = out / "runs" / f"trial-{trial['trial']:03d}"
        settings = load_recipe(run / "recipe.yaml").train
        wanted = trial["settings"]
        assert (settings.learning_rate, settings.batch_size) == (
            wanted["train.learning_rate"],
            wanted["train.batch_size"],
        )
        assert (run / "model").exists() == (trial["trial"] == found["best"]["trial"])
    study = json.loads((out / "study.json").read_text())
    assert [run["state"] for run in study["runs"]] == ["done", "done"]
    best = load_recipe(out / "best.yaml").train
    assert best.learning_rate == found["best"]["settings"]["train.learning_rate"]


def test_a_search_that_goes_on_proposes_what_it_would_have(tmp_path):
    optuna = pytest.importorskip("optuna")
    space = search.read_space(optuna, search.USUAL, RECIPE)

    def proposed(folder, cuts):
        folder.mkdir()
        for trials in cuts:
            memory = search.open_memory(optuna, folder, RECIPE)  # as a new process
            while open_trials := search.ask(optuna, memory, space, RECIPE, trials, 1):
                (trial,) = open_trials
                memory.tell(trial.number, trial.params["train.learning_rate"] * 100)
        return [trial.params for trial in memory.trials]

    whole = proposed(tmp_path / "whole", [12])
    assert whole == proposed(tmp_path / "cut", [1, 5, 12])
    assert len({trial["train.learning_rate"] for trial in whole}) == 12


def test_a_trial_that_was_cut_off_is_run_again_and_not_proposed_anew(tmp_path):
    optuna = pytest.importorskip("optuna")
    space = search.read_space(optuna, search.USUAL, RECIPE)
    memory = search.open_memory(optuna, tmp_path, RECIPE)
    (cut,) = search.ask(optuna, memory, space, RECIPE, 3, 1)
    again = search.open_memory(optuna, tmp_path, RECIPE)
    assert [trial.params for trial in search.ask(optuna, again, space, RECIPE, 3, 1)] == [cut.params]


def test_a_trial_whose_settings_were_being_drawn_at_a_kill_gets_the_others(tmp_path):
    optuna = pytest.importorskip("optuna")
    space = search.read_space(optuna, search.USUAL, RECIPE)
    rate = search.open_memory(optuna, tmp_path, RECIPE).ask().suggest_float("train.learning_rate", 1e-5, 2e-4, log=True)
    again = search.open_memory(optuna, tmp_path, RECIPE)
    (trial,) = search.ask(optuna, again, space, RECIPE, 3, 1)
    assert trial.params.keys() == space.keys()
    assert trial.params["train.learning_rate"] == rate


def test_a_trial_without_a_score_has_failed_and_stays_so(tmp_path):
    optuna = pytest.importorskip("optuna")
    space = search.read_space(optuna, search.USUAL, RECIPE)
    memory = search.open_memory(optuna, tmp_path, RECIPE)
    (trial,) = search.ask(optuna, memory, space, RECIPE, 1, 1)
    job = search.job_of(tmp_path, RECIPE, trial, 1)
    job.run.path.mkdir(parents=True)
    job.run.write_json("metrics.json", {"headline": "accuracy", "splits": {"validation": {"accuracy": None}}})
    job.state = "done"
    search.tell(optuna, memory, trial.number, job, RECIPE)
    recalled = search.recall(optuna, memory, lambda trial: search.job_of(tmp_path, RECIPE, trial, 1))
    assert [(one.state, one.note) for one in (job, recalled[0])] == [("failed", search.UNDEFINED)] * 2


def test_a_setting_that_is_given_is_not_searched(bertkit, tmp_path):
    command = ("study", "search", "sentiment", "--train", "bundled:sentiment.csv", "--out", tmp_path / "a")
    settings = ("train.epochs=1", "train.batch_size=8", "train.learning_rate=1e-3")
    check(bertkit(*command, *settings), "no setting is left to search", "name one")
    check(bertkit(*command, *settings, "--space", "train.epochs=1,2"), "is given a value as well", "")
    assert not (tmp_path / "a").exists()


def test_a_range_has_fractions_where_the_setting_takes_them():
    optuna = pytest.importorskip("optuna")
    space = search.read_space(optuna, ["train.warmup=0..1", "train.epochs=1.0..3.0"], RECIPE)
    assert [type(one).__name__ for one in space.values()] == ["FloatDistribution", "IntDistribution"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("train.learning_rat=1e-5..1e-4", "unknown key 'learning_rat'"),
        ("train.learning_rate=1e-4..1e-5", "the range is empty"),
        ("train.learning_rate=0..1e-5", "train.learning_rate"),
        ("train.epochs=", "no range and no choices"),
        ("train.epochs=a..b", "no range and no choices"),
        ("data.train=a,b", "none of the settings that a search is about"),
        ("train.schedule=linear,polynomial", "train.schedule"),
        ("train.best_by=accuracy,f1_macro", "with f1_macro trials are ranked by f1_macro"),
        ("task.metric=accuracy,matthews", "with matthews trials are ranked by matthews"),
        ("task.name=sentiment,nli", "none of the settings that a search is about"),
    ],
)
def test_a_space_that_no_recipe_takes_is_refused(space, message):
    optuna = pytest.importorskip("optuna")
    with pytest.raises(BertkitError) as caught:
        search.read_space(optuna, [space], RECIPE)
    assert message in caught.value.message


def test_settings_that_exclude_each_other_are_refused_before_a_trial_meets_them():
    optuna = pytest.importorskip("optuna")
    with pytest.raises(BertkitError, match="an adapter keeps all but the head"):
        search.read_space(optuna, ["model.adapter=null,lora", "model.freeze=null,encoder"], RECIPE)

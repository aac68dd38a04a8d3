"""k folds: every row is answered once, by a model that has not seen it.

A job trains on all folds but one: `bertkit train recipes/fold-0.yaml --out runs/fold-0`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from bertkit.config import Tree, override, validate
from bertkit.disk import held
from bertkit.errors import BertkitError
from bertkit.findings import Finding, Note, Series, tabulate
from bertkit.launch import sayer
from bertkit.metrics.shown import counted, is_share, percent, short_name
from bertkit.outcome import task_findings
from bertkit.outcome.scored import Scored
from bertkit.pages.html import write_report
from bertkit.recipe import Recipe, digest, load_recipe
from bertkit.rundir import RunDir
from bertkit.splits import checksums, read_splits
from bertkit.studies.base import Study
from bertkit.studies.runner.board import make_board
from bertkit.studies.runner.commands import describe_training, listed, training_job
from bertkit.studies.runner.jobs import Job, Runner, check_done
from bertkit.studies.runner.room import Room
from bertkit.tasks.base import Prediction, Row, Scores, Task, make_task, task_class

NEVER = 10**9  # steps between evaluations: no weights may be picked by the rows that they are scored on
PREDICTIONS = "predictions.jsonl"


def run(
    recipe: Recipe, out: Path, *, folds: int = 5, room: Room | None = None, resume: bool = False, quiet: bool = False
) -> dict[str, object]:
    """Train once for each fold, and score each model on the rows that it has not seen.

    Groups stay together and labels are spread as where rows are held back (`data.group_by`). Each model is the one of
    its last step.

    Args:
        out: folder of the study; `predictions.jsonl` there has the answers to all rows.
        room: where the jobs run, and how many at a time.
        resume: go on with what `out` holds; what is done is not run again.
    Returns:
        What results.json holds.
    Raises:
        BertkitError: anything the user can mend, found before the first job begins; or jobs failed, after all others
            are done.
    """
    room = room or Room()
    room.check()
    trees = [tree_of(recipe, folds, number) for number in range(folds)]
    study = Study(out, "folds", f"{folds} folds: {recipe.task['name']}, {short_name(recipe.model.checkpoint)}")
    asked = {"folds": folds, "recipe": digest(recipe.tree()), "data": checksums(recipe)}
    with held(out):
        study.refuse(asked, resume)
        say = sayer(quiet)
        # what is wrong with the rows or the number of folds is wrong in every job
        rows = len(read_splits(load_recipe(trees[0]), make_task(recipe.task), say).train)
        study.begin(asked=asked)
        with room.slots(out) as slots:
            jobs = [
                training_job(out, f"fold-{number}", f"fold {number}", tree, cost=rows, rows=rows)
                for number, tree in enumerate(trees)
            ]
            update = partial(conclude, study, asked, jobs, recipe)
            try:
                Runner(jobs, slots, make_board(describe_training, quiet), update).run()
            finally:
                results = update()
        write_report(out)
        check_done(jobs, "--resume tries the failed ones again, and only those")
    return results


def tree_of(recipe: Recipe, folds: int, fold: int) -> Tree:
    """The recipe of one fold."""
    data, train = recipe.data, recipe.train
    for name, reason in {
        "data.validation": "each fold is validated by its own rows",
        "data.validation_rows": "each row is answered once",
        "data.folds": "--folds is their number",
        "data.test": "a test split is for one model",
        "train.early_stopping": "it would stop by the rows that are scored",
        "train.best_by": "it would pick weights by the rows that are scored",
        "train.evaluate_every": "only the last weights are scored",
    }.items():
        section, key = name.split(".")
        if getattr({"data": data, "train": train}[section], key) is not None:
            raise BertkitError(f"{name}: {reason}", hint="leave it out")
    if recipe.task.get("threshold") == "tuned":
        message = "task.threshold: tuned, it would be chosen by the rows that are scored"
        raise BertkitError(message, hint="give a number, or leave it out")
    settings = [f"data.folds={folds}", f"data.fold={fold}", f"train.evaluate_every={NEVER}"]
    return override(recipe.model_dump(mode="json", exclude_unset=True), settings)


def conclude(study: Study, asked: Mapping[str, object], jobs: Sequence[Job], recipe: Recipe) -> dict[str, object]:
    """Bring the files of the study up to date with its jobs."""
    runs = listed(jobs)
    done = {job.name: job.run for job in jobs if job.state == "done"}
    if not done:
        study.begin(runs, asked=asked)
        return {}
    task = task_of(recipe, next(iter(done.values())))
    answered = {name: answers_of(task, run) for name, run in done.items()}
    scores = {name: {**task.score(some, rows_of(task, some)), "rows": len(some)} for name, some in answered.items()}
    predictions = [*chain.from_iterable(answered.values())]
    rows = rows_of(task, predictions)
    together = task.score(predictions, rows)
    RunDir(study.path).write_jsonl(
        PREDICTIONS, ({"fold": name, **one} for name, some in answered.items() for one in some)
    )
    spread = {name: spread_of([one[name] for one in scores.values()]) for name in together}
    mean, deviation = spread[task.headline]
    facts = {
        "model": recipe.model.checkpoint,
        "rows": f"{len(rows):,}, each answered by a model that has not seen it",
        "seed": str(recipe.seed),
    }
    label = f"{task.headline}, mean of {counted(len(done), 'fold')}"
    if deviation is not None:
        label += f" (standard deviation {percent(deviation)})"
    found = [*notes(recipe), *tables(scores, spread, together), *curves(done)]
    found += task_findings(Scored("all folds", task, rows, predictions, together, [], {}))
    means, deviations = ({name: both[index] for name, both in spread.items()} for index in (0, 1))
    results = {"folds": scores, "mean": means, "standard_deviation": deviations, "together": together}
    study.conclude(found, results, runs, asked=asked, headline={"label": label, "value": mean}, facts=facts)
    return results


def task_of(recipe: Recipe, run: RunDir) -> Task:
    """The task with the labels of a run, but nothing that the run tuned on the rows that are scored."""
    asked = make_task(recipe.task).model_dump(mode="json", exclude={"labels"})
    content = {**run.read_json("task.json"), **asked}
    return validate(task_class(str(content["name"])), content, where="task.json")


def answers_of(task: Task, run: RunDir) -> list[Prediction]:
    """The rows of a fold with what the task, as it is here, answers."""
    records = list(run.read_jsonl(PREDICTIONS))
    return [{**record, **one} for record, one in zip(records, task.settled(records), strict=True)]


def rows_of(task: Task, records: Sequence[Mapping]) -> list[Row]:
    return [{**record, task.gold: record["gold"]} for record in records]


def spread_of(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """The mean and the standard deviation of a score over folds; None where it is undefined in one of them."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None, None
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None


def tables(scores: Mapping[str, Mapping], spread: Mapping[str, tuple], together: Scores) -> Sequence[Finding]:
    """The scores of each fold, and what they come to."""
    names = list(together)
    rows = [[name, one["rows"], *(one[metric] for metric in names)] for name, one in scores.items()]
    count = sum(one["rows"] for one in scores.values())
    rows.append(["mean", None, *(spread[metric][0] for metric in names)])
    rows.append(["standard deviation", None, *(spread[metric][1] for metric in names)])
    rows.append(["all rows together", count, *(together[metric] for metric in names)])
    caption = (
        "Each fold is answered by a model that was trained on the others. The standard deviation is that of one fold; "
        "folds share most of their training rows, so their mean varies by more than that over the root of their number."
    )
    return [
        tabulate(
            "By fold", caption, ("fold", "rows", *names), rows, plain=[name for name in names if not is_share(name)]
        )
    ]


def curves(done: Mapping[str, RunDir]) -> Sequence[Finding]:
    """Training loss of each fold, over the steps that all of them have."""
    losses = {
        name: {one["step"]: one["loss"] for one in run.read_history() if "loss" in one} for name, run in done.items()
    }
    steps = sorted(set.intersection(*map(set, losses.values())))
    lines = {name: tuple(some[step] for step in steps) for name, some in losses.items()}
    return [Series(title="Training loss", x_label="step", y_label="loss", x=tuple(map(float, steps)), lines=lines)]


def notes(recipe: Recipe) -> Sequence[Finding]:
    """What must not be missed: a teacher passes on what it has seen."""
    if recipe.train.teacher is None:
        return []
    text = "Where train.teacher has learned from these rows, the models of all folds have, and the scores are too high."
    return [Note(title="The teacher may have seen the rows", text=text)]

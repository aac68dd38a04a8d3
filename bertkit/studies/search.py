"""Search for good settings: optuna proposes them, a job tries each, and a database in the study's folder keeps all.

Source: Akiba et al. 2019 (optuna); proposals by the tree-structured Parzen estimator, Bergstra et al. 2011.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations, product
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bertkit.config import Tree, dump_yaml, override, value_of
from bertkit.disk import discard, held, write_atomically
from bertkit.errors import BertkitError
from bertkit.findings import Finding, Note, Series, tabulate
from bertkit.launch import sayer
from bertkit.metrics.shown import LOWER_IS_BETTER, counted, describe_scores, short_name
from bertkit.named import library
from bertkit.pages.html import write_report
from bertkit.recipe import Recipe, digest, load_recipe
from bertkit.splits import checksums, read_splits
from bertkit.studies.base import Study
from bertkit.studies.runner.board import make_board
from bertkit.studies.runner.commands import listed, training_job
from bertkit.studies.runner.jobs import Job, Runner, why_it_died
from bertkit.studies.runner.room import Room
from bertkit.tasks.base import make_task

if TYPE_CHECKING:
    import optuna

DATABASE = "search.db"
USUAL = ("train.learning_rate=1e-5..2e-4", "train.batch_size=16,32", "train.epochs=2..4")
RANDOM = 8  # trials before proposals depend on what the others came to
UNDEFINED = "its score is undefined"
LOGARITHMIC = 10  # from this ratio of its ends on, a range is one of magnitudes


def run(
    recipe: Recipe,
    out: Path,
    *,
    space: Sequence[str] = (),
    trials: int = 20,
    keep_all: bool = False,
    room: Room | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> dict[str, object]:
    """Try settings, each in a run of its own, and keep the best.

    Args:
        out: folder of the study; `best.yaml` there is the recipe with the best settings.
        space: `KEY=LOW..HIGH` or `KEY=A,B,C` each. A range whose ends are 10 times
            apart is searched by magnitude. Default: learning rate, batch size and epochs.
        trials: how many are there in all; a study that goes on may have more than before.
        keep_all: keep the weights of all trials, not only of the best.
        room: where the jobs run, and how many at a time.
        resume: go on with what `out` holds; a trial that was cut off goes on where it was.
    Returns:
        What results.json holds.
    Raises:
        BertkitError: anything the user can mend, found before the first trial begins; or all trials failed.
    """
    optuna = library("optuna", "search", "bertkit study search")
    room = room or Room()
    room.check()
    if recipe.data.test is not None:
        raise BertkitError("data.test: a test split is for the settings that were chosen", hint="leave it out here")
    space = tuple(space) or USUAL
    found = read_space(optuna, space, recipe)
    study = Study(out, "search", f"Search: {recipe.task['name']}, {short_name(recipe.model.checkpoint)}")
    asked = {"space": sorted(space), "recipe": digest(recipe.tree()), "data": checksums(recipe)}
    with held(out):
        study.refuse(asked, resume)
        rows = len(read_splits(recipe, make_task(recipe.task), sayer(quiet)).train)  # what is wrong there is said once
        study.begin(asked=asked)
        memory = open_memory(optuna, out, recipe)
        with room.slots(out) as slots:
            jobs = recall(optuna, memory, lambda trial: job_of(out, recipe, trial, rows))
            while open_trials := ask(optuna, memory, found, recipe, trials, len(slots)):
                new = [jobs.setdefault(trial.number, job_of(out, recipe, trial, rows)) for trial in open_trials]
                update = partial(conclude, study, asked, memory, jobs, recipe, trials)
                Runner(new, slots, make_board(partial(describe_job, best_by(recipe)), quiet), update).run()
                for trial, job in zip(open_trials, new, strict=True):
                    tell(optuna, memory, trial.number, job, recipe)
                if not keep_all:
                    drop_beaten(memory, jobs)
        results = conclude(study, asked, memory, jobs, recipe, trials)
        write_report(out)
    if "best" not in results:
        job = next(iter(jobs.values()))
        raise BertkitError(f"no trial has a score: {job.note}", hint=f"see {job.log}")
    return results


def read_space(optuna: ModuleType, space: Sequence[str], recipe: Recipe) -> dict[str, object]:
    """Setting -> optuna's distribution of it; every end of a range, and every choice, is one that a recipe takes."""
    found: dict[str, object] = {}
    for entry in space:
        key, _, text = entry.partition("=")
        low, is_range, high = text.partition("..")
        ends = [value_of(part.strip(), key) for part in ((low, high) if is_range else text.split(","))]
        if "" in ends or (is_range and not all(type(end) in (int, float) for end in ends)):
            raise BertkitError(f"--space {entry}: no range and no choices", hint="KEY=1e-5..1e-3 or KEY=16,32")
        if key in found:
            raise BertkitError(f"--space: {key} is named twice", hint="name it once")
        if key.partition(".")[0] not in ("train", "model", "windows", "task") or key in ("task", "task.name"):
            message = f"--space: {key} is none of the settings that a search is about"
            raise BertkitError(message, hint="search those of train, model, windows or task")
        for end in ends:
            if (other := best_by(with_values(recipe, {key: end}))) != best_by(recipe):
                message = f"--space {entry}: with {end} trials are ranked by {other}, else by {best_by(recipe)}"
                raise BertkitError(message, hint="scores of one kind are compared; search other settings")
        if not is_range:
            found[key] = optuna.distributions.CategoricalDistribution(ends)
            continue
        if not ends[0] < ends[1]:
            raise BertkitError(f"--space {entry}: the range is empty", hint="the lower end comes first")
        is_log = ends[0] > 0 and ends[1] >= LOGARITHMIC * ends[0]
        if takes_fractions(recipe, key, ends):
            found[key] = optuna.distributions.FloatDistribution(*ends, log=is_log)
        else:
            found[key] = optuna.distributions.IntDistribution(*map(int, ends), log=is_log)
    # settings may exclude each other
    for one, other in combinations(found, 2):
        for values in product(ends_of(found[one]), ends_of(found[other])):
            with_values(recipe, dict(zip((one, other), values, strict=True)))
    return found


def with_values(recipe: Recipe, values: Mapping[str, object]) -> Recipe:
    """The recipe with other values of some settings, checked."""
    checked = load_recipe(recipe.tree(), assignments(values))
    make_task(checked.task)
    return checked


def takes_fractions(recipe: Recipe, key: str, ends: Sequence[float]) -> bool:
    """Whether a setting takes a number between two others that is not whole."""
    try:
        with_values(recipe, {key: ends[0] + (ends[1] - ends[0]) / 3.7})
    except BertkitError:
        return False
    return True


def ends_of(some: optuna.distributions.BaseDistribution) -> Sequence[object]:
    """The choices, or the ends of the range."""
    return some.choices if hasattr(some, "choices") else (some.low, some.high)


def open_memory(optuna: ModuleType, out: Path, recipe: Recipe) -> optuna.Study:
    """All trials so far, in SQLite."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = "minimize" if best_by(recipe) in LOWER_IS_BETTER else "maximize"
    storage = f"sqlite:///{(out / DATABASE).resolve()}"
    return optuna.create_study(study_name="search", storage=storage, direction=direction, load_if_exists=True)


def best_by(recipe: Recipe) -> str:
    return recipe.train.best_by or make_task(recipe.task).headline


def ask(
    optuna: ModuleType, memory: optuna.Study, space: Mapping[str, object], recipe: Recipe, trials: int, count: int
) -> list[optuna.trial.FrozenTrial]:
    """The next trials to run: those that were cut off, and new ones, as many as there is room for.

    The proposals are keyed by the number of the trial, so that a search that goes on proposes what it would have.
    """

    def keyed(number: int) -> optuna.samplers.TPESampler:
        seed = (recipe.seed * 1_000_003 + number) % 2**32
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM, constant_liar=count > 1)

    for trial in running_of(optuna, memory):
        for name in [name for name in space if name not in trial.params]:  # a kill came while they were drawn
            memory.sampler = keyed(trial.number)
            optuna.Trial(memory, trial._trial_id)._suggest(name, space[name])
    running = running_of(optuna, memory)
    while len(running) < count and len(memory.trials) < trials:
        number = len(memory.trials)
        memory.sampler = keyed(number)
        memory.ask(fixed_distributions=dict(space))
        running.append(memory.trials[number])
    return running


def running_of(optuna: ModuleType, memory: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in memory.trials if trial.state == optuna.trial.TrialState.RUNNING]


def recall(optuna: ModuleType, memory: optuna.Study, job_of: Callable[[object], Job]) -> dict[int, Job]:
    """The jobs of the trials that are over, in the state they ended in."""
    jobs = {trial.number: job_of(trial) for trial in memory.trials if trial.state.is_finished()}
    for trial in memory.trials:
        if trial.state == optuna.trial.TrialState.FAIL:
            job = jobs[trial.number]
            job.state, job.note = "failed", UNDEFINED if job.result.exists() else why_it_died(job.log, 1)
        elif trial.number in jobs:
            jobs[trial.number].state = "done"
    return jobs


def tell(optuna: ModuleType, memory: optuna.Study, number: int, job: Job, recipe: Recipe) -> None:
    """What a trial came to; one that failed is no reason to stop."""
    value = score_of(job, best_by(recipe)) if job.state == "done" else None
    if value is None:
        if job.state == "done":
            job.state, job.note = "failed", UNDEFINED
        memory.tell(number, state=optuna.trial.TrialState.FAIL)
    else:
        memory.tell(number, value)


def job_of(out: Path, recipe: Recipe, trial: optuna.trial.FrozenTrial, rows: int) -> Job:
    name = f"trial-{trial.number:03d}"
    return training_job(out, name, f"trial {trial.number}", tree_of(recipe, trial.params), cost=rows, rows=rows)


def tree_of(recipe: Recipe, params: Mapping[str, object]) -> Tree:
    """The recipe of a trial."""
    return override(recipe.model_dump(mode="json", exclude_unset=True), assignments(params))


def assignments(values: Mapping[str, object]) -> list[str]:
    """`key=value` of some settings."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def drop_beaten(memory: optuna.Study, jobs: Mapping[int, Job]) -> None:
    """Remove the weights of all runs but the best."""
    done = [trial for trial in memory.trials if trial.value is not None]
    for trial in done:
        run = jobs[trial.number].run
        for folder in (run.checkpoints, run.model) if trial.number != memory.best_trial.number else ():
            if folder.is_dir():
                discard(folder)


def conclude(
    study: Study,
    asked: Mapping[str, object],
    memory: optuna.Study,
    jobs: Mapping[int, Job],
    recipe: Recipe,
    trials: int,
) -> dict[str, object]:
    """Bring the files of the study up to date with its trials."""
    runs = listed(jobs.values())
    told = [trial for trial in memory.trials if trial.value is not None]
    if not told:
        study.begin(runs, asked=asked)
        return {}
    best, metric = memory.best_trial, best_by(recipe)
    header = f"# Trial {best.number} of {study.path.name}: {describe_scores({metric: best.value})} on validation\n"
    write_atomically(study.path / "best.yaml", header + dump_yaml(tree_of(recipe, best.params)))
    importance = importances(memory)
    failed = sum(job.state == "failed" for job in jobs.values())
    facts = {
        "model": recipe.model.checkpoint,
        "trials": f"{len(told)} of {trials} done" + f", {failed} failed" * bool(failed),
        "seed": str(recipe.seed),
        "train it": f"bertkit train {study.path / 'best.yaml'}",
    }
    results = {
        "metric": metric, "best": {"trial": best.number, "value": best.value, "settings": best.params},
        "importance": importance,
        "trials": [{"trial": trial.number, "value": trial.value, "settings": trial.params} for trial in memory.trials],
    }  # fmt: skip
    headline = {"label": f"{metric} on validation, best of {counted(len(told), 'trial')}", "value": best.value}
    found = findings(told, metric, importance, is_lower=metric in LOWER_IS_BETTER)
    study.conclude(found, results, runs, asked=asked, headline=headline, facts=facts)
    return results


def importances(memory: optuna.Study) -> dict[str, float]:
    """The share of the variance of the score that each setting accounts for; nothing where too little is known.

    By PED-ANOVA (Watanabe et al. 2023), which asks what tells the better trials from the others.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings(action="error"):  # it warns where it knows too little, and calls all alike
        try:
            return get_param_importances(memory, evaluator=PedAnovaImportanceEvaluator())
        except (ValueError, RuntimeError, Warning):
            return {}


def findings(
    told: Sequence[optuna.trial.FrozenTrial], metric: str, importance: Mapping[str, float], is_lower: bool
) -> list[Finding]:
    """The course of the search, what mattered, and every trial."""
    ranked = sorted(told, key=lambda trial: trial.value if is_lower else -trial.value)
    course, best = [], None
    for trial in told:
        best = trial.value if best is None else (min if is_lower else max)(best, trial.value)
        course.append(best)
    shares = () if is_lower else ("y",)
    keys = list(told[0].params)
    caution = (
        f"The best of {counted(len(told), 'trial')} is chosen by the rows that it is scored on, so its score is too "
        "high by what chance gave it; score it once on rows that no trial has seen."
    )
    found: list[Finding] = [
        Note(title="Chosen by its score", text=caution),
        Series(
            title=f"Best {metric} so far", x_label="trial", y_label=metric, x=tuple(float(one.number) for one in told),
            lines={"best so far": tuple(course), "trial": tuple(one.value for one in told)}, shares=shares,
        ),
    ]  # fmt: skip
    if importance:
        caption = "Share of the difference between better and other trials that a setting accounts for (PED-ANOVA)."
        found.append(tabulate("Importance", caption, ("setting", "importance"), importance.items()))
    for key in keys:
        numbers = [(one.params[key], one.value) for one in told if isinstance(one.params[key], int | float)]
        if len({value for value, _ in numbers}) > 1:
            x, y = zip(*sorted(numbers), strict=True)
            is_log = x[0] > 0 and x[-1] >= LOGARITHMIC * x[0]
            found.append(Series(title=f"{metric} by {key}", x_label=key, y_label=metric, x=tuple(map(float, x)),
                                lines={metric: y}, log_x=is_log, shares=shares))  # fmt: skip
    rows = [[f"trial {one.number}", one.value, *map(_shown, one.params.values())] for one in ranked]
    found.append(tabulate("Trials, best first", "", ("trial", metric, *keys), rows, plain=[metric] * is_lower))
    return found


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def describe_job(metric: str, job: Job) -> str:
    """What a trial came to, in a few words."""
    return describe_scores({metric: score_of(job, metric)})


def score_of(job: Job, metric: str) -> float | None:
    """The score of a trial that is done, with what its run tuned on validation; None where it is undefined."""
    return job.run.read_json("metrics.json")["splits"]["validation"][metric]

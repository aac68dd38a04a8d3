"""What a GLUE study is asked to do, checked; and its jobs, which are `bertkit train` and `bertkit predict`."""

from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path

from bertkit.config import Tree, override, validate
from bertkit.data.glue import LAYOUTS, find_tasks
from bertkit.data.writing import partial_of
from bertkit.errors import BertkitError, did_you_mean
from bertkit.metrics.glue import TASKS, TITLES
from bertkit.recipe import Recipe, load_recipe
from bertkit.rundir import RunDir
from bertkit.splits import path_of
from bertkit.studies.glue.folder import Asked, GlueConfig, answers_path, rows_path, run_of
from bertkit.studies.runner.commands import make_job, training_job
from bertkit.studies.runner.jobs import Job

STARTS_FROM_MNLI = ("mrpc", "stsb", "rte")  # with glue.from_mnli, as published since Liu et al. 2019 (RoBERTa)
# How a task is trained, unless asked otherwise: the grid of Devlin et al. 2019, more epochs where rows are few.
# Batch size, learning rate, epochs, and what picks the best checkpoint: the task's score; for MNLI accuracy on the
# matched dev set.
SETTINGS = {
    "cola": (16, 2e-5, 5, "matthews"),
    "sst2": (32, 2e-5, 3, "accuracy"),
    "mrpc": (16, 3e-5, 5, "accuracy_f1"),
    "stsb": (16, 3e-5, 5, "pearson_spearman"),
    "qqp": (32, 3e-5, 3, "accuracy_f1"),
    "mnli": (32, 3e-5, 3, "accuracy"),
    "qnli": (32, 3e-5, 3, "accuracy"),
    "rte": (16, 3e-5, 5, "accuracy"),
    "wnli": (16, 2e-5, 5, "accuracy"),
}
Settings = Mapping[str, Sequence[str]]  # task -> its settings, those that count last
OURS = ("task", "data.source", "data.config", "data.train", "data.validation", "data.test", "data.columns")


def split_assignments(assignments: Sequence[str]) -> tuple[Settings, GlueConfig]:
    """The settings of each task, those for all tasks first; and those of the study."""
    common, single, tree = [], {task: [] for task in TASKS}, {}
    for assignment in assignments:
        head, _, rest = assignment.partition(".")
        if head in single and rest.startswith("seed="):
            raise BertkitError(f"{head}.seed: the seeds are the same for all tasks", hint="--seeds N, or seed=FIRST")
        if head in single and "=" in rest:
            single[head].append(rest)
        elif head == "glue" and "=" in rest:
            tree = override(tree, [rest])
        else:
            common.append(assignment)
    settings = {task: [*common, *own] for task, own in single.items()}
    return settings, validate(GlueConfig, tree, where="glue")


def read_recipes(model: str, tasks: Collection[str], settings: Settings) -> dict[str, Recipe]:
    """Task -> its recipe, without rows; refuses settings that no job could run with, and those the study decides."""
    for assignment in chain(*settings.values()):
        key = assignment.partition("=")[0]
        if key in ("data", "model"):  # the whole section would replace what the study sets in it
            raise BertkitError(f"{key}: give its settings one by one", hint=f"such as {key}.KEY=VALUE")
        if any(f"{key}.".startswith(f"{ours}.") for ours in OURS):
            hint = "the rows come from --data, the tasks from --tasks"
            raise BertkitError(f"{key}: `glue run` decides this itself", hint=hint)
        if key == "model.checkpoint":
            raise BertkitError("model.checkpoint: the checkpoint of a study is --model", hint="leave it out")
    found = {task: load_recipe(recipe_tree(task, path_of(model), {}), settings[task]) for task in TASKS}
    return {task: found[task] for task in tasks}


def choose_tasks(asked: Sequence[str], source: str | None) -> list[str]:
    """The tasks to run, in GLUE's order."""
    chosen = named_tasks(asked, TASKS)
    there = TASKS if source is None else find_tasks(source)
    if [*there] == ["ax"]:
        raise BertkitError(
            f"{source}: it has the diagnostic set only", hint="give a folder that holds CoLA, SST-2 and so on"
        )
    if missing := [task for task in TASKS if task in chosen and task not in there]:
        has = ", ".join(TITLES[task] for task in TASKS if task in there)
        raise BertkitError(f"{source}: there is no folder for {TITLES[missing[0]]}", hint=f"it has {has}")
    return [task for task in TASKS if task in (chosen or there)]


def named_tasks(asked: Sequence[str], known: Collection[str]) -> set[str]:
    """The tasks that `--tasks` names, by their titles or short names, in upper or lower case."""
    names = {name: task for task in known for name in (LAYOUTS[task].title.lower(), task)}
    for name in asked:
        if name.lower() not in names:
            raise BertkitError(f"--tasks: there is no task {name!r}", hint=did_you_mean(name, known))
    return {names[name.lower()] for name in asked}


def check_model(model: str, recipes: Mapping[str, Recipe]) -> None:
    """Refuse a checkpoint that cannot be read or whose head does not fit: once, not in every job."""
    from bertkit.models.load import load_config, load_tokenizer

    asked = next(iter(recipes.values())).model
    config = load_config(asked)
    load_tokenizer(asked, words=False)
    has_head = any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
    for task, recipe in recipes.items():
        wanted = len(LAYOUTS[task].labels) or 1
        is_kept = recipe.model.init == "pretrained" and not recipe.model.replace_head
        if has_head and is_kept and config.num_labels != wanted:
            raise BertkitError(
                f"--model: {model} has a head for {config.num_labels} labels, and {TITLES[task]} needs {wanted}",
                hint="allow new heads with model.replace_head=true",
            )


def recipe_tree(task: str, model: str, files: Mapping[str, str]) -> Tree:
    """The recipe of one job, before the settings that were asked for."""
    layout, (batch_size, learning_rate, epochs, metric) = LAYOUTS[task], SETTINGS[task]
    section: Tree = {"name": "classification", "pair": len(layout.texts) == 2}
    section |= {"labels": list(layout.labels), "metric": metric} if layout.labels else {"kind": "number"}
    if metric == "accuracy_f1":
        section["positive"] = layout.labels[1]
    return {
        "task": section,
        "model": {"checkpoint": model},
        "data": dict(files),
        "train": {"batch_size": batch_size, "learning_rate": learning_rate, "epochs": epochs},
    }


def plan_jobs(folder: Path, asked: Asked, found: Mapping[str, Tree], settings: Settings) -> list[Job]:
    """A training job for each task and seed, with its recipe written; `found` is what each sources.json says."""
    jobs: dict[tuple[str, int], Job] = {}
    for task in sorted(asked.tasks, key=lambda task: task != "mnli"):  # first, because others may start from it
        files = {name: str(rows_path(folder, task, name)) for name in ("train", "validation")}
        if "validation_mismatched" in found[task]["splits"]:  # MNLI's second dev set is scored as the test split
            files["test"] = str(rows_path(folder, task, "validation_mismatched"))
        for seed in asked.seeds:
            needs = jobs.get(("mnli", seed)) if asked.glue.from_mnli and task in STARTS_FROM_MNLI else None
            tree = override(recipe_tree(task, asked.model, files), settings[task]) | {"seed": seed}
            if needs:  # whose head is left behind
                start = {"checkpoint": str(needs.run.model), "replace_head": True, "init": "pretrained"}
                tree["model"] = {**tree["model"], **start, "revision": None}
            jobs[task, seed] = training(folder, task, tree, found[task], needs)
    return [jobs[task, seed] for task in asked.tasks for seed in asked.seeds]


def training(folder: Path, task: str, tree: Tree, sources: Tree, needs: Job | None) -> Job:
    """The job that trains with one recipe, and the recipe's file."""
    run, recipe, rows = run_of(folder, task, tree["seed"]), load_recipe(tree), sources["splits"]["train"]["rows"]
    share = min(1.0, (recipe.data.train_rows or rows) / rows)
    return training_job(
        folder, run.path.name, f"{TITLES[task]}, seed {recipe.seed}", tree,
        cost=sources["characters"] * share,  # characters that it reads: its time is in proportion to them
        rows=rows * share, needs=needs,
    )  # fmt: skip


def answering(
    folder: Path, run: RunDir, task: str, split: str, settings: Sequence[str] = (), needs: Job | None = None
) -> Job:
    """The job in which a run answers the rows of another split; answers older than the run or the rows are removed."""
    rows, answers = rows_path(folder, task, split), answers_path(run, task, split)
    for path in (answers, partial_of(answers)):
        written = path.stat().st_mtime if path.exists() else 0.0
        if written and not all(one.exists() and one.stat().st_mtime < written for one in (rows, run["metrics.json"])):
            path.unlink()
    return make_job(
        folder, f"{run.path.name}.{task}.{split}", run, "predict", str(run.path), "--input", str(rows),
        "--out", str(answers), "--resume", "--quiet", *settings, cost=rows.stat().st_size, result=answers, needs=needs,
        name=f"{LAYOUTS[task].title} ({split}) by {run.path.name}",
    )  # fmt: skip

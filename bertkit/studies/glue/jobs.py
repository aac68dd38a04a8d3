"""The jobs of a GLUE study: `bertkit train` for each task and seed, `bertkit predict` for rows without labels."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bertkit.config import Tree, dump_yaml, override, put
from bertkit.data.glue import LAYOUTS
from bertkit.disk import disk_errors, write_atomically
from bertkit.metrics.glue import TITLES
from bertkit.recipe import Recipe, load_recipe
from bertkit.rundir import RunDir
from bertkit.studies.glue.folder import answers_path, rows_path, run_of
from bertkit.studies.glue.plan import STARTS_FROM_MNLI, Asked, Settings, recipe_tree
from bertkit.studies.runner.jobs import Job


def plan_jobs(folder: Path, asked: Asked, found: Mapping[str, Tree], settings: Settings) -> list[Job]:
    """A training job for each task and seed, with its recipe written.

    Args:
        found: of each task what sources.json says.
    """
    jobs: dict[tuple[str, int], Job] = {}
    for task in sorted(asked.tasks, key=lambda task: task != "mnli"):  # first, because others may start from it
        for seed in asked.seeds:
            needs = jobs.get(("mnli", seed)) if asked.glue.from_mnli and task in STARTS_FROM_MNLI else None
            tree = recipe_tree(task, asked.model, files_of(folder, task, found[task]), seed)
            tree = {**override(tree, settings.of(task)), "seed": seed}
            if needs:
                tree = starting_from(tree, needs.run.model)
            jobs[task, seed] = training(folder, task, tree, found[task], needs)
    return [jobs[task, seed] for task in asked.tasks for seed in asked.seeds]


def files_of(folder: Path, task: str, sources: Tree) -> dict[str, str]:
    """Split of a run -> its file; MNLI's second dev set is scored as the test split."""
    splits = {"train": "train", "validation": "validation"}
    if "validation_mismatched" in sources["splits"]:
        splits["test"] = "validation_mismatched"
    return {name: str(rows_path(folder, task, split)) for name, split in splits.items()}


def starting_from(tree: Tree, model: Path) -> Tree:
    """The recipe with another checkpoint, whose head is left behind."""
    start = {"checkpoint": str(model), "replace_head": True, "init": "pretrained", "revision": None}
    for key, value in start.items():
        tree = put(tree, f"model.{key}", value)
    return tree


def training(folder: Path, task: str, tree: Tree, sources: Tree, needs: Job | None) -> Job:
    """The job that trains with one recipe, and the recipe's file."""
    recipe, run = load_recipe(tree), run_of(folder, task, tree["seed"])
    title = f"{TITLES[task]}, seed {recipe.seed}"
    path = folder / "recipes" / f"{run.path.name}.yaml"
    write_atomically(path, f"# {title}\n{dump_yaml(tree)}")
    rows = sources["splits"]["train"]["rows"]
    share = min(1.0, (recipe.data.train_rows or rows) / rows)
    return Job(
        name=title,
        command=[sys.executable, "-m", "bertkit", "train", str(path), "--out", str(run.path), "--resume"],
        run=run,
        log=log_of(folder, run.path.name),
        result=run["metrics.json"],
        cost=cost_of(recipe, sources["characters"] * share, rows * share),
        length=recipe.train.steps or recipe.train.epochs,
        by_steps=recipe.train.steps is not None,
        needs=needs,
    )


def answering(
    folder: Path, run: RunDir, task: str, split: str, *, settings: Sequence[str], needs: Job | None = None
) -> Job:
    """The job in which a run answers the rows of another split; answers that are older than either are removed."""
    rows, answers = rows_path(folder, task, split), answers_path(run, task, split)
    name = f"{run.path.name}.{task}.{split}"
    written = answers.stat().st_mtime if answers.exists() else 0.0
    if written and not all(path.exists() and path.stat().st_mtime < written for path in (rows, run["metrics.json"])):
        answers.unlink()
    return Job(
        name=f"{LAYOUTS[task].title} ({split}) by {run.path.name}",
        command=[sys.executable, "-m", "bertkit", "predict", str(run.path), "--input", str(rows),
                 "--out", str(answers), "--quiet", *settings],
        run=run,
        log=log_of(folder, name),
        cost=rows.stat().st_size,
        result=answers,
        needs=needs,
    )  # fmt: skip


def log_of(folder: Path, name: str) -> Path:
    """The log of a job, in a folder that exists."""
    with disk_errors(folder):
        (folder / "logs").mkdir(exist_ok=True)
    return folder / "logs" / f"{name}.log"


def cost_of(recipe: Recipe, characters: float, rows: float) -> float:
    """Characters that a run reads in training: what its time is in proportion to."""
    passes = recipe.train.epochs
    if recipe.train.steps is not None:
        passes = min(passes, recipe.train.steps * recipe.train.batch_size / max(rows, 1))
    return characters * passes

"""Jobs that are commands of bertkit: a training on a recipe of its own, or another verb about a run."""

import sys
from collections.abc import Iterable
from pathlib import Path

from bertkit.config import Tree, dump_yaml
from bertkit.disk import disk_errors, write_atomically
from bertkit.metrics.shown import describe_scores
from bertkit.recipe import load_recipe
from bertkit.rundir import RunDir
from bertkit.studies.runner.jobs import Job


def make_job(folder: Path, log: str, run: RunDir, *command: str, **more: object) -> Job:
    """A job of `bertkit COMMAND`, for the study in a folder; the folder of its log is made."""
    with disk_errors(folder):
        (folder / "logs").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "bertkit", *command]
    return Job(command=command, run=run, log=folder / "logs" / f"{log}.log", **more)


def training_job(
    folder: Path, name: str, title: str, tree: Tree, *, cost: float, rows: float = 0.0, needs: Job | None = None
) -> Job:
    """The job that trains `runs/NAME` with the recipe `recipes/NAME.yaml`, which is written.

    Args:
        title: what people call it.
        cost: how long an epoch takes beside those of other jobs, in any unit.
        rows: of an epoch, where steps may end the run sooner; 0 where that does not matter.
    """
    recipe, run = load_recipe(tree), RunDir(folder / "runs" / name)
    path = folder / "recipes" / f"{name}.yaml"
    write_atomically(path, f"# {title}\n{dump_yaml(tree)}")
    steps, passes = recipe.train.steps, recipe.train.epochs
    if steps is not None and rows:
        passes = min(passes, steps * recipe.train.batch_size / max(rows, 1))
    return make_job(
        folder, name, run, "train", str(path), "--out", str(run.path), "--resume", name=title,
        result=run["metrics.json"], cost=cost * passes, length=steps or recipe.train.epochs,
        by_steps=steps is not None, needs=needs,
    )  # fmt: skip


def listed(jobs: Iterable[Job]) -> list[dict[str, str]]:
    """The runs of some jobs, as study.json lists them."""
    return [
        {"name": job.name, "path": f"runs/{job.run.path.name}", "state": job.state, "note": job.note} for job in jobs
    ]


def describe_training(job: Job) -> str:
    """What a training that is done came to, in a few words."""
    metrics = job.run.read_json("metrics.json")
    return describe_scores({metrics["headline"]: metrics["splits"]["validation"][metrics["headline"]]})

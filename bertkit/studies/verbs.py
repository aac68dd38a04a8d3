"""Studies from Python: each gives back its findings, which a notebook draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bertkit.findings import from_json
from bertkit.launch import sayer
from bertkit.pages.notebook import Findings
from bertkit.recipe import Recipe, load_recipe


def glue(
    model: str, out: str | Path, *, data: str | None = None, tasks: Sequence[str] = (), seeds: int = 1, jobs: int = 1,
    assignments: Sequence[str] = (), resume: bool = False, quiet: bool = False,
) -> Findings:  # fmt: skip
    """Fine-tune on the GLUE tasks and score them as GLUE does; what it takes and raises is that of `bertkit glue run`.

    Args:
        jobs: how many tasks at a time on each device.
        assignments: settings of all tasks (`train.epochs=1`), of one (`rte.train.epochs=10`) or of the study.
    """
    from bertkit.studies.glue import study
    from bertkit.studies.runner.room import Room

    study.run(
        model, out, data=data, tasks=tasks, seeds=seeds, room=Room(jobs), resume=resume, assignments=assignments,
        quiet=quiet, say=sayer(quiet),
    )  # fmt: skip
    return Findings.read(out)


def check(
    recipe: Recipe | str | Path | Mapping[str, object], out: str | Path | None = None, *, estimate: bool = True
) -> Findings:
    """Look at rows before training, as `bertkit.finetune` with the same recipe reads them.

    Args:
        out: folder of a page; None writes nothing.
        estimate: time a few steps, to say what a run takes here.
    """
    from bertkit.studies.check import run

    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    folder = None if out is None else Path(out)
    return Findings(from_json(run(recipe, folder, estimate=estimate, say=sayer(quiet=True))["findings"]))

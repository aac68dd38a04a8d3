"""What every training run does around its steps: claim a folder, go on from a checkpoint, train, keep."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from bertkit import __version__
from bertkit.config import dump_yaml, flatten
from bertkit.disk import disk_errors, next_folder, write_atomically
from bertkit.errors import BertkitError
from bertkit.launch import process_count, sayer, settle_xla
from bertkit.recipe import AnyRecipe, differing_keys, fingerprint, load_recipe
from bertkit.rundir import SCHEMA, RunDir

if TYPE_CHECKING:
    from bertkit.prepare import Prepared
    from bertkit.train.keep import Keeper

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy")


@contextmanager
def claimed(
    recipe: AnyRecipe, name: str, out: str | Path | None, resume: bool, quiet: bool
) -> Iterator[tuple[RunDir, dict[str, object] | None, str | None]]:
    """Hold the folder of a run, by the first process; gives the folder, its metrics when it is finished, and the
    precision that it began with, where `auto` chose it: chosen again, it might differ, and the digits with it.

    Args:
        name: of the folder under `runs/`, where `out` is None.
    """
    settle_xla(recipe.hardware.device)
    with ExitStack() as held:
        claim = partial(_claim, recipe, name, out, resume, held)
        if process_count() == 1:
            run, finished, precision = claim()
        else:  # what follows imports torch, which a single process may not need
            from bertkit.train.device_setup import join
            from bertkit.train.ranks import of_first

            join(recipe.hardware)
            run, finished, precision = of_first(claim)
        if finished is not None:
            sayer(quiet)(f"{run.path} is finished already; these are its results")
        yield run, finished, precision


def _claim(
    recipe: AnyRecipe, name: str, out: str | Path | None, resume: bool, held: ExitStack
) -> tuple[RunDir, dict[str, object] | None, str | None]:
    run = RunDir(out if out is not None else held.enter_context(next_folder(name)))
    held.enter_context(run.claim(resume))
    finished = run.open().read_json("metrics.json") if resume and run["metrics.json"].exists() else None
    if finished is not None:
        run.sweep()
        # windows and task are resolved in recipe.yaml: they may differ from what was asked for then
        marks = [
            {key: value for key, value in fingerprint(one, {}).items() if not key.startswith(("task.", "windows."))}
            for one in (recipe, load_recipe(run["recipe.yaml"], kind=type(recipe)))
        ]
        if different := differing_keys(*marks):
            raise BertkitError(
                f"{run.path} is finished, and was trained with other settings: {'; '.join(different)}",
                hint="give --out a new name",
            )
    is_chosen = recipe.hardware.precision == "auto" and run["environment.json"].exists()
    return run, finished, str(run.read_json("environment.json")["precision"]) if is_chosen else None


def train(
    run: RunDir, prepared: Prepared, marks: Mapping[str, object], data: Mapping[str, str], resume: bool, quiet: bool
) -> Keeper:
    """Train from the first step, or from where the run stopped.

    Args:
        marks: what a checkpoint must share with this run.
        data: what was read, with its checksum, for environment.json.
    """
    from bertkit.models.vocabulary import follow_decay
    from bertkit.train import keep, loop, memory
    from bertkit.train.observe import make_progress, tracked
    from bertkit.train.optim import make_optimizer
    from bertkit.train.ranks import of_first

    recipe, plan, bare, setup = prepared.recipe, prepared.plan, prepared.built.model, prepared.setup
    accelerator, is_main = setup.accelerator, setup.accelerator.is_main_process
    accelerator.wait_for_everyone()
    optimizer = make_optimizer(bare, recipe.train)
    follow_decay(bare, optimizer)
    state = prepared.train_state(*accelerator.prepare(bare, optimizer))
    asked = recipe.hardware.micro_batch_tokens or 0
    keeper = keep.Keeper(run=run, state=state, model=bare, optimizer=optimizer, asked=asked, fingerprint=marks)
    # a checkpoint of other settings is refused before anything is written
    start = keeper.resume(sayer(quiet)) if resume else 0
    if is_main:
        _open(run, prepared, data)
    written = of_first(lambda: run.read_json("environment.json"))
    if not run["environment.json"].exists() or run.read_json("environment.json") != written:
        raise BertkitError(
            f"{run.path}: this host does not see what the first one wrote there",
            hint="--out must be on a disk that all hosts share",
        )
    keeper.progress = make_progress(plan.step_count, start, quiet or not is_main)
    # where it is neither in a forward nor in a backward pass, smaller batches would not help
    way_on = "free some memory, then go on with --resume"
    exhausted = memory.or_else(lambda: f"out of memory; {keeper.saved}", hint=way_on)
    with tracked(accelerator, recipe.log, flatten(recipe.tree())), closing(keeper.progress), exhausted:
        if not keeper.stopped:
            if setup.finds_tokens and not keeper.token_budget:
                state.resize(memory.find_token_budget(state))
                keeper.resized(start, state.budget.tokens, "the fastest that fits")
            loop.train(state, keeper, start)
    return keeper


def _open(run: RunDir, prepared: Prepared, data: Mapping[str, str]) -> None:
    """Create the folder, or tidy it; recipe.yaml last, for a folder with a recipe is a run."""
    recipe, setup = prepared.recipe, prepared.setup
    with disk_errors(run.path):
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        run.sweep()
    run.write_json("environment.json", {
        "schema": SCHEMA,
        "bertkit": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": setup.summary,
        "processes": setup.accelerator.num_processes,
        "host": platform.node(),
        "steps": prepared.plan.step_count,
        "precision": setup.precision,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": dict(data),
    })  # fmt: skip
    if task := getattr(prepared.predictor, "task", None):  # running text has none
        run.write_json("task.json", task.model_dump(mode="json"))
    write_atomically(run["recipe.yaml"], dump_yaml(recipe.tree()))

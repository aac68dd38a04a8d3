"""Fine-tune a checkpoint: claim a folder, prepare, train, finish."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bertkit.config import flatten
from bertkit.folders import next_run
from bertkit.launch import is_first, restarts, settle_xla
from bertkit.metrics.shown import counted, short_name
from bertkit.recipe import Recipe, load_recipe
from bertkit.run.finish import check_shared, finish, open_run
from bertkit.run.shared import of_first, sayer
from bertkit.rundir import RunDir
from bertkit.splits import read_splits
from bertkit.tasks.base import Task, make_task

if TYPE_CHECKING:
    from bertkit.prepare import Prepared
    from bertkit.train.keep import Keeper


def finetune(
    recipe: Recipe | str | Path | Mapping[str, object],
    out: str | Path | None = None,
    *,
    rows: Mapping[str, object] | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> dict[str, object]:
    """Fine-tune a checkpoint and write a run directory.

    Args:
        recipe: a Recipe, the path of one, or a tree of plain values.
        out: folder of the run; None takes the next free name under `runs/`.
        rows: train, and maybe validation and test, in memory: lists of mappings, frames of pandas or polars, or
            data sets of `datasets`; they take the place of all sources that the recipe names.
        resume: go on from the last checkpoint in `out`, to the same digits; starts anew when there is none.
        quiet: show no progress.
    Returns:
        What metrics.json holds.
    Raises:
        BertkitError: anything the user can mend; before the first step nothing is written.
        Interrupted: SIGINT or SIGTERM; a checkpoint was written.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if rows is not None:
        sources = dict.fromkeys(("source", "config", "train", "validation", "test"))
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=sources)})
    task = make_task(recipe.task)
    resume = resume or restarts() > 0
    settle_xla(recipe.hardware.device)
    with ExitStack() as held:  # the folder, by the first process
        claim = of_first(recipe, lambda: _claim(recipe, task, out, resume, held))
        if claim.finished is None:
            return _finetune(claim, recipe, task, rows, resume, quiet)
        sayer(quiet)(f"{claim.run.path} is finished already; these are its results")
        return claim.finished


def _finetune(
    claim: _Claim, recipe: Recipe, task: Task, rows: Mapping[str, object] | None, resume: bool, quiet: bool
) -> dict[str, object]:
    """Prepare, train and finish a run whose folder is held."""
    splits, label_names = read_splits(recipe, task, sayer(quiet), rows)

    from bertkit import prepare
    from bertkit.train.device_setup import set_up_device
    from bertkit.train.observe import check_trackers
    from bertkit.train.ranks import check_alike

    setup = set_up_device(recipe.hardware, check_trackers(recipe.log.trackers), claim.run.path, claim.precision)
    say, detail = sayer(quiet), sayer(quiet or not recipe.log.verbose)
    detail(f"device: {setup.summary}")
    # everything that can be wrong is found out before anything is written
    material = prepare.read_material(recipe, task, splits, label_names, say)
    setup = prepare.setup_for(setup, material.recipe)
    if setup.training.widths:
        detail(f"batches: padded to {setup.training.widths}, one shape each")
    built = prepare.build(material, material.recipe, setup)
    background = material.background()
    for name, part in background.covered.items():
        detail(f"{name}: {part.describe()}")
        if losses := part.losses():
            say(f"{name}: {losses}")
    prepared = prepare.assemble(material, material.recipe, setup, built)
    detail(f"model: {built.summary}")
    rows = ", ".join(counted(part.rows, f"{name} row") for name, part in background.covered.items())
    device = setup.summary.partition(" (")[0]
    say(f"{task.name}: {rows}; {short_name(recipe.model.checkpoint)} on {device}")
    marks = prepare.marks_of(material, prepared)
    check_alike("the run", lambda: marks)
    del splits, material  # training needs the windows, not the rows
    keeper = _train(claim.run, prepared, marks, resume, quiet)
    return finish(claim.run, prepared, keeper, background, say)


def _train(run: RunDir, prepared: Prepared, marks: Mapping[str, object], resume: bool, quiet: bool) -> Keeper:
    """Train from the first step, or from where the run stopped."""
    from bertkit.models.vocabulary import follow_decay
    from bertkit.train import fit, keep, loop, memory
    from bertkit.train.observe import make_progress, tracked
    from bertkit.train.optim import make_optimizer

    recipe, plan, bare, setup = prepared.recipe, prepared.plan, prepared.built.model, prepared.setup
    accelerator, is_main = setup.accelerator, setup.accelerator.is_main_process
    accelerator.wait_for_everyone()
    optimizer = make_optimizer(bare, recipe.train)
    follow_decay(bare, optimizer)
    model, wrapped = accelerator.prepare(bare, optimizer)
    keeper = keep.Keeper(
        run=run,
        model=bare,
        optimizer=optimizer,
        recipe=recipe,
        fingerprint=marks,
        accelerator=accelerator,
        loss_scale=setup.loss_scale,
        plan=plan,
        objective=prepared.objective,
    )
    # a checkpoint of other settings is refused before anything is written
    start = keeper.resume(sayer(quiet)) if resume else 0
    if is_main:
        open_run(run, prepared)
    check_shared(run, recipe)
    keeper.progress = make_progress(plan.step_count, start, quiet or not is_main)
    # where it is neither in a forward nor in a backward pass, smaller batches would not help
    exhausted = memory.or_else(
        lambda: f"out of memory; the last good checkpoint is {keeper.last_saved}",
        hint="free some memory, then go on with --resume",
    )
    with tracked(accelerator, recipe.log, flatten(recipe.tree())), closing(keeper.progress):
        if not keeper.stopped:
            state = prepared.train_state(model, wrapped, keeper, keeper.token_budget)
            with exhausted:
                if setup.finds_tokens and not keeper.token_budget:
                    state.resize(fit.find_token_budget(state))
                    keeper.resized(start, state.budget.tokens, "the fastest that fits")
                loop.train(state, start)
    return keeper


class _Claim(NamedTuple):
    """The folder of a run; its metrics, when it is finished; the precision that it began with, where `auto` chose it.

    Chosen again, the precision might differ, and the digits with it.
    """

    run: RunDir
    finished: dict[str, object] | None
    precision: str | None


def _claim(recipe: Recipe, task: Task, out: str | Path | None, resume: bool, held: ExitStack) -> _Claim:
    run = RunDir(out if out is not None else held.enter_context(next_run(task.name)))
    held.enter_context(run.claim(resume))
    finished = run.open().read_json("metrics.json") if resume and run["metrics.json"].exists() else None
    if finished is not None and is_first():
        run.sweep()
    is_chosen = recipe.hardware.precision == "auto" and run["environment.json"].exists()
    return _Claim(run, finished, str(run.read_json("environment.json")["precision"]) if is_chosen else None)

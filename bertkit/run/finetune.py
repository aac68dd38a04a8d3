"""Fine-tune a checkpoint: claim a folder, prepare, train, finish."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from bertkit import __version__
from bertkit.config import dump_yaml, flatten
from bertkit.disk import disk_errors, next_folder, write_atomically, written_atomically
from bertkit.errors import BertkitError
from bertkit.findings import Note, to_json
from bertkit.launch import Say, process_count, restarts, sayer, settle_xla
from bertkit.metrics.shown import counted, short_name
from bertkit.recipe import Recipe, differing_keys, fingerprint, load_recipe
from bertkit.rundir import PACE, SCHEMA, RunDir
from bertkit.splits import checksums, read_splits
from bertkit.tasks.base import Task, make_task

if TYPE_CHECKING:
    from bertkit.outcome import Background, Scored
    from bertkit.prepare import Prepared
    from bertkit.train.keep import Keeper

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy")


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
        resume: go on from the last checkpoint in `out`, to the same digits; start anew when there is none.
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
        claim = partial(_claim, recipe, task, out, resume, held)
        if process_count() == 1:
            run, finished, precision = claim()
        else:  # what follows imports torch, which a single process may not need
            from bertkit.train.device_setup import join
            from bertkit.train.ranks import of_first

            join(recipe.hardware)
            run, finished, precision = of_first(claim)
        if finished is not None:
            sayer(quiet)(f"{run.path} is finished already; these are its results")
            return finished
        prepared, background, marks = _prepare(recipe, task, rows, run, precision, sayer(quiet))
        keeper = _train(run, prepared, marks, resume, quiet)
        return _finish(run, prepared, keeper, background, sayer(quiet))


def _claim(
    recipe: Recipe, task: Task, out: str | Path | None, resume: bool, held: ExitStack
) -> tuple[RunDir, dict[str, object] | None, str | None]:
    """The folder of a run; its metrics, when it is finished; the precision that it began with, where `auto` chose it.

    Chosen again, the precision might differ, and the digits with it.
    """
    run = RunDir(out if out is not None else held.enter_context(next_folder(task.name)))
    held.enter_context(run.claim(resume))
    finished = run.open().read_json("metrics.json") if resume and run["metrics.json"].exists() else None
    if finished is not None:
        run.sweep()
        # windows and task are resolved in recipe.yaml: they may differ from what was asked for then
        marks = [
            {key: value for key, value in fingerprint(one, {}).items() if not key.startswith(("task.", "windows."))}
            for one in (recipe, load_recipe(run["recipe.yaml"]))
        ]
        if different := differing_keys(*marks):
            raise BertkitError(
                f"{run.path} is finished, and was trained with other settings: {'; '.join(different)}",
                hint="give --out a new name",
            )
    is_chosen = recipe.hardware.precision == "auto" and run["environment.json"].exists()
    return run, finished, str(run.read_json("environment.json")["precision"]) if is_chosen else None


def _prepare(
    recipe: Recipe, task: Task, rows: Mapping[str, object] | None, run: RunDir, precision: str | None, say: Say
) -> tuple[Prepared, Background, Mapping[str, object]]:
    """What trains, what it leaves to a perfect model, and the marks that a checkpoint must share with it.

    Everything that can be wrong is found out here, before anything is written; and training needs the windows, so that
    the rows are gone with this function.
    """
    detail = say if recipe.log.verbose else sayer(quiet=True)
    splits = read_splits(recipe, task, say, rows)

    from bertkit import prepare
    from bertkit.train.device_setup import set_up_device, with_shapes
    from bertkit.train.observe import check_trackers
    from bertkit.train.ranks import check_alike

    setup = set_up_device(recipe.hardware, check_trackers(recipe.log.trackers), run.path, precision)
    detail(f"device: {setup.summary}")
    material = prepare.read_material(recipe, task, splits, say)
    setup = with_shapes(setup, material.recipe)
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
    counts = ", ".join(counted(part.rows, f"{name} row") for name, part in background.covered.items())
    device = setup.summary.partition(" (")[0]
    say(f"{task.name}: {counts}; {short_name(recipe.model.checkpoint)} on {device}")
    marks = prepare.marks_of(material, prepared)
    check_alike("the run", lambda: marks)
    return prepared, background, marks


def _train(run: RunDir, prepared: Prepared, marks: Mapping[str, object], resume: bool, quiet: bool) -> Keeper:
    """Train from the first step, or from where the run stopped."""
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
        _open(run, prepared)
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


def _open(run: RunDir, prepared: Prepared) -> None:
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
        "data": checksums(recipe),
    })  # fmt: skip
    run.write_json("task.json", prepared.predictor.task.model_dump(mode="json"))
    write_atomically(run["recipe.yaml"], dump_yaml(recipe.tree()))


def _finish(run: RunDir, prepared: Prepared, keeper: Keeper, background: Background, say: Say) -> dict[str, object]:
    """Score the best weights, and write what a reader of the run needs; metrics.json last, for it says "finished"."""
    from bertkit.models.adapters import save_model
    from bertkit.models.source import quiet
    from bertkit.outcome import findings, records
    from bertkit.outcome.thresholds import chosen_note
    from bertkit.run.card import model_card
    from bertkit.train.device import weights_at_hand

    keeper.load_best()
    scored = _score(prepared, keeper, background)
    last = scored[-1] if scored else None
    task = last.task if last else prepared.predictor.task
    results = {one.split: {**one.scores, "rows": len(one.rows)} for one in scored}
    train = background.covered["train"]
    scale = prepared.setup.loss_scale
    skipped = {"skipped": scale.skipped} if scale.is_enabled() else {}
    seconds = round(keeper.seconds(), 1)
    metrics = {
        "headline": task.headline,
        "split": last.split if last else None,
        **(results[last.split] if last else {}),
        "splits": results,
        "step": keeper.best["step"] if keeper.best else keeper.step,  # whose weights these are
        "best": keeper.best,
        "train": {"rows": train.rows, "windows": train.windows, "steps": keeper.step, "seconds": seconds, **skipped},
        "seed": prepared.recipe.seed,
    }
    accelerator, model = prepared.setup.accelerator, prepared.built.model
    if accelerator.is_main_process:
        for one in scored:
            name = "predictions.jsonl" if one is last else f"predictions.{one.split}.jsonl"
            run.write_jsonl(name, records(task, one.rows, one.predictions))
        run.write_json("task.json", task.model_dump(mode="json"))
        notes = [chosen_note(one.untuned, one) for one in scored if one.untuned]
        background = background._replace(notes=(*background.notes, *notes))
        found = findings(last, background, run.read_history(), prepared.objective.best_by, run.read_history(PACE))
        run.write_json("findings.json", to_json(found))
        for note in found:
            if isinstance(note, Note):
                say(f"{note.title}: {note.text}")
        with written_atomically(run.model) as temporary, quiet():
            save_model(model, weights_at_hand(model), temporary)
            prepared.predictor.tokenizer.save_pretrained(temporary)
            write_atomically(temporary / "README.md", model_card(run, metrics))
        run.write_json("metrics.json", metrics)
        run.sweep()
    accelerator.wait_for_everyone()
    say(f"run: {run.path}")
    return metrics


def _score(prepared: Prepared, keeper: Keeper, background: Background) -> list[Scored]:
    """Validation and test, answered by the best weights."""
    from bertkit.outcome import Scored

    predictor, found = prepared.predictor, []
    for name, parts in prepared.scored.items():
        rows = [row for part in parts for row in part.rows]
        is_fresh = name == "validation" and keeper.best_predictions is not None
        predictions = keeper.best_predictions if is_fresh else predictor.evaluate(parts)[1]
        untuned = None
        if name == "validation":
            # settings that are chosen on validation, such as a threshold; they hold for test and from now on
            tuned = predictor.task.tuned(predictions, rows)
            if tuned != predictor.task:
                untuned = predictor.task.score(predictions, rows)
            predictor = replace(predictor, task=tuned)
            predictions = tuned.settled(predictions)
        found.append(Scored(
            split=name,
            task=predictor.task,
            rows=rows,
            predictions=predictions,
            scores=predictor.task.score(predictions, rows),
            window_counts=[count for part in parts for count in part.store.counts.tolist()],
            tags_seen=background.tags_seen,
            untuned=untuned,
        ))  # fmt: skip
    return found

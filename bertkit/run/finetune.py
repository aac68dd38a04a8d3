"""Fine-tune a checkpoint: claim a folder, prepare, train, finish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bertkit.disk import write_atomically, written_atomically
from bertkit.findings import Note, to_json
from bertkit.launch import Say, restarts, sayer
from bertkit.metrics.shown import counted, short_name
from bertkit.recipe import Recipe, load_recipe
from bertkit.run.training import claimed, train
from bertkit.rundir import PACE, RunDir
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
    with claimed(recipe, task.name, out, resume, quiet) as (run, finished, precision):
        if finished is not None:
            return finished
        prepared, background, marks = _prepare(recipe, task, rows, run, precision, sayer(quiet))
        keeper = train(run, prepared, marks, checksums(recipe), resume, quiet)
        return _finish(run, prepared, keeper, background, sayer(quiet))


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
    learned = background.covered["train"]
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
        "train": {
            "rows": learned.rows,
            "windows": learned.windows,
            "steps": keeper.step,
            "seconds": seconds,
            **skipped,
        },
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

"""The files of a run: those that open it before the first step, and those that end it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from bertkit import __version__
from bertkit.config import dump_yaml
from bertkit.disk import disk_errors, write_atomically, written_atomically
from bertkit.errors import BertkitError
from bertkit.findings import Note, to_json
from bertkit.recipe import Recipe
from bertkit.run.shared import Say, of_first
from bertkit.rundir import PACE, SCHEMA, RunDir
from bertkit.splits import checksums

if TYPE_CHECKING:
    from bertkit.outcome import Background, Scored
    from bertkit.prepare import Prepared
    from bertkit.tasks.base import Task
    from bertkit.train.keep import Keeper

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy")


def open_run(run: RunDir, prepared: Prepared) -> None:
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


def check_shared(run: RunDir, recipe: Recipe) -> None:
    """Refuse a folder that only the first process has: the others read its checkpoints."""
    written = of_first(recipe, lambda: run.read_json("environment.json"))
    if not run["environment.json"].exists() or run.read_json("environment.json") != written:
        raise BertkitError(
            f"{run.path}: this host does not see what the first one wrote there",
            hint="--out must be on a disk that all hosts share",
        )


def finish(run: RunDir, prepared: Prepared, keeper: Keeper, background: Background, say: Say) -> dict[str, object]:
    """Score the best weights, and write what a reader of the run needs; metrics.json last, for it says "finished"."""
    from bertkit.models.source import quiet
    from bertkit.outcome import findings, records
    from bertkit.train.device import weights_at_hand

    keeper.load_best()
    scored = score(prepared, keeper, background)
    last = scored[-1] if scored else None
    task = last.task if last else prepared.predictor.task
    metrics = metrics_of(scored, task, keeper, background, prepared.recipe.seed)
    accelerator, model = prepared.setup.accelerator, prepared.built.model
    if accelerator.is_main_process:
        for one in scored:
            name = "predictions.jsonl" if one is last else f"predictions.{one.split}.jsonl"
            run.write_jsonl(name, records(task, one.rows, one.predictions))
        run.write_json("task.json", task.model_dump(mode="json"))
        found = findings(last, background, run.read_history(), prepared.objective.best_by, run.read_history(PACE))
        run.write_json("findings.json", to_json(found))
        for note in found:
            if isinstance(note, Note):
                say(f"{note.title}: {note.text}")
        with written_atomically(run.model) as temporary, quiet():
            model.save_pretrained(temporary, state_dict=weights_at_hand(model))
            prepared.tokenizer.save_pretrained(temporary)
        run.write_json("metrics.json", metrics)
        run.sweep()
    accelerator.wait_for_everyone()
    say(f"run: {run.path}")
    return metrics


def score(prepared: Prepared, keeper: Keeper, background: Background) -> list[Scored]:
    """Validation and test, answered by the best weights."""
    from bertkit.outcome import Scored

    predictor, found = prepared.predictor, []
    for name, parts in prepared.scored.items():
        rows = [row for part in parts for row in part.rows]
        is_fresh = name == "validation" and keeper.best_predictions is not None
        predictions = keeper.best_predictions if is_fresh else predictor.evaluate(parts)[1]
        if name == "validation":
            # settings that are chosen on validation, such as a threshold; they hold for test and from now on
            predictor = replace(predictor, task=predictor.task.tuned(predictions, rows))
            predictions = predictor.task.settled(predictions)
        found.append(Scored(
            split=name,
            task=predictor.task,
            rows=rows,
            predictions=predictions,
            scores=predictor.task.score(predictions, rows),
            window_counts=[count for part in parts for count in part.store.counts.tolist()],
            tags_seen=background.tags_seen,
        ))  # fmt: skip
    return found


def metrics_of(
    scored: Sequence[Scored], task: Task, keeper: Keeper, background: Background, seed: int
) -> dict[str, object]:
    """What metrics.json holds: the scores of the last split, then of all, and which weights have them."""
    results = {one.split: {**one.scores, "rows": len(one.rows)} for one in scored}
    split = next(reversed(results), None)
    train = background.covered["train"]
    skipped = {"skipped": keeper.loss_scale.skipped} if keeper.loss_scale.value else {}
    seconds = round(keeper.seconds(), 1)
    return {
        "headline": task.headline,
        "split": split,
        **(results[split] if split else {}),
        "splits": results,
        "step": keeper.best["step"] if keeper.best else keeper.step,  # whose weights these are
        "best": keeper.best,
        "train": {"rows": train.rows, "windows": train.windows, "steps": keeper.step, "seconds": seconds, **skipped},
        "seed": seed,
    }

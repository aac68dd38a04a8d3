"""The files of a run: those that open it before the first step, and those that end it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
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
    from transformers import PreTrainedTokenizerBase

    from bertkit.encode import Part
    from bertkit.outcome import Background
    from bertkit.prepare import Prepared
    from bertkit.train.keep import Keeper, Watch

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


def finish(
    run: RunDir,
    prepared: Prepared,
    tokenizer: PreTrainedTokenizerBase,
    parts: Mapping[str, Sequence[Part]],
    keeper: Keeper,
    watch: Watch,
    background: Background,
    say: Say,
) -> dict[str, object]:
    """Score the best weights, and write what a reader of the run needs; metrics.json last, for it says "finished"."""
    from bertkit.models.source import quiet
    from bertkit.outcome import Scored, findings, records
    from bertkit.train.device import weights_at_hand

    keeper.load_best()
    predictor = prepared.predictor
    results: dict[str, object] = {}
    scored: Scored | None = None
    is_main = predictor.accelerator.is_main_process
    for name, some in parts.items():
        rows = [row for part in some for row in part.rows]
        is_fresh = name == "validation" and watch.best_predictions is not None
        predictions = watch.best_predictions if is_fresh else predictor.evaluate(some)[1]
        if name == "validation":
            # settings that are chosen on validation, such as a threshold; they hold for test and from now on
            predictor = replace(predictor, task=predictor.task.tuned(predictions, rows))
            predictions = predictor.task.settled(predictions)
        scores = predictor.task.score(predictions, rows)
        results[name] = {**scores, "rows": len(rows)}
        window_counts = [count for part in some for count in part.store.counts.tolist()]
        scored = Scored(name, predictor.task, rows, predictions, scores, window_counts, background.tags_seen)
        if is_main:
            is_last = name == next(reversed(parts))
            run.write_jsonl(
                f"predictions{'' if is_last else f'.{name}'}.jsonl", records(predictor.task, rows, predictions)
            )
    split = next(reversed(results), None)
    metrics = {
        "headline": predictor.task.headline,
        "split": split,
        **(results[split] if split else {}),
        "splits": results,
        "step": keeper.best["step"] if keeper.best else keeper.step,  # whose weights these are
        "best": keeper.best,
        "train": {
            "rows": background.covered["train"].rows, "windows": background.covered["train"].windows,
            "steps": keeper.step, "seconds": round(keeper.seconds(), 1),
            **({"skipped": keeper.loss_scale.skipped} if keeper.loss_scale.value else {}),
        },
        "seed": prepared.recipe.seed,
    }  # fmt: skip
    if is_main:
        run.write_json("task.json", predictor.task.model_dump(mode="json"))
        found = findings(scored, background, run.read_history(), prepared.objective.best_by, run.read_history(PACE))
        run.write_json("findings.json", to_json(found))
        for note in found:
            if isinstance(note, Note):
                say(f"{note.title}: {note.text}")
        with written_atomically(run.model) as temporary, quiet():
            predictor.model.save_pretrained(temporary, state_dict=weights_at_hand(predictor.model))
            tokenizer.save_pretrained(temporary)
        run.write_json("metrics.json", metrics)
        run.sweep()
    predictor.accelerator.wait_for_everyone()
    say(f"run: {run.path}")
    return metrics

"""Pre-train a model on running text: claim a folder, tokenise, train, finish."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bertkit.data.corpus import texts_in
from bertkit.disk import checksum, written_atomically
from bertkit.errors import BertkitError
from bertkit.findings import to_json
from bertkit.heads import LossSettings
from bertkit.launch import Say, restarts, sayer
from bertkit.metrics.shown import short_name
from bertkit.recipe import HardwareConfig, PretrainRecipe, TrainConfig, load_recipe
from bertkit.run.training import claimed, train
from bertkit.rundir import PACE, RunDir

if TYPE_CHECKING:
    from bertkit.prepare import Prepared
    from bertkit.train.keep import Keeper

EVERY = 5.0  # seconds between two lines about the tokens so far


def pretrain(
    recipe: PretrainRecipe | str | Path | Mapping[str, object],
    out: str | Path | None = None,
    *,
    resume: bool = False,
    quiet: bool = False,
) -> dict[str, object]:
    """Let a model learn from running text, and write a run directory.

    Args:
        recipe: a PretrainRecipe, the path of one, or a tree of plain values.
        out: folder of the run; None takes the next free name under `runs/`.
        resume: go on from the last checkpoint in `out`, to the same digits; start anew when there is none.
        quiet: show no progress.
    Returns:
        What metrics.json holds: loss in nats, perplexity and accuracy on held-out text.
    Raises:
        BertkitError: anything the user can mend; before the first step nothing is written but the tokens in the cache.
        Interrupted: SIGINT or SIGTERM; a checkpoint was written.
    """
    recipe = recipe if isinstance(recipe, PretrainRecipe) else load_recipe(recipe, kind=PretrainRecipe)
    check(recipe.train, recipe.hardware)
    resume, say = resume or restarts() > 0, sayer(quiet)
    with claimed(recipe, "pretrain", out, resume, quiet) as (run, finished, precision):
        if finished is not None:
            return finished
        from bertkit import prepare
        from bertkit.train.device_setup import set_up_device
        from bertkit.train.observe import check_trackers
        from bertkit.train.ranks import check_alike, of_first

        detail = say if recipe.log.verbose else sayer(quiet=True)
        setup = set_up_device(recipe.hardware, check_trackers(recipe.log.trackers), run.path, precision)
        detail(f"device: {setup.summary}")
        of_first(lambda: prepare.read_text(recipe, say, progress(say)) and None)  # tokenised once, for all
        material = prepare.read_text(recipe, sayer(quiet=True))
        built = prepare.build(material, recipe, setup)
        prepared = prepare.assemble(material, recipe, setup, built)
        detail(f"model: {built.summary}")
        say(f"{recipe.objective['name']}: {short_name(recipe.model.checkpoint)} on {setup.summary.partition(' (')[0]}")
        marks = prepare.marks_of(material, prepared)
        check_alike("the run", lambda: marks)
        keeper = train(run, prepared, marks, checksums(recipe), resume, quiet)
        return _finish(run, prepared, keeper, say)


def check(config: TrainConfig, hardware: HardwareConfig) -> None:
    """Refuse settings that running text has no use for."""
    idle = [name for name, usual in LossSettings._field_defaults.items() if getattr(config, name) != usual]
    if idle:
        raise BertkitError(f"train.{idle[0]}: would change nothing: running text has no labels", hint="leave it out")
    if hardware.compile or hardware.fixed_shapes is True or hardware.device == "xla":
        raise BertkitError(
            "hardware: batches of running text have no fixed shapes, so they are not compiled",
            hint="leave out hardware.compile, hardware.fixed_shapes and hardware.device=xla",
        )


def progress(say: Say) -> Callable[[str, int], None]:
    """Says now and then how many tokens there are."""
    last = time.monotonic()

    def told(file: str, tokens: int) -> None:
        nonlocal last
        if time.monotonic() - last > EVERY:
            last = time.monotonic()
            say(f"{file}: {tokens:,} tokens so far")

    return told


def checksums(recipe: PretrainRecipe) -> dict[str, str]:
    """Each file of the text with its SHA-256."""
    sources = (*recipe.corpus.train, *recipe.corpus.held_out)
    files = [Path(file) for source in sources for file in texts_in(source)]
    return {str(file): f"sha256:{checksum(file)}" for file in files if file.is_file()}


def _finish(run: RunDir, prepared: Prepared, keeper: Keeper, say: Say) -> dict[str, object]:
    """Score the best weights, and write what a reader of the run needs; metrics.json last, for it says "finished"."""
    from bertkit.models.adapters import save_model
    from bertkit.models.source import quiet
    from bertkit.outcome import curves
    from bertkit.train.device import weights_at_hand

    keeper.load_best()
    objective, model, accelerator = prepared.objective, prepared.built.model, prepared.setup.accelerator
    scores = objective.evaluate()[0] if objective.has_scores else {}
    lengths = prepared.plan.lengths
    metrics = {
        "headline": objective.best_by,
        "split": "validation" if scores else None,
        **scores,
        "splits": {"validation": scores} if scores else {},
        "step": keeper.best["step"] if keeper.best else keeper.step,
        "best": keeper.best,
        "train": {
            "windows": len(lengths), "tokens": int(lengths.sum()), "steps": keeper.step,
            "seconds": round(keeper.seconds(), 1),
        },
        "seed": prepared.recipe.seed,
    }  # fmt: skip
    if accelerator.is_main_process:
        history = run.read_history()
        scored = [{"step": one["step"], **one["validation"]} for one in history if "validation" in one]
        found = [
            *curves("Loss", "nats a hidden token", history, {"train": "loss"}),
            *curves("Held-out loss", "nats a hidden token", scored, {"held out": "loss"}),
            *curves("Held-out accuracy", "share restored", scored, {"held out": "accuracy"}, shares=("y",)),
            *curves("Memory", "MB", run.read_history(PACE), {"process": "resident_mb", "GPU, at most": "gpu_mb"}),
        ]
        run.write_json("findings.json", to_json(found))
        with written_atomically(run.model) as temporary, quiet():
            save_model(model, weights_at_hand(model), temporary)
            prepared.predictor.tokenizer.save_pretrained(temporary)
        run.write_json("metrics.json", metrics)
        run.sweep()
    accelerator.wait_for_everyone()
    say(f"run: {run.path}")
    return metrics

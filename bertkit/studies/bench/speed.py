"""How fast this machine trains, evaluates and predicts with a recipe, and what each switch does to that."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from bertkit import __version__
from bertkit.errors import BertkitError, Interrupted
from bertkit.findings import Finding, Note, to_json
from bertkit.launch import settle_xla
from bertkit.metrics.shown import short_name
from bertkit.recipe import Recipe, load_recipe
from bertkit.rundir import RunDir
from bertkit.studies.base import Study
from bertkit.studies.bench.lines import compare, noise, peak_table, table
from bertkit.studies.bench.variants import WORKS, Machine, Variant, variants

if TYPE_CHECKING:
    from bertkit.studies.bench.counting import Sample
    from bertkit.studies.bench.lanes import Bench, Lane

T = TypeVar("T")
Say = Callable[[str], None]
BUNDLED_ROWS = {"sentiment": "sentiment.csv", "nli": "nli.jsonl", "pos": "pos.conllu", "qa": "qa.json"}
EVALUATION_ROWS = 256


def run(
    recipe: Recipe,
    out: str | Path,
    *,
    rounds: int = 5,
    steps: int = 4,
    growth: bool = False,
    largest: int = 1_000_000,
    notes: Sequence[str] = (),
    say: Say,
) -> dict[str, object]:
    """Measure, and write study.json, results.json, findings.json and report.html.

    Args:
        rounds: turns of each variant, all variants one after the other, after one round of warm-up.
        steps: training steps of a turn; they are chosen to stand for all.
        growth: measure time and memory against the number of rows and the length of a document instead.
        largest: rows, and characters of a document, that growth goes up to.
        notes: what a reader must not miss.
    Returns:
        What results.json holds.
    Raises:
        BertkitError: anything the user can mend; then nothing is written.
        Interrupted: nothing is written.
    """
    with RunDir(out).claim(resume=False) as folder:
        settle_xla(recipe.hardware.device)
        from bertkit.studies.bench import lanes

        try:
            bench, machine, default = _open(recipe, steps, say)
            facts = {"model": recipe.model.checkpoint, **lanes.facts(bench, default), "bertkit": __version__}
            if growth:
                from bertkit.studies.bench import growth as growing

                results, found, headline = growing.measure(bench, default, largest, say)
            else:
                results, found, headline = _compare(bench, machine, default, rounds, steps, say)
        except Interrupted:
            raise Interrupted("stopped; nothing is written", hint="fewer --rounds and --steps take less time") from None
        facts["command"] = "bertkit bench --growth" if growth else f"bertkit bench --rounds {rounds} --steps {steps}"
        results = {"schema": 1, "facts": facts, **results}
        found = [*(Note(title="Caveat", text=text) for text in notes), *found]
        title = f"{'Growth' if growth else 'Speed'}: {bench.material.task.name}, {short_name(recipe.model.checkpoint)}"
        study = Study(folder.path, "speed", title)
        study.conclude(found, results, headline=headline, facts=facts)
        study.report()
    return {**results, "findings": to_json(found)}


def complete(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """The recipe with what comes along where it names no rows or no checkpoint; and what a reader must know of that."""
    tree, notes, task = recipe.tree(), [], str(recipe.task["name"])
    if recipe.data.train is None and recipe.data.source is None:
        if task not in BUNDLED_ROWS:
            raise BertkitError("data.train: no rows are given", hint="add --train FILE")
        tree["data"]["train"] = f"bundled:{BUNDLED_ROWS[task]}"
        notes.append(f"These are the few short rows of {tree['data']['train']}; with --train the figures are yours.")
    if "checkpoint" not in recipe.model.model_fields_set:
        tree["model"] |= {"checkpoint": "bundled:tiny", "init": "scratch"}
        notes.append("The model is a tiny one: most of its time is overhead. With --model the figures are yours.")
    return load_recipe(tree), notes


def _open(recipe: Recipe, steps: int, say: Say) -> tuple[Bench, Machine, Lane]:
    """The rows, the machine and the lane of the recipe as it is, with what `auto` stands for here."""
    import torch

    from bertkit.studies.bench import lanes
    from bertkit.train.device_setup import bf16_gain, set_up_device

    bench = lanes.open_bench(recipe, say)
    setup = set_up_device(recipe.hardware)
    device = setup.accelerator.device.type
    say(f"device: {setup.summary}")
    machine = Machine(device, setup.precision, bf16_gain(device) > 0, torch.get_num_threads(), os.cpu_count() or 1)
    settings = [f"hardware.precision={machine.precision}", f"hardware.threads={machine.threads}"]
    bench.recipe = load_recipe(bench.recipe.tree(), settings)  # `auto` is decided once, for all lanes
    return bench, machine, lanes.open_lane(bench, (), steps)


def interleave(turns: Sequence[Callable[[], T]], rounds: int, after: Callable[[int], None]) -> list[list[T]]:
    """A B C, A B C, ...: what is slow for a while is slow for all. The first round warms up and is not kept.

    Args:
        after: called with the number of every round that is done, from 0, the warm-up.
    Returns:
        For each turn its values, one a round.
    """
    found: list[list[T]] = [[] for _ in turns]
    for number in range(rounds + 1):
        values = [turn() for turn in turns]
        if number:
            for kept, value in zip(found, values, strict=True):
                kept.append(value)
        after(number)
    return found


def _compare(
    bench: Bench, machine: Machine, default: Lane, rounds: int, steps: int, say: Say
) -> tuple[dict[str, object], list[Finding], dict[str, object]]:
    from bertkit.studies.bench import lanes

    asked, skipped = variants(bench.recipe, machine, int(bench.material.train.store.lengths.max()))
    opened: dict[Variant, Lane] = {}
    for variant in asked:
        try:
            opened[variant] = lanes.open_lane(bench, variant.settings, steps) if variant.settings else default
        except BertkitError as error:
            skipped.append(f"{variant.name}: {error.message}")
    rows = (bench.material.splits.validation or bench.material.splits.train)[:EVALUATION_ROWS]
    parts = list(default.answerer.parts(rows))
    peaks = sorted({(lane.setup.precision, lane.threads) for lane in opened.values()} | {("fp32", default.threads)})
    turns = _turns(bench, default, opened, peaks, rows, parts, steps)
    say(f"{len(opened)} variants, {rounds} rounds of {steps} training steps and {len(rows)} rows each, and a warm-up")
    samples = dict(zip(turns, interleave(list(turns.values()), rounds, _clock(rounds, say)), strict=True))
    rates = {key: median(sample.count / sample.wall for sample in samples["products", key]) for key in peaks}
    names = {variant.name: (lane.setup.precision, lane.threads) for variant, lane in opened.items()}
    lines = {
        work: compare(
            {name: samples[work, name] for name in names if (work, name) in samples},
            {name: rates[key] for name, key in names.items()},
            float(bench.material.train.store.lengths.mean()) if work == "train" else None,
        )
        for work in WORKS
    }
    found: list[Finding] = [Note(title="Left out", text="; ".join(skipped) + ".")] if skipped else []
    if busy := noise([sample for key in peaks for sample in samples["products", key]], peaks, rounds):
        found.append(Note(title="Noise", text=busy))
    found += [table(work, some) for work, some in lines.items()] + [peak_table(samples, peaks)]
    results = {
        "rounds": rounds, "steps": steps, "skipped": skipped,
        "shape": bench.shape._asdict(),
        "peaks": [{"precision": key[0], "threads": key[1], "operations_per_second": rates[key]} for key in peaks],
        "lines": {work: [line._asdict() for line in some] for work, some in lines.items()},
        "samples": [{"work": work, "name": str(name), "rounds": [sample._asdict() for sample in some]}
                    for (work, name), some in samples.items()],
    }  # fmt: skip
    label = "useful tokens a second in training, as given"
    return results, found, {"label": label, "value": lines["train"][0].tokens, "plain": True}


def _turns(
    bench: Bench, default: Lane, opened: Mapping[Variant, Lane], peaks: Iterable, rows: Sequence, parts: Sequence,
    steps: int,
) -> dict[tuple[str, object], Callable[[], Sample]]:  # fmt: skip
    """(work, variant) -> what one turn of it does."""
    import torch

    from bertkit.studies.bench import counting

    device = default.setup.accelerator.device
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    turns: dict[tuple[str, object], Callable[[], Sample]] = {}
    for key in peaks:
        turns["products", key] = lambda key=key: counting.products(bench.shape, dtypes[key[0]], key[1], device)
    for variant, lane in opened.items():
        if "train" in variant.works:
            turns["train", variant.name] = lambda lane=lane: lane.train(steps)
    for variant, lane in opened.items():
        if "evaluate" in variant.works:
            turns["evaluate", variant.name] = lambda lane=lane: lane.evaluate(parts)
    for variant, lane in opened.items():
        if "predict" in variant.works:
            turns["predict", variant.name] = lambda lane=lane: lane.predict(rows, parts)
    return turns


def _clock(rounds: int, say: Say) -> Callable[[int], None]:
    """Says how long it will take, after the warm-up and after every round."""
    import time

    began = time.monotonic()

    def after(number: int) -> None:
        seconds = (time.monotonic() - began) / (number + 1)
        say(f"{f'round {number}' if number else 'warm-up'} done, about {seconds * (rounds - number):.0f} s left")

    return after

"""How fast this machine trains, evaluates and predicts with a recipe, and what each switch does to that."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from bertkit import __version__
from bertkit.errors import BertkitError, Interrupted
from bertkit.findings import Finding, Note, Series, Table, to_json
from bertkit.launch import settle_xla
from bertkit.metrics.shown import short_name
from bertkit.recipe import Recipe, load_recipe
from bertkit.rundir import RunDir
from bertkit.studies.base import Study

if TYPE_CHECKING:
    from bertkit.studies.lanes import Bench, Lane, Sample

T = TypeVar("T")
Say = Callable[[str], None]
AS_GIVEN = "as given"
WORKS = {"train": "Training", "evaluate": "Evaluation", "predict": "Prediction"}
BUNDLED_ROWS = {"sentiment": "sentiment.csv", "nli": "nli.jsonl", "pos": "pos.conllu", "qa": "qa.json"}
EVALUATION_ROWS = 256
BUSY = 0.8  # of the processor time that the threads could have had; below it, something else ran


class Variant(NamedTuple):
    """A switch put the other way: its name, its settings, and the kinds of work that it can change."""

    name: str
    settings: tuple[str, ...] = ()
    works: tuple[str, ...] = tuple(WORKS)


class Machine(NamedTuple):
    """What decides which variants there are."""

    device: str
    precision: str  # of the recipe as given
    has_bf16: bool
    threads: int  # of the recipe as given
    cores: int


class Line(NamedTuple):
    """What one variant came to in one kind of work: medians over the rounds.

    Attributes:
        samples: a second, of average length.
        tokens: useful ones a second.
        ratio: to the default of the same round, in wall time, with `least` and `most` over the rounds.
        cpu_ratio: the same in processor time.
        padding: share of the computed positions that are padding.
        of_peak: operations of useful tokens a second, over those of the machine's own matrix products.
        wall: seconds of a turn.
        cpu: processor seconds of a turn.
    """

    name: str
    samples: float
    tokens: float
    ratio: float
    least: float
    most: float
    cpu_ratio: float
    padding: float
    of_peak: float
    wall: float
    cpu: float


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
        return _run(recipe, folder, rounds, steps, growth, largest, notes, say)


def _run(
    recipe: Recipe,
    folder: RunDir,
    rounds: int,
    steps: int,
    growth: bool,
    largest: int,
    notes: Sequence[str],
    say: Say,
) -> dict[str, object]:
    settle_xla(recipe.hardware.device)
    from bertkit.studies import lanes

    try:
        bench, machine, default = _open(recipe, steps, say)
        facts = {"model": recipe.model.checkpoint, **lanes.facts(bench, default), "bertkit": __version__}
        if growth:
            from bertkit.studies import growth as growing

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

    from bertkit.studies import lanes
    from bertkit.train.device_setup import bf16_gain, set_up_device

    bench = lanes.open_bench(recipe, say)
    setup = set_up_device(recipe.hardware)
    device = setup.accelerator.device.type
    say(f"device: {setup.summary}")
    machine = Machine(device, setup.precision, bf16_gain(device) > 0, torch.get_num_threads(), os.cpu_count() or 1)
    settings = [f"hardware.precision={machine.precision}", f"hardware.threads={machine.threads}"]
    bench.recipe = load_recipe(bench.recipe.tree(), settings)  # `auto` is decided once, for all lanes
    return bench, machine, lanes.open_lane(bench, (), steps)


def variants(recipe: Recipe, machine: Machine, longest: int) -> tuple[list[Variant], list[str]]:
    """The recipe as given first, then each switch the other way; and what this machine cannot do, in words.

    Args:
        longest: tokens of the longest window.
    """
    other = "random" if recipe.train.order == "length" else "length"
    found = [Variant(AS_GIVEN), Variant(f"train.order={other}", (f"train.order={other}",), ("train",))]
    skipped = []
    if machine.precision != "fp32":
        found.append(Variant("hardware.precision=fp32", ("hardware.precision=fp32",)))
    elif machine.has_bf16:
        found.append(Variant("hardware.precision=bf16", ("hardware.precision=bf16",)))
    else:
        skipped.append("hardware.precision=bf16: this device has no native bf16")
    asked = recipe.hardware.padding_free
    if machine.device != "cpu":
        # auto: on where there is a kernel for it, which takes no attention dropout in training
        values = ("true", "false") if asked == "auto" else ("false",) if asked else ("true",)
        found += [Variant(f"hardware.padding_free={value}", (f"hardware.padding_free={value}",)) for value in values]
        found.append(Variant("padding_free, attention_dropout=0",
                             ("hardware.padding_free=true", "model.attention_dropout=0"), ("train",)))  # fmt: skip
    else:
        # auto: on in training with batches in random order
        is_free = asked is True or (asked == "auto" and recipe.train.order == "random")
        found.append(switched("hardware.padding_free", is_free))
        other = "auto" if recipe.model.attention == "sdpa" else "sdpa"
        found.append(Variant(f"model.attention={other}", (f"model.attention={other}",), ("train",)))
    if machine.device == "cuda":
        found.append(switched("hardware.compile", recipe.hardware.compile))
    if machine.device != "cpu":
        skipped.append("hardware.threads: the work is not on the CPU")
    elif machine.cores < 2:
        skipped.append("hardware.threads: there is one core")
    else:
        count = 1 if machine.threads > 1 else machine.cores
        found.append(Variant(f"hardware.threads={count}", (f"hardware.threads={count}",)))
    found.append(switched("hardware.compact_vocabulary", recipe.hardware.compact_vocabulary, ("train",)))
    whole = recipe.train.batch_size * longest
    budgets = (f"hardware.micro_batch_tokens={whole}", f"hardware.evaluation_tokens={whole}")
    found.append(Variant("whole batches", (*budgets, f"hardware.pass_overhead={whole}")))
    rate = "null" if recipe.model.dropout == 0 else "0"
    found.append(Variant(f"model.dropout={rate}", (f"model.dropout={rate}",), ("train",)))
    return found, skipped


def switched(name: str, is_on: bool, works: Sequence[str] = tuple(WORKS)) -> Variant:
    """A switch the other way."""
    setting = f"{name}={'false' if is_on else 'true'}"
    return Variant(setting, (setting,), tuple(works))


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
    from bertkit.studies import lanes

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
    if busy := _is_busy([sample for key in peaks for sample in samples["products", key]], peaks, rounds):
        found.append(Note(title="Noise", text=busy))
    found += [table(work, some) for work, some in lines.items()] + [_peak_table(samples, peaks)]
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

    from bertkit.studies import lanes

    device = default.setup.accelerator.device
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    turns: dict[tuple[str, object], Callable[[], Sample]] = {}
    for key in peaks:
        turns["products", key] = lambda key=key: lanes.products(bench.shape, dtypes[key[0]], key[1], device)
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


def compare(
    samples: Mapping[str, Sequence[Sample]], peaks: Mapping[str, float], mean_length: float | None = None
) -> list[Line]:
    """A line for each variant; ratios are of tokens a second, round by round, to the first variant.

    Args:
        peaks: operations a second of the matrix products in each variant's precision and threads.
        mean_length: tokens of a sample, when the samples of a turn are longer or shorter than the average.
    """
    first = next(iter(samples.values()))
    lines = []
    for name, some in samples.items():
        tokens = median(sample.tokens / sample.wall for sample in some)
        ratios = [_ratio(one, base, "wall") for one, base in zip(some, first, strict=True)]
        lines.append(Line(
            name,
            tokens / mean_length if mean_length else median(sample.count / sample.wall for sample in some),
            tokens,
            median(ratios), min(ratios), max(ratios),
            median(_ratio(one, base, "cpu") for one, base in zip(some, first, strict=True)),
            1 - sum(sample.tokens for sample in some) / max(1, sum(sample.padded for sample in some)),
            median(sample.operations / sample.wall for sample in some) / peaks[name],
            median(sample.wall for sample in some),
            median(sample.cpu for sample in some),
        ))  # fmt: skip
    return lines


def _ratio(one: Sample, base: Sample, clock: str) -> float:
    """How many times as many tokens in a second of that clock."""
    return (one.tokens / max(getattr(one, clock), 1e-9)) / (base.tokens / max(getattr(base, clock), 1e-9))


def table(work: str, lines: Sequence[Line]) -> Table:
    """The lines of one kind of work."""
    samples = {
        "train": "windows of average length",
        "evaluate": "rows, their windows made before, as during training",
        "predict": "rows, windows included, with weights as `bertkit predict` loads them",
    }[work]
    return Table(
        title=WORKS[work],
        caption=f"Medians over the rounds; samples are {samples}, tokens useful ones, no padding. Ratio: useful "
        "tokens a second over those of the recipe as given in the same round, with the least and the most; CPU ratio: "
        "in processor seconds. Padding: share of the positions of the batches. Of peak: operations of useful tokens, "
        f"{'6' if work == 'train' else '2'} a weight of the encoder's matrices and attention's, over the machine's own "
        "matrix products of that precision.",
        columns=("variant", "samples/s", "tokens/s", "ratio", "least", "most", "CPU ratio", "padding", "of peak",
                 "wall s", "CPU s"),
        rows=tuple(
            (line.name, rate(line.samples), rate(line.tokens), *(round(x, 3) for x in line[3:7]), line.padding,
             line.of_peak, round(line.wall, 3), round(line.cpu, 3))
            for line in lines
        ),
        plain=("samples/s", "tokens/s", "ratio", "least", "most", "CPU ratio", "wall s", "CPU s"),
    )  # fmt: skip


def as_table(series: Series) -> Table:
    """The points of a curve, for a terminal."""
    rows = zip(map(int, series.x), *series.lines.values(), strict=True)
    columns = (series.x_label, *(f"{name}, {series.y_label}" for name in series.lines))
    return Table(title=series.title, columns=columns, rows=tuple(rows), plain=columns)


def rate(value: float) -> int | float:
    """A speed without digits that mean nothing."""
    return round(value) if value >= 100 else round(value, 2)


def _peak_table(samples: Mapping, peaks: Sequence[tuple[str, int]]) -> Table:
    def row(key: tuple[str, int]) -> tuple:
        rates = [sample.count / sample.wall / 1e9 for sample in samples["products", key]]
        return (key[0], key[1], *(rate(value) for value in (median(rates), min(rates), max(rates))))

    return Table(
        title="Matrix products",
        caption="GFLOP/s of products as large as those of the feed-forward layers, over 1,024 tokens: what `of peak` "
        "is a share of. Measured in the same rounds; median, least and most.",
        columns=("precision", "threads", "GFLOP/s", "least", "most"),
        rows=tuple(map(row, peaks)),
        plain=("GFLOP/s", "least", "most"),
    )


def _is_busy(samples: Sequence[Sample], peaks: Sequence[tuple[str, int]], rounds: int) -> str:
    """A sentence when the threads did not get the processor they were to have; empty when they did."""
    wanted = sum(sample.wall * peaks[position // rounds][1] for position, sample in enumerate(samples))
    share = sum(sample.cpu for sample in samples) / max(wanted, 1e-9)
    if share >= BUSY:
        return ""
    return (
        f"The threads of the matrix products had {100 * share:.0f} % of the processor: something else was running. "
        "Trust the CPU ratios rather than the others, or measure again in a quiet moment."
    )

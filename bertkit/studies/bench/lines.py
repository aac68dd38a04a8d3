"""The recipe as given and its variants, turn by turn: a line for each of them, and the tables of the page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple, TypeVar

from bertkit.errors import BertkitError
from bertkit.findings import Finding, Note, Table
from bertkit.studies.bench.counting import Sample, products
from bertkit.studies.bench.lanes import Bench, Lane, open_lane
from bertkit.studies.bench.variants import WORKS, Variant, variants
from bertkit.train.device_setup import bf16_gain

T = TypeVar("T")
Kind = tuple[str, int]  # of matrix products: their precision and threads

EVALUATION_ROWS = 256
BUSY = 0.8  # of the processor time that the threads could have had; below it, something else ran


class Line(NamedTuple):
    """What one variant came to in one kind of work: medians over the rounds."""

    name: str
    samples: float  # a second, of average length
    tokens: float  # useful ones a second
    ratio: float  # to the default of the same round, in wall time
    least: float  # of the ratios of the rounds
    most: float
    cpu_ratio: float  # in processor time
    padding: float  # share of the computed positions that are padding
    of_peak: float  # operations of useful tokens a second, over those of the machine's own matrix products
    wall: float  # seconds of a turn
    cpu: float  # processor seconds of a turn


def measure(
    bench: Bench, default: Lane, rounds: int, steps: int, say: Callable[[str], None]
) -> tuple[dict[str, object], list[Finding]]:
    """All variants in each kind of work that they can change, beside the matrix products of the machine."""
    opened, skipped = _open_lanes(bench, default, steps)
    rows = (bench.material.splits.validation or bench.material.splits.train)[:EVALUATION_ROWS]
    parts = list(default.answerer.parts(rows))
    kinds = {variant.name: (lane.prepared.setup.precision, lane.threads) for variant, lane in opened.items()}
    device = default.prepared.setup.accelerator.device
    turns: dict[tuple[str, object], Callable[[], Sample]] = {
        ("products", kind): partial(products, bench.shape, *kind, device)
        for kind in sorted({*kinds.values(), ("fp32", default.threads)})
    }
    for work, given in {"train": (steps,), "evaluate": (parts,), "predict": (rows, parts)}.items():
        for variant, lane in opened.items():
            if work in variant.works:
                turns[work, variant.name] = partial(getattr(lane, work), *given)
    say(f"{len(opened)} variants, {rounds} rounds of {steps} training steps and {len(rows)} rows each, and a warm-up")
    began = time.monotonic()

    def after(number: int) -> None:
        seconds = (time.monotonic() - began) / (number + 1)
        say(f"{f'round {number}' if number else 'warm-up'} done, about {seconds * (rounds - number):.0f} s left")

    samples = dict(zip(turns, interleave(list(turns.values()), rounds, after), strict=True))
    peaks = {kind: some for (work, kind), some in samples.items() if work == "products"}
    rates = {kind: median(sample.count / sample.wall for sample in some) for kind, some in peaks.items()}
    lines = {}
    for work in WORKS:
        mean_length = float(bench.material.train.store.lengths.mean()) if work == "train" else None
        some = {name: samples[work, name] for name in kinds if (work, name) in samples}
        lines[work] = compare(some, {name: rates[kind] for name, kind in kinds.items()}, mean_length)
    found: list[Finding] = [Note(title="Left out", text="; ".join(skipped) + ".")] if skipped else []
    if busy := noise(peaks):
        found.append(Note(title="Noise", text=busy))
    found += [*(table(work, some) for work, some in lines.items()), peak_table(peaks)]
    results = {
        "rounds": rounds, "steps": steps, "skipped": skipped, "shape": bench.shape._asdict(),
        "peaks": [{"precision": precision, "threads": threads, "operations_per_second": rate}
                  for (precision, threads), rate in rates.items()],
        "lines": {work: [line._asdict() for line in some] for work, some in lines.items()},
        "samples": [{"work": work, "name": str(name), "rounds": [sample._asdict() for sample in some]}
                    for (work, name), some in samples.items()],
    }  # fmt: skip
    return results, found


def _open_lanes(bench: Bench, default: Lane, steps: int) -> tuple[dict[Variant, Lane], list[str]]:
    """The lanes of this machine's variants, and in words those that it cannot have."""
    device, longest = default.prepared.setup.accelerator.device.type, int(bench.material.train.store.lengths.max())
    asked, skipped = variants(bench.recipe, device, bf16_gain(device) > 0, os.cpu_count() or 1, longest)
    opened: dict[Variant, Lane] = {}
    for variant in asked:
        try:
            opened[variant] = open_lane(bench, variant.settings, steps) if variant.settings else default
        except BertkitError as error:
            skipped.append(f"{variant.name}: {error.message}")
    return opened, skipped


def interleave(turns: Sequence[Callable[[], T]], rounds: int, after: Callable[[int], None]) -> list[list[T]]:
    """A B C, A B C, ...: what is slow for a while is slow for all. The first round warms up and is not kept.

    Args:
        after: called with the number of every round that is done, from 0, the warm-up.
    Returns:
        For each turn its values, one a round.
    """
    found: list[list[T]] = [[] for _ in turns]
    for number in range(rounds + 1):
        for kept, turn in zip(found, turns, strict=True):
            kept.append(turn())
        after(number)
    return [kept[1:] for kept in found]


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


def rate(value: float) -> int | float:
    """A speed without digits that mean nothing."""
    return round(value) if value >= 100 else round(value, 2)


def peak_table(peaks: Mapping[Kind, Sequence[Sample]]) -> Table:
    def row(kind: Kind, samples: Sequence[Sample]) -> tuple:
        rates = [sample.count / sample.wall / 1e9 for sample in samples]
        return (*kind, *(rate(value) for value in (median(rates), min(rates), max(rates))))

    return Table(
        title="Matrix products",
        caption="GFLOP/s of products as large as those of the feed-forward layers, over 1,024 tokens: what `of peak` "
        "is a share of. Measured in the same rounds; median, least and most.",
        columns=("precision", "threads", "GFLOP/s", "least", "most"),
        rows=tuple(row(kind, some) for kind, some in peaks.items()),
        plain=("GFLOP/s", "least", "most"),
    )


def noise(peaks: Mapping[Kind, Sequence[Sample]]) -> str:
    """A sentence when the threads did not get the processor they were to have; empty when they did."""
    wanted = sum(sample.wall * threads for (_, threads), some in peaks.items() for sample in some)
    share = sum(sample.cpu for some in peaks.values() for sample in some) / max(wanted, 1e-9)
    if share >= BUSY:
        return ""
    return (
        f"The threads of the matrix products had {100 * share:.0f} % of the processor: something else was running. "
        "Trust the CPU ratios rather than the others, or measure again in a quiet moment."
    )

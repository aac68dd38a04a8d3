"""Each switch of a recipe put the other way, in turns with the recipe as given, and the tables of what that takes."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from bertkit.errors import BertkitError
from bertkit.findings import Finding, Note, Table, tabulate
from bertkit.launch import Say
from bertkit.recipe import Recipe
from bertkit.studies.bench.counting import Sample, products
from bertkit.studies.bench.lanes import Bench, Lane, open_lane
from bertkit.train.device_setup import bf16_gain

T = TypeVar("T")
Kind = tuple[str, int]  # of matrix products: their precision and threads

AS_GIVEN = "as given"
WORKS = {  # kind of work -> title, what its samples are, operations for a weight and token
    "train": ("Training", "windows of average length", 6),
    "evaluate": ("Evaluation", "rows, their windows made before, as during training", 2),
    "predict": ("Prediction", "rows, windows included, with weights as `bertkit predict` loads them", 2),
}
EVALUATION_ROWS = 256
BUSY = 0.8  # of the processor time that the threads could have had; below it, something else ran


class Variant(NamedTuple):
    """A switch put the other way."""

    name: str
    settings: tuple[str, ...]
    works: tuple[str, ...]  # the kinds of work that it can change


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


def measure(bench: Bench, default: Lane, rounds: int, steps: int, say: Say) -> tuple[dict[str, object], list[Finding]]:
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
    found += [*noise(peaks, device), *(table(work, some) for work, some in lines.items()), peak_table(peaks)]
    results = {
        "rounds": rounds, "steps": steps, "skipped": skipped, "shape": bench.shape._asdict(),
        "peaks": [{"precision": precision, "threads": threads, "operations_per_second": value}
                  for (precision, threads), value in rates.items()],
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


def variants(recipe: Recipe, device: str, has_bf16: bool, cores: int, longest: int) -> tuple[list[Variant], list[str]]:
    """The recipe as given first, then each switch the other way; and what this machine cannot do, in words.

    Precision and threads of the recipe are decided. The device has bf16 where it does not emulate it; `longest` is in
    tokens, of a window.
    """
    model, hardware, skipped = recipe.model, recipe.hardware, []
    found = [Variant(AS_GIVEN, (), tuple(WORKS))]

    def add(*settings: str, name: str = "", works: tuple[str, ...] = tuple(WORKS)) -> None:
        found.append(Variant(name or settings[0], settings, works))

    add(f"train.order={'random' if recipe.train.order == 'length' else 'length'}", works=("train",))
    if hardware.precision == "fp32" and not has_bf16:
        skipped.append("hardware.precision=bf16: this device has no native bf16")
    else:
        add(f"hardware.precision={'bf16' if hardware.precision == 'fp32' else 'fp32'}")
    asked = hardware.padding_free
    if device == "cpu":
        # auto: on in training with batches in random order
        is_free = asked is True or (asked == "auto" and recipe.train.order == "random")
        add(f"hardware.padding_free={_other(is_free)}")
        add(f"model.attention={'auto' if model.attention == 'sdpa' else 'sdpa'}", works=("train",))
    else:
        # auto: on where there is a kernel for it, which takes no attention dropout in training
        for value in ("true", "false") if asked == "auto" else (_other(asked),):
            add(f"hardware.padding_free={value}")
        add("hardware.padding_free=true", "model.attention_dropout=0",
            name="padding_free, attention_dropout=0", works=("train",))  # fmt: skip
    if device == "cuda":
        add(f"hardware.compile={_other(hardware.compile)}")
    if device != "cpu":
        skipped.append("hardware.threads: the work is not on the CPU")
    elif cores < 2:
        skipped.append("hardware.threads: there is one core")
    else:
        add(f"hardware.threads={1 if hardware.threads > 1 else cores}")
    add(f"hardware.compact_vocabulary={_other(hardware.compact_vocabulary)}", works=("train",))
    whole = recipe.train.batch_size * longest
    budgets = ("micro_batch_tokens", "evaluation_tokens", "pass_overhead")
    add(*(f"hardware.{budget}={whole}" for budget in budgets), name="whole batches")
    add(f"model.dropout={'null' if model.dropout == 0 else '0'}", works=("train",))
    return found, skipped


def _other(is_on: bool) -> str:
    return "false" if is_on else "true"


def interleave(turns: Sequence[Callable[[], T]], rounds: int, after: Callable[[int], None]) -> list[list[T]]:
    """A B C, A B C, ...: what is slow for a while is slow for all; the values of each turn, one a round.

    The first round, 0, warms up and is not kept. `after` is told the number of every round that is done.
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
    first_wall, first_cpu, _, first_tokens, *_ = np.array(next(iter(samples.values())), float).T
    lines = []
    for name, some in samples.items():
        wall, cpu, count, tokens, padded, operations = np.array(some, float).T
        ratios = (tokens / wall) / (first_tokens / first_wall)
        cpu_ratios = (tokens / np.maximum(cpu, 1e-9)) / (first_tokens / np.maximum(first_cpu, 1e-9))
        speed = median(tokens / wall)
        samples_a_second = speed / mean_length if mean_length else median(count / wall)
        found = (
            samples_a_second, speed, median(ratios), min(ratios), max(ratios), median(cpu_ratios),
            1 - tokens.sum() / max(1, padded.sum()), median(operations / wall) / peaks[name], median(wall), median(cpu),
        )  # fmt: skip
        lines.append(Line(name, *map(float, found)))
    return lines


def table(work: str, lines: Sequence[Line]) -> Table:
    """The lines of one kind of work."""
    title, samples, operations = WORKS[work]
    caption = (
        f"Medians over the rounds; samples are {samples}, tokens useful ones, no padding. Ratio: useful tokens a "
        "second over those of the recipe as given in the same round, with the least and the most; CPU ratio: in "
        "processor seconds. Padding: share of the positions of the batches. Of peak: operations of useful tokens, "
        f"{operations} a weight of the encoder's matrices and attention's, over the machine's own matrix products of "
        "that precision."
    )
    rows = (
        (line.name, rate(line.samples), rate(line.tokens), *(round(x, 3) for x in line[3:7]), line.padding,
         line.of_peak, round(line.wall, 3), round(line.cpu, 3))
        for line in lines
    )  # fmt: skip
    speeds, times = ("samples/s", "tokens/s", "ratio", "least", "most", "CPU ratio"), ("wall s", "CPU s")
    columns = ("variant", *speeds, "padding", "of peak", *times)
    return tabulate(title, caption, columns, rows, plain=speeds + times)


def rate(value: float) -> int | float:
    """A speed without digits that mean nothing."""
    return round(value) if value >= 100 else round(value, 2)


def peak_table(peaks: Mapping[Kind, Sequence[Sample]]) -> Table:
    rates = {kind: [sample.count / sample.wall / 1e9 for sample in some] for kind, some in peaks.items()}
    rows = ((*kind, *(rate(of(some)) for of in (median, min, max))) for kind, some in rates.items())
    caption = (
        "GFLOP/s of products as large as those of the feed-forward layers, over 1,024 tokens: what `of peak` is a "
        "share of. Measured in the same rounds; median, least and most."
    )
    numbers = ("GFLOP/s", "least", "most")
    return tabulate("Matrix products", caption, ("precision", "threads", *numbers), rows, plain=numbers)


def noise(peaks: Mapping[Kind, Sequence[Sample]], device: torch.device) -> list[Note]:
    """A note where threads that compute did not get the processor they were to have."""
    wanted = sum(sample.wall * threads for (_, threads), some in peaks.items() for sample in some)
    share = sum(sample.cpu for some in peaks.values() for sample in some) / max(wanted, 1e-9)
    if device.type != "cpu" or share >= BUSY:
        return []
    text = (
        f"The threads of the matrix products had {100 * share:.0f} % of the processor: something else was running. "
        "Trust the CPU ratios rather than the others, or measure again in a quiet moment."
    )
    return [Note(title="Noise", text=text)]

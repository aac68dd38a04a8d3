"""What turns of a benchmark come to: a line for each variant, and the tables of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from bertkit.findings import Series, Table
from bertkit.studies.bench.counting import Sample
from bertkit.studies.bench.variants import WORKS

BUSY = 0.8  # of the processor time that the threads could have had; below it, something else ran


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


def peak_table(samples: Mapping, peaks: Sequence[tuple[str, int]]) -> Table:
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


def noise(samples: Sequence[Sample], peaks: Sequence[tuple[str, int]], rounds: int) -> str:
    """A sentence when the threads did not get the processor they were to have; empty when they did."""
    wanted = sum(sample.wall * peaks[position // rounds][1] for position, sample in enumerate(samples))
    share = sum(sample.cpu for sample in samples) / max(wanted, 1e-9)
    if share >= BUSY:
        return ""
    return (
        f"The threads of the matrix products had {100 * share:.0f} % of the processor: something else was running. "
        "Trust the CPU ratios rather than the others, or measure again in a quiet moment."
    )

"""Figures: their shape survives thinning, and no label breaks them."""

from __future__ import annotations

import math
import random
import re
from xml.etree import ElementTree

import pytest

from bertkit.findings import Dots, Heatmap, Series
from bertkit.pages.plots import POINTS, draw, label, running_mean, thin
from tests.unit.pages.conftest import every_kind

SPACE = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SPACE}text")]


def noise(count: int) -> list[float]:
    draw = random.Random(0)
    return [draw.gauss(0, 1) for _ in range(count)]


@pytest.mark.parametrize("count", [1, POINTS, POINTS + 1, 5000, 54321])
def test_thinning_keeps_the_first_the_last_and_the_extremes(count):
    x, y = [float(number) for number in range(count)], noise(count)
    kept_x, kept_y = thin(x, y)
    assert len(kept_x) == len(kept_y) <= POINTS + 4
    assert (kept_x[0], kept_x[-1]) == (x[0], x[-1])
    assert (min(kept_y), max(kept_y)) == (min(y), max(y))
    assert kept_x == sorted(kept_x)
    assert {*zip(kept_x, kept_y, strict=True)} <= {*zip(x, y, strict=True)}


def test_a_thousand_points_more_do_not_make_a_figure_larger():
    def size(count: int) -> int:
        lines = {"a": tuple(noise(count))}
        return len(draw(Series(title="s", x_label="x", y_label="y", x=tuple(range(count)), lines=lines), "f"))

    assert size(50_000) < 1.5 * size(500)


def test_the_running_mean_of_a_line_is_that_line_but_for_its_ends():
    line = [2.0 * number + 1 for number in range(50)]
    assert running_mean(line, 7)[3:-3] == pytest.approx(line[3:-3])
    assert running_mean([0.0, 3.0, 0.0, 9.0], 3) == pytest.approx([1.5, 1, 4, 4.5])
    assert running_mean([5.0], 9) == [5]


@pytest.mark.parametrize(
    "text", ["$x^$", "$\\frac{$", "\\alpha", "a_b^c", "%s {} {0}", "<b>&amp;</svg>", "日本", "_hidden"]
)
def test_labels_are_data_and_never_formulas(text):
    for finding in every_kind(text):
        if finding.kind in ("series", "dots", "heatmap"):
            found = texts(draw(finding, "f"))
            assert any(text in shown for shown in found), (finding.kind, found)


def test_a_label_is_one_short_line_that_can_be_seen():
    assert label("a\nb\x00\x1b\u202e\ud800") == "a b����"
    assert len(label("w" * 500)) == 28
    assert label("👩‍👧") == "👩‍👧"


def test_powers_of_ten_stand_equally_far_apart_on_a_log_axis():
    sizes = (1e3, 1e4, 1e5, 1e6)
    svg = draw(Series(title="s", x_label="x", y_label="y", x=sizes, lines={"a": (1, 1, 1, 1)}, log_x=True), "f")
    places = {
        "".join(text.itertext()): float(text.get("x")) for text in ElementTree.fromstring(svg).iter(f"{SPACE}text")
    }
    first, *others = (places[f"{size:,.0f}"] for size in sizes)
    assert others == pytest.approx([first + step * (others[0] - first) for step in (1, 2, 3)])


@pytest.mark.parametrize(
    ("shares", "numbers"), [((), {"0.5"}), (("y",), {"0.5", "50"}), (("x",), {"0.5", "50"}), (("x", "y"), {"50"})]
)
def test_fractions_are_drawn_times_100(shares, numbers):
    curve = Series(title="s", x_label="x", y_label="y", x=(0.0, 0.5), lines={"a": (0.0, 0.5)}, shares=shares)
    assert {"0.5", "50"} & {*texts(draw(curve, "f"))} == numbers


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e308, -1e308, 1e-308, 0.0])
def test_no_number_breaks_a_figure(value):
    draw(Series(title="s", x_label="", y_label="", x=(0, value, 2), lines={"a": (value, 1.0, -value)}), "f")
    groups = {"g": (value, 0.5)}
    draw(Dots(title="d", y_label="", x=("a", "b"), groups=groups, curve_label="", curve=(value, 1), reference=1,
              reference_label=""), "f")  # fmt: skip
    draw(
        Heatmap(title="h", row_label="", column_label="", rows=("a",), columns=("a", "b"), values=((value, 1.0),)), "f"
    )


def matrix(count: int, value: float = 3.0) -> Heatmap:
    names = tuple(f"label {number}" for number in range(count))
    values = tuple(tuple(value * (row == column) for column in range(count)) for row in range(count))
    return Heatmap(title="h", row_label="gold", column_label="predicted", rows=names, columns=names, values=values)


def test_a_small_heatmap_has_its_numbers_and_a_large_one_has_not():
    assert texts(draw(matrix(3, 1234.0), "f")).count("1,234") == 3
    assert texts(draw(matrix(3, 0.25), "f")).count("25.0") == 3
    assert "3" not in texts(draw(matrix(21), "f"))
    assert len(draw(matrix(200), "f")) < 200_000


def test_every_group_has_its_own_marker_place_and_line_of_the_legend():
    tasks = [f"task {number}" for number in range(9)]
    svg = draw(
        Dots(
            title="d", y_label="", x=("a", "b"), groups=dict.fromkeys(tasks, (0.5, 0.5)), curve_label="mean",
            curve=(0.5, 0.5), reference=1.0, reference_label="people", published=("b",),
        ),
        "f",
    )  # fmt: skip
    assert [text for text in texts(svg) if text.startswith("task")] == tasks
    assert {"mean", "people", "b, published", "hollow: published by others"} <= set(texts(svg))
    for number in range(9):
        marks = re.findall(rf'<use x="([\d.]+)" y="[\d.]+" style="[^"]*stroke: var\(--group-{number}\)', svg)
        assert len(marks) == 3, "two dots, and the legend"
    places = re.findall(r'<use x="([\d.]+)" y="[\d.]+" style="[^"]*stroke: var\(--group-\d\)', svg)
    assert len(set(places)) == 18 + 1


def test_a_figure_scales_and_says_what_it_is():
    root = ElementTree.fromstring(draw(matrix(3), "f"))
    assert root.get("viewBox")
    assert root.get("width") is root.get("height") is None
    assert (root.get("role"), root.get("aria-label")) == ("img", "h")

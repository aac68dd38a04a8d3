"""Series, dots and heatmaps as inline SVG in the colours of the page around it."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from bertkit.findings import Dots, Heatmap, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 400  # of a line; a figure has hardly more pixels
SMOOTHED = 100  # a longer line is drawn pale, under its running mean
NUMBERED = 20  # a larger heatmap has no numbers in its cells
SHADES = 32  # of a heatmap; one path each, so that 200 x 200 cells stay a small file
MARKERS = "osD^vPX<>ph*"

# matplotlib draws in colours that nothing else uses; the SVG gets the page's own instead, light or dark
PAGE_COLOURS = {f"#fe01{number:02x}": f"var(--group-{number})" for number in range(9)}
GROUPS = tuple(PAGE_COLOURS)
INK, FAINT, SHADE, ON_SHADE = "#fe0000", "#fe0001", "#fe0002", "#fe0003"
PAGE_COLOURS |= {INK: "currentColor", FAINT: "var(--faint)", SHADE: "var(--shade)", ON_SHADE: "var(--on-shade)"}
RULES = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bertkit",
    "text.parse_math": False,  # a label such as `$x^$` is data
    **dict.fromkeys(("font.size", "axes.labelsize"), 10),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9),
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "grid.color", "xtick.color", "ytick.color"), FAINT),
    **dict.fromkeys(("legend.frameon", "axes.spines.top", "axes.spines.right"), False),
    "axes.axisbelow": True,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.6,
}


def draw(finding: Series | Dots | Heatmap, name: str) -> str:
    """The figure of a finding as an `<svg>` element; empty when there is nothing to draw.

    Args:
        name: prefix of every id in the figure; no other figure of the page may have it.
    """
    import matplotlib
    from matplotlib.figure import Figure

    plot = {"series": _series, "dots": _dots, "heatmap": _heatmap}[finding.kind]
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **RULES}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glyphs that matplotlib's font lacks: the browser has them
        figure = Figure()
        if not plot(figure.add_axes((0, 0, 1, 1)), finding):
            return ""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    return _inline(buffer.getvalue(), name, finding.title)


def label(text: str, most: int = 28) -> str:
    """A string as a figure can show it: one short line without control characters."""
    shown = "".join(
        character if character.isprintable() or character in "\u200c\u200d" else "\ufffd"
        for character in " ".join(text.split())
    )
    return shown if len(shown) <= most else shown[: most - 1].rstrip() + "…"


def thin(x: Sequence[float], y: Sequence[float], most: int = POINTS) -> tuple[list[float], list[float]]:
    """About `most` points that keep the shape: the first, the last, and the extremes of every stretch."""
    if len(x) <= most:
        return list(x), list(y)
    stretch = math.ceil(2 * len(x) / most)
    kept = {0, len(x) - 1}
    for begin in range(0, len(x), stretch):
        positions = range(begin, min(begin + stretch, len(x)))
        kept |= {min(positions, key=y.__getitem__), max(positions, key=y.__getitem__)}
    return [x[position] for position in sorted(kept)], [y[position] for position in sorted(kept)]


def running_mean(y: Sequence[float], width: int) -> list[float]:
    """The mean of the `width` (odd) values around each; fewer at the ends."""
    reach = width // 2
    total = [0.0, *accumulate(y)]
    windows = ((max(0, position - reach), min(len(y), position + reach + 1)) for position in range(len(y)))
    return [(total[end] - total[begin]) / (end - begin) for begin, end in windows]


def _points(x: Sequence[float], y: Sequence[float | None]) -> list[tuple[float, float]]:
    """The points that have a value, by x, without numbers too large for a figure to scale."""
    pairs = ((a, b) for a, b in zip(x, y, strict=False) if b is not None)
    return sorted((a, b) for a, b in pairs if abs(a) < 1e100 and abs(b) < 1e100)


def _series(axes: Axes, finding: Series) -> bool:
    if len(finding.x) < 2:  # one point is easier to read as text
        return False
    axes.figure.set_size_inches(5.7, 2.6)
    for number, (name, line) in enumerate(finding.lines.items()):
        if not (points := _points(finding.x, line)):
            continue
        x, y = zip(*points, strict=True)
        if name == "perfect":  # what a calibration curve is compared with
            axes.plot(x, y, color=INK, alpha=0.6, linewidth=1, linestyle="--", label=name)
            continue
        colour, shown = GROUPS[number % len(GROUPS)], label(name)
        if len(y) > SMOOTHED:
            axes.plot(*thin(x, y), color=colour, alpha=0.3, linewidth=0.8)
            width = max(5, len(y) // 30) // 2 * 2 + 1
            x, y = thin(x, running_mean(y, width))
            shown += f" (pale), and its mean over {width} values"
        axes.plot(x, y, color=colour, label=shown, marker="o" if len(y) <= 40 else "", markersize=4)
        if name in finding.marks:
            axes.plot(*([value] for value in finding.marks[name]), color=colour, marker="o", markersize=7)
    axes.set_xlabel(label(finding.x_label, 60))
    axes.set_ylabel(label(finding.y_label, 32))
    if finding.log_x:
        axes.set_xscale("log")
        axes.minorticks_off()
    else:
        axes.xaxis.get_major_locator().set_params(integer=all(float(x).is_integer() for x in finding.x))
    axes.xaxis.set_major_formatter(_times_100 if "x" in finding.shares else _number)
    axes.yaxis.set_major_formatter(_times_100 if "y" in finding.shares else _number)
    axes.grid(axis="y")
    if len(axes.lines) > 1:  # a line alone is what the axis says
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.3, handlelength=1.6)
    return bool(axes.lines)


def _dots(axes: Axes, finding: Dots) -> bool:
    from matplotlib.lines import Line2D

    positions = range(len(finding.x))
    axes.figure.set_size_inches(max(3, 0.75 * len(positions)), 3.8)
    for position in positions[1::2]:
        axes.axvspan(position - 0.5, position + 0.5, color=FAINT, alpha=0.25, linewidth=0)
    people = {"color": INK, "linewidth": 1, "linestyle": (0, (5, 3))}
    axes.axhline(finding.reference, **people)
    average = {"color": INK, "alpha": 0.75, "linewidth": 1.8, "marker": "_", "markersize": 13, "markeredgewidth": 2.2}
    points = _points(positions, finding.curve)
    axes.plot(*zip(*points, strict=True) if points else ((), ()), **average)
    legend = [
        Line2D([], [], **average, label=label(finding.curve_label)),
        Line2D([], [], **people, label=label(finding.reference_label)),
    ]
    for number, (group, values) in enumerate(finding.groups.items()):
        look = {"color": GROUPS[number % len(GROUPS)], "marker": MARKERS[number % len(MARKERS)], "linestyle": ""}
        look["markersize"] = 7.5 if look["marker"] in "PX*" else 6  # thin markers need more room to look hollow
        legend.append(Line2D([], [], **look, label=label(group)))
        shift = 0.7 * ((number + 0.5) / len(finding.groups) - 0.5)  # equal scores stand side by side
        for position, value in _points(positions, values):
            fill = {"markerfacecolor": "none"} if finding.x[position] in finding.published else {}
            axes.plot([position + shift], [value], **look, **fill, markeredgewidth=1.1)
    if finding.published:
        hollow = {"marker": "o", "markersize": 6, "markerfacecolor": "none", "markeredgewidth": 1.1, "linestyle": ""}
        legend.append(Line2D([], [], color=INK, **hollow, label="hollow: published by others"))
    names = [label(name, 36) + (", published" if name in finding.published else "") for name in finding.x]
    axes.set_xticks(positions, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.5, len(positions) - 0.5)
    axes.set_ylabel(label(finding.y_label, 60))
    axes.yaxis.set_major_formatter(_number)
    axes.grid(axis="y")
    axes.legend(handles=legend, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, labelspacing=0.65)
    return any(_points(positions, values) for values in (finding.curve, *finding.groups.values()))


def _heatmap(axes: Axes, finding: Heatmap) -> bool:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    down, across = len(finding.rows), len(finding.columns)
    if not down or not across:
        return False
    most = max(down, across)
    cell = min(0.8, max(2.4 / most, 0.42 if most <= NUMBERED else 6.4 / most))  # inches
    axes.figure.set_size_inches(max(cell * across, 0.4), max(cell * down, 0.4))
    is_count = all(float(value).is_integer() for values in finding.values for value in values)
    texts = [[f"{value:,.0f}" if is_count else f"{100 * value:.1f}" for value in values] for values in finding.values]
    size = min(10, 1.5 * 72 * cell / max((len(text) for some in texts for text in some), default=1))
    squares: dict[int, list[Path]] = {}
    for row, values in enumerate(finding.values):
        total = sum(value for value in values if math.isfinite(value))
        for column, value in enumerate(values):
            shade = math.ceil(SHADES * (value / total)) if 0 < value <= total else 0
            if shade:
                x, y = column - 0.48, row - 0.48
                corners = [(x, y), (x + 0.96, y), (x + 0.96, y + 0.96), (x, y + 0.96), (x, y)]
                squares.setdefault(shade, []).append(Path(corners, closed=True))
            if most <= NUMBERED:
                colour = ON_SHADE if shade > 0.55 * SHADES else INK
                look = {"color": colour, "alpha": 1 if value else 0.4, "fontsize": size}
                axes.text(column, row, texts[row][column], ha="center", va="center_baseline", **look)
    for shade, paths in sorted(squares.items()):
        square = Path.make_compound_path(*paths)
        axes.add_patch(PathPatch(square, facecolor=SHADE, alpha=shade / SHADES, linewidth=0))
    every = [math.ceil(count / 40) for count in (across, down)]
    columns = [label(name, 18) for name in finding.columns[:: every[0]]]
    tilt = {"rotation": 50, "ha": "right", "rotation_mode": "anchor"} if max(map(len, columns)) * 7 > 72 * cell else {}
    axes.set_xticks(range(0, across, every[0]), columns, **tilt)
    axes.set_yticks(range(0, down, every[1]), [label(name, 18) for name in finding.rows[:: every[1]]])
    axes.tick_params(length=0, labelsize=9 if most <= NUMBERED else 6)
    axes.set_xlim(-0.5, across - 0.5)
    axes.set_ylim(down - 0.5, -0.5)
    axes.set_xlabel(label(finding.column_label, 40), labelpad=8)
    axes.set_ylabel(label(finding.row_label, 40), labelpad=8)
    axes.spines[:].set_visible(False)
    return True


def _number(value: float, _: int) -> str:
    return f"{value:,.10g}".replace("-", "−")


def _times_100(value: float, index: int) -> str:
    return _number(100 * value, index)


def _inline(svg: bytes, name: str, title: str) -> str:
    """An SVG file as an element of a page: no metadata, no global style, its own ids, the page's colours."""
    from xml.etree import ElementTree

    space, link = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
    ElementTree.register_namespace("", space[1:-1])
    root = ElementTree.fromstring(svg)  # noqa: S314 - matplotlib wrote it just now
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style", "}title")):
                parent.remove(child)
    for element in root.iter():
        if link in element.attrib:
            element.set("href", element.attrib.pop(link))
        for key, value in element.attrib.items():
            if key == "id":
                value = f"{name}-{value}"
            elif key == "href":
                value = value.replace("#", f"#{name}-", 1)
            elif key == "style":
                value = re.sub(r"font-family: [^;]*; *", "", re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", value))
                value = re.sub("#fe0[0-9a-f]{3}", lambda found: PAGE_COLOURS[found[0]], value)
            element.set(key, value.replace("url(#", f"url(#{name}-"))
    width = root.attrib["viewBox"].split()[2]
    for key in ("width", "height", "version", "id"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", label(title, 200))
    root.set("style", f"max-width:{1.5 * float(width):.0f}px;min-width:{0.84 * float(width):.0f}px")
    return ElementTree.tostring(root, encoding="unicode")

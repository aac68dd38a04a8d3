"""Findings and pages as self-contained HTML: `write_report("runs/reviews")`."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from itertools import count, pairwise
from pathlib import Path

from bertkit.disk import write_atomically
from bertkit.errors import BertkitError
from bertkit.findings import Cell, Finding, Span, Table, to_json
from bertkit.metrics.shown import show_score
from bertkit.pages.view import view_of

AROUND = 150  # characters on either side of a span in an excerpt


def write_report(directory: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a run or a study, and return its file; see `notebook.report`."""
    target = Path(out) if out is not None else Path(directory) / "report.html"
    if target.is_dir():
        raise BertkitError(f"--out: {target} is a folder", hint="give the name of an .html file")
    write_atomically(target, render(directory))
    return target


def render(directory: str | Path) -> str:
    """The page of a run or a study; the same folder gives the same characters."""
    directory = Path(directory)
    view, entries = view_of(directory)
    return _fill("page.html", "figure", view=view, entries=entries, folder=directory.resolve().name)


def fragment(findings: Sequence[Finding]) -> str:
    """Findings as one element, with its style, that can stand in any page."""
    # a notebook is one page: ids of one cell's figures must not be those of another's
    ids = f"figure-{hashlib.sha256(json.dumps(to_json(findings)).encode()).hexdigest()[:12]}"
    return _fill("fragment.html", ids, findings=findings)


def _fill(template: str, ids: str, **values: object) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from bertkit.pages.plots import draw

    numbers = count(1)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {
        "cells": cells, "point": point, "pieces": pieces, "excerpts": excerpts,
        "draw": lambda finding: draw(finding, f"{ids}-{next(numbers)}"),
    }  # fmt: skip
    page = environment.get_template(template).render(values)
    # characters that HTML forbids or UTF-8 cannot encode
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", page)


def cells(table: Table) -> list[list[tuple[str, str]]]:
    """Rows of (shown text, `word`, `number` or `missing`)."""
    columns = []
    for name, values in zip(table.columns, zip(*table.rows, strict=True), strict=False):  # without rows, no columns
        is_plain = name in table.plain
        is_score = not is_plain and not any(isinstance(value, str | int) for value in values)
        missing = "undefined" if is_score else "–", "missing"
        look = "word" if any(isinstance(value, str) for value in values) else "number"
        columns.append([missing if _is_missing(value) else (_cell(value, is_plain), look) for value in values])
    return [list(row) for row in zip(*columns, strict=True)]


def _is_missing(value: Cell) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell(value: str | float, is_plain: bool) -> str:
    if isinstance(value, float) and is_plain:
        return f"{value:,.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"
    return value if isinstance(value, str) else show_score("", value)


def point(value: float | None, is_share: bool) -> str:
    """A coordinate of a curve of one point, which is no figure."""
    return show_score("", value) if is_share or _is_missing(value) else f"{value:,g}"


def pieces(text: str, spans: Sequence[Span], begin: int = 0, end: int | None = None) -> list[tuple[str, str]]:
    """`text[begin:end]` cut where a mark begins or ends, as (piece, marks such as `gold predicted`)."""
    end = len(text) if end is None else end
    cuts = {begin, end, *(cut for span in spans for cut in (span.start, span.end) if begin < cut < end)}
    return [
        (text[a:b], " ".join(sorted({span.kind for span in spans if span.start <= a and b <= span.end})))
        for a, b in pairwise(sorted(cuts))
    ]


def excerpts(text: str, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """The parts of a text to read first: the surroundings of its spans, or else its beginning."""
    if len(text) <= 3 * AROUND:
        return [(0, len(text))]
    wanted = [(span.start - AROUND, span.end + AROUND) for span in spans if 0 <= span.start < span.end <= len(text)]
    found: list[tuple[int, int]] = []
    for start, stop in sorted(wanted) or [(0, 2 * AROUND)]:
        # whole words, unless they are long
        first = max(text.find(" ", start, start + 20) + 1, start) if start > 0 else 0
        last = max(text.rfind(" ", stop - 20, stop), 0) or stop if stop < len(text) else len(text)
        if found and first <= found[-1][1] + 20:
            first, last = found[-1][0], max(found.pop()[1], last)
        found.append((first, last))
    shown = sum(last - first for first, last in found)
    return found if shown < 0.8 * len(text) else [(0, len(text))]

"""A run or a study, read from its folder, and findings as self-contained HTML: `write_report("runs/reviews")`."""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import chain, count, pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, Field, JsonValue

from bertkit.config import read_yaml, validate
from bertkit.disk import parse, read_whole, write_atomically
from bertkit.errors import BertkitError
from bertkit.findings import Cell, Finding, Span, Table, from_json, tabulate, to_json
from bertkit.metrics.shown import counted, is_share, short_name, show_score
from bertkit.rundir import RunDir

AROUND = 150  # characters on either side of a span in an excerpt


class Headline(BaseModel):
    """The main score of a study."""

    label: str
    value: float | None
    plain: bool = False  # not a fraction, so not shown times 100

    def shown(self) -> str:
        """The value as people read it."""
        if not self.plain or self.value is None or math.isnan(self.value):
            return show_score("", self.value)
        return f"{self.value:,.0f}" if abs(self.value) >= 100 else f"{self.value:.3g}"


class Part(BaseModel):
    """A run of a study, as study.json lists it."""

    name: str
    path: str
    state: Literal["done", "failed", "waiting", "running"]
    note: str = ""


class Study(BaseModel):
    """study.json."""

    schema_: Literal[1] = Field(alias="schema")
    study: str
    title: str
    headline: Headline | None = None  # None before the first scores
    facts: dict[str, str] = {}
    runs: list[Part] = []
    asked: dict[str, JsonValue] = {}  # what the study was asked to do; it goes on only with the same


class View(NamedTuple):
    """What the page says of one folder."""

    title: str
    headline: tuple[str, str]  # the score as people read it, and what it is
    facts: dict[str, str]
    findings: list[Finding]
    settings: str
    environment: dict[str, dict[str, str]]
    date: str


NOTHING = View(title="", headline=("", ""), facts={}, findings=[], settings="", environment={}, date="")
Entry = tuple[Part, View | None, str]  # a run of a study, what the page says of it, or else why it says nothing


def write_report(directory: str | Path, out: str | Path | None = None, more: Sequence[Finding] = ()) -> Path:
    """Write the page of a run or a study, with `more` findings at its end, and return its file."""
    target = Path(out) if out is not None else Path(directory) / "report.html"
    if target.is_dir():
        raise BertkitError(f"--out: {target} is a folder", hint="give the name of an .html file")
    write_atomically(target, render(directory, more))
    return target


def render(directory: str | Path, more: Sequence[Finding] = ()) -> str:
    """The page of a run or a study; the same folder gives the same characters."""
    directory = Path(directory)
    view, entries = view_of(directory)
    view = view._replace(findings=[*view.findings, *more])
    return fill("page.html", "figure", view=view, entries=entries, folder=directory.resolve().name)


def fragment(findings: Sequence[Finding]) -> str:
    """Findings as one element, with its style, that can stand in any page."""
    # a notebook is one page: ids of one cell's figures must not be those of another's
    ids = f"figure-{hashlib.sha256(json.dumps(to_json(findings)).encode()).hexdigest()[:12]}"
    return fill("fragment.html", ids, findings=findings, answers=())


def fill(template: str, ids: str, **values: object) -> str:
    """A template of this folder with its values; every id in its figures begins with `ids`."""
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


# What a folder says.


def view_of(directory: Path) -> tuple[View, list[Entry]]:
    """What there is to say of a run, or of a study and each of its runs."""
    if (directory / "study.json").exists():
        return _study(directory)
    if (directory / "recipe.yaml").exists():
        return _run(directory), []
    what = "is not a run or a study" if directory.is_dir() else "does not exist, so it is not a run or a study"
    raise BertkitError(f"{directory} {what}", hint="give the folder that `bertkit train --out` wrote")


def read_findings(path: Path) -> list[Finding]:
    """The findings of a file; none where there is no file."""
    try:
        return from_json(parse(read_whole(path)), where=str(path))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise BertkitError(f"{path} cannot be read ({error})") from None


def _run(directory: Path) -> View:
    run = RunDir(directory).open()
    metrics, about, recipe = run.read_json("metrics.json"), run.read_json("environment.json"), run["recipe.yaml"]
    name, split, splits = metrics["headline"], metrics.get("split"), metrics.get("splits", {})
    trained, scores = metrics.get("train", {}), splits.get(split, {})
    seconds, rows = trained.get("seconds"), f", {counted(scores['rows'], 'row')}" if "rows" in scores else ""
    tree = read_yaml(recipe)
    is_pretraining = "corpus" in tree and not run["task.json"].exists()
    what = "pre-training" if is_pretraining else run.read_json("task.json").get("name", "run")
    model = tree.get("model")
    checkpoint = str(model.get("checkpoint", "")) if isinstance(model, Mapping) else ""
    facts = {
        "training rows": trained.get("rows"),
        "steps": trained.get("steps"),
        "best step": (metrics.get("best") or {}).get("step"),
        "seed": metrics.get("seed"),
        "training time": None if seconds is None else f"{seconds / 60:,.1f} min",
    }
    place = {key: about.get(key) for key in ("device", "precision", "processes", "platform", "began")}
    environment = {
        "Run": {**place, "seed": metrics.get("seed")},
        "Versions": {key: about.get(key) for key in ("bertkit", "python")} | about.get("packages", {}),
        "Data": about.get("data", {}),
    }
    return View(
        title=f"{what}, {short_name(checkpoint)}",
        headline=(show_score(name, scores.get(name)), f"{name} on {split or 'nothing'}{rows}"),
        facts=_shown(facts),
        findings=[*_scores(splits), *read_findings(run["findings.json"])],
        settings=recipe.read_text(encoding="utf-8"),
        environment={name: _shown(values) for name, values in environment.items()},
        date=str(about.get("began", ""))[:10],
    )


def _scores(splits: Mapping[str, Mapping[str, float | None]]) -> list[Finding]:
    """The numbers of metrics.json, one row for each split."""
    names = dict.fromkeys(chain.from_iterable(splits.values()))
    rows = tuple((split, *map(scores.get, names)) for split, scores in splits.items())
    plain = tuple(name for name in names if not is_share(name))
    caption = f"Times 100{', but for ' if plain else ''}{', '.join(plain)}."
    return [tabulate("Scores", caption, ("split", *names), rows, plain=plain)] if rows else []


def _study(directory: Path) -> tuple[View, list[Entry]]:
    study = validate(Study, RunDir(directory).read_json("study.json"), where=str(directory / "study.json"))
    entries = [_entry(directory, part) for part in study.runs]
    first = next((view for _, view, _ in entries if view is not None), NOTHING)
    view = first._replace(
        title=study.title,
        headline=(study.headline.shown(), study.headline.label) if study.headline else ("", "no scores yet"),
        facts=study.facts,
        findings=read_findings(directory / "findings.json"),
    )
    return view, entries


def _entry(directory: Path, part: Part) -> Entry:
    if part.state != "done":
        return part, None, part.note
    if Path(part.path).is_absolute() or ".." in Path(part.path).parts:
        return part, None, f"{part.path} is not in this study"
    try:
        return part, _run(directory / part.path), ""
    except BertkitError as error:  # a broken run must not cost the whole page
        return part, None, error.message


def _shown(facts: Mapping[str, object]) -> dict[str, str]:
    return {
        name: f"{value:,}" if isinstance(value, int) and name != "seed" else str(value)
        for name, value in facts.items()
        if value is not None
    }


# How a finding is written.


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


def pieces(text: str, spans: Sequence[Span], begin: int = 0, end: int | None = None) -> list[tuple[str, str, float]]:
    """`text[begin:end]` cut where a mark begins or ends, as (piece, marks such as `gold predicted`, strength)."""
    end = len(text) if end is None else end
    cuts = {begin, end, *(cut for span in spans for cut in (span.start, span.end) if begin < cut < end)}
    found = []
    for a, b in pairwise(sorted(cuts)):
        there = [span for span in spans if span.start <= a and b <= span.end]
        strength = max((span.strength for span in there), default=0.0)
        found.append((text[a:b], " ".join(sorted({span.kind for span in there})), strength))
    return found


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

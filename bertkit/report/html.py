"""A run or a study as one self-contained page: `write_report("runs/reviews")`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, Field

from bertkit.bounded import parse, read_whole
from bertkit.config import read_yaml, validate
from bertkit.errors import BertkitError
from bertkit.findings import Cell, Finding, Note, Span, Table, from_json
from bertkit.metrics.shown import is_share, short_name, show_score
from bertkit.rundir import RunDir, write_atomically

AROUND = 150  # characters on either side of a span that stand in an excerpt


class Headline(BaseModel):
    """What a study comes to."""

    label: str
    value: float | None
    plain: bool = False  # no fraction: shown as it is, not times 100

    def shown(self) -> str:
        """The value as people read it."""
        if not self.plain or self.value is None or math.isnan(self.value):
            return show_score("", self.value)
        return f"{self.value:,.0f}" if abs(self.value) >= 100 else f"{self.value:.3g}"


class Part(BaseModel):
    """One run of a study, as study.json lists it."""

    name: str
    path: str
    state: Literal["done", "failed", "waiting", "running"]
    note: str = ""


class Study(BaseModel):
    """study.json."""

    schema_: Literal[1] = Field(alias="schema")
    study: str
    title: str
    headline: Headline | None = None  # none before its first scores
    facts: dict[str, str] = {}
    runs: tuple[Part, ...] = ()


class View(NamedTuple):
    """What the page says of one folder."""

    title: str
    headline: tuple[str, str]  # the score as people read it, and what it is
    facts: dict[str, str]
    findings: list[Finding]  # without the notes
    notes: list[Note]
    settings: str
    environment: dict[str, dict[str, str]]
    date: str


class Entry(NamedTuple):
    """A run of a study: what study.json says of it, and its view when it can be read."""

    part: Part
    view: View | None
    problem: str


def write_report(directory: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a run or a study.

    Args:
        directory: folder of a finished run, or of a study.
        out: the file; else `report.html` in the folder.
    Returns:
        the file.
    Raises:
        BertkitError: the folder is no run and no study, or the run did not finish, or a file of it is broken.
    """
    target = Path(out) if out is not None else Path(directory) / "report.html"
    if target.is_dir():
        raise BertkitError(f"--out: {target} is a folder", hint="give the name of an .html file")
    write_atomically(target, render(directory))
    return target


def render(directory: str | Path) -> str:
    """The page of a run or a study; the same folder gives the same characters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from bertkit.report.plots import draw

    directory = Path(directory)
    if (directory / "study.json").exists():
        view, entries = _study(directory)
    elif (directory / "recipe.yaml").exists():
        view, entries = _run(directory), []
    else:
        what = "is not a run or a study" if directory.is_dir() else "does not exist, so it is not a run or a study"
        raise BertkitError(f"{directory} {what}", hint="give the folder that `bertkit train --out` wrote")
    numbers = count(1)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("page.html").render(
        view=view,
        entries=entries,
        folder=directory.resolve().name,
        draw=lambda finding: draw(finding, f"figure-{next(numbers)}"),
        cells=cells,
        pieces=pieces,
        excerpts=excerpts,
    )
    # what HTML forbids, and what UTF-8 cannot hold
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", page)


def cells(table: Table) -> list[list[tuple[str, str]]]:
    """Rows of (what is shown, how: `word`, `number` or `missing`)."""
    columns = list(zip(*table.rows, strict=True)) or [() for _ in table.columns]
    is_number = [all(value is None or isinstance(value, int | float) for value in column) for column in columns]
    is_score = [
        name not in table.plain and not any(isinstance(value, str | int) for value in column)
        for name, column in zip(table.columns, columns, strict=True)
    ]
    return [
        [
            (_cell(value, name in table.plain, is_score[place]),
             "missing" if _is_missing(value) else "number" if is_number[place] else "word")
            for place, (name, value) in enumerate(zip(table.columns, row, strict=True))
        ]
        for row in table.rows
    ]  # fmt: skip


def _is_missing(value: Cell) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell(value: Cell, is_plain: bool, is_score: bool) -> str:
    if _is_missing(value):
        return "undefined" if is_score else "–"
    if isinstance(value, float) and is_plain:
        return f"{value:,.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"
    return value if isinstance(value, str) else show_score("", value)


def pieces(text: str, spans: Sequence[Span], begin: int = 0, end: int | None = None) -> list[tuple[str, str]]:
    """`text[begin:end]` cut where a mark begins or ends, as (piece, marks such as `gold predicted`)."""
    end = len(text) if end is None else end
    cuts = {begin, end, *(place for span in spans for place in (span.start, span.end) if begin < place < end)}
    return [
        (text[a:b], " ".join(sorted({span.kind for span in spans if span.start <= a and b <= span.end})))
        for a, b in pairwise(sorted(cuts))
    ]


def excerpts(text: str, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """The parts of a text that are worth reading first: what surrounds its spans, else its beginning."""
    if len(text) <= 3 * AROUND:
        return [(0, len(text))]
    wanted = [(span.start - AROUND, span.end + AROUND) for span in spans if 0 <= span.start < span.end <= len(text)]
    found: list[tuple[int, int]] = []
    for start, stop in sorted(wanted) or [(0, 2 * AROUND)]:
        # whole words, where words are short
        first = max(text.find(" ", start, start + 20) + 1, start) if start > 0 else 0
        last = max(text.rfind(" ", stop - 20, stop), 0) or stop if stop < len(text) else len(text)
        if found and first <= found[-1][1] + 20:
            first, last = found[-1][0], max(found.pop()[1], last)
        found.append((first, last))
    shown = sum(last - first for first, last in found)
    return found if shown < 0.8 * len(text) else [(0, len(text))]


def _findings(path: Path) -> list[Finding]:
    try:
        return from_json(parse(read_whole(path)), where=str(path))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise BertkitError(f"{path} cannot be read ({error})") from None


def _run(directory: Path) -> View:
    run = RunDir(directory).open()
    metrics, about, recipe = run.read_json("metrics.json"), run.read_json("environment.json"), run["recipe.yaml"]
    tree, found = read_yaml(recipe), _findings(run["findings.json"])
    task, split, trained = run.read_json("task.json").get("name", "run"), metrics.get("split"), metrics.get("train", {})
    name = metrics.get("headline", "score")
    facts = {
        "training rows": trained.get("rows"), "steps": trained.get("steps"),
        "best step": (metrics.get("best") or {}).get("step"), "seed": metrics.get("seed"),
    }  # fmt: skip
    if trained.get("seconds") is not None:
        facts["training time"] = f"{trained['seconds'] / 60:,.1f} min"
    rows = f" of {metrics['rows']:,} rows" if isinstance(metrics.get("rows"), int) else ""
    others = {key: about.get(key) for key in ("device", "precision", "processes", "platform", "began")}
    model = tree.get("model")
    checkpoint = str(model.get("checkpoint", "")) if isinstance(model, Mapping) else ""
    return View(
        title=f"{task}, {short_name(checkpoint)}",
        headline=(show_score(name, metrics.get(name)), f"{name} on {split or 'nothing'}{rows}"),
        facts=_shown(facts),
        findings=[*_scores(metrics.get("splits", {})), *(entry for entry in found if not isinstance(entry, Note))],
        notes=[entry for entry in found if isinstance(entry, Note)],
        settings=recipe.read_text(encoding="utf-8"),
        environment={
            "Run": _shown({**others, "seed": metrics.get("seed")}),
            "Versions": _shown(
                {"bertkit": about.get("bertkit"), "python": about.get("python"), **about.get("packages", {})}
            ),
            "Data": _shown(about.get("data", {})),
        },
        date=str(about.get("began", ""))[:10],
    )


def _scores(splits: Mapping[str, Mapping[str, float | None]]) -> list[Finding]:
    """The numbers of metrics.json, a row for each split."""
    names = dict.fromkeys(
        name for scores in splits.values() for name, value in scores.items() if isinstance(value, int | float | None)
    )
    rows = tuple((split, *map(scores.get, names)) for split, scores in splits.items())
    plain = tuple(name for name in names if not is_share(name))
    return (
        [Table(title="Scores", caption="Times 100.", columns=("split", *names), rows=rows, plain=plain)] if rows else []
    )


def _study(directory: Path) -> tuple[View, list[Entry]]:
    study = validate(Study, RunDir(directory).read_json("study.json"), where=str(directory / "study.json"))
    entries = [_entry(directory, part) for part in study.runs]
    first = next((entry.view for entry in entries if entry.view is not None), None)
    found = _findings(directory / "findings.json")
    view = View(
        title=study.title,
        headline=(study.headline.shown(), study.headline.label) if study.headline else ("", "no scores yet"),
        facts=study.facts,
        findings=[entry for entry in found if not isinstance(entry, Note)],
        notes=[entry for entry in found if isinstance(entry, Note)],
        settings=first.settings if first else "",
        environment=first.environment if first else {},
        date=first.date if first else "",
    )
    return view, entries


def _entry(directory: Path, part: Part) -> Entry:
    if part.state != "done":
        return Entry(part, None, part.note)
    if Path(part.path).is_absolute() or ".." in Path(part.path).parts:
        return Entry(part, None, f"{part.path} is not in this study")
    try:
        return Entry(part, _run(directory / part.path), "")
    except BertkitError as error:  # one broken run does not cost the page
        return Entry(part, None, error.message)


def _shown(facts: Mapping[str, object]) -> dict[str, str]:
    return {
        name: f"{value:,}" if isinstance(value, int) and name != "seed" else str(value)
        for name, value in facts.items()
        if value is not None
    }

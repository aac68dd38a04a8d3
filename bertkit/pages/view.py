"""What a page says of a run or a study, read from its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, Field

from bertkit.config import read_yaml, validate
from bertkit.disk import parse, read_whole
from bertkit.errors import BertkitError
from bertkit.findings import Finding, Table, from_json
from bertkit.metrics.shown import counted, is_share, short_name, show_score
from bertkit.rundir import RunDir


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
    runs: tuple[Part, ...] = ()


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


def view_of(directory: Path) -> tuple[View, list[Entry]]:
    """What there is to say of a run, or of a study and each of its runs.

    Raises:
        BertkitError: the folder is no run and no study, or the run did not finish, or a file of it is broken.
    """
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
    name, trained, seed = metrics["headline"], metrics.get("train", {}), metrics.get("seed")
    seconds = trained.get("seconds")
    rows = f", {counted(metrics['rows'], 'row')}" if isinstance(metrics.get("rows"), int) else ""
    model = read_yaml(recipe).get("model")
    checkpoint = str(model.get("checkpoint", "")) if isinstance(model, Mapping) else ""
    return View(
        title=f"{run.read_json('task.json').get('name', 'run')}, {short_name(checkpoint)}",
        headline=(show_score(name, metrics.get(name)), f"{name} on {metrics.get('split') or 'nothing'}{rows}"),
        facts=_shown(
            {
                "training rows": trained.get("rows"),
                "steps": trained.get("steps"),
                "best step": (metrics.get("best") or {}).get("step"),
                "seed": seed,
                "training time": None if seconds is None else f"{seconds / 60:,.1f} min",
            }
        ),
        findings=[*_scores(metrics.get("splits", {})), *read_findings(run["findings.json"])],
        settings=recipe.read_text(encoding="utf-8"),
        environment={
            "Run": _shown(
                {key: about.get(key) for key in ("device", "precision", "processes", "platform", "began")}
                | {"seed": seed}
            ),
            "Versions": _shown({key: about.get(key) for key in ("bertkit", "python")} | about.get("packages", {})),
            "Data": _shown(about.get("data", {})),
        },
        date=str(about.get("began", ""))[:10],
    )


def _scores(splits: Mapping[str, Mapping[str, float | None]]) -> list[Finding]:
    """The numbers of metrics.json, one row for each split."""
    names = dict.fromkeys(
        name for scores in splits.values() for name, value in scores.items() if isinstance(value, int | float | None)
    )
    rows = tuple((split, *map(scores.get, names)) for split, scores in splits.items())
    plain = tuple(name for name in names if not is_share(name))
    table = Table(title="Scores", caption="Times 100.", columns=("split", *names), rows=rows, plain=plain)
    return [table] if rows else []


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

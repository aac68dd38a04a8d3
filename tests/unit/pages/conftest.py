"""Run and study folders written by hand, so that no model is needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bertkit.config import dump_yaml
from bertkit.disk import write_atomically
from bertkit.findings import Dots, Finding, Heatmap, Note, Passage, Passages, Series, Span, Table, to_json
from bertkit.rundir import SCHEMA, RunDir

METRICS = {
    "headline": "accuracy",
    "split": "test",
    "accuracy": 0.875,
    "rows": 1234,
    "splits": {
        "validation": {"accuracy": 0.5, "f1_macro": None, "threshold": 0.25, "rows": 10},
        "test": {"accuracy": 0.875, "f1_macro": 0.25, "threshold": 0.25, "rows": 1234},
    },
    "best": {"step": 3, "metric": "accuracy", "value": 0.5},
    "train": {"rows": 20000, "windows": 20000, "steps": 3, "seconds": 90.0},
    "seed": 7,
}


class Page(HTMLParser):
    """What a browser would find on a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.closed: list[str] = []
        self.data = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        self.closed.append(tag)

    def handle_data(self, data: str) -> None:
        self.data += data

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]


def every_kind(text: str = "word") -> list[Finding]:
    """A finding of each kind, with `text` wherever a text may stand."""
    return [
        Note(title=text, caption=text, text=text),
        Table(title=text, caption=text, columns=(text, "count", "score"), rows=((text, 3, 0.5), (text, 4, None))),
        Series(title=text, caption=text, x_label=text, y_label=text, x=(1, 2, 3), lines={text: (1.0, None, 3.0)}),
        Dots(
            title=text, caption=text, y_label=text, x=(text, "b"), groups={text: (0.5, None), "h": (0.7, 0.9)},
            curve_label=text, curve=(0.6, 0.9), reference=1.0, reference_label=text, published=(text,),
        ),
        Heatmap(
            title=text, caption=text, row_label=text, column_label=text, rows=(text, "b"), columns=(text, "b"),
            values=((1.0, 2.0), (0.0, 0.0)),
        ),
        Passages(
            title=text, caption=text,
            passages=(
                Passage(
                    title=text, facts={text: text, "gold": text}, texts={text: text, "other": f"{text} " * 300},
                    spans={"other": (Span(kind="gold", start=0, end=5), Span(kind="predicted", start=3, end=9))},
                ),
            ),
        ),
    ]  # fmt: skip


@pytest.fixture
def run_folder(tmp_path) -> Callable[..., Path]:
    """A finished run: `run_folder([finding, ...], name="b", metrics={...}, checkpoint="x/y")`."""

    def make(
        findings: Sequence[Finding] | None = None,
        name: str = "run",
        metrics: dict | None = None,
        checkpoint: str = "org/bert",
    ) -> Path:
        run = RunDir(tmp_path / name)
        checkpoint = checkpoint.encode(errors="replace").decode()  # YAML is UTF-8; JSON escapes even half characters
        run.write_json("environment.json", {
            "schema": SCHEMA, "bertkit": "0.1.0", "python": "3.11", "packages": {"torch": "2"}, "platform": checkpoint,
            "device": "CPU", "processes": 1, "precision": "fp32", "began": "2026-01-02T03:04:05+00:00",
            "data": {"train": "sha256:ab"},
        })  # fmt: skip
        run.write_json("task.json", {"name": "sentiment", "labels": []})
        run.write_json("metrics.json", metrics or METRICS)
        tree = {"task": {"name": "sentiment"}, "model": {"checkpoint": checkpoint}, "seed": 7}
        write_atomically(run["recipe.yaml"], dump_yaml(tree))
        if findings is not None:
            run["findings.json"].write_text(json.dumps(to_json(findings)))
        return run.path

    return make


@pytest.fixture
def study_folder(tmp_path, run_folder) -> Callable[..., Path]:
    """A study with one run that is done, and others: `study_folder([finding, ...], value=None)`."""

    def make(findings: Sequence[Finding] = (), text: str = "word", value: float | None = 0.5) -> Path:
        run_folder(every_kind(text), name="study/runs/a-0")
        states = {"runs/a-0": "done", "runs/b-0": "failed", "runs/c-0": "waiting", "runs/d-0": "done"}
        study = RunDir(tmp_path / "study")
        study["study.json"].write_text(json.dumps({
            "schema": 1, "study": "glue", "title": text, "headline": {"label": text, "value": value},
            "facts": {text: text},
            "runs": [{"name": f"{text} {path}", "path": path, "state": state, "note": text}
                     for path, state in states.items()],
        }))  # fmt: skip
        study["findings.json"].write_text(json.dumps(to_json(findings)))
        return study.path

    return make

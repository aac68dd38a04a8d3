"""What a run or a study may conclude: tables, series, heatmaps and notes, as plain JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

Cell = str | int | float | None


class Finding(BaseModel):
    """One conclusion; `kind` tells a report how to draw it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str
    caption: str = ""


class Table(Finding):
    """Rows under named columns; a missing or undefined cell is None, never a number."""

    kind: Literal["table"] = "table"
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


class Series(Finding):
    """Lines over a shared x axis: name -> y values, None where there is none."""

    kind: Literal["series"] = "series"
    x_label: str
    y_label: str
    x: tuple[float, ...]
    lines: dict[str, tuple[float | None, ...]]


class Heatmap(Finding):
    """A matrix of counts or shares, rows by columns."""

    kind: Literal["heatmap"] = "heatmap"
    row_label: str
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


class Note(Finding):
    """A sentence a reader must not miss."""

    kind: Literal["note"] = "note"
    text: str


def to_json(findings: Sequence[Finding]) -> list[dict[str, object]]:
    """Findings as JSON values, ready for `findings.json`."""
    return [finding.model_dump() for finding in findings]

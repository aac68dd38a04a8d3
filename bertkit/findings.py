"""What a run or a study finds: tables, curves, dots, heatmaps, passages and notes, as plain JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from bertkit.errors import BertkitError

Cell = str | int | float | None


class Finding(BaseModel):
    """One thing that was found; `kind` tells a report how to draw it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str
    caption: str = ""


class Table(Finding):
    """Rows under named columns; a missing or undefined cell is None, never a number.

    A float is a fraction, which is shown times 100, unless its column is in `plain`; an int is a count.
    """

    kind: Literal["table"] = "table"
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    plain: tuple[str, ...] = ()  # columns whose floats are not fractions: seconds, losses, thresholds

    @model_validator(mode="after")
    def _is_rectangular(self) -> Self:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.title}: a row of {len(row)} cells under {len(self.columns)} columns")
        return self


class Series(Finding):
    """Lines over a shared x axis: name -> y values, None where a value is missing.

    Values are plain numbers; those of an axis in `shares` are fractions, which are shown times 100.
    """

    kind: Literal["series"] = "series"
    x_label: str
    y_label: str
    x: tuple[float, ...]
    lines: dict[str, tuple[float | None, ...]]
    log_x: bool = False  # x spans powers of ten
    shares: tuple[Literal["x", "y"], ...] = ()


class Dots(Finding):
    """One dot for each group at each name on the x axis, a curve through their average, and a reference line."""

    kind: Literal["dots"] = "dots"
    y_label: str
    x: tuple[str, ...]
    groups: dict[str, tuple[float | None, ...]]  # group -> a value for each name on the x axis
    curve_label: str
    curve: tuple[float | None, ...]  # a value for each name on the x axis
    reference: float
    reference_label: str
    published: tuple[str, ...] = ()  # names on the x axis that others have measured; drawn hollow


class Heatmap(Finding):
    """A matrix of counts or shares, rows by columns."""

    kind: Literal["heatmap"] = "heatmap"
    row_label: str
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]


class Span(BaseModel):
    """A part of a text, from character `start` up to, not including, `end`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["gold", "predicted"]
    start: int
    end: int


class Passage(BaseModel):
    """One row to read: its texts, the gold answer, and the prediction."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    title: str  # such as the row's id
    facts: dict[str, str] = {}  # such as gold, predicted, probability
    texts: dict[str, str]  # column -> text
    spans: dict[str, tuple[Span, ...]] = {}  # column -> what to mark in its text; spans may overlap


class Passages(Finding):
    """Rows to read, worst first."""

    kind: Literal["passages"] = "passages"
    passages: tuple[Passage, ...]


class Note(Finding):
    """A caveat: a sentence that a reader must not miss."""

    kind: Literal["note"] = "note"
    text: str


def to_json(findings: Sequence[Finding]) -> list[dict[str, object]]:
    """Findings as the JSON values of `findings.json`."""
    return [finding.model_dump() for finding in findings]


def from_json(values: object, where: str = "findings") -> list[Finding]:
    """The findings that `to_json` wrote.

    Args:
        where: the file that the message names.
    Raises:
        BertkitError: an unknown kind, or a broken finding.
    """
    kinds = Annotated[Table | Series | Dots | Heatmap | Passages | Note, Field(discriminator="kind")]
    try:
        return list(TypeAdapter(list[kinds]).validate_python(values))
    except ValidationError as error:
        first = error.errors()[0]
        position = ".".join(map(str, first["loc"]))
        raise BertkitError(
            f"{where}: not a list of findings ({position + ': ' if position else ''}{first['msg']})",
            hint="was it written by another version of bertkit?",
        ) from None

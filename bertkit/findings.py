"""What a run or a study finds: tables, curves, dots, heatmaps, passages and notes, as plain JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from bertkit.errors import BertkitError

Cell = str | int | float | None
WORST = 20  # rows to read


class Frozen(BaseModel):
    """What is as it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Finding(Frozen):
    """One thing that was found; `kind` tells a report, or a notebook once `pages.notebook` is there, how to draw it."""

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
    marks: dict[str, tuple[float, float]] = {}  # line -> a point of it that stands out

    @model_validator(mode="after")
    def _every_line_is_whole(self) -> Self:
        for name, line in self.lines.items():
            if len(line) != len(self.x):
                raise ValueError(f"{self.title}: {name} has {len(line)} values over {len(self.x)} on the x axis")
        return self


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


class Span(Frozen):
    """A part of a text, from character `start` up to, not including, `end`."""

    kind: Literal["gold", "predicted", "for", "against"]
    start: int
    end: int
    strength: float = 1.0  # of a word that speaks for an answer or against it, as a share of the strongest one's


class Passage(Frozen):
    """One row to read: its texts, the gold answer, and the prediction."""

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


def tabulate(
    title: str, caption: str, columns: Iterable[str], rows: Iterable[Iterable[Cell]], *, plain: Iterable[str] = ()
) -> Table:
    """A table from what gives its columns, and its rows cell by cell."""
    cells = tuple(map(tuple, rows))
    return Table(title=title, caption=caption, columns=tuple(columns), rows=cells, plain=tuple(plain))


def label_table(
    what: str,
    caption: str,
    counts: Mapping[str, tuple[int, int, int]],
    beside: Mapping[str, Mapping[str, float | None]] = MappingProxyType({}),
) -> Table:
    """Counts, precision, recall and F1 of each label; undefined where nothing is counted.

    Args:
        what: what a label is called.
        counts: label -> how often it is right, how often it is predicted, and how often it is gold.
        beside: more columns, label -> value.
    """

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    rows = (
        (label, gold, found, share(right, found), share(right, gold), share(2 * right, found + gold),
         *(column.get(label) for column in beside.values()))
        for label, (right, found, gold) in counts.items()
    )  # fmt: skip
    columns = (what, "count", "predicted", "precision", "recall", "f1", *beside)
    return tabulate(f"By {what}", caption, columns, rows, plain=("threshold",))


def worst_first(
    caption: str, badness: Mapping[int, Any], passage: Callable[[int], Passage], title: str = "Most wrong"
) -> Passages:
    """Rows to read, the worst first, and in their own order where they are equally bad.

    Args:
        caption: what the rows are and how they are ranked; `N of M` comes before it.
        badness: number of each row that may be read -> how bad it is.
        passage: makes what is read of a row from its number.
    """
    worst = sorted(badness, key=badness.__getitem__, reverse=True)[:WORST]
    caption = f"{len(worst)} of {len(badness):,} {caption}"
    return Passages(title=title, caption=caption, passages=tuple(map(passage, worst)))


def to_json(findings: Sequence[Finding]) -> list[dict[str, object]]:
    """Findings as the JSON values of `findings.json`."""
    return [finding.model_dump() for finding in findings]


def from_json(values: object, where: str = "findings") -> list[Finding]:
    """The findings that `to_json` wrote; `where` is the file that the message names.

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

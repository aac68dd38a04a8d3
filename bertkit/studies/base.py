"""The folder of a study, which is several runs or measurements: where what it comes to is written, and its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertkit.findings import Finding, Series, Table, to_json
from bertkit.pages.html import cells
from bertkit.rundir import RunDir

SCHEMA = 1  # of study.json


@dataclass(frozen=True)
class Study:
    """A study's folder: `study.json`, `results.json`, `findings.json` and `report.html`."""

    path: Path
    kind: str  # what sort of study this is, in one word
    title: str

    def begin(self, runs: Sequence[Mapping] = (), **more: object) -> None:
        """Write study.json, by which a folder is known as a study: of each run its name, path within the folder, state
        and a note; and more, such as the headline and the facts of the page.
        """
        about = {"schema": SCHEMA, "study": self.kind, "title": self.title, "runs": list(runs), **more}
        RunDir(self.path).write_json("study.json", about)

    def conclude(self, found: Sequence[Finding], results: object, runs: Sequence[Mapping] = (), **more: object) -> None:
        """Write what the study has come to so far; the arguments are those of `begin`, and what the files hold."""
        RunDir(self.path).write_json("results.json", results)
        RunDir(self.path).write_json("findings.json", to_json(found))
        self.begin(runs, **more)


def aligned(found: Table | Series) -> list[str]:
    """A table, or the points of lines, as aligned lines: fractions times 100, undefined ones as `-`."""
    if isinstance(found, Series):
        names = (found.x_label, *(f"{name}, {found.y_label}" for name in found.lines))
        rows = tuple(zip(map(int, found.x), *found.lines.values(), strict=True))
        return aligned(Table(title=found.title, columns=names, rows=rows, plain=names))
    columns: list[list[str]] = []
    for name, *shown in zip(found.columns, *cells(found), strict=True):
        column = [name, *("-" if look == "missing" else text for text, look in shown)]
        width = max(map(len, column))
        columns.append([cell.rjust(width) if columns else cell.ljust(width) for cell in column])
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def without(table: Table, names: Sequence[str]) -> Table:
    """The table without some of its columns."""
    kept = [index for index, name in enumerate(table.columns) if name not in names]
    rows = tuple(tuple(row[index] for index in kept) for row in table.rows)
    return table.model_copy(update={"columns": tuple(table.columns[index] for index in kept), "rows": rows})

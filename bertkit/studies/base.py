"""The folder of a study, which is several runs or measurements: where what it comes to is written, and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertkit.findings import Finding, Table, to_json
from bertkit.rundir import RunDir

SCHEMA = 1  # of study.json


@dataclass(frozen=True)
class Study:
    """A study's folder: `study.json`, `results.json`, `findings.json` and `report.html`.

    Attributes:
        kind: what sort of study this is, in one word.
    """

    path: Path
    kind: str
    title: str

    def begin(self, runs: Sequence[Mapping] = (), **more: object) -> None:
        """Write study.json, by which a folder is known as a study.

        Args:
            runs: of each the name, the path within the folder, the state and a note.
            more: what else study.json says, such as the headline and the facts of the page.
        """
        about = {"schema": SCHEMA, "study": self.kind, "title": self.title, "runs": list(runs), **more}
        RunDir(self.path).write_json("study.json", about)

    def conclude(self, found: Sequence[Finding], results: object, runs: Sequence[Mapping] = (), **more: object) -> None:
        """Write what the study has come to so far; the arguments are those of `begin`, and what the files hold."""
        RunDir(self.path).write_json("results.json", results)
        RunDir(self.path).write_json("findings.json", to_json(found))
        self.begin(runs, **more)

    def report(self) -> Path:
        """Write the page, from the files."""
        from bertkit.pages.html import write_report

        return write_report(self.path)


def aligned(table: Table) -> list[str]:
    """A table as aligned lines: fractions times 100, undefined ones as `-`."""
    body = [list(table.columns)]
    body += [
        [shown(cell, name in table.plain) for cell, name in zip(row, table.columns, strict=True)] for row in table.rows
    ]
    widths = [max(map(len, column)) for column in zip(*body, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in body
    ]


def shown(value: object, is_plain: bool) -> str:
    """A cell as people read it."""
    if isinstance(value, float):
        return f"{value:.3f}" if is_plain else f"{100 * value:.2f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def without(table: Table, names: Sequence[str]) -> Table:
    """The table without some of its columns."""
    kept = [index for index, name in enumerate(table.columns) if name not in names]
    rows = tuple(tuple(row[index] for index in kept) for row in table.rows)
    return table.model_copy(update={"columns": tuple(table.columns[index] for index in kept), "rows": rows})

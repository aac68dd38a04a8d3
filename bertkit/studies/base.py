"""The folder of a study, which is several runs or measurements: where what it comes to is written, and its tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertkit.disk import LOCK, TEMPORARY
from bertkit.errors import BertkitError
from bertkit.findings import Finding, Series, Table, to_json
from bertkit.pages.html import Study as StudyShape
from bertkit.pages.html import cells
from bertkit.rundir import RunDir

SCHEMA = 1  # of study.json


@dataclass(frozen=True)
class Study:
    """A study's folder: `study.json`, `results.json`, `findings.json` and `report.html`."""

    path: Path
    kind: str  # what sort of study this is, in one word
    title: str

    def refuse(self, asked: Mapping[str, object], resume: bool) -> None:
        """Refuse a folder that holds something else, or a study that was asked something else.

        Args:
            asked: what the study is asked to do, as `begin` was given it; plain values.
        """
        # a study that was killed as it began left at most these
        if {entry.name for entry in self.path.iterdir()} <= {LOCK, f"{TEMPORARY}study.json"}:
            return
        if not (self.path / "study.json").exists():
            raise BertkitError(f"{self.path} is not empty and holds no study", hint="give --out a new name")
        if not resume:
            raise BertkitError(
                f"{self.path} holds a study already, which is never overwritten",
                hint="continue it with --resume, or give --out a new name",
            )
        there = RunDir(self.path).read_json("study.json", StudyShape)
        before, now = {"study": there["study"], **there.get("asked", {})}, {"study": self.kind, **asked}
        if differing := [f"{key}: {before.get(key)} -> {now[key]}" for key in now if before.get(key) != now[key]]:
            raise BertkitError(
                f"{self.path} was asked something else: {'; '.join(differing)}",
                hint="resume it with the same options, or give --out a new name",
            )

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

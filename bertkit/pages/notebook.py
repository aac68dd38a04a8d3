"""Findings and pages as a notebook shows them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bertkit.errors import BertkitError
from bertkit.findings import Finding
from bertkit.pages.html import fill, fragment, read_findings, write_report

# a finding alone is drawn as well; it lies below the pages, so it cannot know of them
Finding._repr_html_ = lambda finding: fragment([finding])


class Findings(tuple[Finding, ...]):
    """What a run or a study found: tables, curves, heatmaps, rows to read and notes; a notebook draws them.

    `Findings.read("runs/reviews")["By label"]` are those of one title; several titles, or a slice, are drawn as well.
    """

    __slots__ = ()

    @classmethod
    def read(cls, directory: str | Path) -> Findings:
        """The findings of a finished run or a study.

        Raises:
            BertkitError: the folder has no findings, or they are broken.
        """
        path = Path(directory) / "findings.json"
        if not path.exists():
            raise BertkitError(f"{directory} has no findings.json", hint="give the folder of a finished run or a study")
        return cls(read_findings(path))

    def __getitem__(self, which: int | slice | str | tuple[str, ...]) -> Finding | Findings:
        if isinstance(which, str | tuple):
            titles = (which,) if isinstance(which, str) else which
            return Findings(finding for finding in self if finding.title in titles)
        found = super().__getitem__(which)
        return Findings(found) if isinstance(which, slice) else found

    def __repr__(self) -> str:
        return "\n".join(["findings:", *(f"  {finding.kind:9} {finding.title}" for finding in self)])

    def _repr_html_(self) -> str:
        return fragment(self)


class Cell:
    """An output of a notebook's cell that is written over while something runs."""

    def __init__(self) -> None:
        self._display = None

    def show(self, bars: Sequence[tuple[str, float, str]], facts: Mapping[str, str], said: Sequence[str] = ()) -> None:
        """Show how far something is: of each bar its name, its share and a word on it; facts; lines beneath."""
        from IPython.display import display

        lines = [*(f"{name} {share:.0%} {text}".rstrip() for name, share, text in bars), *facts.values(), *said]
        drawn = fill("live.html", "live", bars=bars, facts=facts, said=said)
        shown = {"text/plain": "\n".join(lines), "text/html": drawn}
        if self._display is None:
            self._display = display(shown, raw=True, display_id=True)
        else:
            self._display.update(shown, raw=True)


class Page(NamedTuple):
    """A page that was written; a notebook shows it in a frame."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"))
        return f'<iframe sandbox srcdoc="{page}" style="width:100%;height:40rem;border:0"></iframe>'


def report(directory: str | Path, out: str | Path | None = None) -> Page:
    """Write the page of a run or a study: scores, figures, and rows to read; a notebook shows it.

    Args:
        directory: folder of a finished run, or of a study.
        out: the file; None means `report.html` in the folder.
    Raises:
        BertkitError: the folder is no run and no study, or the run did not finish, or a file of it is broken.
    """
    return Page(write_report(directory, out))

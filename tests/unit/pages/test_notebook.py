"""What a notebook shows: findings drawn in its own page, and the whole page in a frame."""

from __future__ import annotations

import html
import json
import re

import pytest

import bertkit
from bertkit.errors import BertkitError
from tests.unit.pages.conftest import Page, every_kind
from tests.unit.pages.test_page import ATTRIBUTES, HOSTILE, TAGS


def test_findings_of_a_run_are_a_sequence_that_a_notebook_draws(run_folder):
    folder = run_folder(every_kind("word"))
    found = bertkit.Findings.read(folder)
    assert list(found) == every_kind("word")
    shown = Page(found._repr_html_())
    kinds = {tag for tag, _ in shown.tags}
    assert {"table", "svg", "article", "aside"} <= kinds
    assert not {"script", "link", "img", "iframe", "html"} & kinds
    assert repr(found).splitlines()[1:] == [f"  {finding.kind:9} word" for finding in found]


def test_a_part_of_the_findings_is_drawn_as_well(run_folder):
    found = bertkit.Findings.read(run_folder([*every_kind("word"), *every_kind("other")]))
    assert list(found["other"]) == every_kind("other")
    assert list(found[1:3]) == every_kind("word")[1:3]
    assert [tag for tag, _ in Page(found[1:2]._repr_html_()).tags].count("table") == 1


@pytest.mark.parametrize("number", range(6))
def test_a_finding_alone_is_drawn_as_among_others(run_folder, number):
    found = bertkit.Findings.read(run_folder(every_kind("word")))
    drawn = found[number]._repr_html_()
    assert drawn == found[number : number + 1]._repr_html_()
    assert "word" in Page(drawn).data


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_findings_cannot_open_a_tag(text):
    shown = Page(bertkit.Findings(every_kind(text))._repr_html_())
    assert {tag for tag, _ in shown.tags} <= set(TAGS.split())
    assert {name for _, attributes in shown.tags for name in attributes} <= set(ATTRIBUTES.split())
    for tag, count in {"svg": 3, "style": 1, "table": 1, "article": 1}.items():
        assert sum(opened == tag for opened, _ in shown.tags) == shown.closed.count(tag) == count, tag


def test_the_style_of_findings_touches_nothing_else_of_the_notebook():
    (style,) = re.findall(r"<style>(.*?)</style>", bertkit.Findings(every_kind())._repr_html_(), flags=re.DOTALL)
    depth, outermost, text = 0, [], ""
    for character in style:
        if character == "{":
            outermost += [text.strip()] if depth == 0 else []
            depth, text = depth + 1, ""
        elif character == "}":
            depth, text = depth - 1, ""
        else:
            text += character
    assert (outermost, depth, text.strip()) == ([".bertkit"], 0, "")
    assert not re.search(r"(^|[\s,{}])(:root|body|html)\b", style)


def test_figures_of_two_cells_share_no_id():
    first, second = (Page(bertkit.Findings(every_kind(text))._repr_html_()).values("id") for text in ("word", "other"))
    assert first
    assert not set(first) & set(second)


def test_a_report_is_written_and_a_notebook_shows_it_in_a_frame(run_folder):
    folder = run_folder(every_kind("word"))
    page = bertkit.report(folder)
    assert page.path == folder / "report.html"
    (frame,) = Page(page._repr_html_()).tags
    assert frame[0] == "iframe"
    assert "sandbox" in frame[1]
    assert html.unescape(frame[1]["srcdoc"]) == page.path.read_text(encoding="utf-8")


def test_a_folder_without_findings_is_refused(tmp_path):
    with pytest.raises(BertkitError, match=re.escape("has no findings.json")):
        bertkit.Findings.read(tmp_path)
    (tmp_path / "findings.json").write_text(json.dumps([{"kind": "song"}]))
    with pytest.raises(BertkitError, match=re.escape("findings.json: not a list of findings")):
        bertkit.Findings.read(tmp_path)

"""A run or a study as one page: whole, safe whatever the rows hold, and the same every time."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest

from bertkit.errors import BertkitError
from bertkit.findings import Note, Passage, Passages, Series, Span, Table, from_json, to_json
from bertkit.pages.html import cells, excerpts, pieces, render, write_report
from tests.unit.pages.conftest import METRICS, Page, every_kind

HOSTILE = (
    "<script>alert(1)</script>",
    "</svg></text></style></title>--><img src=x onerror=alert(1)>",
    "\"'><a href='https://example.org' onclick=\"x\">&lt;&amp;",
    "{{ view.title }}{% raw %}",
    "$x^$ $\\frac{$ \\n _{",
    "bell\x07 nul\x00 escape\x1b return\r\n tab\t del\x7f next\x85 half\ud800 none\uffff",
    "\u202eabc\u202c مرحبا بالعالم \u2066x",
    "漢字 日本語 👩‍👩‍👧 ﷽",
    "w" * 3000,
    "url(#a) id='b' style='x' @import 'y'",
    "",
)
TAGS = (
    "html head meta title style body div header main section nav ul li a h1 h2 h3 h4 p b strong small span bdi aside "
    "figure figcaption table thead tbody tr th td article details summary mark pre dl dt dd svg g path use defs "
    "clippath rect text tspan"
)
ATTRIBUTES = (
    "lang charset http-equiv content name class id href aria-label role style scope dir viewbox d x y width height "
    "transform clip-path open xmlns"
)


def error_of(call, *arguments) -> BertkitError:
    with pytest.raises(BertkitError) as caught:
        call(*arguments)
    return caught.value


def told(text: str) -> str:
    return " ".join(text.split())


# what rows may hold


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_rows_cannot_open_a_tag(run_folder, text):
    page = Page(render(run_folder(every_kind(text), checkpoint=text)))
    assert {tag for tag, _ in page.tags} <= set(TAGS.split())
    assert {name for _, attributes in page.tags for name in attributes} <= set(ATTRIBUTES.split())
    for tag, count in {"svg": 3, "style": 1, "title": 1, "table": 2, "article": 1, "pre": 1}.items():
        assert sum(opened == tag for opened, _ in page.tags) == page.closed.count(tag) == count, tag


def test_text_of_a_study_cannot_open_a_tag(study_folder):
    page = Page(render(study_folder(text="".join(HOSTILE))))
    assert {tag for tag, _ in page.tags} <= set(TAGS.split())
    assert {name for _, attributes in page.tags for name in attributes} <= set(ATTRIBUTES.split())


def test_text_is_shown_as_it_was_written(run_folder):
    text = '<b> & "quotes" </svg> {{ x }} 漢字'
    assert Page(render(run_folder([Note(title="Note", text=text)]))).data.count(text) == 1


def test_the_name_of_a_folder_is_text(run_folder):
    page = Page(render(run_folder([], name="<img src=x onerror=y>")))
    assert "img" not in {tag for tag, _ in page.tags}
    assert "<img src=x onerror=y>" in page.data


def test_the_page_holds_what_files_can_hold(run_folder, tmp_path):
    path = write_report(run_folder(every_kind(HOSTILE[5])), tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", text)
    assert "bell�" in text


# one file


@pytest.mark.parametrize("text", ["word", HOSTILE[2]])
def test_nothing_comes_from_outside(study_folder, text):
    text = render(study_folder(every_kind(text), text=text))
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "image", "base", "form", "object"} & {tag for tag, _ in page.tags}
    assert page.values("src") == []
    assert all(value.startswith("#") for value in page.values("href"))
    style = text.split("<style>")[1].split("</style>")[0]
    assert "@import" not in style
    for value in (style, *page.values("style"), *page.values("clip-path")):
        assert re.sub(r"url\(#", "", value).count("url(") == 0
    # the names of the SVG name space are no addresses that anyone opens
    assert set(re.findall(r'="(https?:[^"]*)"', text)) <= {"http://www.w3.org/2000/svg"}


def test_ids_are_unique_and_every_reference_is_to_one_of_them(study_folder):
    text = render(study_folder(every_kind()))
    page = Page(text)
    ids = page.values("id")
    assert len(ids) == len(set(ids)) > 100
    used = {value[1:] for value in page.values("href")} | set(re.findall(r"url\(#([^)]*)\)", text))
    assert used
    assert used <= set(ids)


def test_the_same_folder_gives_the_same_bytes(run_folder, tmp_path):
    folder = run_folder(every_kind())
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first
    assert write_report(folder, tmp_path / "new" / "x.html").read_bytes() == first


def test_figures_take_their_colours_from_the_page(run_folder):
    text = render(run_folder(every_kind()))
    assert "currentColor" in text
    assert "var(--group-0)" in text
    assert "#fe0" not in text
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    light, dark = text.split(":root {")[1].split("}")[0], text.split(":root {")[2].split("}")[0]
    assert all(f"{name}:" in light and f"{name}:" in dark for name in used)


# what it says


def test_a_run_is_told_from_its_headline_to_its_versions(run_folder):
    page = told(Page(render(run_folder(every_kind("Word"), checkpoint="org/bert"))).data)
    for text in (
        "sentiment, org/bert", "2026-01-02", "87.50 accuracy on test, 1,234 rows", "training rows 20,000",
        "seed 7", "training time 1.5 min", "checkpoint: org/bert", "torch2", "sha256:ab", "devicecpu",
    ):  # fmt: skip
        assert text.lower() in page.lower(), text


def test_scores_are_times_100_and_undefined_by_that_word(run_folder):
    page = told(Page(render(run_folder([]))).data)
    assert "Times 100, but for threshold." in page
    assert "validation50.00undefined0.25010 test87.5025.000.2501,234" in page.replace(" ", " ")


@pytest.mark.parametrize("value", [None, float("nan")])
def test_an_undefined_headline_is_no_number(run_folder, value):
    splits = {"test": {"accuracy": value, "rows": 1234}}
    assert "undefined accuracy on test" in told(Page(render(run_folder([], metrics=METRICS | {"splits": splits}))).data)


@pytest.mark.parametrize(
    ("value", "shown"), [(1234.56, "1,235"), (99.94, "99.9"), (0.0123, "0.0123"), (None, "undefined")]
)
def test_a_headline_that_is_no_fraction_is_not_times_100(study_folder, value, shown):
    folder = study_folder()
    study = json.loads((folder / "study.json").read_text())
    study["headline"] = {"label": "tokens/s", "value": value, "plain": True}
    (folder / "study.json").write_text(json.dumps(study))
    assert f"{shown} tokens/s" in told(Page(render(folder)).data)


def test_notes_come_before_everything_else(run_folder):
    findings = [Table(title="Late", columns=("a",), rows=()), Note(title="First", text="Mind this.")]
    data = Page(render(run_folder(findings))).data
    assert data.index("Mind this.") < data.index("Scores") < data.index("Late")


def test_findings_keep_their_order_and_are_in_the_contents(run_folder):
    titles = ["b", "a", "c"]
    page = render(run_folder([Table(title=title, columns=("x",), rows=()) for title in titles]))
    assert re.findall(r"<h2>(.)</h2>", page) == titles
    assert re.findall(r'<a href="#finding-\d">(.)</a>', page) == titles


def test_a_run_without_findings_has_its_scores(run_folder):
    assert "87.50" in render(run_folder(None))


@pytest.mark.parametrize(
    ("checkpoint", "shown"),
    [("org/bert", "org/bert"), ("/a/minilm/model", "minilm"), ("./minilm", "minilm"), ("bundled:tiny", "bundled:tiny")],
)
def test_a_checkpoint_has_a_short_name(run_folder, checkpoint, shown):
    assert f"<h1>sentiment, {shown}</h1>" in render(run_folder([], checkpoint=checkpoint))


def test_a_single_point_is_said(run_folder):
    finding = Series(title="s", x_label="step", y_label="y", x=(1000.0,), lines={"f1": (0.5,), "other": (None,)})
    assert "step 1,000, f1 0.5, other undefined" in told(Page(render(run_folder([finding]))).data)


def test_a_single_point_of_fractions_is_times_100(run_folder):
    lines = {"accuracy": (0.508475,), "perfect": (0.51694,)}
    finding = Series(title="s", x_label="mean confidence", y_label="y", x=(0.51694,), lines=lines, shares=("x", "y"))
    said = told(Page(render(run_folder([finding]))).data)
    assert "mean confidence 51.69, accuracy 50.85" in said
    assert "perfect" not in said


def test_findings_with_nothing_in_them_are_said_to_be_empty(run_folder):
    findings = [
        Series(title="s", x_label="x", y_label="y", x=(1, 2), lines={"a": (None, float("nan"))}),
        Series(title="s", x_label="x", y_label="y", x=(), lines={}),
        Passages(title="p", passages=()),
        Table(title="t", columns=(), rows=()),
    ]
    page = Page(render(run_folder(findings)))
    assert page.data.count("Nothing to draw.") == 2
    assert "No rows." in page.data
    assert "svg" not in page.closed


# tables


def test_a_float_is_a_fraction_unless_its_column_is_plain():
    table = Table(title="t", columns=("share", "seconds", "count"), rows=((0.5, 0.5, 1234567),), plain=("seconds",))
    assert cells(table) == [[("50.00", "number"), ("0.500", "number"), ("1,234,567", "number")]]


def test_small_plain_numbers_do_not_become_zero():
    table = Table(title="t", columns=("rate",), rows=((2e-5,), (0.0,), (1234.5,)), plain=("rate",))
    assert [row[0][0] for row in cells(table)] == ["2e-05", "0.000", "1,234.500"]


def test_a_missing_score_is_undefined_and_another_missing_cell_is_a_dash():
    table = Table(
        title="t",
        columns=("name", "count", "score", "never", "plain"),
        rows=(("a", 1, 0.5, None, 0.5), (None, None, None, None, None), ("c", 2, float("nan"), None, None)),
        plain=("plain",),
    )
    assert [text for text, _ in cells(table)[1]] == ["–", "–", "undefined", "undefined", "–"]
    assert {look for _, look in cells(table)[1]} == {"missing"}
    assert cells(table)[2][2] == ("undefined", "missing")


# passages


def test_marks_overlap():
    spans = [
        Span(kind="gold", start=2, end=6),
        Span(kind="predicted", start=4, end=8),
        Span(kind="gold", start=2, end=6),
    ]
    assert pieces("0123456789", spans) == [
        ("01", "", 0), ("23", "gold", 1), ("45", "gold predicted", 1), ("67", "predicted", 1), ("89", "", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(("start", "end"), [(-5, 3), (8, 50), (3, 3), (7, 2), (90, 99)])
def test_pieces_are_the_text_whatever_the_marks(start, end):
    assert "".join(text for text, *_ in pieces("0123456789", [Span(kind="gold", start=start, end=end)])) == "0123456789"


@pytest.mark.parametrize("text", ["word " * 2000, "漢" * 10000, "x" * 10000])
def test_an_excerpt_holds_its_spans_and_little_else(text):
    spans = [Span(kind="gold", start=5000, end=5010), Span(kind="predicted", start=9000, end=9005)]
    found = excerpts(text, spans)
    assert all(any(start <= span.start and span.end <= end for start, end in found) for span in spans)
    assert sum(end - start for start, end in found) <= 2 * 340
    assert all(first[1] < second[0] for first, second in pairwise(found))
    assert excerpts(text, spans[:1] * 2) == found[:1]


def test_a_short_text_is_whole_and_a_long_one_without_spans_shows_its_beginning():
    assert excerpts("short", []) == [(0, 5)]
    assert excerpts("x" * 9000, []) == [(0, 300)]


def test_a_long_text_can_be_read_whole(run_folder):
    text = "".join(f"w{number} " for number in range(1000))
    spans = {"text": (Span(kind="gold", start=2000, end=2010),)}
    folder = run_folder([Passages(title="p", passages=(Passage(title="1", texts={"text": text}, spans=spans),))])
    data = Page(render(folder)).data
    assert f"the whole text, {len(text):,} characters" in told(data)
    assert text.replace(text[2000:2010], "") in data.replace(text[2000:2010], "")


# studies


def test_a_study_lists_its_runs_with_what_became_of_them(study_folder):
    text = render(study_folder([Note(title="n", text="Mind this.")], text="GLUE"))
    data = told(Page(text).data)
    assert "50.00 GLUE" in data
    assert "Mind this." in data
    assert "GLUE runs/a-0 87.50 accuracy on test, 1,234 rows" in data.replace("a-087", "a-0 87")
    assert "GLUE runs/b-0: failed, GLUE" in data
    assert "GLUE runs/c-0: waiting, GLUE" in data
    assert re.search(r"GLUE runs/d-0: not readable, \S*d-0 does not exist", data)
    assert "checkpoint: org/bert" in data


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", METRICS | {"accuracy": "high", "splits": {"test": {"accuracy": "high"}}}),
        ("metrics.json", METRICS | {"accuracy": [1], "splits": {"test": {"accuracy": [1]}}}),
        (
            "findings.json",
            [{"kind": "series", "title": "s", "x_label": "x", "y_label": "y", "x": [1], "lines": {"a": []}}],
        ),
        ("findings.json", [{"kind": "table", "title": "t", "columns": ["a", "b"], "rows": [[1]]}]),
    ],
)
def test_a_broken_run_costs_its_own_part_of_the_page_alone(study_folder, name, content):
    folder = study_folder()
    (folder / "runs" / "a-0" / name).write_text(json.dumps(content))
    data = told(Page(render(folder)).data)
    assert re.search(rf"word runs/a-0: not readable, \S*{name}", data)
    assert "word runs/b-0: failed" in data


def test_a_study_may_have_no_score_yet(study_folder):
    assert "undefined word" in told(Page(render(study_folder(value=None))).data)
    folder = study_folder()
    tree = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({"schema": 1, "study": "x", "title": "t", "asked": tree, "runs": []}))
    (folder / "findings.json").unlink()
    assert "no scores yet" in render(folder)


# mistakes


def test_what_is_no_run_and_no_study_is_refused(tmp_path):
    assert "is not a run or a study" in error_of(render, tmp_path).message
    error = error_of(render, tmp_path / "nope")
    assert "does not exist" in error.message
    assert error.hint


def test_a_run_that_did_not_finish_is_refused(run_folder):
    folder = run_folder([])
    (folder / "metrics.json").unlink()
    error = error_of(write_report, folder)
    assert "metrics.json is missing" in error.message
    assert "--resume" in error.hint
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[{}]", '{"a": 1}', '[{"kind": "pie", "title": "x"}]', '[{"kind": "note", "title": "x"}]', "7",
                '[{"kind": "note", "title": 3, "text": "x"}]', "\x00"],
)  # fmt: skip
def test_broken_findings_are_named_with_their_file(run_folder, content):
    folder = run_folder([])
    (folder / "findings.json").write_text(content)
    assert str(folder / "findings.json") in error_of(render, folder).message


@pytest.mark.parametrize("tree", [{}, {"schema": 2, "title": "x", "study": "x", "runs": []}, {"schema": 1, "runs": 3}])
def test_a_broken_study_is_refused(study_folder, tree):
    folder = study_folder()
    (folder / "study.json").write_text(json.dumps(tree))
    assert "study.json" in error_of(render, folder).message


def test_a_folder_is_no_file_to_write(run_folder, tmp_path):
    assert "is a folder" in error_of(write_report, run_folder([]), tmp_path).message


def test_findings_come_back_from_json():
    found = every_kind()
    assert from_json(json.loads(json.dumps(to_json(found)))) == found
    assert from_json([]) == []

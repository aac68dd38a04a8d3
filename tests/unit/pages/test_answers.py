"""Predictions as a notebook draws them: nothing in them opens a tag, and the answer is marked where it stands."""

from __future__ import annotations

import re

import pytest

import bertkit
from bertkit.errors import BertkitError
from bertkit.pages.answers import answer_html
from tests.unit.pages.conftest import Page
from tests.unit.pages.test_page import ATTRIBUTES, HOSTILE, TAGS

DOCUMENT = "Nobody slept. " * 60 + "Then the ferry came at noon. " + "It rained. " * 60


def span(text: str, answer: str, start: int | None, document: str = DOCUMENT) -> dict:
    end = None if start is None else start + len(answer)
    one = {"answer": answer, "start": start, "end": end, "probability": 0.7}
    rest = {"answer": text, "start": 0, "end": 1, "probability": 0.2}
    return {"id": text, "question": text, "context": document, **one, "n_best": [one, rest]}


def every_task(text: str) -> list[dict]:
    """A prediction of each kind, with `text` wherever a text may stand."""
    entity = {"text": text, "type": text, "start": 0, "end": len(text), "probability": 0.9}
    return [
        {"text": text, "label": text, "probabilities": {text: 0.9, "other": 0.1}},
        {"premise": text, "hypothesis": text, "label": text, "probabilities": {text: 0.6, "other": 0.4}},
        {"text": text, "label": (text, "b"), "probabilities": {text: 0.6, "b": 0.7, "c": 0.1}},
        {"text": text, "second": text, "label": 3.25},
        {"words": [text, "b"], "tags": [text, "NOUN"], "probabilities": [0.5, 0.5]},
        {"text": f"{text} b", "entities": [entity], "words": ["b"], "tags": ["O"], "probabilities": [1.0]},
        span(text, text, 0, document=text),
        span(text, "", None, document=text),
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_predictions_cannot_open_a_tag(text):
    shown = Page(bertkit.show(every_task(text))._repr_html_())
    assert {tag for tag, _ in shown.tags} <= set(TAGS.split())
    assert {name for _, attributes in shown.tags for name in attributes} <= set(ATTRIBUTES.split())
    for tag, count in {"style": 1, "article": 8}.items():
        assert sum(opened == tag for opened, _ in shown.tags) == shown.closed.count(tag) == count, tag


def test_the_answer_is_marked_in_its_document_and_nothing_else_is():
    start = DOCUMENT.index("noon")
    marked = re.findall(r"<mark[^>]*>(.*?)</mark>", answer_html(span("When?", "noon", start)))
    assert set(marked) == {"noon"}
    drawn = Page(answer_html(span("When?", "noon", start))).data
    assert "the ferry came at noon" in drawn
    assert "When?" in drawn
    assert "<mark" not in answer_html(span("When?", "", None))
    assert answer_html(span("When?", "noon", 0, document="noon")).count('class="chosen"') == 1
    assert "no answer" in answer_html(span("When?", "", None))


@pytest.mark.parametrize("document", ["passage", "context", "text"])
def test_the_document_is_found_whatever_its_column_is_called(document):
    given = span("When?", "noon", DOCUMENT.index("noon"))
    given[document] = given.pop("context")
    assert "<mark" in answer_html(given)


def test_plain_texts_are_drawn_beside_their_predictions():
    predictions = [{"label": "good", "probabilities": {"good": 0.9, "bad": 0.1}}] * 2
    shown = Page(bertkit.show(predictions, ["a dry room", ("a wet room", "no towels")])._repr_html_()).data
    assert re.search("a dry room.*a wet room.*no towels", shown, re.S)
    assert "90.0 %" in shown


def test_columns_that_no_task_reads_are_not_drawn_beside_those_that_it_reads():
    prediction = {"text": "a dry room", "author": "nobody", "label": "good", "probabilities": {"good": 1.0}}
    assert "nobody" not in answer_html(prediction)
    del prediction["text"]
    assert "nobody" in answer_html(prediction)


def test_every_word_has_its_tag_and_equal_tags_have_one_colour():
    prediction = {"words": [*"abcd"], "tags": ["X-1", "Y-2"] * 2, "probabilities": [0.5] * 4}
    found = re.findall(r"--hue: (var\(--group-\d\))\">(\w)<small>([\w-]+)<", answer_html(prediction))
    assert [(word, tag) for _, word, tag in found] == list(zip("abcd", prediction["tags"], strict=True))
    colours = [colour for colour, _, _ in found]
    assert colours[:2] == colours[2:]


def test_what_lies_around_entities_is_drawn_once():
    text = "Ada Lind lives in Oslo."
    spans = [(18, 22, "LOC"), (0, 8, "PER")]  # in any order
    entities = [{"text": text[a:b], "type": name, "start": a, "end": b, "probability": 0.5} for a, b, name in spans]
    drawn = answer_html({"text": text, "entities": entities, "words": [], "tags": [], "probabilities": []})
    sentence = re.search(r'<p class="text tagged"[^>]*>(.*?)</p>', drawn, re.S)[1]
    assert re.sub(r"<small>.*?</small>|<[^>]*>", "", sentence) == text
    without = answer_html({"text": text, "entities": [], "words": [], "tags": [], "probabilities": []})
    assert re.search(r"entities</bdi>\s*<bdi>none", without)


def test_what_is_no_prediction_is_refused():
    with pytest.raises(BertkitError, match="no prediction of bertkit has these keys only: text"):
        bertkit.show({"text": "a"})
    with pytest.raises(BertkitError, match="1 predictions and 2 rows"):
        bertkit.show({"label": 0.5}, ["a", "b"])

"""Words with their tags: columns as people write them, spans as annotation tools write them, and running text."""

from __future__ import annotations

import json

import pytest

from bertkit.data.sources import Columns, read_rows
from bertkit.data.words import starts_in, words_of
from bertkit.errors import BertkitError

ENTITIES = Columns(words=("words",), tags="tags", entities=True)
POS = Columns(words=("words",), tags="tags")
READ = [
    {"id": "0", "words": ["Ada", "Lovelace", "wrote", "."], "tags": ["B-PER", "I-PER", "O", "O"]},
    {"id": "1", "words": ["#Oslo", "shines"], "tags": ["B-LOC", "O"]},
]


@pytest.fixture
def write(tmp_path):
    def writer(name: str, content: str) -> str:
        (tmp_path / name).write_text(content, encoding="utf-8")
        return str(tmp_path / name)

    return writer


def columns(separator: str, blank: str, *middle: str) -> str:
    """The rows of READ, a word a line."""
    sentences = []
    for row in READ:
        lines = zip(row["words"], row["tags"], strict=True)
        sentences.append("".join(separator.join((word, *middle, tag)) + "\n" for word, tag in lines))
    return f"{blank}\n".join(sentences)


def error_of(path: str, task: Columns = ENTITIES, **options) -> BertkitError:
    with pytest.raises(BertkitError) as caught:
        read_rows(path, task, **options)
    return caught.value


@pytest.mark.parametrize("ending", ["conll", "bio", "iob2", "test.annotated", "testa", "txt", "tsv", "conll.txt"])
@pytest.mark.parametrize("blank", ["", "\t", " \r"])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_columns_are_read_whatever_parts_them_and_the_sentences(write, ending, blank, separator):
    assert read_rows(write(f"a.{ending}", columns(separator, blank)), ENTITIES).rows == READ


def test_columns_of_conll_2003_have_documents_and_the_tags_in_the_last_of_four(write):
    start = "-DOCSTART- -X- -X- O\n\n"
    path = write("train.txt", start + columns(" ", "", "NNP", "B-NP") + "\n" + start)
    assert read_rows(path, ENTITIES).rows == READ
    chunks = read_rows(path, ENTITIES, mapping={"tags": 2}).rows
    assert chunks[1]["tags"] == ["B-NP", "B-NP"]
    assert read_rows(path, POS, mapping={"tags": 1}).rows[1]["tags"] == ["NNP", "NNP"]


def test_a_comment_is_a_line_with_a_hash_and_another_number_of_columns(write):
    counted = "#\thttp://a.example [2020]\n1\tAda\tB-PER\tO\n2\twrote\tO\tO\n\n# b\n1\t#go\tO\tO\n"
    read = read_rows(write("a.conll", counted), ENTITIES, mapping={"words": 1, "tags": 2})
    assert [row["words"] for row in read.rows] == [["Ada", "wrote"], ["#go"]]
    assert read.rows[0]["tags"] == ["B-PER", "O"]
    error = error_of(path := write("a.conll", counted))
    assert error.message == f"{path}:2: the first column counts the words"
    assert "data.columns.words=1" in error.hint


def test_a_sentence_with_a_broken_line_is_named_by_it_and_can_be_left_out(write):
    path = write("a.conll", "a O\nb\nc O\n\nd O\n\n\te f\n")
    assert error_of(path).message == f"{path}:2: has 1 columns, but the first word has 2"
    read = read_rows(path, ENTITIES, skip_bad_rows=True)
    assert [row["words"] for row in read.rows] == [["d"], ["e"]]
    path = write("b.conll", "a\tO\n\n\tO\n")
    assert error_of(path).message == f"{path}:3: has no word before the tab"


def test_columns_without_tags_are_for_prediction_and_need_none(write):
    path = write("a.conll", "Ada\nwrote\n\nOslo\n")
    read = read_rows(path, ENTITIES, require_gold=False)
    assert [(row["words"], row["tags"]) for row in read.rows] == [(["Ada", "wrote"], None), (["Oslo"], None)]
    assert error_of(path).message == f"{path}: no column '-1' for the task's 'tags'; it has: 0"


def test_a_recipe_whose_columns_have_names_reads_columns_all_the_same(write):
    mapping = {"words": "tokens", "tags": "ner"}
    assert read_rows(write("a.conll", columns("\t", "")), ENTITIES, mapping=mapping).rows == READ


@pytest.mark.parametrize("name", ["a.tsv", "a.txt"])
def test_tables_and_texts_are_not_taken_for_columns(write, name):
    content = {"a.tsv": "words\ttags\nAda wrote\tB-PER O\n\nOslo\tB-LOC\n", "a.txt": "Ada wrote\n\nOslo shines\n"}[name]
    read = read_rows(write(name, content), ENTITIES, require_gold=False)
    assert [row["words"][0] for row in read.rows] == ["Ada", "Oslo"]
    assert len(read.rows) == 2


def test_a_task_without_words_is_told_what_the_file_holds(write):
    error = error_of(write("a.conll", "a O\n"), Columns(text=("text",), label="label"))
    assert error.hint == ".conll files hold words and their tags, for tasks such as pos"


@pytest.mark.parametrize("pair", [("words", "tags"), ("tokens", "ner_tags"), ("tokens", "tags"), ("tokens", "labels")])
def test_words_and_tags_are_found_by_their_usual_names(write, pair):
    path = write("a.jsonl", json.dumps(dict(zip(pair, (READ[0]["words"], READ[0]["tags"]), strict=True))))
    assert read_rows(path, ENTITIES).rows == READ[:1]
    other = dict(zip((pair[0], "mine"), (READ[0]["words"], READ[0]["tags"]), strict=True))
    assert read_rows(write("b.jsonl", json.dumps(other)), ENTITIES, mapping={"tags": "mine"}).rows == READ[:1]
    assert read_rows(path, ENTITIES, require_gold=False).rows == READ[:1]


def test_tags_that_are_numbers_have_the_names_that_the_task_gives(write):
    path = write("a.jsonl", json.dumps({"tokens": ["a", "b"], "ner_tags": [2, 0]}))
    assert read_rows(path, ENTITIES, tag_names=["O", "B-PER", "B-LOC"]).rows[0]["tags"] == ["B-LOC", "O"]
    assert read_rows(path, ENTITIES).rows[0]["tags"] == ["2", "0"]
    # a task whose tags are numbers keeps them
    assert read_rows(path, ENTITIES, tag_names=["1", "2", "0"]).rows[0]["tags"] == ["2", "0"]


TEXT = "Ada Lovelace's notes on Oslo. "
SPANS = [(0, 12, "PER"), (24, 29, "LOC")]
EXPORTS = {
    "doccano": {"text": TEXT, "label": SPANS},
    "doccano, several": {"text": TEXT, "labels": SPANS},
    "doccano, relations": {
        "text": TEXT, "entities": [{"id": 1, "label": t, "start_offset": s, "end_offset": e} for s, e, t in SPANS],
    },
    "spaCy": {"text": TEXT, "entities": SPANS},
    "Prodigy": {
        "text": TEXT, "tokens": [{"text": "Ada", "start": 0, "end": 3, "id": 0}],
        "spans": [{"start": s, "end": e, "label": t, "token_start": 0} for s, e, t in SPANS],
    },
    "Label Studio, short": {"text": TEXT, "label": [{"start": s, "end": e, "labels": [t]} for s, e, t in SPANS]},
    "Label Studio": {
        "id": 7, "data": {"text": TEXT},
        "annotations": [{"result": [{"value": {"start": s, "end": e, "labels": [t]}} for s, e, t in SPANS]}],
    },
}  # fmt: skip


@pytest.mark.parametrize("tool", EXPORTS)
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_spans_of_annotation_tools_become_tags_of_words(write, tool, ending):
    # the second span takes the full stop along with the town
    content = [{**EXPORTS[tool], "id": 7}]
    path = write(f"a.{ending}", json.dumps(content if ending == "json" else content[0]))
    (row,) = read_rows(path, ENTITIES).rows
    assert row == {
        "id": "7", "text": TEXT, "words": ["Ada", "Lovelace", "'s", "notes", "on", "Oslo", "."],
        "tags": ["B-PER", "I-PER", "O", "O", "O", "B-LOC", "I-LOC"],
    }  # fmt: skip


def test_white_space_around_a_span_is_no_part_of_it_and_a_text_may_have_no_span(write):
    path = write("a.jsonl", '{"text": "on Oslo \\n", "label": [[2, 9, "LOC"]]}\n{"text": "on", "label": []}')
    assert [row["tags"] for row in read_rows(path, ENTITIES).rows] == [["O", "B-LOC"], ["O"]]


@pytest.mark.parametrize(
    ("spans", "reason"),
    [
        ([[0, 2, "PER"]], "has a span 'PER' from 0 to 2, 'Ad', that cuts a word"),
        ([[1, 12, "PER"]], "has a span 'PER' from 1 to 12, 'da Lovelace', that cuts a word"),
        ([[0, 12, "PER"], [4, 12, "ORG"]], "has a span 'ORG' from 4 to 12 that shares words with another"),
        ([[24, 99, "LOC"]], "has a span 'LOC' from 24 to 99, which holds no text"),
        ([[3, 4, "LOC"]], "has a span 'LOC' from 3 to 4, which holds no text"),
        ([[-5, 3, "LOC"]], "has a span 'LOC' from -5 to 3, which holds no text"),
        ([[0, 3]], "holds [0, 3], not a span: its first character, its end and its type"),
        (
            [{"start": 0, "end": 3}],
            "holds {'end': 3, 'start': 0}, not a span: its first character, its end and its type",
        ),
        ([{"result": []}, {"result": []}], "has 2 annotations"),
    ],
)
def test_spans_that_are_no_entities_are_bad_rows(write, spans, reason):
    path = write("a.jsonl", json.dumps({"text": TEXT, "label": spans}))
    assert error_of(path).message == f"{path}:1: {reason}"


def test_spans_are_for_entities_only(write):
    path = write("a.jsonl", json.dumps({"words": "Ada", "tags": [[0, 3, "PER"]]}))
    assert error_of(path, POS).message == f"{path}:1: holds [0, 3, 'PER'], not a name"


@pytest.mark.parametrize("text", [TEXT, "", " \u200ba\u200ba b'a 我爱a\ufeff ", "a aa a", "it's ''s 's's"])
def test_every_word_of_a_text_has_its_characters(text):
    words = words_of(text)
    starts = starts_in(words, text)
    assert [text[start : start + len(word)] for word, start in zip(words, starts, strict=True)] == words
    left = list(text)
    for word, start in zip(words, starts, strict=True):
        left[start : start + len(word)] = [""] * len(word)
    assert not "".join(left).replace("\u200b", "").replace("\ufeff", "").strip()


def test_words_that_a_text_does_not_hold_have_no_characters():
    assert starts_in(["a", "b"], "b a") is None

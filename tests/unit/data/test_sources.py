"""What a row is, in every format, and what is said about a wrong one."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from bertkit.data import files
from bertkit.data.rules import IGNORED
from bertkit.data.sources import Columns, read_rows
from bertkit.data.words import words_of
from bertkit.errors import BertkitError

SENTIMENT = Columns(text=("text",), label="label")
NLI = Columns(text=("premise", "hypothesis"), label="label")
QA = Columns(text=("question", "context"), answers="answers")
POS = Columns(words=("words",), tags="tags")
TOPICS = Columns(text=("text",), labels="labels")
SCORE = Columns(text=("text",), number="score")
MEND = "mend it, or leave such rows out with data.skip_bad_rows=true"


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> str:
        raw = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
        with opener(path, "wb") as stream:
            stream.write(raw)
        return str(path)

    return write


def error_of(source: str, columns: Columns, **options) -> BertkitError:
    with pytest.raises(BertkitError) as caught:
        read_rows(source, columns, **options)
    assert "\n" not in caught.value.message
    return caught.value


def json_lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def squad(*questions: dict, context: str = "Paris is in France.", **paragraph) -> str:
    return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": list(questions), **paragraph}]}]})


def question(name: str = "q1", text: str = "Paris", start: int = 0, **more) -> dict:
    return {"id": name, "question": "Which?", "answers": [{"text": text, "answer_start": start}], **more}


def test_importing_the_reader_imports_no_heavy_library():
    heavy = "{'torch', 'transformers', 'datasets', 'pyarrow', 'numpy', 'pandas'}"
    code = f"import sys, bertkit.data.sources; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# csv and tsv


def test_tsv_keeps_lone_quotes_and_na(write):
    texts = ['"He said', "NA", "Null", "None", "nan", 'a "b" c', "", " ", "a\u2028b\x0bc", "01"]
    path = write("train.tsv", "text\tlabel\r\n" + "".join(f"{text}\t01\r\n" for text in texts))
    rows = read_rows(path, SENTIMENT).rows
    assert [row["text"] for row in rows] == [text for text in texts if text.strip()]
    assert {row["label"] for row in rows} == {"01"}
    assert [row["text"] for row in read_rows(path, SENTIMENT, require_gold=False).rows] == texts  # each has its answer


def test_rows_hold_the_tasks_columns_and_an_id_and_nothing_else(write):
    path = write("a.csv", "extra,text,label\nx,good,1\ny,bad,0\n")
    assert read_rows(path, SENTIMENT).rows == [
        {"id": "0", "text": "good", "label": "1"},
        {"id": "1", "text": "bad", "label": "0"},
    ]


def test_csv_keeps_line_breaks_and_commas_in_quotes(write):
    path = write("a.csv", 'text,label\n"two\nlines, ""quoted""",a\nplain,b\n')
    assert [row["text"] for row in read_rows(path, SENTIMENT).rows] == ['two\nlines, "quoted"', "plain"]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_csv_sees_its_separator_in_the_header_line(write, mark):
    path = write("a.csv", f'id{mark}text{mark}label\n7{mark}"a,b;c"{mark}x\n')
    assert read_rows(path, SENTIMENT).rows == [{"id": "7", "text": "a,b;c", "label": "x"}]


def test_csv_header_of_one_column_has_no_separator(write):
    assert read_rows(write("a.csv", 'text\n"a,b"\nc\n'), Columns(text=("text",))).rows[0]["text"] == "a,b"


def test_byte_order_mark_is_no_part_of_the_header(write):
    path = write("a.csv", "\ufefftext,label\n\ufeffa,b\n")
    assert read_rows(path, SENTIMENT).rows[0]["text"] == "\ufeffa"  # only the first is a mark


@pytest.mark.parametrize("places", [{"text": 2, "label": 0}, {"text": "2", "label": "0"}])
@pytest.mark.parametrize(("name", "mark"), [("a.tsv", "\t"), ("a.csv", ","), ("b.csv", ";")])
def test_a_position_says_that_there_is_no_header_line(write, name, mark, places):
    path = write(name, mark.join("1xa") + "\n" + mark.join("0yb") + "\n")
    assert [(row["text"], row["label"]) for row in read_rows(path, SENTIMENT, mapping=places).rows] == [
        ("a", "1"),
        ("b", "0"),
    ]


def test_position_beyond_the_line_is_named(write):
    error = error_of(path := write("a.tsv", "1\ta\n"), SENTIMENT, mapping={"text": 5, "label": 0})
    assert error.message == f"{path}: no column '5' for the task's 'text'; it has: 0, 1"
    assert error.hint == "add data.columns.text=1"


def test_wrong_number_of_fields_is_named_with_line_and_counts(write):
    path = write("a.csv", 'text,label\n"two\nlines",a\n\nx,y,z\nok,b\nlonely\n')
    error = error_of(path, SENTIMENT)
    assert error.message == f"{path}:5: has 3 fields, but the first line has 2 (and 1 more)"
    assert error.hint == MEND
    read = read_rows(path, SENTIMENT, skip_bad_rows=True)
    assert [(row["id"], row["text"]) for row in read.rows] == [("0", "two\nlines"), ("2", "ok")]
    assert tuple(read.left.bad) == (
        f"{path}:5: has 3 fields, but the first line has 2",
        f"{path}:7: has 1 fields, but the first line has 2",
    )


def test_quote_that_never_closes_is_an_error_at_the_line_where_it_opens(write):
    path = write("a.csv", 'text,label\na,b\n"open,b\nc,d\n')
    error = error_of(path, SENTIMENT, skip_bad_rows=True)
    assert error.message == f"{path}:3: unexpected end of data"
    assert "use tsv" in error.hint


def test_carriage_return_outside_quotes_is_an_error(write):
    error = error_of(path := write("a.csv", "text,label\ra,b\r"), Columns(text=("text",)))
    assert error.message == f"{path}:1: a carriage return outside quotes"
    assert error.hint == "end lines with LF or CRLF"


def test_over_long_lines_and_fields_are_errors(write, monkeypatch):
    path = write("a.tsv", "text\tlabel\na\tb\n" + "x" * 3000 + "\tb\n")
    monkeypatch.setattr(files, "LINE_BYTES", 2000)
    assert error_of(path, SENTIMENT).message == f"{path}:3: a line of more than 0 MiB"
    path = write("b.csv", 'text,label\n"' + ("x" * 99 + "\n") * 30 + '",b\n')
    before = csv.field_size_limit(1000)
    try:
        assert error_of(path, SENTIMENT).message == f"{path}:2: field larger than field limit (2000)"
    finally:
        csv.field_size_limit(before)


def test_column_that_is_wanted_must_not_stand_twice_in_the_header(write):
    error = error_of(path := write("a.csv", "text,text,label\na,b,c\n"), SENTIMENT)
    assert error.message == f"{path}: two columns are named 'text'"
    assert error.hint == "give each its own name"


# bytes and packing


@pytest.mark.parametrize(
    ("name", "start"),
    [("a.tsv", "text"), ("a.csv", "text"), ("a.txt", "x"), ("a.json", "["), ("a.jsonl", "{}"), ("a.conllu", "#")],
)
def test_bytes_that_are_not_utf8_are_named_with_their_line(write, name, start):
    columns = POS if name == "a.conllu" else Columns(text=("text",))
    error = error_of(path := write(name, start.encode() + b'\ncaf\xe9"\n'), columns)
    place = 3 + len(start) + 1 if name == "a.json" else 3
    assert error.message == f"{path}:2: byte 0xe9 is not UTF-8 (byte {place})"
    assert error.hint == "save the file as UTF-8 text"


def test_nul_characters_are_an_error(write):
    error = error_of(path := write("a.tsv", b"text\tlabel\na\tb\n\0\tb\n"), SENTIMENT)
    assert error.message == f"{path}:3: a NUL character (byte 0)"
    assert error.hint == "save the file as UTF-8 text"
    assert "byte 0xff is not UTF-8" in error_of(write("b.csv", b"\xfft\0e\0x\0t\0"), SENTIMENT).message


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
def test_packed_files_read_like_plain_ones(write, packing):
    expected = [{"id": "0", "text": "très bien", "label": "1"}]
    assert read_rows(write("a.csv" + packing, "text,label\ntrès bien,1\n"), SENTIMENT).rows == expected
    assert read_rows(write("a.jsonl" + packing, json_lines(expected[0])), SENTIMENT).rows == expected
    assert read_rows(write("a.json" + packing, json.dumps(expected)), SENTIMENT).rows == expected


@pytest.mark.parametrize("packing", [".gz", ".xz"])
def test_cut_or_corrupt_packed_files_are_errors(write, packing):
    path = write("a.tsv" + packing, "text\tlabel\n" + "".join(f"{number}\tb\n" for number in range(9999)))
    whole = Path(path).read_bytes()
    for broken in (whole[:-20], whole[:50] + b"\xff" * 50 + whole[100:], b"not packed at all"):
        Path(path).write_bytes(broken)
        error = error_of(path, SENTIMENT)
        assert error.message.startswith(f"{path}: cannot be read: ")
        assert error.hint == "is it whole, and what its ending says?"


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.xz"])
def test_what_a_packed_file_unpacks_to_is_bounded(write, monkeypatch, name):
    monkeypatch.setattr(files, "UNPACKED_BYTES", 1 << 20)
    error = error_of(path := write(name, "[" + "0,\n" * 400_000), Columns(text=("text",)))
    assert error.message == f"{path}: unpacks to more than 1 MiB"
    assert error.hint == "split it"


def test_a_file_too_large_to_parse_is_refused_unread(write, monkeypatch):
    monkeypatch.setattr(files, "WHOLE_BYTES", 8 << 20)
    path = write("a.json", "[")
    os.truncate(path, 32 << 20)
    tracemalloc.start()
    error, (_, peak) = error_of(path, SENTIMENT), tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.message == f"{path}: more than 8 MiB that must be read at once"
    assert peak < 4 << 20


# json


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '[{"text": "a", "label": 1}, {"text": "b", "label": 0}]'),
        ("a.json", '\ufeff{"version": 1, "data": [{"text": "a", "label": true}, {"text": "b", "label": 0.0}]}'),
        ("a.json", '{"text": "a", "label": " 1 "}\n\n{"text": "b", "label": "0"}'),
        ("a.jsonl", '{"text": "a", "label": "1"}\r\n\r\n{"label": "0", "text": "b"}'),
        ("a.ndjson", '{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n'),
    ],
)
def test_json_is_a_list_or_lines_under_any_of_its_names(write, name, content):
    assert read_rows(write(name, content), SENTIMENT).rows == [
        {"id": "0", "text": "a", "label": "1"},
        {"id": "1", "text": "b", "label": "0"},
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('{"text": "a"', "not JSON: Expecting ',' delimiter (character 13)"),
        ("[1, 2]", "[1, 2] is not an object"),
        ('{"text": 5, "label": "x"}', "column 'text' holds 5, not text"),
        ('{"label": "x"}', "column 'text' is missing"),
        ('{"text": "a", "label": null}', "column 'label' has no label"),
        ('{"text": "a", "label": "  "}', "column 'label' has no label"),
        ('{"text": "a", "label": NaN}', "column 'label' has no label"),
        ('{"text": "a", "label": 0.5}', "column 'label' holds 0.5, not a name"),
        ('{"text": "a", "label": []}', "column 'label' has no label"),
        ('{"text": "a", "label": [["x"]]}', "column 'label' holds ['x'], not a name"),
        ('{"text": "\\ud83d", "label": "x"}', "not JSON: 'utf-8' codec can't encode character"),
        ('{"text": "a", "label": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit (4300"),
        ('{"text": ' + "[" * 100_000, "not JSON: maximum recursion depth exceeded"),
    ],
)
def test_a_bad_json_line_is_one_bad_row(write, value, reason):
    good = '{"text": "a", "label": "x"}\n'
    path = write("a.jsonl", f"{good}{value}\n{good}")
    error = error_of(path, SENTIMENT)
    assert error.message.startswith(f"{path}:2: {reason}")
    assert error.hint.endswith("leave such rows out with data.skip_bad_rows=true")
    read = read_rows(path, SENTIMENT, skip_bad_rows=True)
    assert [row["id"] for row in read.rows] == ["0", "2"]
    assert [line.startswith(f"{path}:2: {reason}") for line in read.left.bad] == [True]


def test_rows_of_a_json_list_are_named_by_their_number(write):
    path = write("a.json", '[{"text": "a", "label": "x"}, {"text": null, "label": "x"}, 7]')
    error = error_of(path, SENTIMENT)
    assert error.message == f"{path}: row 1: column 'text' is missing (and 1 more)"


def test_json_that_is_none_is_an_error_with_its_line(write):
    error = error_of(path := write("a.json", '[\n{"text": "a",}\n]'), SENTIMENT)
    assert error.message.startswith(f"{path}:2: not JSON: ")
    assert error.hint == "write a list of objects, SQuAD's layout, or one object a line"
    assert "maximum recursion depth" in error_of(write("b.json", "[" * 100_000), SENTIMENT).message
    assert error_of(path := write("c.json", "3"), SENTIMENT).message == f"{path}: row 0: 3 is not an object"


def test_values_in_messages_are_cut(write):
    error = error_of(write("a.jsonl", json_lines({"text": ["x" * 50] * 50, "label": "x"})), SENTIMENT)
    assert len(error.message) < 250
    assert "..." in error.message


def test_emoji_escapes_are_whole_characters(write):
    path = write("a.jsonl", '{"text": "\\ud83d\\ude00", "label": "x"}\n')
    assert read_rows(path, SENTIMENT).rows[0]["text"] == "😀"


# columns, ids, labels


def test_missing_column_names_the_setting_to_add(write):
    error = error_of(path := write("a.csv", "sentence,label\na,b\n"), SENTIMENT)
    assert error.message == f"{path}: no column 'text' for the task's 'text'; it has: sentence, label"
    assert error.hint == (
        "add data.columns.text=sentence, or a position if the file has no header line: data.columns.text=0"
    )
    path = write("a.jsonl", json_lines({"sentence1": "a", "sentence2": "b", "gold_label": "c", "pairID": "d"}))
    assert error_of(path, NLI).hint == "add data.columns.label=gold_label"
    assert error_of(path, NLI, mapping={"label": "gold_label"}).hint == "add data.columns.premise=sentence1"
    mapping = {"label": "gold_label", "premise": "sentence1", "hypothesis": "sentense2"}
    error = error_of(path, NLI, mapping=mapping)
    assert error.message.startswith(f"{path}: no column 'sentense2' for the task's 'hypothesis'; it has: sentence1,")
    assert error.hint == "add data.columns.hypothesis=sentence2"
    path = write("b.jsonl", json_lines({"alpha": 1, "omega": 2, "text": "x"}))
    assert error_of(path, SENTIMENT).hint == "add data.columns.label=NAME"
    path = write("c.jsonl", json_lines({"text": "x"}))
    assert error_of(path, SENTIMENT).hint == "no column is left for it"


def test_mapping_names_only_columns_of_the_task(write):
    error = error_of(write("a.csv", "text,label\na,b\n"), SENTIMENT, mapping={"txt": "text"})
    assert error.message == "data.columns: the task has no column 'txt'"
    assert error.hint == "did you mean 'text'? one of: id, label, text"


def test_ids_are_the_sources_own_or_the_row_number(write):
    path = write("a.csv", "id,key,text,label\n007,k,a,x\n,l,b,x\n")
    assert [row["id"] for row in read_rows(path, SENTIMENT).rows] == ["007", "1"]
    assert [row["id"] for row in read_rows(path, SENTIMENT, mapping={"id": "key"}).rows] == ["k", "l"]
    path = write("a.jsonl", json_lines({"id": 7, "text": "a", "label": "x"}))
    assert read_rows(path, SENTIMENT).rows[0]["id"] == "7"
    error = error_of(path, SENTIMENT, mapping={"id": "key"})
    assert error.message == f"{path}: no column 'key' for the task's 'id'; it has: id, text, label"


@pytest.mark.parametrize("skip", [False, True])
def test_two_rows_never_share_an_id(write, skip):
    rows = [{"id": number % 7, "text": "a", "label": "x"} for number in range(14)]
    error = error_of(path := write("a.jsonl", json_lines(*rows)), SENTIMENT, skip_bad_rows=skip)
    assert error.message == f"{path}: 7 ids belong to more than one row: 0, 1, 2, 3, 4, ..."
    assert error.hint == "make the ids unique, or name a column in which they are: data.columns.id=NAME"


def test_gold_is_optional_for_prediction_only(write):
    path = write("a.csv", "text\na\n")
    assert read_rows(path, SENTIMENT, require_gold=False).rows == [{"id": "0", "text": "a", "label": None}]
    mapped = read_rows(path, SENTIMENT, require_gold=False, mapping={"label": "gold"})
    assert mapped.rows[0]["label"] is None
    assert "no column 'label'" in error_of(path, SENTIMENT).message
    path = write("b.csv", "text,label\na,\nb,x\n")
    assert [row["label"] for row in read_rows(path, SENTIMENT, require_gold=False).rows] == [None, "x"]


def test_ignored_labels_are_counted_and_never_bad(write):
    rows = [("a", "x"), (None, "-"), ("b", "-"), ("c", "y"), ("d", "")]
    path = write("a.jsonl", json_lines(*({"text": text, "label": label} for text, label in rows)))
    read = read_rows(path, SENTIMENT, ignore_labels=["-", ""])
    assert [row["id"] for row in read.rows] == ["0", "3"]
    assert (len(read.left.unused[IGNORED]), read.left.bad) == (3, [])


def test_files_without_a_row_left_are_errors(write):
    for name, content in [("a.csv", ""), ("b.csv", "text,label\n"), ("a.tsv", "\n"), ("a.json", "[]"), ("b.json", " ")]:
        error = error_of(path := write(name, content), SENTIMENT)
        assert error.message == f"{path}: there are no rows"
        assert error.hint == "is it the right file, and is it whole?"
    path = write("c.jsonl", json_lines({"text": "a", "label": "-"}, {"text": 1, "label": "x"}))
    error = error_of(path, SENTIMENT, ignore_labels=["-"], skip_bad_rows=True)
    assert error.message == (
        f"{path}: no row is left: 1 bad, 1 with an ignored label, 0 with an empty text; the first: "
        f"{path}:2: column 'text' holds 1, not text"
    )
    assert error.hint == "look at data.columns, data.skip_bad_rows and data.ignore_labels"


def test_several_labels_come_as_a_list_or_between_bars(write):
    path = write("a.csv", "text,labels\na,joy | anger|joy\nb,\nc,joy\n")
    assert [row["labels"] for row in read_rows(path, TOPICS).rows] == [("joy", "anger"), (), ("joy",)]
    path = write("a.jsonl", json_lines({"text": "a", "labels": ["x", 1]}, {"text": "b", "labels": []}))
    assert [row["labels"] for row in read_rows(path, TOPICS).rows] == [("x", "1"), ()]
    path = write("b.jsonl", json_lines({"text": "a", "labels": ["x", ""]}))
    assert error_of(path, TOPICS).message == f"{path}:1: column 'labels' holds an empty class name: ['x', '']"
    path = write("c.jsonl", json_lines({"text": "a", "labels": None}))
    assert error_of(path, TOPICS).message == f"{path}:1: column 'labels' holds None, not a list of class names"
    assert read_rows(path, TOPICS, require_gold=False).rows[0]["labels"] is None


def test_numbers_are_finite_floats(write):
    path = write("a.csv", "text,score\na,3.80\nb,-1\n")
    assert [row["score"] for row in read_rows(path, SCORE).rows] == [3.8, -1.0]
    for value, reason in [
        ('"3,5"', "holds '3,5', not a finite number"),
        ("nan", "holds 'nan', not a finite number"),
        ("1e999", "holds '1e999', not a finite number"),
        ('" "', "has no number"),
    ]:
        path = write("b.csv", f"text,score\na,{value}\n")
        assert error_of(path, SCORE).message == f"{path}:2: column 'score' {reason}"
    path = write("c.jsonl", json_lines({"text": "a", "score": True}))
    assert error_of(path, SCORE).message == f"{path}:1: column 'score' holds True, not a finite number"
    assert read_rows(write("d.csv", "text,score\na,\n"), SCORE, require_gold=False).rows[0]["score"] is None


# question answering


def test_squad_rows_keep_the_order_of_answers_without_doubles(write):
    answers = [{"text": "Paris", "answer_start": 0}, {"text": "is", "answer_start": 6}] * 2
    path = write("a.json", squad({"id": "q1", "question": " Which?", "answers": answers}))
    assert read_rows(path, QA).rows == [
        {
            "id": "q1",
            "question": " Which?",
            "context": "Paris is in France.",
            "answers": [{"text": "Paris", "start": 0}, {"text": "is", "start": 6}],
        }
    ]


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["Paris"], "answer_start": [0]},
        [{"text": "Paris", "answer_start": 0}],
        [{"text": "Paris", "start": 0}],
        '{"text": ["Paris"], "answer_start": [0]}',
    ],
)
def test_answers_are_read_in_each_layout_people_use(write, answers):
    row = {"id": "q", "question": "Which?", "context": "Paris", "answers": answers}
    assert read_rows(write("a.jsonl", json_lines(row)), QA).rows[0]["answers"] == [{"text": "Paris", "start": 0}]


@pytest.mark.parametrize(("text", "start"), [("Paris", 1), ("Paris", -1), ("paris", 0), (".", -1), ("France!", 12)])
def test_an_answer_must_stand_at_its_offset(write, text, start):
    path = write("a.json", squad(question("q0"), question("q1", text, start)))
    error = error_of(path, QA)
    assert error.message == f"{path}: question q1: answer {text!r} does not stand at character {start}"
    assert error.hint == MEND
    assert [row["id"] for row in read_rows(path, QA, skip_bad_rows=True).rows] == ["q0"]


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ("Paris", "holds 'Paris', not JSON"),
        ([1], "holds [1], not a list of answers"),
        ({"text": ["a"], "answer_start": []}, "holds {'answer_start': [], 'text': ['a']}, not lists"),
        ([{"text": "a", "answer_start": "0"}], "holds an answer 'a' at '0'; it needs a text and its first character"),
        ([{"text": None, "answer_start": 0}], "holds an answer None at 0; it needs a text and its first character"),
        ([{"text": "a", "answer_start": True}], "holds an answer 'a' at True; it needs a text and its first character"),
    ],
)
def test_answers_of_another_shape_are_bad_rows(write, answers, reason):
    path = write("a.jsonl", json_lines({"id": "q", "question": "?", "context": "a", "answers": answers}))
    assert error_of(path, QA).message.startswith(f"{path}:1: question q: column 'answers' {reason}")


def test_questions_without_an_answer_need_unanswerable(write):
    none = {"id": "q1", "question": "Which?", "answers": [], "is_impossible": True}
    hollow = {"id": "q2", "question": "Which?", "answers": [{"text": "", "answer_start": 0}]}  # TyDi QA's hidden gold
    bare = {"id": "q3", "question": "Which?"}
    path = write("a.json", squad(question("q0"), none, hollow, bare))
    error = error_of(path, QA)
    assert error.message == f"{path}: question q1: has no answer (and 2 more)"
    assert error.hint == "set task.unanswerable=true, or leave such rows out with data.skip_bad_rows=true"
    assert [row["answers"] for row in read_rows(path, QA, unanswerable=True).rows[1:]] == [[], [], []]
    assert [row["answers"] for row in read_rows(path, QA, require_gold=False).rows[1:]] == [[], [], None]


def test_impossible_questions_have_no_answers(write):
    path = write("a.json", squad(question(is_impossible=True), question("q2", is_impossible=False)))
    error = error_of(path, QA, unanswerable=True)
    assert error.message == f"{path}: question 0: is_impossible is true, but it has answers"


def test_questions_are_asked_of_a_context(write):
    path = write("a.json", squad(question(question=" \n")))
    assert error_of(path, QA).message == f"{path}: question q1: column 'question' is empty"
    empty = {"id": "q1", "question": "Which?", "answers": []}
    path = write("b.json", squad(empty, context=" \n"))
    error = error_of(path, QA)
    assert error.message == f"{path}: question q1: column 'context' is empty"
    assert error.hint.startswith("set task.unanswerable=true, or ")
    assert read_rows(path, QA, unanswerable=True).rows[0]["context"] == " \n"


@pytest.mark.parametrize("skip", [False, True])
def test_question_ids_are_unique(write, skip):
    path = write("a.json", squad(question("q1"), question("q2"), question("q1")))
    error = error_of(path, QA, skip_bad_rows=skip, unanswerable=True)
    assert error.message == f"{path}: 1 ids belong to more than one row: q1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": [{"paragraphs": 3}]}, "data[0] has no list 'paragraphs'"),
        ({"data": [{"paragraphs": []}, 5]}, "data[1] has no list 'paragraphs'"),
        ({"data": [{"paragraphs": [{"context": "a"}]}]}, "data[0].paragraphs[0] has no list 'qas'"),
        ({"data": [{"paragraphs": [{"qas": [1]}]}]}, "row 0: 1 is not an object"),
    ],
)
def test_broken_squad_layout_is_named_with_its_place(write, content, message):
    error = error_of(path := write("a.json", json.dumps(content)), QA, skip_bad_rows=True)
    assert error.message == f"{path}: {message}"


# words and tags

WORD = "{}\t{}\tlemma\t{}\t{}\t_\t0\troot\t_\t_\n"


def sentence(*words: tuple[str, str, str]) -> str:
    return "".join(WORD.format(number, *word) for number, word in enumerate(words, start=1))


def test_conllu_skips_ranges_and_empty_nodes(write):
    lines = sentence(("I", "PRON", "PRP"), ("do", "AUX", "VBP"), ("n't", "PART", "RB")).splitlines(keepends=True)
    lines.insert(1, "2-3\tdon't" + "\t_" * 8 + "\n")
    lines.append("3.1\tgone" + "\t_" * 8 + "\n")
    # CRLF, a second blank line, and no blank line at the end
    text = "# sent_id = s-1\n# text = I don't\n" + "".join(lines) + "\n\n" + sentence(("New York", "PROPN", "NNP"))
    path = write("a.conllu", text.replace("\n", "\r\n"))
    assert read_rows(path, POS).rows == [
        {"id": "s-1", "words": ["I", "do", "n't"], "tags": ["PRON", "AUX", "PART"]},
        {"id": "1", "words": ["New York"], "tags": ["PROPN"]},
    ]


@pytest.mark.parametrize(("asked", "tag"), [("xpos", "PRP"), ("XPOS", "PRP"), ("UPOS", "PRON"), ("upos", "PRON")])
def test_conllu_tags_are_the_column_asked_for(write, asked, tag):
    path = write("a.conllu", sentence(("I", "PRON", "PRP")))
    assert read_rows(path, POS, mapping={"tags": asked}).rows[0]["tags"] == [tag]


def test_conllu_has_no_other_columns(write):
    error = error_of(path := write("a.conllu", sentence(("I", "PRON", "PRP"))), POS, mapping={"tags": "ups"})
    assert error.message == f"{path}: no column 'ups' for the task's 'tags'; it has: id, form, upos, xpos"
    assert error.hint == "add data.columns.tags=upos"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("2\tb\t_\tNOUN\t_\t_\t0\troot\t_\n", "9 columns instead of 10: '2 b _ NOUN _ _ 0 root _'", "one is written _"),
        ("2 b _ NOUN _ _ 0 root _ _\n", "1 columns instead of 10: '2 b _ NOUN _ _ 0 root _ _'", "put tabs between"),
        ("2\tb" + "\t_" * 9 + "\n", "11 columns instead of 10", "ten columns"),
        (WORD.format(1, "b", "NOUN", "NN"), "word ID '1' where 2 is due", "a blank line ends a sentence"),
        (WORD.format("x", "b", "NOUN", "NN"), "word ID 'x' where 2 is due", "words count from 1"),
        (WORD.format(2, "", "NOUN", "NN"), "the word (FORM) is empty", "none of them empty"),
        (WORD.format(2, "b", "_", "NN"), "'b' has no UPOS, but other words of the sentence have one", "tag every word"),
    ],
)
def test_broken_conllu_is_named_with_its_line(write, line, message, hint):
    path = write("a.conllu", "# a comment\n" + sentence(("a", "NOUN", "NN")) + line)
    error = error_of(path, POS, skip_bad_rows=True)
    assert error.message.startswith(f"{path}:3: {message}")
    assert hint in error.hint


def test_conllu_without_tags_is_for_prediction(write):
    path = write("a.conllu", sentence(("a", "NOUN", "_"), ("b", "VERB", "_")))
    mapping = {"tags": "xpos"}
    assert error_of(path, POS, mapping=mapping).message == f"{path}:1: has no tags"
    assert read_rows(path, POS, mapping=mapping, require_gold=False).rows[0] == {
        "id": "0",
        "words": ["a", "b"],
        "tags": None,
    }
    assert read_rows(path, POS).rows[0]["tags"] == ["NOUN", "VERB"]


def test_words_and_tags_are_lists_or_strings_of_one_length(write):
    path = write("a.tsv", "words\ttags\nNew\u00a0York is  big\tPROPN AUX ADJ\n")
    assert read_rows(path, POS).rows[0]["words"] == ["New\u00a0York", "is", "big"]
    path = write("a.jsonl", json_lines({"words": ["a", ""], "tags": ["X", "Y"]}))
    assert read_rows(path, POS).rows == [{"id": "0", "words": ["a", ""], "tags": ["X", "Y"]}]


@pytest.mark.parametrize(
    ("words", "tags", "reason"),
    [
        (["a", "b"], ["X"], "has 2 words but 1 tags"),
        ("a b", "X Y Z", "has 2 words but 3 tags"),
        ([], [], "has no words"),
        (["a", 1], ["X", "Y"], "column 'words' holds ['a', 1], not a list of words"),
        (None, ["X"], "column 'words' holds None, not a list of words"),
        (["a"], None, "has no tags"),
        (["a"], {"a": "X"}, "column 'tags' holds {'a': 'X'}, not a list of tags"),
        (["a", "b"], ["X", None], "word 2 has no tag"),
    ],
)
def test_words_without_their_tags_are_bad_rows(write, words, tags, reason):
    path = write("a.jsonl", json_lines({"words": words, "tags": tags}))
    assert error_of(path, POS).message == f"{path}:1: {reason}"


def test_running_text_is_split_into_words_for_prediction(write):
    expected = ["It", "'s", "here", "."]
    for name, content in [
        ("a.csv", "text\nIt's here.\n"),
        ("b.csv", "text,tags\nIt's here.,\n"),
        ("a.jsonl", json_lines({"words": "It's here."})),
        ("a.txt", "\n  It's here.\n\n"),
    ]:
        read = read_rows(write(name, content), POS, require_gold=False)
        assert read.rows == [{"id": "0", "words": expected, "tags": None}]
    assert "no column 'words'" in error_of(write("c.csv", "text,tags\na,X\n"), POS).message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world!", ["Hello", ",", "world", "!"]),
        ("3.5%…", ["3", ".", "5", "%", "…"]),
        ("我爱BERT。", ["我", "爱", "BERT", "。"]),
        ("カタカナとひら々", list("カタカナとひら々")),
        ("か\u3099か", ["か\u3099", "か"]),
        ("cafe\u0301 naïve", ["cafe\u0301", "naïve"]),
        ("สวัสดีครับ โลก", ["สวัสดีครับ", "โลก"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("한국어 말", ["한국어", "말"]),
        ("a_b\u200bc\ufeff", ["a", "_", "b", "c"]),
        ("It doesn't. L'eau, l’été!", ["It", "doesn't", ".", "L'eau", ",", "l’été", "!"]),
        ("rock 'n' roll", ["rock", "'", "n", "'", "roll"]),
        ("'the dogs' 'em''s", ["'", "the", "dogs", "'", "'", "em", "'", "'", "s"]),
        ("e\u0301'a 我's 5'6", ["e\u0301'a", "我", "'", "s", "5", "'", "6"]),
        ("👍🏽 ❤\ufe0f", ["👍", "🏽", "❤\ufe0f"]),
        (" \n\x00", []),
    ],
)
def test_words_are_runs_of_letters_and_single_marks(text, words):
    assert words_of(text) == words


# text


def test_text_files_hold_a_text_a_line(write):
    path = write("a.txt", "one \r\n\n  \n two\u2028three\nfour")
    rows = read_rows(path, SENTIMENT, require_gold=False, mapping={"text": "sentence", "label": 2}).rows
    assert [row["text"] for row in rows] == ["one ", " two\u2028three", "four"]
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    error = error_of(path, SENTIMENT)
    assert error.message == f"{path}: no column 'label' for the task's 'label'; it has: text"
    assert error.hint == "lines of text have no columns; csv, tsv and JSON lines have"
    assert error_of(path, POS).message == f"{path}: no column 'tags' for the task's 'tags'; it has: text"
    assert "no column 'premise'" in error_of(path, NLI, require_gold=False).message


# parquet, folders, the Hub


def dataset_of(datasets, **columns):
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"]), extra=datasets.Value("int64")
    )
    columns = {"text": ["a", "b", "c"], "label": [1, 0, -1], "extra": [1, 2, 3]} | columns
    return datasets.Dataset.from_dict(columns, features=features)


def check_classes(source: str, **options) -> None:
    """Numbers of a ClassLabel become names, -1 is unlabelled, and the names are handed on."""
    read = read_rows(source, SENTIMENT, require_gold=False, **options)
    assert [row["label"] for row in read.rows] == ["pos", "neg", None]
    assert read.label_names == ("neg", "pos")
    error = error_of(source, SENTIMENT, **options)
    assert error.message == f"{source}: row 2: column 'label' has no label"
    read = read_rows(source, SENTIMENT, ignore_labels=["-1"], **options)
    assert (len(read.rows), len(read.left.unused[IGNORED])) == (2, 1)
    assert list(read.rows[0]) == ["id", "label", "text"]


def parquet_library():
    pytest.importorskip("pyarrow.parquet")
    return pytest.importorskip("pyarrow")


def test_parquet_gives_the_names_of_its_classes(tmp_path):
    datasets = pytest.importorskip("datasets")
    path = str(tmp_path / "a.parquet")
    dataset_of(datasets).to_parquet(path)
    check_classes(path)
    with gzip.open(path + ".gz", "wb") as stream:
        stream.write(Path(path).read_bytes())
    check_classes(path + ".gz")


def test_parquet_gives_the_names_of_tags_and_several_labels(tmp_path):
    datasets = pytest.importorskip("datasets")
    names = datasets.List(datasets.ClassLabel(names=["X", "Y"]))
    features = datasets.Features(words=datasets.List(datasets.Value("string")), tags=names)
    path = str(tmp_path / "a.parquet")
    datasets.Dataset.from_dict({"words": [["a", "b"]], "tags": [[1, 0]]}, features=features).to_parquet(path)
    read = read_rows(path, POS)
    assert read.rows == [{"id": "0", "words": ["a", "b"], "tags": ["Y", "X"]}]
    assert read.label_names == ("X", "Y")
    topics = read_rows(path, Columns(words=("words",), labels="labels"), mapping={"labels": "tags"})
    assert topics.rows[0]["labels"] == ("Y", "X")


def test_class_numbers_beyond_the_names_are_bad_rows(tmp_path):
    pyarrow = parquet_library()
    described = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
    table = pyarrow.table({"text": ["a"], "label": [2]}).replace_schema_metadata({"huggingface": json.dumps(described)})
    path = str(tmp_path / "a.parquet")
    pyarrow.parquet.write_table(table, path)
    assert error_of(path, SENTIMENT).message == f"{path}: row 0: column 'label' holds 2, but the classes are 0 to 1"


def test_parquet_without_classes_reads_like_json(tmp_path):
    pyarrow = parquet_library()
    path = str(tmp_path / "a.parquet")
    answers = [{"text": ["b"], "answer_start": [2]}]
    columns = {"id": ["q"], "question": ["?"], "context": ["a b"], "answers": answers, "text": ["a"], "label": [-1]}
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    assert read_rows(path, QA).rows[0]["answers"] == [{"text": "b", "start": 2}]
    read = read_rows(path, SENTIMENT)
    assert (read.rows[0]["label"], read.label_names) == ("-1", None)  # -1 means "none" only where classes are named


def test_broken_and_over_large_parquet_are_errors(tmp_path, monkeypatch):
    pyarrow = parquet_library()
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 nothing")
    assert error_of(str(path), SENTIMENT).message.startswith(f"{path}: cannot be read: ")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"] * 9, "label": ["x"] * 9}), path)
    monkeypatch.setattr(files, "UNPACKED_BYTES", 10)
    assert error_of(str(path), SENTIMENT).message == f"{path}: unpacks to more than 0 MiB"


def test_folder_with_a_file_of_the_splits_name_is_that_file(write, tmp_path):
    write("train.tsv", 'text\tlabel\n"NA\tx\n')
    write("dev.jsonl.gz", json_lines({"text": "d", "label": "x"}))
    folder = str(tmp_path)
    assert read_rows(folder, SENTIMENT).rows[0]["text"] == '"NA'
    assert read_rows(folder, SENTIMENT, split="dev").rows[0]["text"] == "d"
    assert read_rows(folder, SENTIMENT, split="validation").rows[0]["text"] == "d"
    write("train.csv", "text,label\na,x\n")
    error = error_of(folder, SENTIMENT)
    assert error.message == f"{folder}: several files are the split 'train': train.csv, train.tsv"
    assert error.hint == "name one"
    write("dev.jsonl.gz", "\n")
    assert error_of(folder, SENTIMENT, split="dev").message == f"{folder}/dev.jsonl.gz: there are no rows"


def test_folder_of_save_to_disk_is_read_by_split(tmp_path):
    datasets = pytest.importorskip("datasets")
    folder = str(tmp_path / "saved")
    dataset = dataset_of(datasets)
    datasets.DatasetDict(train=dataset, test=dataset.select([0])).save_to_disk(folder)
    check_classes(folder)
    assert len(read_rows(folder, SENTIMENT, split="test").rows) == 1
    error = error_of(folder, SENTIMENT, split="tset")
    assert error.message == f"{folder}: the folder has no split 'tset'"
    assert error.hint == "did you mean 'test'? one of: train, test"
    alone = str(tmp_path / "alone")
    dataset.with_format("numpy").save_to_disk(alone)
    check_classes(alone, split="validation")


@pytest.fixture
def cached(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return datasets


def test_folder_in_the_hubs_layout_is_loaded(tmp_path, cached):
    (tmp_path / "hub" / "data").mkdir(parents=True)
    dataset_of(cached).to_parquet(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
    check_classes(str(tmp_path / "hub"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.tsv", 'text\tlabel\n"NA\t01\nNull\tTrue\n'),
        ("y.csv", 'text,label\n"""NA",01\nNull,True\n'),
    ],
)
def test_csv_in_a_hub_folder_is_not_guessed_at(write, tmp_path, cached, name, content):
    write(f"hub/data/{name}", content)
    read = read_rows(str(tmp_path / "hub"), SENTIMENT)
    assert [(row["text"], row["label"]) for row in read.rows] == [('"NA', "01"), ("Null", "True")]


def test_folder_without_data_is_an_error(tmp_path, cached):
    (tmp_path / "empty").mkdir()
    error = error_of(folder := str(tmp_path / "empty"), SENTIMENT)
    assert error.message.startswith(f"{folder}: the folder has no file 'train' and is no data set: ")
    assert error.hint == "put train.csv, train.jsonl, ... into it, or name one file"


def test_anything_else_is_a_hub_id(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load_dataset(name, config, *, split):
        asked.append((name, config, split))
        if name != "org/good":
            raise ConnectionError("Couldn't reach it\non the Hub")
        return dataset_of(datasets)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    check_classes("org/good", config="big", split="test")
    assert set(asked) == {("org/good", "big", "test")}
    error = error_of("org/gone", SENTIMENT)
    assert error.message == (
        "org/gone: there is no such file, and it could not be loaded from the Hub: Couldn't reach it on the Hub"
    )
    assert "the network" in error.hint
    asked.clear()
    for name in ("csv", "json", "pandas"):  # names of builders, which would read the working directory
        assert "this is the name of a file format" in error_of(name, SENTIMENT).message
    assert asked == []


def test_missing_file_is_never_looked_for_on_the_hub(write, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", None)
    write("train.tsv", "text\tlabel\na\tb\n")
    error = error_of(path := str(tmp_path / "trian.tsv"), SENTIMENT)
    assert error.message == f"{path}: there is no such file"
    assert error.hint == f"did you mean {str(tmp_path / 'train.tsv')!r}?"
    monkeypatch.chdir(tmp_path)
    assert error_of("train.tvs.gz/x/y", SENTIMENT).hint == "there is no folder 'train.tvs.gz/x' to be read either"
    assert error_of("trian.tsv", SENTIMENT).hint == "did you mean 'train.tsv'?"
    assert error_of("data/zzz.jsonl.gz", SENTIMENT).hint == "there is no folder 'data' to be read either"
    assert error_of("./q", SENTIMENT).hint == "no file there is named alike"


def test_files_of_other_kinds_and_closed_ones_are_errors(write, tmp_path):
    error = error_of(path := write("a.xlsx", "x"), SENTIMENT)
    assert error.message == f"{path}: files that end in '.xlsx' are not read"
    assert error.hint == "name it .csv .tsv .jsonl .ndjson .json .parquet .conllu .conll .txt"
    if os.geteuid():
        os.chmod(path := write("a.csv", "text,label\na,b\n"), 0)
        assert error_of(path, SENTIMENT).message == f"{path}: cannot be read: Permission denied"


# real files

DATA = os.environ.get("BERTKIT_DATA", "")
real = pytest.mark.skipif(not DATA, reason="BERTKIT_DATA names no folder of real data")


@real
@pytest.mark.parametrize(
    ("name", "sentences", "words"), [("dev", 2001, 25_147), ("test", 2077, 25_094), ("train", 12_544, 204_577)]
)
def test_english_treebank_has_its_published_size(name, sentences, words):
    rows = read_rows(f"{DATA}/ud/en_ewt/en_ewt-ud-{name}.conllu", POS).rows
    assert (len(rows), sum(len(row["words"]) for row in rows)) == (sentences, words)
    assert len({tag for row in rows for tag in row["tags"]}) == 17


@real
def test_real_questions_have_their_answers():
    assert len(read_rows(f"{DATA}/squad/dev-v1.1.json", QA).rows) == 10_570
    for language in ("en", "de", "ar"):
        assert len(read_rows(f"{DATA}/xquad/xquad.{language}.json", QA).rows) == 1190
    rows = read_rows(f"{DATA}/squad_v2/dev-v2.0_cs224n_half.json", QA, unanswerable=True).rows
    assert (len(rows), sum(not row["answers"] for row in rows)) == (6078, 3168)
    read = read_rows(f"{DATA}/cmrc2018/cmrc2018_trial.json", QA, skip_bad_rows=True)
    assert (len(read.rows), len(read.left.bad)) == (995, 7)
    assert sum("does not stand at character" in line for line in read.left.bad) == 5
    assert sum("column 'question' is empty" in line for line in read.left.bad) == 2


@real
def test_real_pairs_and_texts_are_read_whole():
    gold = {"premise": "sentence1", "hypothesis": "sentence2", "label": "gold_label"}
    read = read_rows(f"{DATA}/snli/snli_1.0_dev.jsonl.gz", NLI, mapping=gold, ignore_labels=["-"])
    assert (len(read.rows), len(read.left.unused[IGNORED])) == (9842, 158)
    places = {"premise": 0, "hypothesis": 1, "label": 2}
    assert len(read_rows(f"{DATA}/xnli/dev-de.tsv", NLI, mapping=places).rows) == 2490
    mrpc = {"premise": "#1 String", "hypothesis": "#2 String", "label": "Quality"}
    assert len(read_rows(f"{DATA}/glue/MRPC", NLI, mapping=mrpc).rows) == 3668
    path = f"{DATA}/zh_sentiment/online_shopping_10_cats.csv.xz"
    assert len(read_rows(path, SENTIMENT, mapping={"text": "review"}).rows) == 62_774

"""Files as other programs write them: encodings, pandas' tables, labels in lists, standard input."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import threading
import warnings
from contextlib import suppress

import pytest

from bertkit.data import files
from bertkit.data.opening import ending_of
from bertkit.data.sources import Columns, read_rows
from bertkit.errors import BertkitError

CLASS = Columns(text=("text",), label="label")
SEVERAL = Columns(text=("text",), labels="label")
NLI = Columns(text=("premise", "hypothesis"), label="label")
POS = Columns(words=("words",), tags="tags")
ROWS = [
    {"id": str(index), "text": text, "label": label}
    for index, (text, label) in enumerate([("Käse 🧀", "x"), ("plain", "y"), ("我们", "x")])
]


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> str:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(tmp_path / name)

    return write


def json_lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def fault_of(source: str, columns: Columns, **options) -> tuple[str, str]:
    with pytest.raises(BertkitError) as caught:
        read_rows(source, columns, **options)
    return caught.value.message, caught.value.hint


# byte-order marks


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.csv.gz"])
def test_a_byte_order_mark_says_the_encoding_and_the_user_is_told(write, mark, encoding, name):
    lines = [f"{row['text']},{row['label']}\r\n" for row in ROWS]
    content = "text,label\n" + "".join(lines) if ".csv" in name else json_lines(*ROWS)
    raw = mark + content.encode(encoding)
    path = write(name, gzip.compress(raw) if name.endswith(".gz") else raw)
    with pytest.warns(UserWarning, match=f"{name}: is read as {encoding[:6].upper()}, as its byte-order mark says"):
        assert read_rows(path, CLASS).rows == ROWS


def test_a_large_file_of_another_encoding_is_the_file_in_utf8(write):
    content = "text\n" + "".join(f"{'🧀a我' * (index % 97)}{index}\n" for index in range(4000))
    expected = read_rows(write("a.txt", content), Columns(text=("text",))).rows
    with pytest.warns(UserWarning, match="UTF-16"):
        assert read_rows(write("b.txt", content.encode("utf-16")), Columns(text=("text",))).rows == expected


def test_what_breaks_off_or_is_no_such_encoding_is_one_error(write):
    raw = "text,label\na,b\n".encode("utf-16")
    for damaged in (raw[:-1], raw + "\ud800".encode("utf-16-le", "surrogatepass") + b"a\0"):
        with pytest.warns(UserWarning, match="UTF-16"):
            message, hint = fault_of(path := write("a.csv", damaged), CLASS)
        assert message.startswith(f"{path}: is not UTF-16 throughout: ")
        assert hint == "save the file as UTF-8 text"


# tables in JSON


@pytest.mark.parametrize(
    "value",
    [
        {"columns": ["text", "label"], "index": [4, 2, 9], "data": [[row["text"], row["label"]] for row in ROWS]},
        {name: {str(index): row[name] for index, row in enumerate(ROWS)} for name in ("text", "label")},
        {f"row {row['id']}": {"text": row["text"], "label": row["label"]} for row in ROWS},
        {"schema": {"fields": []}, "data": [{"index": 0, **row} for row in ROWS]},
    ],
)
def test_every_table_of_pandas_is_read(write, value):
    assert read_rows(write("a.json", json.dumps(value)), CLASS).rows == ROWS


def test_pandas_writes_what_is_read(write):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([{"text": row["text"], "label": row["label"]} for row in ROWS])
    for orient in ("split", "columns", "index", "records", "table"):
        assert read_rows(write("a.json", frame.to_json(orient=orient)), CLASS).rows == ROWS


def test_a_line_of_another_length_than_the_columns_is_a_bad_row(write):
    path = write("a.json", json.dumps({"columns": ["text", "label"], "data": [["a", "x"], ["b"], 5]}))
    message, _ = fault_of(path, CLASS)
    assert message == f"{path}: row 1: ['b'] is no list of 2 values, one for each of `columns` (and 1 more)"
    assert len(read_rows(path, CLASS, skip_bad_rows=True).rows) == 1


def test_one_object_is_one_row(write):
    path = write("a.json", json.dumps({"words": ["so", "it"], "tags": ["X", "Y"]}))
    assert read_rows(path, POS).rows == [{"id": "0", "words": ["so", "it"], "tags": ["X", "Y"]}]


# labels in lists


@pytest.mark.parametrize(
    "value",
    [
        ["joy", "fear"],
        "['joy', 'fear']",
        '["joy", "fear"]',
        "['joy','fear',]",
        " [ 'joy' ,\n\"fear\" ] ",
        "joy|fear",
        {"choices": ["joy", "fear"]},
    ],
)
def test_several_labels_are_read_in_every_way_people_write_them(write, value):
    path = write("a.jsonl", json_lines({"text": "a", "label": value}, {"text": "b", "label": "[]"}))
    assert [row["label"] for row in read_rows(path, SEVERAL).rows] == [("joy", "fear"), ()]


def test_a_list_without_commas_is_never_joined(write):
    path = write("a.csv", "text,label\na,['joy' 'fear']\n")  # as numpy writes it
    assert fault_of(path, SEVERAL)[0] == f"{path}:2: column 'label' holds \"['joy' 'fear']\", not a list of class names"


@pytest.mark.parametrize("value", [["x"], "['x']", '["x"]', {"choices": ["x"]}, "x"])
def test_a_list_of_one_is_a_name(write, value):
    path = write("a.jsonl", json_lines({"text": "a", "label": value}))
    assert read_rows(path, CLASS).rows[0]["label"] == "x"


@pytest.mark.parametrize("value", [["x", "y"], "['x', 'y']", {"choices": ["x", "y"]}])
def test_a_list_of_several_names_the_setting(write, value):
    path = write("a.jsonl", json_lines({"text": "a", "label": "x"}, {"text": "a", "label": value}))
    message, hint = fault_of(path, CLASS)
    assert message.startswith(f"{path}:2: column 'label' holds ")
    assert message.endswith(", several names")
    assert "task.kind=labels" in hint


def test_bars_between_labels_are_said_and_name_the_setting(write):
    path = write("a.csv", "text,label\na,joy|fear\nb,joy\n")
    with pytest.warns(UserWarning, match=r"a.csv: 'joy\|fear' is read as one class; .*task.kind=labels"):
        assert [row["label"] for row in read_rows(path, CLASS).rows] == ["joy|fear", "joy"]
    message, hint = fault_of(path := write("b.csv", "text,label\na,joy|fear\nb,\n"), CLASS)
    assert message == f"{path}:3: column 'label' has no label"
    assert "task.kind=labels" in hint


def test_a_column_of_labels_names_both_settings(write):
    message, hint = fault_of(write("a.csv", "text,labels\na,['x']\n"), CLASS)
    assert "no column 'label'" in message
    assert "data.columns.label=labels" in hint
    assert "task.kind=labels" in hint


def test_an_export_of_label_studio_says_what_is_to_be_named(write):
    task = {"id": 7, "data": {"text": "a"}, "annotations": [{"result": [{"value": {"choices": ["x"]}}]}]}
    message, hint = fault_of(write("a.json", json.dumps([task])), POS)
    assert "no column 'tags'" in message
    assert "JSON-MIN or CSV" in hint
    path = write("b.json", json.dumps([{"id": 7, "text": "a", "mood": "x", "annotator": 1, "lead_time": 2.5}]))
    assert fault_of(path, CLASS)[1] == "add data.columns.label=NAME"
    assert read_rows(path, CLASS, mapping={"label": "mood"}).rows == [{"id": "7", "text": "a", "label": "x"}]


# standard input


@pytest.fixture
def pipe():
    """The name of a pipe as the shell opens one for `<(command)`, with this content behind it."""
    opened = []

    def pipe(content: bytes) -> str:
        reading, writing = os.pipe()
        opened.append(reading)

        def fill() -> None:
            with suppress(BrokenPipeError), os.fdopen(writing, "wb") as stream:
                stream.write(content)

        threading.Thread(target=fill, daemon=True).start()
        return f"/dev/fd/{reading}"

    yield pipe
    for number in opened:
        os.close(number)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("one, two\n\nthree\n", ["one, two", "three"]),
        ('{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        ('\n[\n {"text": "a"}]', ["a"]),
        ("more,text\n1,a\n2,b\n", ["a", "b"]),
        ('\ufeff"text"\n"a,b"\n', ["a,b"]),
        ('text\tmore\n"a\t1\n', ['"a']),
        ("[note] said; done\n", ["[note] said; done"]),
        ("\n".join(["long line"] * 50_000), ["long line"] * 50_000),  # more than a pipe holds
    ],
)
def test_a_pipe_is_read_as_what_it_holds(pipe, content, texts):
    rows = read_rows(pipe(content.encode()), CLASS, require_gold=False).rows
    assert [row["text"] for row in rows] == texts


def test_positions_say_that_a_pipe_holds_columns_without_names(pipe):
    assert read_rows(pipe(b"x;a\ny;b\n"), CLASS, mapping={"text": 1, "label": 0}).rows[1]["text"] == "b"


def test_a_pipe_without_the_columns_says_which(pipe):
    source = pipe(b"a text\n")
    message, hint = fault_of(source, NLI, require_gold=False)
    assert message == f"{source}: no column 'premise' for the task's 'premise'; it has: text"
    assert hint == "lines of text have no columns; csv, tsv and JSON lines have"


def test_what_a_pipe_holds_is_bounded(pipe, monkeypatch):
    monkeypatch.setattr(files, "WHOLE_BYTES", 1 << 20)
    message, _ = fault_of(pipe(b"[\n" + b'{"text": "a"},\n' * (1 << 18)), CLASS, require_gold=False)
    assert "more than 1 MiB that must be read at once" in message


def test_devices_and_closed_pipes_are_errors():
    assert "no such file" in fault_of("/dev/fd/987", CLASS)[0].lower()
    number = os.open("/dev/zero", os.O_RDONLY)
    try:
        assert fault_of(f"/dev/fd/{number}", CLASS)[0] == f"/dev/fd/{number}: is a device, not a file"
    finally:
        os.close(number)


def test_the_ending_follows_from_the_first_line():
    assert ending_of(b'{"a": 1}', ["text"]) == ".json"
    assert ending_of(b"[]", ["text"]) == ".txt"
    words = b"1\tSo" + b"\t_" * 8 + b"\n"
    assert ending_of(b"# sent_id = 1\n# text = So\n" + words, ["words"]) == ending_of(words, ["words"]) == ".conllu"
    assert ending_of(b"# sent_id = 1\nSo\n", ["words"]) == ".txt"
    assert ending_of(b"premise;hypothesis\n", ["premise", "hypothesis"]) == ".csv"
    assert ending_of(b"premise;more\n", ["premise", "hypothesis"]) == ".txt"
    assert ending_of(b"\xff\xfe\n", ["text"]) == ".txt"


# what is kept for prediction


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_prediction_keeps_what_a_row_held_and_training_does_not(write, name):
    given = [{"customer": "c1", "text": "a", "when": ""}, {"customer": "c2", "text": "b", "when": "today"}]
    content = "customer,text,when\nc1,a,\nc2,b,today\n" if name == "a.csv" else json_lines(*given)
    path = write(name, content)
    assert read_rows(path, CLASS, require_gold=False).given == given
    assert read_rows(path, Columns(text=("text",))).given == []


def test_prediction_keeps_the_columns_of_parquet_too(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": ["a"], "when": [7]}), tmp_path / "a.parquet")
    read = read_rows(str(tmp_path / "a.parquet"), CLASS, require_gold=False)
    assert read.given == [{"text": "a", "when": 7}]


def test_records_that_are_left_out_are_not_kept(write):
    path = write("a.csv", "text,label\na,x\nc,x,y\nd,z\n")
    read = read_rows(path, CLASS, require_gold=False, skip_bad_rows=True)
    assert [row["text"] for row in read.rows] == [record["text"] for record in read.given] == ["a", "d"]


@pytest.mark.parametrize("ignored", ["", "-1", "x"])
def test_a_row_is_answered_whatever_its_label(write, ignored):
    for name, content in (
        ("a.csv", "text\na\nb\n"),
        ("b.csv", "text,label\na,x\nb,\n"),
        ("c.csv", "text,label\na,-1\nb,-1\n"),
    ):
        read = read_rows(write(name, content), CLASS, require_gold=False, ignore_labels=[ignored])
        assert [row["text"] for row in read.rows] == ["a", "b"]


@pytest.fixture(autouse=True)
def no_other_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield

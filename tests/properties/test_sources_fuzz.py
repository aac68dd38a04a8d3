"""Whatever bytes a file holds, reading gives rows or one BertkitError; and what is written comes back unchanged."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertkit.data.opening import READERS
from bertkit.data.sources import Columns, Rows, read_rows
from bertkit.data.words import words_of
from bertkit.errors import BertkitError

TASKS = (
    Columns(text=("text",), label="label"),
    Columns(text=("text",), labels="label"),
    Columns(text=("text",), number="label"),
    Columns(words=("words",), tags="tags"),
    Columns(words=("words",), tags="tags", entities=True),
    Columns(text=("question", "context"), answers="answers"),
)
quick = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

names = st.sampled_from(
    [
        *("text", "label", "words", "tags", "question", "context", "answers", "answer_start", "start", "id"),
        *("data", "paragraphs", "qas", "is_impossible"),
    ]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("a b") | names
trees = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6), max_leaves=12
)
pieces = st.sampled_from(
    [
        *(character.encode() for character in '\t,;"\n\r\0{}[]:_\ufeffé我\u2028'),
        *(b"text", b"label", b"\r\n", b"\xff", b'"text":', b'"a"', b"-1", b"\\ud83d", b"# sent_id = x\n", b"2-3\t"),
        *(b"text\tlabel\nx\ty\n", b'{"text": "a", "label": "b"}\n', b"1\ta\t_\tX\tY\t_\t_\t_\t_\t_\n"),
    ]
)
contents = st.binary(max_size=200) | st.lists(pieces, max_size=25).map(b"".join)


def rows_or_error(path: Path) -> None:
    """Read the file for each task, strictly and leniently; anything but rows or a BertkitError fails the test."""
    for columns in TASKS:
        for lenient in (False, True):
            found: BertkitError | Rows
            try:
                found = read_rows(
                    str(path), columns, require_gold=not lenient, skip_bad_rows=lenient, unanswerable=lenient
                )
            except BertkitError as error:
                found = error
            if isinstance(found, BertkitError):
                assert found.message.startswith(str(path))
                assert found.hint
                continue
            assert found.rows
            keys = {"id", *columns.text, *columns.words, *(name for name in columns[2:-1] if name)}
            for row in found.rows:
                assert set(row) - ({"text"} if columns.entities else set()) == keys
                assert isinstance(row["id"], str)
                assert all(isinstance(row[name], str) for name in columns.text)
                assert all(isinstance(word, str) for name in columns.words for word in row[name])
                json.dumps(row, ensure_ascii=False).encode()  # predictions.jsonl can hold it


@pytest.mark.parametrize("ending", [ending for ending in READERS if ending != ".parquet"])
@quick
@given(content=contents)
def test_any_bytes_are_rows_or_one_error(tmp_path, ending, content):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    rows_or_error(path)


@pytest.mark.parametrize("packing", [".gz", ".xz"])
@quick
@given(content=contents, place=st.integers(0, 200), byte=st.integers(0, 255))
def test_any_damage_to_a_packed_file_is_rows_or_one_error(tmp_path, packing, content, place, byte):
    path = tmp_path / f"a.tsv{packing}"
    packed = bytearray((gzip if packing == ".gz" else lzma).compress(b"text\tlabel\nx\ty\n" + content))
    packed[place % len(packed)] = byte
    path.write_bytes(packed)
    rows_or_error(path)


@quick
@given(tree=trees, rest=trees)
def test_any_json_is_rows_or_one_error(tmp_path, tree, rest):
    for name, content in [
        ("a.json", json.dumps(tree)),
        ("b.json", json.dumps({"data": [{"paragraphs": [{"context": "a b", "qas": [tree, rest]}]}]})),
        ("c.jsonl", json.dumps(tree) + "\n" + json.dumps(rest)),
        ("d.jsonl", json.dumps({"text": "a", "label": tree, "words": rest, "tags": tree})),
        ("e.jsonl", json.dumps({"question": "a", "context": "a b", "answers": tree, "id": rest})),
    ]:
        path = tmp_path / name
        path.write_text(content)
        rows_or_error(path)


@settings(quick, max_examples=60)
@given(damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4), cut=st.integers(0, 3))
def test_any_damage_to_a_parquet_file_is_rows_or_one_error(tmp_path, damage, cut):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    described = {"info": {"features": {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}}}
    table = pyarrow.table({"text": ["a", "é", None], "label": [0, 1, -1], "words": [["a"], [], None]})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(described)}), path)
    raw = bytearray(path.read_bytes())
    for place, byte in damage:
        raw[place % len(raw)] = byte
    path.write_bytes(raw[: len(raw) - cut * 7])
    rows_or_error(path)


@quick
@given(
    rows=st.lists(st.tuples(st.text(), st.text(min_size=1).filter(str.strip)), min_size=1, max_size=6),
    mark=st.sampled_from(",;\t"),
)
def test_what_is_written_as_csv_comes_back(tmp_path, rows, mark):
    rows = [tuple(value.replace("\0", "") for value in row) for row in rows if row[1].replace("\0", "").strip()]
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=mark)
        writer.writerows([("text", "label"), *rows, ("end", "x")])
    read = read_rows(str(path), TASKS[0], require_gold=False)
    assert [(row["text"], row["label"]) for row in read.rows] == [
        *((text, " ".join(label.split())) for text, label in rows),
        ("end", "x"),
    ]


@quick
@given(rows=st.lists(st.tuples(st.text(), st.integers()), min_size=1, max_size=6))
def test_what_is_written_as_json_lines_comes_back(tmp_path, rows):
    path = tmp_path / "a.jsonl"
    for escape in (True, False):
        lines = [json.dumps({"text": text, "label": label}, ensure_ascii=escape) for text, label in rows]
        path.write_bytes("\n".join(lines).encode())
        read = read_rows(str(path), TASKS[0], require_gold=False)
        assert [(row["text"], row["label"]) for row in read.rows] == [(text, str(label)) for text, label in rows]
        path.with_suffix(".json").write_bytes(f"[{','.join(lines)}]".encode())
        assert read_rows(str(path.with_suffix(".json")), TASKS[0], require_gold=False) == read


tsv_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n\0"))


@quick
@given(rows=st.lists(tsv_text, min_size=1, max_size=6), header=st.booleans())
def test_what_is_written_as_tsv_comes_back(tmp_path, rows, header):
    path = tmp_path / "a.tsv"
    lines = [f"{text}\tx" for text in rows]
    if header:
        lines.insert(0, "text\tlabel")
    elif rows[0].startswith("\ufeff"):
        lines.insert(0, "first\tx")  # there it would be a byte order mark
        rows = ["first", *rows]
    path.write_bytes("\n".join(lines).encode())
    mapping = {} if header else {"text": 0, "label": 1}
    read = read_rows(str(path), TASKS[0], mapping=mapping, require_gold=False)
    assert [row["text"] for row in read.rows] == rows


@quick
@given(text=st.text())
def test_words_hold_every_character_that_is_not_space_or_control(text):
    words = words_of(text)
    assert all(word and not any(character.isspace() for character in word) for word in words)
    lost = set(text) - set("".join(words))
    assert all(not character.isprintable() or character.isspace() for character in lost)
    rest = iter(text)
    assert all(character in rest for character in "".join(words))  # in order


def mostly(strategy: st.SearchStrategy) -> st.SearchStrategy:
    """Another value now and then: an object that is wrong all over is not looked into."""
    return st.integers(0, 4).flatmap(lambda number: strategy if number else leaves)


values = mostly(st.fixed_dictionaries({"choices": mostly(st.lists(names, max_size=2))}))
parts = mostly(st.fixed_dictionaries({"value": values, "from_name": leaves}))
results = mostly(st.fixed_dictionaries({"result": mostly(st.lists(parts, max_size=2)), "was_cancelled": st.booleans()}))
annotations = mostly(st.lists(results, max_size=2))
studio = st.fixed_dictionaries({"data": mostly(st.fixed_dictionaries({"text": leaves})), "annotations": annotations})
answers = mostly(st.sampled_from(["accept", "reject"]))
prodigy = st.fixed_dictionaries(
    {"text": leaves, "accept": mostly(st.lists(leaves)), "options": leaves, "answer": answers}
)


@quick
@given(st.lists(studio | prodigy, min_size=1, max_size=4))
def test_whatever_an_annotation_tool_exports_is_rows_or_an_error(tmp_path, exported):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(exported))
    rows_or_error(path)


@quick
@given(st.text(alphabet="T1\t 0359;AdaPER\r\n#", max_size=40), st.text(alphabet="Ada ran\r\n我", max_size=20))
def test_whatever_a_folder_of_brat_holds_is_rows_or_an_error(tmp_path, marks, text):
    folder = tmp_path / "brat"
    folder.mkdir(exist_ok=True)
    (folder / "a.ann").write_bytes(marks.encode())
    (folder / "a.txt").write_bytes(text.encode())
    rows_or_error(folder)

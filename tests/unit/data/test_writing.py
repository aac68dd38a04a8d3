"""What is written comes back: the name of a file says what it holds."""

from __future__ import annotations

import csv
import datetime
import io
import json

import pytest

from bertkit.data.sources import Columns, read_rows
from bertkit.data.writing import WRITERS, beside, check_out, write_records
from bertkit.errors import BertkitError

ODD = ['He said "no"', "two\nlines\r\n", "a,b;c\td", "", " 我们 🧀 ", "=1+1"]
RECORDS = [
    {"id": str(index), "text": text, "label": "x", "probabilities": {"x": 0.75, "y": 0.25}}
    for index, text in enumerate(ODD)
]


def read_back(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "P.CSV"])
def test_a_table_has_a_column_a_value_and_any_text_comes_back(tmp_path, name):
    write_records(tmp_path / name, iter(RECORDS))
    delimiter = "\t" if name == "p.tsv" else ","
    begin = (tmp_path / name).read_text(encoding="utf-8").partition("\n")[0]
    assert begin.split(delimiter) == ["id", "text", "label", "probabilities.x", "probabilities.y"]
    found = read_back(tmp_path / name)
    assert [row["text"] for row in found] == ODD
    assert {row["probabilities.x"] for row in found} == {"0.75"}


@pytest.mark.parametrize("name", ["p.csv", "p.json", "p.jsonl", "p.ndjson"])
def test_our_own_reader_reads_what_is_written(tmp_path, name):
    records = [{**record, "label": label} for record, label in zip(RECORDS, [["x", "y|z"], [], ["x"]] * 2, strict=True)]
    write_records(tmp_path / name, iter(records))
    rows = read_rows(str(tmp_path / name), Columns(text=("text",), labels="label"), require_gold=False).rows
    assert [(row["id"], row["text"], list(row["label"])) for row in rows] == [
        (record["id"], record["text"], record["label"]) for record in records
    ]


@pytest.mark.parametrize("name", ["p.json", "p.jsonl", "p.ndjson", "p"])
def test_json_keeps_every_value(tmp_path, name):
    write_records(tmp_path / name, iter(RECORDS))
    text = (tmp_path / name).read_text(encoding="utf-8")
    found = json.loads(text) if name == "p.json" else [json.loads(line) for line in text.splitlines()]
    assert found == RECORDS
    write_records(tmp_path / name, iter([]))
    assert (tmp_path / name).read_text(encoding="utf-8") == ("[]\n" if name == "p.json" else "")


@pytest.mark.parametrize("ending", [".json", ".jsonl"])
def test_json_is_written_as_the_answers_come(ending):
    class Written(io.StringIO):
        def write(self, text):
            begun.append(len(given))
            return super().write(text)

        def writelines(self, lines):
            for line in lines:
                self.write(line)

    given, begun = [], []
    WRITERS[ending](Written(), (given.append(record) or record for record in RECORDS))
    assert begun[0] <= 1
    assert len(given) == len(RECORDS)


def test_a_lone_carriage_return_comes_back(tmp_path):
    write_records(tmp_path / "p.csv", iter([{"text": "a\rb"}, {"text": "c"}]))
    rows = read_rows(str(tmp_path / "p.csv"), Columns(text=("text",)), require_gold=False).rows
    assert [row["text"] for row in rows] == ["a\rb", "c"]


def test_rows_may_have_different_columns_and_values_that_json_lacks(tmp_path):
    write_records(tmp_path / "p.csv", iter([{"a": 1}, {"b": None, "a": True}, {"c": datetime.date(2020, 1, 2)}]))
    assert (tmp_path / "p.csv").read_text() == 'a,b,c\n1,,\ntrue,,\n,,"""2020-01-02"""\n'


@pytest.mark.parametrize("name", ["p.xlsx", "p.csv.gz", "p.txt"])
def test_other_endings_are_refused_before_the_work(tmp_path, name):
    with pytest.raises(BertkitError, match="are not written") as caught:
        check_out(tmp_path / name)
    assert caught.value.hint == "name it .jsonl .ndjson .json .csv .tsv"


def test_nothing_is_left_of_a_file_that_fails(tmp_path):
    def fail():
        yield RECORDS[0]
        raise RuntimeError

    for name in ("p.csv", "p.jsonl"):
        with pytest.raises(RuntimeError):
            write_records(tmp_path / name, fail())
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_was_given_is_lost_beside_the_answer():
    given = {"customer": "c1", "id": 7, "label": "x", "text": "a"}
    assert list(beside(given, {"id": "7", "label": "x"}).items()) == [
        ("customer", "c1"),
        ("id", "7"),
        ("label", "x"),
        ("text", "a"),
    ]
    assert beside(given, {"id": "7", "label": "y"}) == {
        "customer": "c1",
        "id": "7",
        "given_label": "x",
        "text": "a",
        "label": "y",
    }

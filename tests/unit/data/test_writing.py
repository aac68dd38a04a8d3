"""What is written comes back: the name of a file says what it holds."""

from __future__ import annotations

import csv
import datetime
import json

import pytest

from bertkit.data.sources import Columns, read_rows
from bertkit.data.writing import Answers, beside, check_out
from bertkit.errors import BertkitError

ODD = ['He said "no"', "two\nlines\r\n", "a,b;c\td", "", " 我们 🧀 ", "=1+1"]
RECORDS = [
    {"id": str(index), "text": text, "label": "x", "probabilities": {"x": 0.75, "y": 0.25}}
    for index, text in enumerate(ODD)
]


def write(path, records, **options) -> Answers:
    answers = Answers(path, {"run": "x"}, **options)
    answers.write(records)
    return answers


def read_back(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "P.CSV"])
def test_a_table_has_a_column_a_value_and_any_text_comes_back(tmp_path, name):
    write(tmp_path / name, iter(RECORDS))
    delimiter = "\t" if name == "p.tsv" else ","
    begin = (tmp_path / name).read_text(encoding="utf-8").partition("\n")[0]
    assert begin.split(delimiter) == ["id", "text", "label", "probabilities.x", "probabilities.y"]
    found = read_back(tmp_path / name)
    assert [row["text"] for row in found] == ODD
    assert {row["probabilities.x"] for row in found} == {"0.75"}


@pytest.mark.parametrize("name", ["p.csv", "p.json", "p.jsonl", "p.ndjson"])
def test_our_own_reader_reads_what_is_written(tmp_path, name):
    records = [{**record, "label": label} for record, label in zip(RECORDS, [["x", "y|z"], [], ["x"]] * 2, strict=True)]
    write(tmp_path / name, iter(records))
    rows = read_rows(str(tmp_path / name), Columns(text=("text",), labels="label"), require_gold=False).rows
    assert [(row["id"], row["text"], list(row["label"])) for row in rows] == [
        (record["id"], record["text"], record["label"]) for record in records
    ]


@pytest.mark.parametrize("name", ["p.json", "p.jsonl", "p.ndjson", "p"])
def test_json_keeps_every_value(tmp_path, name):
    write(tmp_path / name, iter(RECORDS))
    text = (tmp_path / name).read_text(encoding="utf-8")
    found = json.loads(text) if name == "p.json" else [json.loads(line) for line in text.splitlines()]
    assert found == RECORDS
    write(tmp_path / name, iter([]))
    assert (tmp_path / name).read_text(encoding="utf-8") == ("[]\n" if name == "p.json" else "")


def test_a_lone_carriage_return_comes_back(tmp_path):
    write(tmp_path / "p.csv", iter([{"text": "a\rb"}, {"text": "c"}]))
    rows = read_rows(str(tmp_path / "p.csv"), Columns(text=("text",)), require_gold=False).rows
    assert [row["text"] for row in rows] == ["a\rb", "c"]


def test_rows_may_have_different_columns_and_values_that_json_lacks(tmp_path):
    write(tmp_path / "p.csv", iter([{"a": 1}, {"b": None, "a": True}, {"c": datetime.date(2020, 1, 2)}]))
    assert (tmp_path / "p.csv").read_text() == "a,b,c\n1,,\ntrue,,\n,,2020-01-02\n"


@pytest.mark.parametrize("name", ["p.xlsx", "p.csv.gz", "p.txt"])
def test_other_endings_are_refused_before_the_work(tmp_path, name):
    with pytest.raises(BertkitError, match="are not written") as caught:
        check_out(tmp_path / name)
    assert caught.value.hint == "name it .jsonl .ndjson .json .csv .tsv .parquet .conllu"


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.json", "p.jsonl", "p.parquet"])
@pytest.mark.parametrize("cut", [0, 5])
def test_an_interrupted_prediction_goes_on_to_the_same_bytes(tmp_path, name, cut):
    """Whatever stands of the last line is computed again; nothing that looks whole is there before."""

    def fail():
        yield from RECORDS[:3]
        raise RuntimeError

    write(tmp_path / "whole" / name, iter(RECORDS))
    with pytest.raises(RuntimeError):
        write(tmp_path / name, fail())
    left = tmp_path / f"{name}.partial"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [left.name]
    if cut:
        left.write_bytes(left.read_bytes()[:-cut])
    with pytest.raises(BertkitError, match="holds the answers of an interrupted prediction"):
        Answers(tmp_path / name, {"run": "x"})
    with pytest.raises(BertkitError, match="was begun with another run, input or setting"):
        Answers(tmp_path / name, {"run": "y"}, resume=True)
    again = Answers(tmp_path / name, {"run": "x"}, resume=True)
    assert again.count == (2 if cut else 3)
    again.write(iter(RECORDS[again.count :]))
    assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not left.exists()


def test_answers_are_written_as_they_come(tmp_path):
    """However many there are, memory holds one."""

    def records():
        for record in RECORDS:
            yield record
            seen.append((tmp_path / "p.csv.partial").exists())

    seen: list[bool] = []
    write(tmp_path / "p.csv", records())
    assert seen == [True] * len(RECORDS)


def test_parquet_keeps_every_value(tmp_path):
    import pyarrow.parquet

    records = [{**record, "n": number, "tags": ["a"]} for number, record in enumerate(RECORDS)] + [
        {"id": "x", "n": None}
    ]
    write(tmp_path / "p.parquet", iter(records))
    found = pyarrow.parquet.read_table(tmp_path / "p.parquet").to_pylist()
    assert found == [{"label": None, "text": None, "probabilities": None, "tags": None, **record} for record in records]
    with pytest.raises(BertkitError, match="one type a column"):
        write(tmp_path / "q.parquet", iter([{"a": 1}, {"a": "one"}]))


def test_json_of_questions_is_what_squads_script_reads(tmp_path):
    answers = [{"id": "q1", "answer": "a", "n_best": []}, {"id": "q2", "answer": "", "n_best": []}]
    write(tmp_path / "p.json", iter(answers))
    assert json.loads((tmp_path / "p.json").read_text()) == {"q1": "a", "q2": ""}
    with pytest.raises(BertkitError, match="two questions have the id 'q1'"):
        write(tmp_path / "q.json", iter([answers[0]] * 2))


def test_conllu_comes_back_with_its_tags(tmp_path):
    record = {"id": "s1", "words": ["The", "dog"], "tags": ["DET", "NOUN"], "xpos": ["DT", "NN"]}
    write(tmp_path / "p.conllu", iter([record]))
    (row,) = read_rows(str(tmp_path / "p.conllu"), Columns(words=("words",), tags="tags")).rows
    assert (row["id"], row["words"], row["tags"]) == ("s1", ["The", "dog"], ["DET", "NOUN"])
    assert "2\tdog\t_\tNOUN\tNN\t" in (tmp_path / "p.conllu").read_text()
    with pytest.raises(BertkitError, match="has no words"):
        write(tmp_path / "q.conllu", iter(RECORDS))


def test_nothing_that_was_given_is_lost_beside_the_answer():
    given = {"customer": "c1", "id": 7, "label": "x", "text": "a"}
    for label in ("x", "y"):  # an equal label is kept as well: a cell left empty would be one that was not known
        assert list(beside(given, {"id": "7", "label": label}).items()) == [
            ("customer", "c1"),
            ("id", "7"),
            ("given_label", "x"),
            ("text", "a"),
            ("label", label),
        ]


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.json", "p.parquet"])
def test_no_column_is_lost_that_only_a_later_record_has(tmp_path, name):
    write(tmp_path / name, iter([{"text": "a"}, {"text": "b", "note": {"of": "c"}}]))
    columns = Columns(text=("text",))
    found = read_rows(str(tmp_path / name), columns, require_gold=False).given
    assert found[1].get("note.of", found[1].get("note")) in ("c", {"of": "c"})


def test_what_is_not_a_number_is_null_as_json_has_no_word_for_it(tmp_path):
    odd = {"score": float("nan"), "many": [{"of": float("inf")}, 1.5], "when": datetime.date(2020, 1, 2)}
    write(tmp_path / "p.jsonl", iter([odd]))

    def refuse(word):
        raise AssertionError(word)

    found = json.loads((tmp_path / "p.jsonl").read_text(), parse_constant=refuse)
    assert found == {"score": None, "many": [{"of": "inf"}, 1.5], "when": "2020-01-02"}


def test_two_predictions_into_one_file_do_not_mix(tmp_path):
    ours, theirs = (Answers(tmp_path / "p.jsonl", {"run": "x"}) for _ in range(2))

    def answers():
        yield RECORDS[0]
        with pytest.raises(BertkitError, match="cannot be written"):
            theirs.write(iter(RECORDS))
        yield RECORDS[1]

    ours.write(answers())
    assert len((tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()) == 2


def test_answers_that_one_kind_of_file_cannot_hold_become_another_without_being_computed_again(tmp_path):
    with pytest.raises(BertkitError, match="several") as caught:
        write(tmp_path / "p.parquet", iter([{"a": 1}, {"a": "one"}]))
    assert f"call {tmp_path / 'p.parquet.partial'} p.jsonl.partial" in caught.value.hint
    (tmp_path / "p.parquet.partial").rename(tmp_path / "p.jsonl.partial")
    write(tmp_path / "p.jsonl", iter([]), resume=True)
    assert (tmp_path / "p.jsonl").read_text() == '{"a": 1}\n{"a": "one"}\n'


@pytest.mark.parametrize("word", ["", "a\tb", "a\nb"])
def test_a_word_that_would_break_a_line_of_conllu_is_refused(tmp_path, word):
    with pytest.raises(BertkitError, match="which a line of CoNLL-U cannot hold"):
        write(tmp_path / "p.conllu", iter([{"id": "s", "words": ["a", word], "tags": ["X", "X"]}]))
    assert not (tmp_path / "p.conllu").exists()


def test_a_column_xpos_that_is_no_list_of_tags_is_left_out_of_conllu(tmp_path):
    write(tmp_path / "p.conllu", iter([{"id": "s\nt", "words": ["a", "b"], "tags": ["X", "Y"], "xpos": "NN"}]))
    (row,) = read_rows(str(tmp_path / "p.conllu"), Columns(words=("words",), tags="tags")).rows
    assert (row["id"], row["tags"]) == ("s t", ["X", "Y"])

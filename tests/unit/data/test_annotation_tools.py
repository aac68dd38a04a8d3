"""What annotation tools and other programs write: it is read, and what is left out is said."""

from __future__ import annotations

import json
import os

import pytest

from bertkit.data.sources import Columns, Rows, read_rows
from bertkit.errors import BertkitError

CLASS = Columns(text=("text",), label="label")
SEVERAL = Columns(text=("text",), labels="label")
ENTITIES = Columns(words=("words",), tags="tags", entities=True)
QA = Columns(text=("question", "context"), answers="answers")
TEXTS = (("The lift was broken.", "bad"), ("A quiet, sunny court.", "good"), ("We came back in May.", "good"))
PLAIN = [{"text": text, "label": label} for text, label in TEXTS]


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def json_lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def prodigy(answers: str = "aaa", **more: object) -> str:
    names = {"a": "accept", "r": "reject", "i": "ignore"}
    marks = [{"_input_hash": index, "_task_hash": -index, "answer": names[each]} for index, each in enumerate(answers)]
    return json_lines([{**row, **more, **mark} for row, mark in zip(PLAIN, marks, strict=True)])


def choices(**more: object) -> list[dict]:
    """Tasks of the interface `choice`."""
    options = [{"id": name, "text": name} for name in ("good", "bad")]
    return [{"text": text, "options": options, "accept": [label], "answer": "accept", **more} for text, label in TEXTS]


def label_studio(text: str, *results: dict, **more: object) -> dict:
    return {"data": {"text": text}, "annotations": [{"result": [*results], "was_cancelled": False}], **more}


def choice(*names: str, control: str = "mood") -> dict:
    return {"from_name": control, "to_name": "text", "type": "choices", "value": {"choices": [*names]}}


CANCELLED = {"was_cancelled": True, "result": [choice("?")]}
TASKS = [label_studio(text, choice(label), id=7 + index) for index, (text, label) in enumerate(TEXTS)]


def table(mark: str, end: str, first: str = "text,label", line: str = "{text},{label}") -> str:
    lines = [first, *(line.format(number=index, **row) for index, row in enumerate(PLAIN))]
    return "".join(each.replace(", ", "~").replace(",", mark).replace("~", ", ") + end for each in lines)


QUOTED = '"{text}",{label}'
KINDS = {
    "Excel, semicolons": ("a.csv", table(";", "\r\n")),
    "Excel, Unicode text": ("a.csv", table("\t", "\r\n").encode("utf-16")),
    "byte-order mark": ("a.csv", "\ufeff" + table(",", "\n", line=QUOTED)),
    "pandas, its index": ("a.csv", table(",", "\n", ",text,label", "{number}," + QUOTED)),
    "pandas, its index twice": ("a.csv", table(",", "\n", "Unnamed: 0.1,Unnamed: 0,text,label", "7,7," + QUOTED)),
    "doccano": ("a.jsonl", json_lines([{**row, "label": [row["label"]], "Comments": []} for row in PLAIN])),
    "Prodigy": ("a.jsonl", prodigy()),
    "Prodigy, choice": ("a.jsonl", json_lines(choices())),
    "Label Studio": ("a.json", json.dumps(TASKS)),
    "Label Studio, one cancelled": (
        "a.json", json.dumps([{**task, "annotations": [CANCELLED, *task["annotations"]]} for task in TASKS]),
    ),
    "Label Studio, JSON-MIN": ("a.json", json.dumps([{**row, "annotator": 1, "lead_time": 2.5} for row in PLAIN])),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*byte-order mark")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same_rows(write, kind):
    read = read_rows(write(*KINDS[kind]), CLASS)
    assert [{name: row[name] for name in ("text", "label")} for row in read.rows] == PLAIN


def test_what_an_annotator_rejected_or_ignored_is_left_out_and_said(write):
    read = read_rows(write("a.jsonl", prodigy("air")), CLASS)
    assert [row["text"] for row in read.rows] == [TEXTS[0][0]]
    assert read.notes == ("2 rows left out by Prodigy's answer: 1 ignore, 1 reject",)
    spans = [{"start": 0, "end": 3, "label": "PER"}]
    lines = [{"text": "Ada ran.", "spans": spans, "answer": answer} for answer in ("reject", "accept")]
    read = read_rows(write("b.jsonl", json_lines(lines)), ENTITIES)
    assert [row["tags"] for row in read.rows] == [["B-PER", "O", "O"]]
    assert read.notes == ("1 row left out by Prodigy's answer: 1 reject",)


def test_an_answer_that_is_asked_for_or_answered_anew_stays(write):
    path = write("a.jsonl", prodigy("ari"))
    assert [row["label"] for row in read_rows(path, CLASS, mapping={"label": "answer"}).rows] == [
        "accept",
        "reject",
        "ignore",
    ]
    assert len(read_rows(path, CLASS, require_gold=False).rows) == 3
    others = json_lines([{"text": "a", "label": "x", "answer": "reject"}])  # no sign of Prodigy
    assert len(read_rows(write("b.jsonl", others), CLASS).rows) == 1


def test_an_annotators_choice_is_the_label_whatever_the_data_called_one_before(write):
    lines = json_lines(choices(label="?"))
    assert [row["label"] for row in read_rows(write("a.jsonl", lines), CLASS).rows] == [label for _, label in TEXTS]
    tasks = [{**task, "data": {**task["data"], "label": "?"}} for task in TASKS]
    rows = read_rows(write("a.json", json.dumps(tasks)), CLASS).rows
    assert [row["label"] for row in rows] == [label for _, label in TEXTS]


def test_several_choices_are_several_labels(write):
    lines = [{**task, "accept": ["good", "bad"]} for task in choices()[:1]]
    assert read_rows(write("a.jsonl", json_lines(lines)), SEVERAL).rows[0]["label"] == ("good", "bad")
    tasks = [label_studio("a", choice("good", "bad")), label_studio("b", choice("good"))]
    path = write("a.json", json.dumps(tasks))
    assert [row["label"] for row in read_rows(path, SEVERAL).rows] == [("good", "bad"), ("good",)]
    with pytest.raises(BertkitError, match="several names") as caught:
        read_rows(path, CLASS)
    assert "task.kind=labels" in caught.value.hint


def test_controls_of_label_studio_have_their_names_and_two_are_never_mixed(write):
    path = write("a.json", json.dumps([label_studio("a", choice("good"), choice("en", control="language"))]))
    with pytest.raises(BertkitError, match=r"no column 'label'.*mood, language"):
        read_rows(path, CLASS)
    assert read_rows(path, CLASS, mapping={"label": "language"}).rows[0]["label"] == "en"
    task = label_studio("a", choice("good"))
    path = write("b.json", json.dumps([{**task, "annotations": task["annotations"] * 2}]))
    with pytest.raises(BertkitError, match="has 2 annotations"):
        read_rows(path, CLASS)
    assert [row["text"] for row in read_rows(path, CLASS, require_gold=False).rows] == ["a"]


def test_a_task_without_its_annotation_has_no_label(write):
    path = write("a.json", json.dumps([*TASKS, {"data": {"text": "a"}, "annotations": []}]))
    with pytest.raises(BertkitError, match="row 3: column 'label' has no label"):
        read_rows(path, CLASS)


def test_entities_of_label_studio_skip_what_was_cancelled(write):
    part = {"type": "labels", "value": {"start": 0, "end": 3, "labels": ["PER"]}}
    task = label_studio("Ada ran.", part)
    task["annotations"].insert(0, CANCELLED)
    assert read_rows(write("a.json", json.dumps([task])), ENTITIES).rows[0]["tags"] == ["B-PER", "O", "O"]


@pytest.mark.parametrize("extra", [{"document_id": 50, "document_name": "a.txt"}, {}], ids=["Haystack", "cdQA"])
def test_questions_of_annotation_tools_are_squads(write, extra):
    answer = {"text": "Ada", "answer_start": 0, "answer_end": 3, "answer_id": 1, "answer_category": None, **extra}
    asked = {"question": "Who ran?", "id": 101, "answers": [answer], "is_impossible": False}
    paragraphs = [{"context": "Ada ran.", "qas": [asked], **extra}, {"context": "Nobody asked.", "qas": []}]
    read = read_rows(write("a.json", json.dumps({"version": "v1.1", "data": [{"paragraphs": paragraphs}]})), QA)
    assert read.rows == [
        {"id": "101", "question": "Who ran?", "context": "Ada ran.", "answers": [{"text": "Ada", "start": 0}]}
    ]


# brat


def brat(write, annotations: str, text: str = "Ada ran\r\nto Oslo.\n") -> str:
    write("brat/one.txt", text)
    return os.path.dirname(write("brat/one.ann", annotations))


MARKED = "T1\tPER 0 3\tAda\nT2\tLOC 12 16\tOslo\n"


def read_brat(folder: str, **options) -> Rows:
    return read_rows(folder, ENTITIES, **options)


def test_a_folder_of_brat_is_a_row_a_document(write):
    write("brat/annotation.conf", "[entities]\nPER\n")
    write("brat/empty.txt", "Nobody.")
    write("brat/empty.ann", "")
    read = read_brat(brat(write, f"{MARKED}R1\tWent Arg1:T1 Arg2:T2\n#1\tAnnotatorNotes T1\tsure\n"))
    assert [(row["id"], row["words"], row["tags"]) for row in read.rows] == [
        ("empty", ["Nobody", "."], ["O", "O"]),
        ("one", ["Ada", "ran", "to", "Oslo", "."], ["B-PER", "O", "O", "B-LOC", "O"]),
    ]


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("T1\tPER 0 3;4 7\tAda ran\n", "document one has an entity that is no single span", "one span"),
        ("T1\tPER 1 4\tAda\n", "document one has 'da ' where", "as it was annotated"),
        ("T1\tPER\n", "document one has an entity that is no single span", "one span"),
    ],
)
def test_a_mark_that_is_no_span_of_the_text_is_a_bad_row(write, line, message, hint):
    folder = brat(write, line)
    with pytest.raises(BertkitError, match=message) as caught:
        read_brat(folder)
    assert hint in caught.value.hint
    write("brat/two.txt", "Ada.")
    write("brat/two.ann", "T1\tPER 0 3\tAda\n")
    assert [row["id"] for row in read_brat(folder, skip_bad_rows=True).rows] == ["two"]


def test_a_document_that_is_not_there_or_no_file_is_one_error(write, tmp_path):
    folder = brat(write, MARKED)
    write("brat/two.ann", "")
    with pytest.raises(BertkitError, match=r"two.txt: there is no such file") as caught:
        read_brat(folder)
    os.mkfifo(tmp_path / "brat" / "two.txt")  # never opened, for nobody writes to it
    with pytest.raises(BertkitError, match=r"two.txt: there is no such file"):
        read_brat(folder)
    assert "NAME.ann together" in caught.value.hint


def test_columns_are_read_or_unread_by_one_name(write):
    read = read_rows(write("a.conll", "Ada NNP B-PER\n\nso RB O\n"), ENTITIES)
    assert (read.columns, read.unread) == ({"id": None, "tags": "-1", "words": "0"}, ("1",))
    read = read_rows(write("b.csv", "text,label,-1,n\na,x,b,c\n"), CLASS)
    assert read.unread == ("-1", "n")

"""NER keeps the contract of tasks; its tags stay as they are written, and its entities have characters."""

import json

import numpy as np
import pytest

from bertkit.data.labels import resolve_labels
from bertkit.encode import cut_rows
from bertkit.errors import BertkitError
from bertkit.findings import to_json
from bertkit.recipe import load_recipe
from bertkit.run import evaluate, finetune, load, predict
from bertkit.splits import bind_labels, read_splits
from bertkit.tasks.base import Output, make_task
from bertkit.tasks.ner import NER
from tests.families import maker_of
from tests.unit.tasks.contract import TaskContract, decoded, oracle_outputs

LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
TASK = NER(labels=LABELS)


class TestNER(TaskContract):
    task = TASK
    rows = (
        {"id": "0", "words": ["Ada", "Lovelace", "saw", "Oslo", "."], "tags": ["B-PER", "I-PER", "O", "B-LOC", "O"]},
        {"id": "1", "words": ["北", "京", "欢迎", "你", "。"], "tags": ["B-LOC", "I-LOC", "O", "O", "O"],
         "text": "北京欢迎你。"},
        {"id": "2", "words": ["cafe\u0301", "\u200b", "", "🙂"], "tags": ["I-PER", "O", "O", "I-LOC"]},
    )  # fmt: skip

    def test_entities_are_the_tags_with_their_characters(self, maker):
        predictions = decoded(self.task, self.rows, oracle_outputs(self.task, self.rows, maker))
        found = [[(e["text"], e["type"], e["start"], e["end"]) for e in some["entities"]] for some in predictions]
        assert found == [
            [("Ada Lovelace", "PER", 0, 12), ("Oslo", "LOC", 17, 21)],
            [("北京", "LOC", 0, 2)],
            [("cafe\u0301", "PER", 0, 5), ("🙂", "LOC", 9, 10)],
        ]
        for prediction in predictions:
            for entity in prediction["entities"]:
                assert prediction["text"][entity["start"] : entity["end"]] == entity["text"]
                assert 0.99 < entity["probability"] <= 1


def answered(tiny, words: list[str], shares: list[list[float]], **row: object) -> dict:
    """What the task makes of these probabilities, a list over labels for each word."""
    row = {"id": "0", "words": words, **row}
    window = cut_rows(TASK, [row], maker_of(tiny, words=True)).store[0]
    return TASK.decode(row, [Output(window, (np.log(np.array(shares, np.float32)),))])


def test_an_entity_is_as_probable_as_the_tags_of_its_words_together(tiny):
    given = answered(tiny, ["Ada", "Lovelace"], [[0.1, 0.1, 0.1, 0.6, 0.1], [0.1, 0.05, 0.05, 0.3, 0.5]])
    assert given["tags"] == ["B-PER", "I-PER"]
    assert [entity["probability"] for entity in given["entities"]] == pytest.approx([0.3])


def test_an_inside_tag_that_nothing_began_begins_an_entity_and_the_tags_stay(tiny):
    given = answered(tiny, ["in", "Oslo", "Ada"], [[0.9, *[0.025] * 4], [0.1, 0.1, 0.6, 0.1, 0.1], [0.1] * 4 + [0.6]])
    assert given["tags"] == ["O", "I-LOC", "I-PER"]
    assert [(entity["text"], entity["type"]) for entity in given["entities"]] == [("Oslo", "LOC"), ("Ada", "PER")]


def test_a_text_that_does_not_hold_the_words_is_not_used(tiny):
    given = answered(tiny, ["Ada"], [[0.1, 0.1, 0.1, 0.6, 0.1]], text="Oslo")
    assert (given["text"], given["entities"][0]["start"]) == ("Ada", 0)


@pytest.mark.parametrize(
    ("tags", "scheme", "tail"),
    [
        (["I-PER", "B-PER", "O"], "IOB1", ""),
        (["B-PER", "I-PER", "O"], "IOB2", ""),
        (["B-PER", "E-PER", "S-LOC"], "BIOES", ""),
        (["B-PER", "L-PER", "U-LOC"], "BILOU", ""),
        (["B-PER", "O", "I-LOC"], "IOB2", "; 1 of them are ill-formed, and are read as CoNLL's evaluation does"),
    ],
)
def test_the_scheme_of_tags_is_named_and_what_it_forbids_is_counted(tags, scheme, tail):
    rows = [{"id": "0", "words": ["a", "b", "c"], "tags": tags}]
    count = 1 if tags[1] in ("I-PER", "E-PER", "L-PER") and tags[2] == "O" else 2
    assert NER().describe(rows, "train") == f"{count} entities in {scheme} tags{tail}"


def test_tags_that_mark_no_entity_are_refused_before_training():
    with pytest.raises(BertkitError, match="test: row 0 has the tag 'NOUN', which marks no entity"):
        NER().describe([{"words": ["a"], "tags": ["NOUN"]}], "test")
    assert NER().describe([], "test") == ""


@pytest.mark.parametrize(
    ("tags", "labels"),
    [
        (["B-PER", "O"], ("B-PER", "I-PER", "O")),
        (["U-PER", "O"], ("B-PER", "I-PER", "L-PER", "U-PER", "O")),
        (["S-PER", "O"], ("B-PER", "E-PER", "I-PER", "S-PER", "O")),
        (["B", "O"], ("B", "I", "O")),
        (
            ["S-PER", "B-LOC", "M-LOC", "E-LOC"],
            tuple(f"{letter}-{name}" for name in ("LOC", "PER") for letter in "BMES"),
        ),
    ],
)
def test_the_labels_hold_every_tag_that_an_entity_can_have(tags, labels):
    assert set(resolve_labels(NER().implied(tags))) == set(labels)


def test_labels_that_a_recipe_names_stay_as_they_are_and_draw_the_same_rows():
    words, tags = [["Ada"], ["Bo", "Lind"], ["a"]] * 20, [["B-PER"], ["B-PER", "I-PER"], ["O"]] * 20
    rows = [{"words": some, "tags": marks} for some, marks in zip(words, tags, strict=True)]
    found = {}
    for labels in ([], ["O", "B-PER", "I-PER"]):
        recipe = load_recipe(
            {"task": {"name": "ner", "labels": labels}, "data": {"train_rows": 20, "group_by": "none"}}
        )
        task = make_task(recipe.task)
        splits = read_splits(recipe, task, lambda text: None, {"train": rows})
        found[len(labels)] = splits.train, splits.validation
        bound = bind_labels(recipe, task, splits, None)
        assert bound.labels == tuple(labels or ["B-PER", "I-PER", "O"])
    assert found[0] == found[3]


def test_the_findings_count_entities_by_type_and_show_the_texts_most_wrong():
    rows = [
        {"id": "a", "words": ["Ada", "in", "Oslo"], "tags": ["B-PER", "O", "B-LOC"]},
        {"id": "b", "words": ["Bo", "Day"], "tags": ["B-PER", "I-PER"]},
    ]
    given = [["B-PER", "O", "I-LOC"], ["O", "B-LOC"]]
    predictions = [{"tags": tags, "text": " ".join(row["words"])} for tags, row in zip(given, rows, strict=True)]
    table, passages = TASK.breakdowns(predictions, rows, "test, 2 rows")
    assert table.rows == (("LOC", 1, 2, 1 / 2, 1.0, 2 / 3), ("PER", 2, 1, 1.0, 1 / 2, 2 / 3))
    assert "IOB2 tags, 0 gold and 1 predicted ones are ill-formed" in table.caption
    (passage,) = passages.passages
    assert passage.facts == {"missed": "Bo Day (PER)", "found instead": "Day (LOC)"}
    marks = [(mark.kind, passage.texts["text"][mark.start : mark.end]) for mark in passage.spans["text"]]
    assert marks == [("gold", "Bo Day"), ("predicted", "Day")]
    json.dumps(to_json([table, passages]), allow_nan=False)
    scores = TASK.score(predictions, rows)
    assert scores == pytest.approx({"f1": 2 / 3, "precision": 2 / 3, "recall": 2 / 3, "accuracy": 2 / 5})


def test_entities_are_learned_from_spans_and_found_in_text(tmp_path, capsys):
    """From an annotation tool's export to characters of a new text, and to columns of another program."""
    towns, people = ("Oslo", "Paris", "Rome", "Turin"), ("Ada", "Bo", "Cy", "Di")
    lines = []
    for town in towns:
        for name in people:
            text = f"{name} lives in {town}."
            start = text.index(town)
            spans = [[0, len(name), "PER"], [start, start + len(town), "LOC"]]
            lines.append(json.dumps({"text": text, "label": spans}))
    export = tmp_path / "export.jsonl"
    export.write_text("\n".join(lines))
    recipe = {
        "task": "ner", "model": {"checkpoint": "bundled:tiny", "init": "scratch", "dropout": 0.0},
        "data": {"train": str(export), "validation": str(export)},
        "train": {"epochs": 30, "batch_size": 8, "learning_rate": 5e-3, "evaluate_every": 60},
        "hardware": {"precision": "fp32", "threads": 1},
    }  # fmt: skip
    scores = finetune(recipe, tmp_path / "run")
    assert scores["headline"] == "f1"
    assert scores["f1"] == 1.0
    assert "train: 32 entities in IOB2 tags" in capsys.readouterr().err
    (given,) = load(tmp_path / "run").predict(["  Ada lives\nin Rome."])
    assert given["text"] == "  Ada lives\nin Rome."
    assert [(e["text"], e["type"], e["start"], e["end"]) for e in given["entities"]] == [
        ("Ada", "PER", 2, 5), ("Rome", "LOC", 15, 19)
    ]  # fmt: skip
    columns = tmp_path / "other.conll"
    columns.write_text("-DOCSTART- O\n\nBo B-PER\nlives O\nin O\nParis B-LOC\n. O\n\n")
    assert evaluate(tmp_path / "run", str(columns), quiet=True)["f1"] == 1.0
    (given,) = predict(tmp_path / "run", str(columns))
    assert given["text"] == "Bo lives in Paris ."
    titles = [finding["title"] for finding in json.loads((tmp_path / "run" / "findings.json").read_text())]
    assert "By type" in titles
    assert "Confusion" in titles

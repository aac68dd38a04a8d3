"""The bundled example files keep the laws that their readers rely on."""

import csv
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

ASSETS = Path(__file__).parents[2] / "bertkit" / "assets"
UPOS = {"ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT"}
UPOS |= {"SCONJ", "SYM", "VERB", "X"}
FILES = (
    "reviews.csv",
    "reviews-zh.csv",
    "sentiment.csv",
    "pos.conllu",
    "ner.jsonl",
    "nli.jsonl",
    "qa.json",
    "README.md",
)


def read(name: str) -> str:
    return (ASSETS / name).read_bytes().decode("utf-8")


def is_chinese(text: str) -> bool:
    return re.search(r"[\u4e00-\u9fff]", text) is not None


def sentiment_rows() -> list[dict[str, str]]:
    return list(csv.DictReader(read("sentiment.csv").splitlines(), strict=True))


def nli_rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in read("nli.jsonl").splitlines()]


def qa_paragraphs() -> list[dict]:
    return [paragraph for document in json.loads(read("qa.json"))["data"] for paragraph in document["paragraphs"]]


def conllu_blocks() -> list[list[str]]:
    return [block.split("\n") for block in read("pos.conllu").removesuffix("\n\n").split("\n\n")]


def words_of(block: list[str]) -> list[list[str]]:
    """The rows of a sentence that carry a tag: every row but comments and multiword ranges."""
    return [row.split("\t") for row in block if not row.startswith("#") and row.split("\t")[0].isdigit()]


def text_of(block: list[str]) -> str:
    return block[1].removeprefix("# text = ")


def spell(block: list[str]) -> str:
    """Put a sentence together from its surface rows: a range stands for the words it covers."""
    text, covered = "", 0
    for row in (line.split("\t") for line in block if not line.startswith("#")):
        first, _, last = row[0].partition("-")
        if int(first) <= covered:
            continue
        covered = int(last or first)
        text += row[1] + ("" if "SpaceAfter=No" in row[9].split("|") else " ")
    return text.removesuffix(" ")


@pytest.mark.parametrize("name", FILES)
def test_files_are_clean_utf8(name: str) -> None:
    text = read(name)
    assert text.endswith("\n")
    assert not set("\r\ufeff\ufffd\u00a0") & set(text)
    assert name == "README.md" or f"`{name}`" in read("README.md")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (sentiment_rows, {"negative": 80, "positive": 80}),
        (nli_rows, {"entailment": 40, "neutral": 40, "contradiction": 40}),
    ],
)
def test_labels_are_balanced_in_every_quarter_and_in_both_languages(rows, expected) -> None:
    examples = rows()
    assert Counter(row["label"] for row in examples) == expected
    quarter = len(examples) // 4
    for start in range(0, len(examples), quarter):
        counts = Counter(row["label"] for row in examples[start : start + quarter])
        assert len(counts) == len(expected)
        assert max(counts.values()) - min(counts.values()) <= 2
    chinese = Counter(row["label"] for row in examples if is_chinese("".join(row.values())))
    assert len(chinese) == len(expected)
    assert len(set(chinese.values())) == 1


def test_sentiment_texts_are_distinct_and_of_mixed_length() -> None:
    rows = sentiment_rows()
    texts = [row["text"] for row in rows]
    assert read("sentiment.csv").startswith("text,label\n")
    assert all(set(row) == {"text", "label"} and row["text"] == row["text"].strip() != "" for row in rows)
    assert len({text.casefold() for text in texts}) == len(texts) == 160
    assert sum(map(is_chinese, texts)) == 24
    lengths = [len(text.split()) for text in texts if not is_chinese(text)]
    assert min(lengths) <= 3
    assert max(lengths) >= 55


def test_nli_pairs_are_distinct_sentences() -> None:
    rows = nli_rows()
    assert all(list(row) == ["premise", "hypothesis", "label"] for row in rows)
    sentences = [row[column].casefold() for row in rows for column in ("premise", "hypothesis")]
    assert len(set(sentences)) == len(sentences) == 240
    assert sum(is_chinese(row["premise"]) and is_chinese(row["hypothesis"]) for row in rows) == 18


def test_nli_negation_does_not_give_the_label_away() -> None:
    negative = re.compile(r"\b(not|no|never|none|nobody|nothing|cannot)\b|n't\b", re.IGNORECASE)
    counts = Counter(row["label"] for row in nli_rows() if negative.search(row["hypothesis"]))
    assert len(counts) == 3
    assert max(counts.values()) - min(counts.values()) <= 3


def test_conllu_rows_have_ten_columns_and_count_up() -> None:
    blocks = conllu_blocks()
    assert len(blocks) == 40
    assert read("pos.conllu").endswith("\n\n")
    for block in blocks:
        assert block[0].startswith("# sent_id = ")
        assert block[1].startswith("# text = ")
        rows = [row.split("\t") for row in block[2:]]
        assert all(len(row) == 10 and all(row) and " " not in "".join(row) for row in rows)
        assert [row[0] for row in words_of(block)] == [str(number + 1) for number in range(len(words_of(block)))]


def test_conllu_tags_are_the_seventeen_of_universal_dependencies() -> None:
    assert {word[3] for block in conllu_blocks() for word in words_of(block)} == UPOS


def test_conllu_words_spell_their_text() -> None:
    for block in conllu_blocks():
        assert spell(block) == text_of(block)


def test_conllu_ranges_cover_the_two_words_that_follow() -> None:
    ranges = 0
    for block in conllu_blocks():
        words = {word[0]: word[1] for word in words_of(block)}
        rows = [row.split("\t") for row in block[2:]]
        for row, following in pairwise(rows):
            first, dash, last = row[0].partition("-")
            if dash:
                ranges += 1
                assert following[0] == first
                assert words[first] + words[last] == row[1]
                assert int(last) == int(first) + 1
                assert row[2:9] == ["_"] * 7
    assert ranges >= 2


def test_conllu_sentences_are_distinct() -> None:
    blocks = conllu_blocks()
    assert len({block[0] for block in blocks}) == len(blocks)
    assert len({text_of(block) for block in blocks}) == len(blocks)
    assert sum(is_chinese(text_of(block)) for block in blocks) == 6


def test_ner_spans_are_whole_names_that_do_not_overlap() -> None:
    rows = [json.loads(line) for line in read("ner.jsonl").splitlines()]
    assert len({row["text"] for row in rows}) == len(rows) == 60
    assert sum(is_chinese(row["text"]) for row in rows) == 12
    types = Counter(name for row in rows for _, _, name in row["label"])
    assert set(types) == {"PER", "LOC", "ORG"}
    assert min(types.values()) >= 20
    assert any(not row["label"] for row in rows)
    for row in rows:
        names = [row["text"][start:end] for start, end, _ in row["label"]]
        assert all(name == name.strip() != "" for name in names)
        assert all(one[1] <= other[0] for one, other in pairwise(row["label"]))


def test_qa_answers_stand_at_their_offsets() -> None:
    answers = 0
    for paragraph in qa_paragraphs():
        for question in paragraph["qas"]:
            for answer in question["answers"]:
                start, text = answer["answer_start"], answer["text"]
                assert paragraph["context"][start : start + len(text)] == text == text.strip() != ""
                answers += 1
    assert answers == 50


def test_qa_documents_and_questions_are_distinct() -> None:
    content = json.loads(read("qa.json"))
    questions = [question for paragraph in qa_paragraphs() for question in paragraph["qas"]]
    assert content["version"] == "1.1"
    assert len({document["title"] for document in content["data"]}) == 12
    assert len({paragraph["context"] for paragraph in qa_paragraphs()}) == 12
    assert len({question["id"] for question in questions}) == len(questions) == 50
    assert len({question["question"] for question in questions}) == 50
    assert sum(is_chinese(paragraph["context"]) for paragraph in qa_paragraphs()) == 3


def test_two_qa_contexts_are_long_and_hold_answers_to_their_end() -> None:
    long = [paragraph for paragraph in qa_paragraphs() if len(paragraph["context"].split()) > 1000]
    assert len(long) == 2
    for paragraph in long:
        places = [
            answer["answer_start"] / len(paragraph["context"])
            for question in paragraph["qas"]
            for answer in question["answers"]
        ]
        assert min(places) < 0.1
        assert sum(place > 0.7 for place in places) >= 2
        assert max(places) > 0.95


@pytest.mark.parametrize(("name", "count", "in_chinese"), [("reviews.csv", 590, False), ("reviews-zh.csv", 110, True)])
def test_reviews_are_distinct_balanced_and_in_one_language(name: str, count: int, in_chinese: bool) -> None:
    rows = list(csv.DictReader(read(name).splitlines(), strict=True))
    assert len({row["text"] for row in rows}) == len(rows) == count
    assert Counter(row["label"] for row in rows) == {"negative": count // 2, "positive": count // 2}
    assert {is_chinese(row["text"]) for row in rows} == {in_chinese}
    assert all(row["text"] == row["text"].strip() for row in rows)

"""Tags: words that train has not shown, words that it shows with several tags, and the sentences most wrong."""

from __future__ import annotations

from bertkit.outcome.tagging import findings, tags_seen
from bertkit.tasks.classification import Classification
from bertkit.tasks.pos import Pos
from tests.unit.outcome.made import sentences

SEEN = {"the": {"DET"}, "The": {"DET"}, "dog": {"NOUN"}, "run": {"NOUN", "VERB"}, "well": {"ADJ", "NOUN", "VERB"}}
SPLIT = sentences(
    "The/DET/DET Dog/NOUN/VERB run/VERB/NOUN", "well/ADJ/ADJ dog/NOUN/NOUN xyz/VERB/VERB run/NOUN/NOUN", tags_seen=SEEN
)


def test_tags_are_collected_by_the_very_form_of_a_word():
    rows = [{"words": ("Run", "run", "run"), "tags": ("NOUN", "VERB", "NOUN")}]
    assert tags_seen(Pos(), rows) == {"Run": {"NOUN"}, "run": {"NOUN", "VERB"}}
    assert tags_seen(Classification(), [{"text": "x", "label": "y"}]) == {}


def test_unseen_words_are_those_whose_form_train_does_not_have():
    table = next(finding for finding in findings(SPLIT) if finding.title == "Words seen in train")
    # seen: The, run, well, dog, run, with 4 right of 5; unseen: Dog (wrong), xyz; ignoring case only xyz
    assert table.rows == (("seen", 5, 4 / 5, 6, 4 / 6), ("unseen", 2, 1 / 2, 1, 1.0))


def test_ambiguous_words_are_those_with_several_tags_in_train():
    table = next(finding for finding in findings(SPLIT) if finding.title == "Ambiguous words")
    assert table.rows == (
        ("1", 2, 1.0, 3, 2 / 3),
        ("2", 2, 1 / 2, 2, 1 / 2),
        ("3 or more", 1, 1.0, 1, 1.0),
        ("unseen", 2, 1 / 2, 1, 1.0),
    )


def test_case_is_ignored_on_both_sides():
    split = sentences("RUN/VERB/VERB", tags_seen={"Run": {"NOUN"}, "run": {"VERB"}})
    table = next(finding for finding in findings(split) if finding.title == "Ambiguous words")
    assert table.rows == (("2", 0, None, 1, 1.0), ("unseen", 1, 1.0, 0, None))


def test_every_word_is_counted_once_in_every_table():
    tables = [finding for finding in findings(SPLIT) if finding.kind == "table"]
    assert len(tables) == 3
    for table in tables:
        counts = [position for position, name in enumerate(table.columns) if name.startswith("count")]
        assert counts
        assert [sum(row[position] for row in table.rows) for position in counts] == [7] * len(counts), table.title


def test_without_the_words_of_train_nothing_is_said_of_them():
    titles = [finding.title for finding in findings(sentences("a/DET/DET"))]
    assert titles == ["Confusion", "By tag", "Most wrong"]


def test_the_sentence_with_most_wrong_tags_comes_first_and_its_wrong_words_are_marked():
    split = sentences("a/DET/DET b/NOUN/VERB", "a/DET/DET", "x/ADJ/DET é🙂/NOUN/VERB c/DET/DET x/ADJ/NOUN")
    wrong = findings(split)[-1]
    assert [passage.title for passage in wrong.passages] == ["s2", "s0"]
    first = wrong.passages[0]
    assert first.facts == {"x (word 1)": "ADJ -> DET", "é🙂": "NOUN -> VERB", "x (word 4)": "ADJ -> NOUN"}
    assert first.texts == {"words": "x é🙂 c x"}
    assert [first.texts["words"][span.start : span.end] for span in first.spans["words"]] == ["x", "é🙂", "x"]


def test_one_word_is_called_one_word():
    assert findings(sentences("Go/VERB/NOUN"))[0].caption.endswith("On test, 1 row, 1 word.")

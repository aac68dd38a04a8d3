"""POS keeps the contract of tasks: one tag a word, whatever its length, its place or its pieces."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.encode import cut_rows, stack_targets
from bertkit.errors import BertkitError
from bertkit.tasks.base import Output, make_task
from bertkit.tasks.pos import UNIVERSAL_TAGS, Pos
from tests.families import FAMILIES, maker_of
from tests.strategies import ODD, PIECELESS, word_lists
from tests.unit.tasks.contract import TaskContract, decoded, oracle_outputs, random_outputs

TASK = Pos(labels=("DET", "NOUN", "VERB", "PUNCT", "X"))


class TestPos(TaskContract):
    task = TASK
    rows = (
        {"id": "0", "words": ["The", "unbelievably", "large", "oven", "works", "."],
         "tags": ["DET", "X", "X", "NOUN", "VERB", "PUNCT"]},
        {"id": "1", "words": ["北京", "欢迎", "你", "的", "朋友", "。"],
         "tags": ["NOUN", "VERB", "NOUN", "X", "NOUN", "PUNCT"]},
        {"id": "2", "words": ["Le", "cafe\u0301", "\u200b", "", "est", "🙂"],
         "tags": ["DET", "NOUN", "X", "X", "VERB", "X"]},
    )  # fmt: skip

    def test_tags_are_certain_to_some_degree(self, maker):
        for row, outputs in zip(self.rows, random_outputs(self.task, self.rows, maker), strict=True):
            given = self.task.decode(row, outputs)
            assert given["words"] == row["words"]
            assert len(given["probabilities"]) == len(row["words"])
            assert all(type(share) is float and 0 <= share <= 1 for share in given["probabilities"])


def cyclic_tags(count: int) -> list[str]:
    """Neighbours differ, so that a shift by one word cannot hide."""
    return [TASK.labels[place % 4] for place in range(count)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stride", [0, 1, 10, 27])
def test_a_hundred_words_get_a_hundred_tags_in_windows_of_32(tiny, family, stride):
    row = {"id": "0", "words": ["bread", "rises"] * 50, "tags": cyclic_tags(100)}
    maker = maker_of(tiny, family, 32, stride, words=True)
    outputs = oracle_outputs(TASK, [row], maker)
    assert len(outputs[0]) > 3
    assert decoded(TASK, [row], outputs)[0]["tags"] == row["tags"]


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(words=word_lists(), length=st.integers(8, 40), data=st.data())
def test_every_word_gets_its_own_tag_and_words_without_pieces_shift_nothing(tiny, family, words, length, data):
    row = {"id": "0", "words": words, "tags": cyclic_tags(len(words))}
    maker = maker_of(tiny, family, length, data.draw(st.integers(0, length - 3)), words=True)
    store = cut_rows(TASK, [row], maker).store
    given = decoded(TASK, [row], oracle_outputs(TASK, [row], maker))[0]
    has_piece = np.isin(np.arange(len(words)), store.words)
    assert len(given["tags"]) == len(words)
    expected = [tag if seen else "X" for tag, seen in zip(row["tags"], has_piece.tolist(), strict=True)]
    assert given["tags"] == expected
    assert [share == 0 for share in given["probabilities"]] == (~has_piece).tolist()
    assert store.pieceless == int((~has_piece).sum())


def test_words_without_pieces_get_the_fallback_and_are_counted(tiny):
    words = ["bread", *PIECELESS, "rises", *PIECELESS]
    row = {"id": "0", "words": words, "tags": ["NOUN"] * len(words)}
    maker = maker_of(tiny, "wordpiece", words=True)
    assert cut_rows(TASK, [row], maker).store.pieceless == 2 * len(PIECELESS)
    tags = decoded(TASK, [row], oracle_outputs(TASK, [row], maker))[0]["tags"]
    assert tags == ["NOUN", *["X"] * len(PIECELESS), "NOUN", *["X"] * len(PIECELESS)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("before", range(12))
def test_a_word_at_the_edge_of_a_window_is_tagged_once(tiny, family, before):
    # a long word is pushed over every place of windows that hold 6 tokens
    words = ["a"] * before + ["unbelievably"] + ["a"] * 12
    row = {"id": "0", "words": words, "tags": cyclic_tags(len(words))}
    maker = maker_of(tiny, family, 8, 3, words=True)
    part = cut_rows(TASK, [row], maker)
    assert sorted(part.store.words[part.store.words >= 0].tolist()) == list(range(len(words)))
    assert decoded(TASK, [row], oracle_outputs(TASK, [row], maker))[0]["tags"] == row["tags"]


def test_a_word_longer_than_a_window_is_learned_once_and_tagged(tiny):
    row = {"id": "0", "words": ["a", "x" * 60, "a"], "tags": ["DET", "NOUN", "VERB"]}
    maker = maker_of(tiny, "byte-level", 16, 4, words=True)
    part = cut_rows(TASK, [row], maker)
    assert len(part.store) > 3
    labels = stack_targets(TASK, part)["labels"]
    assert labels[labels >= 0].tolist() == [0, 1, 2]
    assert decoded(TASK, [row], oracle_outputs(TASK, [row], maker))[0]["tags"] == row["tags"]


def test_the_best_tag_wins_with_its_probability(tiny):
    row = {"id": "0", "words": ["bread", "rises"], "tags": ["NOUN", "VERB"]}
    window = cut_rows(TASK, [row], maker_of(tiny, words=True)).store[0]
    logits = np.log(np.array([[1, 6, 1, 1, 1], [2, 1, 3, 3, 1]], np.float32))
    given = TASK.decode(row, [Output(window, (logits,))])
    assert given["tags"] == ["NOUN", "VERB"]
    assert given["probabilities"] == pytest.approx([0.6, 0.3])


def test_the_fallback_is_a_tag_that_says_nothing():
    assert Pos(labels=UNIVERSAL_TAGS).fallback_tag == "X"
    assert Pos(labels=("B-PER", "O", "I-PER")).fallback_tag == "O"
    assert Pos(labels=("NN", "VB")).fallback_tag == "NN"
    assert Pos(labels=("NN", "VB", "X"), fallback="VB").fallback_tag == "VB"
    with pytest.raises(BertkitError) as caught:
        _ = Pos(labels=("NN", "VB"), fallback="XX").fallback_tag
    assert (caught.value.message, caught.value.hint) == ("task.fallback: 'XX' is no tag", "one of: NN, VB")


OWN_TASK = """
from bertkit.data.sources import Columns
from bertkit.tasks.{module} import {base}

class Own({base}):
    name: str = "{name}"
    reads = Columns(words=("tokens",), tags="tags")
"""


def test_a_task_of_your_own_says_what_it_reads(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "tags.py").write_text(OWN_TASK.format(module="pos", base="Pos", name="ours.tags"))
    assert make_task({"name": "ours.tags"}).reads.words == ("tokens",)


def test_a_head_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "headless").mkdir()
    own = OWN_TASK.format(module="pos", base="Pos", name="headless.task") + '    head = "tokens"\n'
    (tmp_path / "headless" / "task.py").write_text(own)
    with pytest.raises(BertkitError, match="Own has the head 'tokens', which there is not") as caught:
        make_task({"name": "headless.task"})
    assert "did you mean 'token'?" in caught.value.hint


def test_an_unfinished_task_is_told_all_that_it_lacks(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "task.py").write_text(
        OWN_TASK.format(module="base", base="Task", name="unfinished.task")
    )
    with pytest.raises(BertkitError) as caught:
        make_task({"name": "unfinished.task"})
    assert caught.value.message == (
        "task.name: Own in module 'unfinished.task' does not define head, answer, headline, "
        "inputs, target, decode, score"
    )
    assert "bertkit/tasks/base.py" in caught.value.hint


def test_odd_words_come_back_unchanged(tiny):
    words = list(ODD.values())
    row = {"id": "0", "words": words, "tags": ["X"] * len(words)}
    prediction = decoded(TASK, [row], oracle_outputs(TASK, [row], maker_of(tiny, words=True)))[0]
    assert json.loads(json.dumps(prediction))["words"] == words

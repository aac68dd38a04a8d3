"""Running text is tokenised once, whatever is killed, and cut without crossing a document."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from bertkit.data import corpus as module
from bertkit.data.blocks import Cut, framed
from bertkit.data.corpus import read_documents, tokenised
from bertkit.errors import BertkitError
from tests.tiny import _tokenizer

DOCUMENTS = [[f"the bread rises in oven {n}", "and cools"] * (1 + n % 4) for n in range(40)]
TEXT = "\n\n".join("\n".join(lines) for lines in DOCUMENTS) + "\n"


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTKIT_CACHE", str(tmp_path / "cache" / "windows"))
    (tmp_path / "a.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(scope="module")
def tokenizer():
    return _tokenizer("bert").backend_tokenizer


def test_documents_are_those_of_the_text_in_every_format(text):
    with gzip.open(text / "b.txt.gz", "wt") as file:
        file.write("\n\n" + TEXT.replace("\n\n", "\n\n \n"))
    (text / "c.jsonl").write_text("".join(json.dumps({"text": "\n".join(lines)}) + "\n" for lines in DOCUMENTS))
    for name in ("a.txt", "b.txt.gz", "c.jsonl"):
        assert list(read_documents(str(text / name))) == DOCUMENTS


def test_the_tokens_are_those_of_the_lines_one_after_the_other(text, tokenizer):
    found = tokenised([str(text / "a.txt")], tokenizer, "corpus.train")
    lines = [tokenizer.encode(line, add_special_tokens=False).ids for lines in DOCUMENTS for line in lines]
    assert found.tokens.tolist() == [token for line in lines for token in line]
    assert found.lines.tolist() == np.cumsum([len(line) for line in lines]).tolist()
    assert len(found.documents) == len(DOCUMENTS)


def test_what_a_killed_process_has_made_is_not_made_again(text, tokenizer, monkeypatch):
    whole = tokenised([str(text / "a.txt")], tokenizer, "corpus.train")
    monkeypatch.setenv("BERTKIT_CACHE", str(text / "other" / "windows"))
    monkeypatch.setattr(module, "PART", 200)
    told = []

    def killed(file, tokens):
        told.append(tokens)
        if len(told) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenised([str(text / "a.txt")], tokenizer, "corpus.train", killed)
    (folder,) = (text / "other" / "corpora").iterdir()
    with (folder / "tokens").open("ab") as file:  # as a kill in the midst of a write leaves it
        file.write(b"half")
    again = []
    found = tokenised([str(text / "a.txt")], tokenizer, "corpus.train", lambda file, tokens: again.append(tokens))
    assert min(again) > max(told)
    for ours, theirs in zip(found[:3], whole[:3], strict=True):
        assert (ours == theirs).all()
    tokenised([str(text / "a.txt")], tokenizer, "corpus.train", killed)  # not read again


def test_another_text_is_another_corpus(text, tokenizer):
    first = tokenised([str(text / "a.txt")], tokenizer, "corpus.train")
    (text / "a.txt").write_text(TEXT + "\none more\n")
    assert len(tokenised([str(text / "a.txt")], tokenizer, "corpus.train").documents) == len(first.documents) + 1


def test_stretches_hold_every_token_once_and_cross_no_document(text, tokenizer):
    found = tokenised([str(text / "a.txt")], tokenizer, "corpus.train")
    cut = Cut(found, 7)
    assert cut.sizes.max() <= 7
    assert (cut.begins[1:] == cut.ends[:-1]).all()
    assert cut.begins[0] == 0
    assert cut.ends[-1] == len(found.tokens)
    assert set(found.documents.tolist()) <= set(cut.ends.tolist())
    for document in range(len(found.documents)):
        sizes = cut.sizes[cut.document == document]
        assert sizes.max() - sizes.min() <= 1


def test_special_tokens_stand_around_one_text_and_two(text, tokenizer):
    tokens = np.arange(100, 200)
    one = framed(tokens, [(np.array([0, 10]), np.array([3, 11]))], [(1, 0, None), (None, 0, 0), (2, 0, None)], 0)
    assert one.ids.tolist() == [[1, 100, 101, 102, 2], [1, 110, 2, 0, 0]]
    assert one.lengths.tolist() == [5, 3]
    pair = [(1, 0, None), (None, 0, 0), (2, 0, None), (None, 1, 1), (2, 1, None)]
    two = framed(tokens, [(np.array([0]), np.array([2])), (np.array([50]), np.array([51]))], pair, 0, width=8)
    assert two.ids.tolist() == [[1, 100, 101, 2, 150, 2, 0, 0]]
    assert two.types.tolist() == [[0, 0, 0, 0, 1, 1, 0, 0]]
    assert two.is_text.tolist() == [[False, True, True, False, True, False, False, False]]


@pytest.mark.parametrize("content", ["", "\n\n  \n"])
def test_no_text_is_an_error_and_leaves_nothing(text, tokenizer, content):
    (text / "a.txt").write_text(content)
    with pytest.raises(BertkitError, match="there is no text"):
        tokenised([str(text / "a.txt")], tokenizer, "corpus.train")

"""How many words have the right tag, or how many entities are found whole."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from bertkit.errors import BertkitError
from bertkit.metrics.classification import classification

OUTSIDE = ("O", "_")


class Spans(NamedTuple):
    """Entities as three columns of equal length: first word, last word (counted over all rows), type."""

    first: np.ndarray
    last: np.ndarray
    type: np.ndarray


def tagging(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float | None]:
    """Score one tag a word, every word of every row counted alike: the metric of part-of-speech tagging.

    Args:
        predictions: for each row, one tag for each of its words.
        references: the same, true.
    Returns:
        `accuracy`, the headline, over words; `f1_macro` over the tags that occur on either side; None without a word.
    Raises:
        AssertionError: a row has more or fewer tags than words: a bug in what made them, not in the data.
    """
    assert_aligned(predictions, references)
    scores = classification(list(chain.from_iterable(predictions)), list(chain.from_iterable(references)))
    return {"accuracy": scores["accuracy"], "f1_macro": scores["f1_macro"]}


def spans(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float | None]:
    """Score whole entities in IOB2 tags (`B-PER`, `I-PER`, `O`): right when first word, last word and type are.

    Predicted tags need not be well formed: as in CoNLL's evaluation, an `I-` begins an entity when the word before it
    is outside or of another type. No entity crosses from one row into the next.

    Args:
        predictions: for each row, one tag for each of its words.
        references: the same, true.
    Returns:
        `f1`, the headline, `precision` and `recall`, over the entities of all types together; None where nothing is
        counted: precision without predicted entities, recall without true ones, F1 without either.
    Raises:
        AssertionError: a row has more or fewer tags than words.
        BertkitError: a tag is not of the IOB2 scheme.

    Source: Nakayama 2018 (seqeval), to whose default mode these numbers are equal; Tjong Kim Sang and De Meulder 2003.
    """
    assert_aligned(predictions, references)
    found, true = find_spans(predictions, "predictions"), find_spans(references, "references")
    right, found_count, true_count = shared_count(found, true), len(found.first), len(true.first)
    return {
        "f1": 2 * right / (found_count + true_count) if found_count + true_count else None,
        "precision": right / found_count if found_count else None,
        "recall": right / true_count if true_count else None,
    }


def find_spans(rows: Sequence[Sequence[str]], column: str) -> Spans:
    """All entities of all rows, in order; `column` names the argument in the error."""
    known = {tag: read_tag(tag) for tag in set(chain.from_iterable(rows))}
    if None in known.values():
        row, tag = next((row, tag) for row, tags in enumerate(rows) for tag in tags if known[tag] is None)
        raise BertkitError(
            f"{column}: row {row} has the tag {tag!r}, which is not IOB2 (B-TYPE, I-TYPE or O)",
            hint="score part-of-speech tags with `tagging`; rewrite IOBES tags as IOB2: S- as B-, E- as I-",
        )
    # an O before, between and after the rows, so that every word has neighbours and no entity crosses a row
    words = [OUTSIDE, *chain.from_iterable((*map(known.get, row), OUTSIDE) for row in rows)]
    kinds = np.array([kind for kind, _ in words], dtype=object)
    types = np.array([name for _, name in words], dtype=object)
    outside = kinds == "O"
    resumes = (kinds[1:] == "I") & ~outside[:-1] & (types[1:] == types[:-1])
    begins = ~outside & ~np.concatenate([[False], resumes])
    borders = np.flatnonzero(begins | outside)
    starts = np.flatnonzero(begins[borders])
    first, last = borders[starts], borders[starts + 1] - 1  # there is always a next border: the closing O
    return Spans(first, last, types[first])


def read_tag(tag: str) -> tuple[str, str] | None:
    """Kind ("B", "I" or "O") and type of a tag; None when it is not IOB2. A bare `B` or `I` has the type "_"."""
    if tag == "O":
        return OUTSIDE
    kind, _, name = tag.partition("-")
    return (kind, name or "_") if kind in ("B", "I") else None


def shared_count(one: Spans, other: Spans) -> int:
    """How many entities are in both: no two of one side begin at the same word."""
    _, here, there = np.intersect1d(one.first, other.first, assume_unique=True, return_indices=True)
    return int(np.sum((one.last[here] == other.last[there]) & (one.type[here] == other.type[there])))


def assert_aligned(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> None:
    """Refuse rows whose numbers of tags differ: shifted tags would only look like a bad model."""
    assert len(predictions) == len(references), f"{len(predictions)} rows predicted for {len(references)} rows"
    for row, (guess, truth) in enumerate(zip(predictions, references, strict=True)):
        assert len(guess) == len(truth), f"row {row}: {len(guess)} tags predicted for {len(truth)} words"

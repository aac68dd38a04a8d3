"""How many words have the right tag, or how many entities are found whole."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from bertkit.errors import BertkitError
from bertkit.metrics.classification import classification, f1_of

OUTSIDE = ("O", "_")
# BILOU and BMES say with other letters what BIOES says
LETTERS = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I"}
SCHEMES = {"BILOU": "LU", "BMES": "M", "BIOES": "ES"}  # the first that has one of its letters


class Spans(NamedTuple):
    """Entities as columns of equal length."""

    first: np.ndarray  # the first word, counted over all rows, with an O before the first row and after each
    last: np.ndarray  # the last word
    type: np.ndarray  # `_` where tags have none
    opening: np.ndarray  # letter of the first tag, in BIOES
    closing: np.ndarray  # letter of the last tag
    touches: np.ndarray  # whether the word before it belongs to another entity of its type


def tagging(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float | None]:
    """Score one tag a word, as part-of-speech tagging is scored.

    Args:
        predictions, references: for each row, one tag for each of its words.
    Returns:
        `accuracy`, the headline, over all words; `f1_macro` over the tags that occur on either side; None without a
        word.
    Raises:
        AssertionError: a row has more or fewer tags than words: a bug in what made them, not in the data.
    """
    assert_aligned(predictions, references)
    scores = classification(list(chain.from_iterable(predictions)), list(chain.from_iterable(references)))
    return {"accuracy": scores["accuracy"], "f1_macro": scores["f1_macro"]}


def spans(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float | None]:
    """Score whole entities: one is right when its first word, its last word and its type are.

    Args:
        predictions, references: as in `tagging`; the tags are of IOB1, IOB2, BIOES, BILOU or BMES (`B-PER`, `I-PER`,
            `O`) and need not be well formed, see `find_spans`.
    Returns:
        `f1`, the headline, `precision` and `recall`, over the entities of all types together; None where nothing is
        counted: precision without predicted entities, recall without true ones, F1 without either.
    Raises:
        AssertionError: as in `tagging`.
        BertkitError: a tag is of no such scheme.

    Source: Tjong Kim Sang and De Meulder 2003; Nakayama 2018 (seqeval), whose default mode gives the same numbers for
    the letters B, I, E, S and O, but does not know L, U and M.
    """
    counts = np.array([*spans_by_type(predictions, references).values()], np.int64).reshape(-1, 3)
    right, found, true = counts.sum(0).tolist()
    return {
        "f1": f1_of(right, found, true),
        "precision": right / found if found else None,
        "recall": right / true if true else None,
    }


def spans_by_type(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
) -> dict[str, tuple[int, int, int]]:
    """Type -> how many of its entities are in both, how many are predicted, and how many are true; types sorted."""
    assert_aligned(predictions, references)
    found, true = find_spans(predictions, "predictions"), find_spans(references, "references")
    # no two entities of one side begin at the same word
    _, here, there = np.intersect1d(found.first, true.first, assume_unique=True, return_indices=True)
    is_right = (found.last[here] == true.last[there]) & (found.type[here] == true.type[there])
    counts = [Counter(column.tolist()) for column in (found.type[here[is_right]], found.type, true.type)]
    return {name: tuple(count[name] for count in counts) for name in sorted(counts[1] | counts[2])}


def find_spans(rows: Sequence[Sequence[str]], where: str) -> Spans:
    """All entities of all rows, in order, as CoNLL's evaluation reads them; `where` names the rows in the error.

    An `I-` or `E-` that continues no entity begins one; an entity ends before the first word that does not continue it.
    """
    known = {tag: read_tag(tag) for tag in set(chain.from_iterable(rows))}
    if None in known.values():
        row, tag = next((row, tag) for row, tags in enumerate(rows) for tag in tags if known[tag] is None)
        raise BertkitError(
            f"{where}: row {row} has the tag {tag!r}, which marks no entity (B-TYPE, I-TYPE, E-TYPE, S-TYPE or O)",
            hint="if tags are numbers, name them in their order: task.labels=[O,B-PER,I-PER]"
            if tag.isdecimal()
            else "score tags that are no entities, such as parts of speech, with `tagging`",
        )
    # an O before, between and after the rows, so that every word has neighbours and no entity crosses a row
    words = [OUTSIDE, *chain.from_iterable((*map(known.get, row), OUTSIDE) for row in rows)]
    letters = np.array([letter for letter, _ in words], dtype=object)
    types = np.array([name for _, name in words], dtype=object)
    outside = letters == "O"
    is_same = np.append(False, ~outside[:-1] & (types[1:] == types[:-1]))
    goes_on = np.append(False, np.isin(letters[:-1], ["B", "I"])) & is_same & np.isin(letters, ["I", "E"])
    begins = ~outside & ~goes_on
    borders = np.flatnonzero(begins | outside)
    starts = np.flatnonzero(begins[borders])
    first, last = borders[starts], borders[starts + 1] - 1  # there is always a next border: the closing O
    return Spans(first, last, types[first], letters[first], letters[last], is_same[first])


def read_tag(tag: str) -> tuple[str, str] | None:
    """Letter (of BIOES, or "O") and type of a tag; None when it is of no scheme. A bare `B` or `I` has the type "_"."""
    letter, _, name = tag.partition("-")
    if tag == "O":
        return OUTSIDE
    return (LETTERS[letter], name or "_") if letter in LETTERS else None


def scheme_of(rows: Sequence[Sequence[str]], where: str) -> str:
    """Which scheme the tags of some rows are written in: IOB1, IOB2, BIOES, BILOU or BMES.

    In IOB1 an entity begins with `I-`, but with `B-` where it follows another of its type; tags that fit both IOB1 and
    IOB2 are called IOB2. Source: Tjong Kim Sang and Veenstra 1999; Ratinov and Roth 2009 (BILOU).
    """
    letters = {tag.partition("-")[0] for tag in set(chain.from_iterable(rows))}
    if special := next((name for name, own in SCHEMES.items() if letters & set(own)), None):
        return special
    found = find_spans(rows, where)
    is_iob1 = (found.opening == "I").any() and not ((found.opening == "B") & ~found.touches).any()
    return "IOB1" if is_iob1 else "IOB2"


def ill_formed_count(found: Spans, scheme: str) -> int:
    """How many entities were read from tags that their scheme does not allow there."""
    if scheme == "IOB1":
        is_legal = (found.opening == "I") | found.touches
    elif scheme == "IOB2":
        is_legal = found.opening == "B"
    else:
        is_whole = (found.opening == "B") & (found.closing == "E")
        is_legal = np.where(found.first == found.last, found.opening == "S", is_whole)
    return int((~is_legal).sum())


def assert_aligned(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> None:
    """Refuse rows whose numbers of tags differ: shifted tags would look like a bad model."""
    assert len(predictions) == len(references), f"{len(predictions)} rows predicted for {len(references)} rows"
    for row, (guess, truth) in enumerate(zip(predictions, references, strict=True)):
        assert len(guess) == len(truth), f"row {row}: {len(guess)} tags predicted for {len(truth)} words"

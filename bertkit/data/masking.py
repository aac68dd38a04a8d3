"""Which tokens of a window a masked language model has to restore, and what stands in their places."""

from typing import NamedTuple

import numpy as np

from bertkit.data.keyed import uniform

MASKED, REPLACED = 0.8, 0.1  # shares of the chosen tokens that become [MASK], or any token; the rest stay
CHOICE, KIND, TOKEN = range(3)  # streams of random numbers


class Vocabulary(NamedTuple):
    """What masking must know of a tokenizer."""

    mask_id: int
    ordinary: np.ndarray  # (V,) int64: ids that may stand in the place of a token; no special ones
    continues: np.ndarray  # bool by id: whether a piece goes on with the word before it


def chosen(ids: np.ndarray, is_text: np.ndarray, key: tuple, rate: float, continues: np.ndarray | None) -> np.ndarray:
    """(B, S) bool: the tokens to restore.

    Of n tokens of a window they are round(rate * n), at least one; of whole words, as many words as fit into that.

    Args:
        ids: (B, S) token ids.
        is_text: (B, S) bool, false on special tokens and padding.
        key: of the random numbers, a part for each window: (seed, epoch, (B, 1) windows).
        continues: which pieces go on with the word before them, by id, to choose whole words; None for single tokens.
    """
    width = ids.shape[1]
    rank_of = uniform(*key, CHOICE, np.arange(width))
    wanted = np.maximum(1, np.rint(rate * is_text.sum(1))).astype(np.int64)[:, None]
    if continues is None:
        return is_text & (_ranks(np.where(is_text, rank_of, np.inf)) < wanted)
    is_first = is_text & ~(continues[ids] & np.pad(is_text, ((0, 0), (1, 0)))[:, :-1])
    word = np.where(is_text, np.maximum.accumulate(np.where(is_first, np.arange(width), -1), axis=1), width)
    sizes = np.zeros((len(ids), width + 1), np.int64)
    np.add.at(sizes, (np.arange(len(ids))[:, None], word), 1)
    sizes = sizes[:, :width]
    order = np.argsort(np.where(sizes > 0, rank_of, np.inf), axis=1, kind="stable")
    taken = np.zeros_like(sizes, dtype=bool)
    np.put_along_axis(taken, order, np.take_along_axis(sizes, order, 1).cumsum(1) <= wanted, 1)
    taken &= sizes > 0
    # a window whose first word is longer than the share allows has that word alone
    nothing = ~taken.any(1) & is_text.any(1)
    taken[nothing, order[nothing, 0]] = True
    return is_text & np.take_along_axis(np.pad(taken, ((0, 0), (0, 1))), word, 1)


def masked(ids: np.ndarray, places: np.ndarray, key: tuple, vocabulary: Vocabulary) -> np.ndarray:
    """(B, S) ids with 80 % of the chosen tokens replaced by [MASK], 10 % by any token; 10 % stay.

    Source: Devlin et al. 2019, section 3.1.
    """
    position = np.arange(ids.shape[1])
    kind, token = uniform(*key, KIND, position), uniform(*key, TOKEN, position)
    other = vocabulary.ordinary[(token * len(vocabulary.ordinary)).astype(np.int64)]
    instead = np.where(kind < MASKED, vocabulary.mask_id, np.where(kind < MASKED + REPLACED, other, ids))
    return np.where(places, instead, ids)


def _ranks(values: np.ndarray) -> np.ndarray:
    """(B, S) the rank of each value in its row, from 0."""
    ranks = np.empty(values.shape, np.int64)
    np.put_along_axis(ranks, np.argsort(values, axis=1, kind="stable"), np.arange(values.shape[1])[None], 1)
    return ranks

"""What is hidden of running text: the right share, whole words where asked, and the same whoever asks."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.data.keyed import uniform
from bertkit.data.masking import Vocabulary, chosen, masked

quick = settings(max_examples=100, deadline=None, derandomize=True)
MASK, V = 4, 1000
IDS = np.random.default_rng(0).integers(5, V, (400, 64))
CONTINUES = np.arange(V) % 3 == 0
VOCABULARY = Vocabulary(MASK, np.arange(5, V), CONTINUES)
IS_TEXT = np.ones(IDS.shape, bool)
IS_TEXT[:, [0, -1]] = False


ALL = np.arange(400)


def key(seed=0, epoch=0, windows=ALL):
    return seed, epoch, windows[:, None]


def test_numbers_are_uniform_and_neighbours_tell_nothing_of_one_another():
    found = uniform(3, 5, np.arange(2000)[:, None], 0, np.arange(64))
    counts, _ = np.histogram(found, 20, (0, 1))
    assert abs(counts / found.size - 0.05).max() < 0.002
    for one, other in (
        (found[:, 1:], found[:, :-1]),
        (found[1:], found[:-1]),
        (found, uniform(4, 5, np.arange(2000)[:, None], 0, np.arange(64))),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.01


def test_of_the_chosen_tokens_eight_in_ten_are_hidden_one_is_another_and_one_stays():
    places = chosen(IDS, IS_TEXT, key(), 0.15, None)
    assert (places.sum(1) == round(0.15 * 62)).all()
    found = masked(IDS, places, key(), VOCABULARY)
    assert (found == IDS)[~places].all()
    hidden, stays = (found == MASK)[places].mean(), (found == IDS)[places].mean()
    error = 3 / np.sqrt(places.sum())
    assert abs(hidden - 0.8) < error
    assert abs(stays - 0.1) < error
    other = found[places & (found != MASK) & (found != IDS)]
    assert len(set(other.tolist())) > 200
    assert other.min() >= 5
    # every position is as likely as another
    counts = sum(chosen(IDS, IS_TEXT, key(epoch=epoch), 0.15, None).sum(0) for epoch in range(20))[1:-1]
    assert counts.std() / counts.mean() < 0.05


@quick
@given(st.integers(0, 2**62), st.integers(0, 99), st.floats(0.01, 0.9), st.booleans(), st.integers(1, 60))
def test_a_window_is_broken_the_same_alone_and_among_others(seed, epoch, rate, whole_words, width):
    continues = CONTINUES if whole_words else None
    windows = np.array([7, 300, 41])
    is_text = IS_TEXT[windows, : width + 2].copy()
    is_text[:, width + 1 :] = False
    ids = IDS[windows, : width + 2]
    together = chosen(ids, is_text, key(seed, epoch, windows), rate, continues)
    broken = masked(ids, together, key(seed, epoch, windows), VOCABULARY)
    assert together.any(1).all()
    assert not together[~is_text].any()
    for row in range(3):
        one = slice(row, row + 1)
        padded = np.pad(ids[one], ((0, 0), (0, 9))), np.pad(is_text[one], ((0, 0), (0, 9)))
        alone = chosen(*padded, key(seed, epoch, windows[one]), rate, continues)
        assert (alone[:, : width + 2] == together[one]).all()
        assert (
            masked(padded[0], alone, key(seed, epoch, windows[one]), VOCABULARY)[:, : width + 2] == broken[one]
        ).all()


@quick
@given(st.integers(0, 2**62), st.floats(0.05, 0.9))
def test_whole_words_are_hidden_whole_and_no_more_than_asked(seed, rate):
    places = chosen(IDS, IS_TEXT, key(seed), rate, CONTINUES)
    begins = IS_TEXT & ~(CONTINUES[IDS] & np.pad(IS_TEXT, ((0, 0), (1, 0)))[:, :-1])
    word = begins.cumsum(1)
    for row in range(0, 400, 40):
        hidden = set(word[row][places[row]].tolist())
        assert set(word[row][~places[row] & IS_TEXT[row]].tolist()).isdisjoint(hidden)
        assert places[row].sum() <= max(round(rate * 62), 1) or len(hidden) == 1

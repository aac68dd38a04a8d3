"""Windows own every token once and never exceed their length, whatever the text, the tokenizer and the settings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, processors

from bertkit.data.windows import Pair, WindowMaker, WindowStore, Words, cut
from bertkit.errors import BertkitError
from bertkit.recipe import WindowsConfig
from tests.families import FAMILIES, maker_of, plain_spans, tokenizer_of
from tests.strategies import ODD, plain_texts, texts, windows, word_lists

quick = settings(max_examples=60, deadline=None, derandomize=True)
families = pytest.mark.parametrize("family", FAMILIES)
sides = st.sampled_from(["first", "second", "longer"])


def windows_or_error(tokenizer, config: WindowsConfig, inputs: list, spans: bool = False) -> WindowStore | None:
    """The windows; None where the one error that is allowed comes, and comes rightly."""
    pair = isinstance(inputs[0], Pair)
    room = config.max_length - tokenizer.num_special_tokens_to_add(pair) - pair
    try:
        found = WindowMaker(tokenizer.backend_tokenizer, config)(inputs, spans)
    except BaseException as error:  # the tokenizer's own panic is no Exception
        found = error
    if config.stride < room:
        assert type(found) is WindowStore, repr(found)
        return found
    assert type(found) is BertkitError, repr(found)
    assert found.message == (
        f"windows.stride: no row has room for an overlap of {config.stride} tokens in windows of "
        f"{config.max_length} (at most {room - 1} fits)"
    )
    assert found.hint == "raise windows.max_length, or lower windows.stride"
    return None


def read_row(tokenizer, config: WindowsConfig, store: WindowStore, long: list[int], short: list[int] | None) -> None:
    """Assert that the windows of a one-row store hold the whole long side, cut at the places that the settings say."""
    pair = short is not None
    total = config.max_length - tokenizer.num_special_tokens_to_add(pair)
    kept = short or []
    if len(kept) + len(long) > total:
        kept = kept[: total // 2 if config.max_short_length is None else min(config.max_short_length, total - 1)]
    room = total - len(kept)
    overlap = min(config.stride, room - 1)
    assert store.shortened == ((0,) if len(kept) < len(short or []) else ())
    assert store.crowded == ((0,) if overlap < config.stride and len(long) > room else ())
    assert store.counts.tolist() == [len(store)]
    assert store.numbers.tolist() == list(range(len(store)))
    assert store.lengths.max() <= config.max_length
    assert len(store.input_ids) == len(store.token_type_ids) == store.offsets[-1]
    covered: list[int] = []
    for number, ids in enumerate(np.split(store.input_ids, store.offsets[1:-1])):
        start = number * (room - overlap)
        piece = long[start : start + room]
        covered[start:] = piece
        expected = [kept, piece] if pair else [piece]
        assert ids.tolist() in (surround(tokenizer, *expected), surround(tokenizer, *expected[::-1]))
    assert covered == long
    assert len(long) > (len(store) - 2) * (room - overlap) + room or len(store) == 1, "the last window is needed"


def surround(tokenizer, first: list[int], second: list[int] | None = None) -> list[int]:
    """Ids with the special tokens of BERT or RoBERTa around them."""
    start, end = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
    if second is None:
        return start + first + end
    return start + first + end * (tokenizer.num_special_tokens_to_add(pair=True) - 2) + second + end


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 200), st.integers(1, 64), st.data())
def test_cuts_own_every_token_once_where_most_context_is(length, room, data):
    overlap = data.draw(st.integers(0, room - 1))
    pieces = list(cut(length, room, overlap))
    starts, stops, own_starts, own_stops = map(list, zip(*pieces, strict=True))
    assert starts == [number * (room - overlap) for number in range(len(pieces))]
    assert stops == [min(start + room, length) for start in starts]
    assert all(stop < length for stop in stops[:-1])
    assert (own_starts, own_stops[-1], stops[-1]) == ([0, *own_stops[:-1]], length, length)

    def context(place: int, piece: tuple[int, int, int, int]) -> float:
        start, stop = piece[:2]
        before = place - start if start else length
        after = stop - 1 - place if stop < length else length
        return min(before, after) if start <= place < stop else -1

    for piece in pieces:
        for place in range(*piece[2:]):
            assert context(place, piece) == max(context(place, other) for other in pieces)


@families
@quick
@given(windows(), plain_texts(60), plain_texts(150), sides)
@example(WindowsConfig(max_length=8, stride=8), "a " * 60, "a " * 150, "second")
@example(WindowsConfig(max_length=32, stride=4), "a " * 60, "", "second")
def test_windows_of_pairs_hold_every_token_of_any_sizes(tiny, family, config, question, document, long):
    tokenizer = tokenizer_of(tiny, family)
    inputs = Pair(document, question, "first") if long == "first" else Pair(question, document, long)
    if (store := windows_or_error(tokenizer, config, [inputs])) is not None:
        short, slides = ids_of(tokenizer, question), ids_of(tokenizer, document)
        if long == "longer" and len(short) > len(slides):
            short, slides = slides, short
        read_row(tokenizer, config, store, slides, short)


@families
@quick
@given(windows(), texts(60))
@example(WindowsConfig(max_length=8, stride=0), "")
def test_windows_of_texts_hold_every_token_whatever_is_in_them(tiny, family, config, text):
    tokenizer = tokenizer_of(tiny, family)
    if (store := windows_or_error(tokenizer, config, [text])) is not None:
        read_row(tokenizer, config, store, ids_of(tokenizer, text), None)


@families
@quick
@given(windows(), texts(20), texts(60), sides)
@example(WindowsConfig(max_length=32, stride=8), "who", " ".join(ODD.values()), "second")
@example(WindowsConfig(max_length=32, stride=8), " ".join(ODD.values()), "who", "first")
def test_spans_slice_the_text_of_the_long_side_without_white_space(tiny, family, config, question, document, long):
    tokenizer = tokenizer_of(tiny, family)
    inputs = Pair(question, document, long)
    store = windows_or_error(tokenizer, config, [inputs], spans=True)
    if store is None:
        return
    first, second = (tokenizer.backend_tokenizer.encode(text, add_special_tokens=False) for text in inputs[:2])
    slides_first = long == "first" or (long == "longer" and len(first.ids) > len(second.ids))
    text, encoding = (question, first) if slides_first else (document, second)
    expected = plain_spans(text, encoding.offsets)
    covered: dict[int, list[tuple[int, int]]] = {}
    total = config.max_length - tokenizer.num_special_tokens_to_add(pair=True)
    for window in (store[number] for number in range(len(store))):
        on_long_side = np.flatnonzero(window.spans[:, 0] >= 0)
        assert (np.diff(on_long_side) == 1).all()
        assert (window.spans[window.spans[:, 0] < 0] == -1).all()
        found = [tuple(span) for span in window.spans[on_long_side].tolist()]
        short_count = len(window.spans) - len(found) - (config.max_length - total)
        room = total - short_count
        start = window.number * (room - min(config.stride, room - 1))
        assert found == expected[start : start + room]
        ids = store.input_ids[store.offsets[window.number] + on_long_side]
        assert ids.tolist() == encoding.ids[start : start + room]
        covered[start] = found
    assert sum(map(len, covered.values())) >= len(expected)
    for start, end in expected:
        assert 0 <= start <= end <= len(text)
        assert start == end or not text[start].isspace()


@families
@quick
@given(windows(), word_lists())
@example(WindowsConfig(max_length=8, stride=5), ["a"] * 60)
@example(WindowsConfig(max_length=8, stride=2), ["unbelievably" * 5, "a"])
@example(WindowsConfig(max_length=8, stride=2), [])
def test_windows_own_every_word_once_and_no_word_shifts_another(tiny, family, config, words):
    tokenizer = tokenizer_of(tiny, family, words=True)
    store = windows_or_error(tokenizer, config, [Words(words)])
    if store is None:
        return
    backend = tokenizer.backend_tokenizer
    alone = [backend.encode([word], is_pretokenized=True, add_special_tokens=False).ids for word in words]
    read_row(tokenizer, config, store, list(itertools.chain(*alone)), None)
    owned = [word for number in range(len(store)) for word in store[number].words.tolist() if word >= 0]
    assert owned == [word for word, ids in enumerate(alone) if ids]
    assert store.pieceless == alone.count([])
    for word, id in zip(store.words.tolist(), store.input_ids.tolist(), strict=True):
        assert word < 0 or id == alone[word][0]


@families
@quick
@given(windows(12, 32), st.lists(st.tuples(texts(6), texts(12)), min_size=1, max_size=6))
def test_rows_are_cut_alike_alone_and_together(tiny, family, config, pairs):
    tokenizer = tokenizer_of(tiny, family)
    rows = [Pair(question, pairs[0][1], "second") for question, _ in pairs]  # many questions on one document
    rows += [Pair(*pair) for pair in pairs]
    together = windows_or_error(tokenizer, config, rows, spans=True)
    if together is None:
        return
    alone = [windows_or_error(tokenizer, config, [row], spans=True) for row in rows]
    for name in ("input_ids", "token_type_ids", "spans", "numbers", "counts"):
        assert (getattr(together, name) == np.concatenate([getattr(one, name) for one in alone])).all(), name
    assert together.rows.tolist() == [row for row, one in enumerate(alone) for _ in range(len(one))]
    assert together.shortened == tuple(row for row, one in enumerate(alone) if one.shortened)
    assert together.crowded == tuple(row for row, one in enumerate(alone) if one.crowded)


@families
def test_no_rows_are_no_windows(tiny, family):
    store = maker_of(tiny, family)([])
    assert len(store) == len(store.lengths) == len(store.input_ids) == 0
    assert store.offsets.tolist() == [0]


@families
def test_batches_of_the_tokenizer_leave_no_seam(tiny, family, monkeypatch):
    rows = [f"{number} {'bread ' * number}" for number in range(40)]
    whole = maker_of(tiny, family)(rows, spans=True)
    for name, size in (("_BATCH_ROWS", 3), ("_BATCH_CHARACTERS", 50)):
        monkeypatch.setattr(f"bertkit.data.windows.{name}", size)
        parted = maker_of(tiny, family)(rows, spans=True)
        for array in ("input_ids", "offsets", "rows", "numbers", "counts", "spans"):
            assert (getattr(whole, array) == getattr(parted, array)).all()


@families
def test_a_truncation_of_the_tokenizer_cuts_nothing(tiny, family):
    tokenizer = tokenizer_of(tiny, family, fresh=True)
    maker = WindowMaker(tokenizer.backend_tokenizer, WindowsConfig(max_length=16, stride=0))
    before = maker(["bread " * 100])
    assert tokenizer(["bread " * 100], truncation=True, max_length=8, padding="max_length")["input_ids"]
    after = maker(["bread " * 100])
    assert (before.input_ids == after.input_ids).all()


@families
def test_the_cut_of_the_short_side_can_be_set(tiny, family):
    tokenizer = tokenizer_of(tiny, family)
    question, document = "a " * 30, "the " * 90
    for limit, expected in ((None, (32 - tokenizer.num_special_tokens_to_add(True)) // 2), (7, 7), (30, None)):
        config = WindowsConfig(max_length=32, stride=0, max_short_length=limit)
        store = WindowMaker(tokenizer.backend_tokenizer, config)([Pair(question, document, "second")])
        read_row(tokenizer, config, store, ids_of(tokenizer, document), ids_of(tokenizer, question))
        short = np.flatnonzero(store.input_ids == tokenizer.sep_token_id)[0] - 1
        assert short == expected or (expected is None and short < 30)
        assert store.shortened == (0,)


def test_a_tokenizer_that_drops_the_letter_a_keeps_its_texts():
    names = ["[PAD]", "[CLS]", "[SEP]", "C", "G", "T"]
    tokenizer = Tokenizer(models.BPE({name: id for id, name in enumerate(names)}, []))  # no token for what is unknown
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    store = WindowMaker(tokenizer, WindowsConfig(max_length=8, stride=0))([Pair("CaG", "T", "first")])
    assert store.input_ids.tolist() == tokenizer.encode("CaG", "T").ids == [1, 3, 4, 2, 5, 2]


def test_types_tell_the_sides_apart_where_the_model_has_them(tiny):
    store = maker_of(tiny, "wordpiece")([Pair("a a", "b b b", "second")])
    assert store.token_type_ids.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert not maker_of(tiny, "byte-level")([Pair("a a", "b b b", "second")]).token_type_ids.any()


def test_an_overlap_without_room_is_refused_with_the_largest_that_fits(tiny):
    for inputs, largest in ((["a"], 5), ([Pair("a", "a")], 3), ([Words(["a"])], 5)):
        assert len(maker_of(tiny, max_length=8, stride=largest)(inputs)) == 1
        with pytest.raises(BertkitError) as caught:
            maker_of(tiny, max_length=8, stride=largest + 1)(inputs)
        assert caught.value.message == (
            f"windows.stride: no row has room for an overlap of {largest + 1} tokens in windows of 8 "
            f"(at most {largest} fits)"
        )
        assert caught.value.hint == "raise windows.max_length, or lower windows.stride"


def test_windows_too_short_for_two_texts_are_refused_by_their_length(tiny):
    with pytest.raises(BertkitError) as caught:
        maker_of(tiny, "byte-level", max_length=5, stride=0)([Pair("a", "a")])
    assert caught.value.message == "windows.max_length: 5 tokens leave no room beside 4 special ones"
    assert caught.value.hint == "raise windows.max_length to 6 or more"

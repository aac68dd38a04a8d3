"""Hypothesis strategies, all in one file: texts and words that tokenizers stumble over, windows of every size."""

from __future__ import annotations

from hypothesis import strategies as st

from bertkit.recipe import WindowsConfig

PLAIN = ("a", "the", "bread", "rises", "oven.", "unbelievably", "1970", "(x)")
# a tokenizer drops, splits, joins or reorders some part of each of these
ODD = {
    "cjk": "北京",
    "kana": "パン",
    "accent, NFC": "caf\u00e9",
    "accent, NFD": "cafe\u0301",
    "two marks": "e\u0323\u0302",
    "thai": "ที่นี่",
    "ligature": "\ufb01ne",
    "no-break space": "a\u00a0b",
    "ideographic space": "\u3000",
    "zero-width space": "a\u200bb",
    "soft hyphen": "co\u00adop",
    "byte order mark": "\ufeffa",
    "variation selector": "❤\ufe0f",
    "emoji": "🙂",
    "joined emoji": "👩\u200d👩\u200d👧",
    "null": "a\x00b",
    "special tokens": "[SEP] </s>",
    "line end": "a\r\nb",
}
# WordPiece makes no piece of these
PIECELESS = ("", "\u200b", "\u00ad", "\ufeff", "\ufe0f", "\u00a0", " ", "\n", "\u0301")

pieces = st.sampled_from(PLAIN) | st.sampled_from(sorted(ODD.values())) | st.text(max_size=3)
separators = st.sampled_from([" ", " ", " ", "", "  ", "\n", "\u00a0"])


def texts(max_pieces: int = 40) -> st.SearchStrategy[str]:
    """Texts of up to so many pieces, plain and odd, with or without white space around them."""
    return st.lists(st.tuples(pieces, separators), max_size=max_pieces).map(
        lambda drawn: "".join(piece + separator for piece, separator in drawn)
    )


def plain_texts(max_words: int) -> st.SearchStrategy[str]:
    """One word again and again: a text of exactly so many tokens, which is what sizes of windows depend on."""
    return st.integers(0, max_words).map(lambda count: " ".join(["a"] * count))


def word_lists(min_size: int = 1, max_size: int = 60) -> st.SearchStrategy[list[str]]:
    """Words of a sentence; some of them leave no piece."""
    return st.lists(pieces | st.sampled_from(PIECELESS), min_size=min_size, max_size=max_size)


@st.composite
def windows(draw: st.DrawFn, min_length: int = 8, max_length: int = 64) -> WindowsConfig:
    """Windows of any length with any overlap, also with one that cannot work."""
    length = draw(st.integers(min_length, max_length))
    return WindowsConfig(
        max_length=length,
        stride=draw(st.integers(0, length)),
        max_short_length=draw(st.none() | st.integers(1, length)),
    )

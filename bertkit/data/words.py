"""Running text as words, for tasks that tag them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

JOINED_SCRIPTS = re.compile(  # Han and kana, written without spaces: every character is a word
    "[\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)


def words_of(text: str) -> list[str]:
    """Running text as words for tagging: punctuation marks and symbols apart, Han and kana by the character.

    Accents and joiners stay with what they follow, and so does an apostrophe between two letters (doesn't, l'eau);
    but 's at the end is a word, as it is in treebanks. Other scripts without spaces (Thai, Khmer) stay runs.
    """
    words: list[str] = []
    attached = in_word = False  # does a word end right here; does it end in a letter
    for index, character in enumerate(text):
        category = unicodedata.category(character)
        if character.isspace() or category in ("Cc", "Cs") or character in "\u200b\ufeff":
            attached = in_word = False
            continue
        is_letter = character.isalnum() and not JOINED_SCRIPTS.match(character)
        is_inner = character in "'\u2019" and in_word and is_spaced_letter(text[index + 1 : index + 2])
        is_ending = is_inner and text[index + 1] in "sS" and not text[index + 2 : index + 3].isalnum()
        is_inner = is_inner and not is_ending
        if attached and (category.startswith("M") or category == "Cf" or (in_word and is_letter) or is_inner):
            words[-1] += character
        else:
            words.append(character)
            attached, in_word = True, is_letter or is_ending
    return words


def is_spaced_letter(character: str) -> bool:
    """A letter of a script that is written with spaces."""
    return character.isalpha() and not JOINED_SCRIPTS.match(character)


def starts_in(words: Sequence[str], text: str) -> list[int] | None:
    """The character that each word begins at; None where the text does not hold the words in this order."""
    starts, end = [], 0
    for word in words:
        start = text.find(word, end)
        if start < 0:
            return None
        starts.append(start)
        end = start + len(word)
    return starts

"""How well answer texts agree with gold texts, by the rules of SQuAD 1.1 and 2.0."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bertkit.errors import BertkitError, did_you_mean
from bertkit.metrics.shown import mean

DROP_PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLE = re.compile(r"\b(?:a|an|the)\b")
# Scripts written without spaces, after NFKC: ideographs, with 々〆〇 and the later planes; kana; bopomofo.
IDEOGRAPHS = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNSPACED = IDEOGRAPHS + "\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff"
CHARACTER_OR_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


class Agreement(NamedTuple):
    """Two (N,) float64 columns: token F1 and exact match (0 or 1) of each prediction with its best gold text."""

    f1: np.ndarray
    exact: np.ndarray


def squad(
    predictions: Sequence[str], references: Sequence[Sequence[str]], language: str = "en"
) -> dict[str, float | None]:
    """Score one answer text a row against its gold texts, the best of them counting, as SQuAD 1.1 does.

    Texts are compared as bags of tokens: `english_tokens`, `chinese_tokens`. With "en" the numbers are those of the
    official script, also where it is odd: two texts that normalise to nothing match exactly but have an F1 of 0. Use
    "en" for every language whose published numbers do, as XQuAD's.

    Args:
        predictions: (N,) answer texts.
        references: (N,) gold texts of each row, one or more.
        language: "en" or "zh".
    Returns:
        `f1`, the headline, and `exact_match`; None when there is no row.
    Raises:
        BertkitError: a row has no gold text, or the language is unknown.

    Source: Rajpurkar et al. 2016, section 6.1; for "zh" Cui et al. 2019 (CMRC 2018), see `chinese_tokens`.
    """
    for row, golds in enumerate(references):
        if not len(golds):
            raise BertkitError(
                f"references: row {row} has no gold answer, and SQuAD 1.1 has no unanswerable questions",
                hint="leave the row out, or score with squad_v2, where no gold answer means: unanswerable",
            )
    f1, exact = answer_scores(predictions, references, language, nothing_is_an_answer=False)
    return {"f1": mean(f1), "exact_match": mean(exact)}


def squad_v2(
    predictions: Sequence[str],
    no_answer_scores: Sequence[float],
    references: Sequence[Sequence[str]],
    language: str = "en",
    threshold: float | None = None,
) -> dict[str, float | None]:
    """Score one answer text a row where a question may have no answer, as SQuAD 2.0 does.

    The `best_` scores are those of the threshold that is best on these very rows. They mean something only when
    `predictions` holds the best text of every row, also where the model would rather not answer: give those texts, and
    the threshold in use as `threshold`.

    Args:
        predictions: (N,) answer texts.
        no_answer_scores: (N,) how much the model prefers no answer, for example null score - best span score.
        references: (N,) gold texts of each row; none where the question has no answer, and only a text that
            normalises to nothing, such as "", is right.
        language: "en" or "zh", as in `squad`.
        threshold: where the score is above it the prediction counts as ""; None when `predictions` are final.
    Returns:
        `f1`, the headline, and `exact_match` over all rows; `has_answer_f1`, `has_answer_exact_match` and
        `no_answer_accuracy` over the answerable and the unanswerable rows, None where there are none; `best_f1`,
        `best_f1_threshold`, `best_exact_match`, `best_exact_match_threshold`, None when a score is NaN or none is
        finite. The thresholds are in the unit of the scores.
    Raises:
        BertkitError: the language is unknown.

    Source: Rajpurkar et al. 2018; its official script, but for two cases that `best_threshold` names.
    """
    assert len(no_answer_scores) == len(predictions), f"{len(no_answer_scores)} scores, {len(predictions)} predictions"
    scores = np.asarray(no_answer_scores, dtype=np.float64)
    has_answer = np.array([len(golds) > 0 for golds in references], dtype=bool)
    answered = answer_scores(predictions, references, language)
    f1_threshold, best_f1 = best_threshold(scores, answered.f1, has_answer)
    exact_threshold, best_exact = best_threshold(scores, answered.exact, has_answer)
    abstains = np.zeros(len(scores), dtype=bool) if threshold is None else scores > threshold
    f1, exact = (np.where(abstains, ~has_answer, column) for column in answered)
    return {
        "f1": mean(f1),
        "exact_match": mean(exact),
        "has_answer_f1": mean(f1[has_answer]),
        "has_answer_exact_match": mean(exact[has_answer]),
        "no_answer_accuracy": mean(exact[~has_answer]),
        "best_f1": best_f1,
        "best_f1_threshold": f1_threshold,
        "best_exact_match": best_exact,
        "best_exact_match_threshold": exact_threshold,
    }


def best_threshold(
    scores_null_minus_best: Sequence[float], f1_answer: Sequence[float], has_answer: Sequence[bool]
) -> tuple[float | None, float | None]:
    """Find the threshold for which "no answer where the score is above it" gives the best mean F1.

    One sort and one running sum over all N + 1 ways to cut the sorted rows; of equally good cuts the lowest, the one
    that answers least. As the official search of SQuAD 2.0, but for two cases, so that applying the threshold always
    gives the F1 returned: rows of equal score are never parted, and when no answer is best everywhere, the threshold
    lies just below the lowest score (the script says 0, which is right for probabilities only). The threshold is
    always finite: a row of score +inf, one without any span, is never answered, a row of -inf always.

    Args:
        scores_null_minus_best: (N,) how much no answer is preferred; any unit.
        f1_answer: (N,) what the row is worth when its text is given: its F1, or its exact match.
        has_answer: (N,) whether the question has one; without, abstaining is worth 1, with, 0.
    Returns:
        The threshold and the mean; both None when a score is NaN or no score is finite.
    """
    scores, worth = (np.asarray(column, dtype=np.float64) for column in (scores_null_minus_best, f1_answer))
    unanswerable = ~np.asarray(has_answer, dtype=bool)
    finite = np.isfinite(scores)
    if np.isnan(scores).any() or not finite.any():
        return None, None
    order = np.flatnonzero(finite)[np.argsort(scores[finite], kind="stable")]
    silent = np.where(scores == -np.inf, worth, unanswerable).sum()
    totals = silent + np.concatenate([[0.0], np.cumsum((worth - unanswerable)[order])])  # [k]: answer the k lowest
    cuts = np.concatenate([[math.nextafter(scores[order[0]], -math.inf)], scores[order]])
    parts_equals = np.concatenate([cuts[1:] == cuts[:-1], [False]])
    best = int(np.argmax(np.where(parts_equals, -np.inf, totals)))
    return float(cuts[best]), float(min(totals[best] / len(scores), 1.0))


def answer_scores(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    language: str = "en",
    nothing_is_an_answer: bool = True,
) -> Agreement:
    """F1 and exact match of each row, each the best over the row's gold texts; the columns are those of `squad`.

    Args:
        nothing_is_an_answer: SQuAD 2.0: two texts that normalise to nothing have an F1 of 1, and such gold texts count
            only where there is no other. SQuAD 1.1: their F1 is 0.
    """
    if language not in TOKENS:
        raise BertkitError(f"language: there are no rules for {language!r}", hint=did_you_mean(language, TOKENS))
    assert len(predictions) == len(references), f"{len(predictions)} predictions for {len(references)} references"
    read = TOKENS[language]
    f1, exact = np.zeros(len(predictions)), np.zeros(len(predictions))
    for row, (prediction, golds) in enumerate(zip(predictions, references, strict=True)):
        assert not isinstance(golds, str), f"row {row}: the gold texts are one string, {golds!r}, not a list"
        guess = read(prediction)
        choices = {read(gold) for gold in golds}
        if nothing_is_an_answer:
            choices = choices - {()} or {()}
        if guess in choices:
            exact[row], f1[row] = 1.0, float(bool(guess) or nothing_is_an_answer)
        else:
            f1[row] = max(token_f1(guess, gold) for gold in choices)
    return Agreement(f1, exact)


def token_f1(guess: tuple[str, ...], gold: tuple[str, ...]) -> float:
    """F1 of two bags of tokens."""
    shared = sum((Counter(guess) & Counter(gold)).values())
    return 2 * shared / (len(guess) + len(gold)) if shared else 0.0


@lru_cache(maxsize=2**16)  # the gold texts come back at every evaluation
def english_tokens(text: str) -> tuple[str, ...]:
    """Words, lower case, without ASCII punctuation and without the articles a, an, the, in this order.

    What a mark parted is joined ("don't" is "dont"); marks beyond ASCII, such as 《 or –, stay. Unicode forms are left
    as they are: a composed é is not a decomposed one. Source: Rajpurkar et al. 2016, the script of SQuAD 1.1.
    """
    return tuple(ARTICLE.sub(" ", text.lower().translate(DROP_PUNCTUATION)).split())


@lru_cache(maxsize=2**16)
def chinese_tokens(text: str) -> tuple[str, ...]:
    """Every ideograph and kana apart; a run of anything else, such as a Latin word or a number, is one token.

    Before that: NFKC, so that full-width and half-width forms are one; lower case; and every character of the Unicode
    categories P (punctuation: 《》，。 and ASCII), S (symbols) and Cf (invisible marks) is dropped. Articles stay.

    In the spirit of CMRC 2018 (Cui et al. 2019), not its script, so numbers differ a little: there F1 counts the
    longest common run, and a fixed list of marks is dropped. Here F1 is over bags, as in SQuAD.
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    kept = (character for character in folded if not unicodedata.category(character).startswith(("P", "S", "Cf")))
    return tuple(CHARACTER_OR_WORD.findall("".join(kept)))


TOKENS = {"en": english_tokens, "zh": chinese_tokens}

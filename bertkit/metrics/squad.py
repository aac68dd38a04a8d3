"""How well answer texts agree with gold texts, by the rules of SQuAD 1.1 and 2.0."""

import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from bertkit.errors import BertkitError, did_you_mean
from bertkit.metrics.shown import mean

DROP_PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLE = re.compile(r"\b(?:a|an|the)\b")
# Scripts written without spaces, after NFKC: ideographs, with 々〆〇 and the later planes; kana; bopomofo.
IDEOGRAPHS = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNSPACED = IDEOGRAPHS + "\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff"
CHARACTER_OR_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def squad(
    predictions: Sequence[str], references: Sequence[Sequence[str]], language: str = "en"
) -> dict[str, float | None]:
    """Score one answer text a row against the best of its gold texts, as SQuAD 1.1 does.

    Args:
        predictions: (N,) answer texts.
        references: (N,) gold texts of each row, one or more.
        language: how texts become bags of tokens: "en" as in the official script (`english_tokens`), for all languages
            that are published so, such as those of XQuAD; "zh" by `chinese_tokens`.
    Returns:
        `f1`, the headline, and `exact_match`; None when there is no row.
    Raises:
        BertkitError: a row has no gold text, or the language is unknown.

    Source: Rajpurkar et al. 2016, section 6.1.
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

    Args:
        predictions: (N,) answer texts. The `best_` scores mean something only when it is the best text of every row,
            also where the model would rather not answer.
        no_answer_scores: (N,) how much the model prefers no answer, for example null score - best span score.
        references: (N,) gold texts of each row; none where the question has no answer, and only a text that
            normalises to nothing, such as "", is right.
        language: as in `squad`.
        threshold: where the score is above it the prediction counts as ""; None when `predictions` are final.
    Returns:
        `f1`, the headline, and `exact_match` over all rows; `has_answer_f1`, `has_answer_exact_match` and
        `no_answer_accuracy` over the answerable and the unanswerable rows, None where there are none; `best_f1` and
        `best_exact_match` at the thresholds that are best on these very rows, `best_f1_threshold` and
        `best_exact_match_threshold`, in the unit of the scores; None as in `best_threshold`.
    Raises:
        BertkitError: the language is unknown.

    Source: Rajpurkar et al. 2018; its official script, but for two cases that `best_threshold` names.
    """
    assert len(no_answer_scores) == len(predictions), f"{len(no_answer_scores)} scores, {len(predictions)} predictions"
    scores = np.asarray(no_answer_scores, dtype=np.float64)
    has_answer = np.array([len(golds) > 0 for golds in references], dtype=bool)
    answered = answer_scores(predictions, references, language)
    f1_threshold, best_f1 = best_threshold(scores, answered[0], has_answer)
    exact_threshold, best_exact = best_threshold(scores, answered[1], has_answer)
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
    no_answer_scores: Sequence[float], worth: Sequence[float], has_answer: Sequence[bool]
) -> tuple[float | None, float | None]:
    """Find the threshold for which "no answer where the score is above it" gives the best mean F1.

    Of equally good thresholds it is the lowest, which answers least. As the official search of SQuAD 2.0, but for two
    cases, so that applying the threshold always gives the F1 returned: rows of equal score are never parted, and when
    no answer is best everywhere, the threshold lies just below the lowest score (the script says 0, which is right for
    probabilities only). It is always finite: a row of score +inf, one without any span, is never answered, a row of
    -inf always.

    Args:
        no_answer_scores: (N,) how much no answer is preferred; any unit.
        worth: (N,) what the row scores when its text is given: its F1, or its exact match.
        has_answer: (N,) whether the question has one; abstaining scores 0 where it has, 1 where it has none.
    Returns:
        The threshold and the mean; both None when a score is NaN or no score is finite.
    """
    scores, worth = (np.asarray(column, dtype=np.float64) for column in (no_answer_scores, worth))
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
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) float64 twice: token F1 and exact match (0 or 1) of each row of `squad`'s columns with its best gold text.

    Two texts that normalise to nothing match exactly. In SQuAD 2.0 (`nothing_is_an_answer`) their F1 is 1, and such
    gold texts count only where there is no other; in the script of SQuAD 1.1 their F1 is 0.
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
    return f1, exact


def token_f1(guess: tuple[str, ...], gold: tuple[str, ...]) -> float:
    """F1 of two bags of tokens."""
    shared = sum((Counter(guess) & Counter(gold)).values())
    return 2 * shared / (len(guess) + len(gold)) if shared else 0.0


@lru_cache(maxsize=2**16)  # the gold texts come back at every evaluation
def english_tokens(text: str) -> tuple[str, ...]:
    """Words in lower case, without ASCII punctuation, then without the articles a, an and the.

    What a mark parts is joined ("don't" is "dont"); marks beyond ASCII, such as 《 or –, stay, and a composed é is not
    a decomposed one. Source: Rajpurkar et al. 2016, the script of SQuAD 1.1.
    """
    return tuple(ARTICLE.sub(" ", text.lower().translate(DROP_PUNCTUATION)).split())


@lru_cache(maxsize=2**16)
def chinese_tokens(text: str) -> tuple[str, ...]:
    """Each ideograph and each kana is a token; so is a run of anything else, such as a Latin word or a number.

    Before that: NFKC, which makes full-width and half-width forms one; lower case; and no characters of the Unicode
    categories P (punctuation: 《》，。 and ASCII), S (symbols) and Cf (invisible marks). Articles stay. In the spirit
    of CMRC 2018 (Cui et al. 2019), whose numbers differ a little: in its script F1 counts the longest common run, and
    the marks to drop are a fixed list.
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    kept = (character for character in folded if not unicodedata.category(character).startswith(("P", "S", "Cf")))
    return tuple(CHARACTER_OR_WORD.findall("".join(kept)))


TOKENS = {"en": english_tokens, "zh": chinese_tokens}

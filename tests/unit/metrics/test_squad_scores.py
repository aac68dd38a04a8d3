"""Answer scores on cases small enough to check by hand."""

import math
import random
import time

import pytest

from bertkit.errors import BertkitError
from bertkit.metrics.squad import answer_scores, best_threshold, chinese_tokens, english_tokens, squad, squad_v2

pytestmark = pytest.mark.filterwarnings("error")


def one(prediction: str, *golds: str, language: str = "en") -> tuple[float, float]:
    """F1 and exact match of a single row."""
    scores = squad([prediction], [list(golds)], language)
    assert list(scores) == ["f1", "exact_match"]
    return scores["f1"], scores["exact_match"]


def test_f1_counts_shared_words():
    assert one("the red brick house", "red house") == (pytest.approx(0.8), 0.0)  # precision 2/3, recall 1
    assert one("red red house", "red house house")[0] == pytest.approx(2 / 3)  # a bag: each copy counts once


def test_case_articles_punctuation_and_white_space_do_not_count():
    assert one("  The  U.S. Army, ", "us army") == (1.0, 1.0)
    assert one("An apple a day", "apple day") == (1.0, 1.0)
    assert one("theatre", "atre") == (0.0, 0.0)  # an article is a whole word
    assert one("don't", "dont") == (1.0, 1.0)


def test_english_words_are_cut_in_the_order_of_the_official_script():
    assert english_tokens("The A-Team") == ("ateam",)  # marks go before articles
    assert english_tokens("the—end") == ("—end",)  # a dash beyond ASCII stays, and bounds the article
    assert english_tokens("《红楼梦》") == ("《红楼梦》",)


def test_the_best_gold_answer_counts():
    assert one("Paris", "London", "in Paris", "Paris") == (1.0, 1.0)
    assert one("in Paris", "London", "Paris")[0] == pytest.approx(2 / 3)


def test_an_empty_prediction_scores_nothing():
    assert one("", "Paris") == (0.0, 0.0)
    assert one("", "Paris", language="zh") == (0.0, 0.0)


def test_two_texts_of_nothing_match_but_share_no_word_as_in_the_script_of_1_1():
    assert one("the", "The!") == (0.0, 1.0)
    assert one("", "。", language="zh") == (0.0, 1.0)


def test_no_row_leaves_every_score_undefined():
    assert squad([], []) == {"f1": None, "exact_match": None}
    assert set(squad_v2([], [], []).values()) == {None}


def test_a_row_without_gold_answer_is_refused_and_named():
    with pytest.raises(BertkitError, match="references: row 1 has no gold answer") as raised:
        squad(["a", "b"], [["a"], []])
    assert "squad_v2" in raised.value.hint


@pytest.mark.parametrize("language", ["zn", "de", ""])
def test_a_language_without_rules_is_refused(language):
    for score in (lambda: squad(["a"], [["a"]], language), lambda: squad_v2(["a"], [0.0], [["a"]], language)):
        with pytest.raises(BertkitError, match=f"language: there are no rules for '{language}'") as raised:
            score()
        assert raised.value.hint.endswith("one of: en, zh")


def test_misshapen_columns_are_our_bug():
    with pytest.raises(AssertionError, match="1 predictions for 2 references"):
        squad(["a"], [["a"], ["b"]])
    with pytest.raises(AssertionError, match="the gold texts are one string, 'Paris', not a list"):
        squad(["P"], ["Paris"])
    with pytest.raises(AssertionError, match="2 scores, 1 predictions"):
        squad_v2(["a"], [0.0, 1.0], [["a"]])


def test_chinese_answers_share_characters_where_the_english_script_sees_one_word():
    assert one("1970年代後", "1970年代", language="en") == (0.0, 0.0)
    assert one("1970年代後", "1970年代", language="zh") == (pytest.approx(6 / 7), 0.0)


def test_chinese_marks_and_full_width_forms_do_not_count():
    assert one("《红楼梦》，", "红楼梦", language="zh") == (1.0, 1.0)
    assert one("“ＡＢＣ　１２３”。", "abc 123", language="zh") == (1.0, 1.0)
    assert one("１００％", "100", language="zh") == (1.0, 1.0)
    assert one("\u200b北 京\ufeff", "北京", language="zh") == (1.0, 1.0)
    assert one("《红楼梦》", "红楼梦", language="en") == (0.0, 0.0)


def test_chinese_texts_are_cut_into_characters_numbers_and_foreign_words():
    assert chinese_tokens("在Beyoncé的1998年，又々カ ok") == ("在", "beyoncé", "的", "1998", *"年又々カ", "ok")
    assert chinese_tokens("𠮷野家 한국 The the") == (*"𠮷野家", "한국", "the", "the")
    assert chinese_tokens(" 。…—· ") == ()


def test_composed_and_decomposed_letters_are_one_in_chinese_texts_and_two_in_english_ones():
    composed, decomposed = "Beyonc\u00e9", "Beyonce\u0301"
    assert one(composed, decomposed, language="zh") == (1.0, 1.0)
    assert one(composed, decomposed, language="en") == (0.0, 0.0)  # as the official script


V2_KEYS = ["f1", "exact_match", "has_answer_f1", "has_answer_exact_match", "no_answer_accuracy"]
V2_KEYS += ["best_f1", "best_f1_threshold", "best_exact_match", "best_exact_match_threshold"]


def test_unanswerable_rows_want_silence():
    scores = squad_v2(["", "Rome", "Paris", "in Paris"], [0.0] * 4, [[], [], ["Paris"], ["Paris"]])
    assert list(scores) == V2_KEYS
    assert [scores[key] for key in V2_KEYS[:5]] == pytest.approx([(1 + 0 + 1 + 2 / 3) / 4, 0.5, 5 / 6, 0.5, 0.5])


def test_each_row_has_its_own_scores():
    f1, exact = answer_scores(["", "in Paris", "the"], [[], ["Paris", "Rome"], ["x"]])
    assert (f1.tolist(), exact.tolist()) == ([1.0, pytest.approx(2 / 3), 0.0], [1.0, 0.0, 0.0])


def test_a_kind_of_row_that_does_not_occur_has_no_score():
    assert squad_v2(["Paris"], [0.0], [["Paris"]])["no_answer_accuracy"] is None
    silent = squad_v2([""], [0.0], [[]])
    assert (silent["has_answer_f1"], silent["has_answer_exact_match"], silent["f1"]) == (None, None, 1.0)


def test_gold_texts_of_nothing_count_only_where_there_is_no_other():
    assert squad_v2(["the"], [0.0], [["The"]])["f1"] == 1.0
    assert squad_v2([""], [0.0], [["The", "Paris"]])["exact_match"] == 0.0


def test_a_threshold_silences_the_rows_above_it():
    predictions, scores, references = ["Rome", "Paris", "Oslo"], [3.0, -1.0, 2.0], [[], ["Paris"], ["Oslo"]]
    assert squad_v2(predictions, scores, references)["f1"] == pytest.approx(2 / 3)
    assert squad_v2(predictions, scores, references, threshold=2.0)["f1"] == 1.0
    silenced = squad_v2(predictions, scores, references, threshold=0.0)
    assert (silenced["f1"], silenced["has_answer_f1"], silenced["no_answer_accuracy"]) == (2 / 3, 0.5, 1.0)
    assert (silenced["best_f1"], silenced["best_f1_threshold"]) == (1.0, 2.0)


def test_the_best_threshold_is_the_lowest_of_the_best():
    assert best_threshold([0.1, 0.2, 0.9], [1.0, 0.0, 0.0], [True, True, False]) == (0.1, pytest.approx(2 / 3))


def test_rows_of_equal_score_are_never_parted():
    # the answerable row alone would give 1.0, but no threshold can answer it and not its neighbour
    assert best_threshold([5.0, 5.0], [1.0, 0.0], [True, False])[1] == 0.5


def test_where_silence_is_best_everywhere_the_threshold_is_below_every_score():
    threshold, f1 = best_threshold([-3.0, -2.0], [0.0, 0.0], [False, False])
    assert threshold < -3.0
    assert (math.isfinite(threshold), f1) == (True, 1.0)


def test_a_score_that_is_no_number_leaves_the_best_threshold_undefined():
    assert best_threshold([0.0, math.nan], [1.0, 1.0], [True, True]) == (None, None)
    assert best_threshold([math.inf], [1.0], [True]) == (None, None)
    assert squad_v2(["a", "b"], [0.0, math.nan], [["a"], ["b"]])["best_f1"] is None


def test_a_row_of_infinite_score_is_out_of_the_thresholds_reach():
    assert best_threshold([0.5, math.inf], [1.0, 1.0], [True, False]) == (0.5, 1.0)
    assert best_threshold([0.5, math.inf], [1.0, 1.0], [True, True]) == (0.5, 0.5)
    threshold, f1 = best_threshold([0.5, -math.inf], [0.0, 1.0], [False, True])
    assert (0.4 < threshold < 0.5, f1) == (True, 1.0)


def test_a_dev_set_is_scored_in_a_second():
    rng = random.Random(0)
    words = [f"word{number}" for number in range(5000)]

    def text() -> str:
        return " ".join(rng.choice(words) for _ in range(rng.randrange(1, 6)))

    predictions, references = [text() for _ in range(10_570)], [[text() for _ in range(3)] for _ in range(10_570)]
    start = time.process_time()
    squad(predictions, references)
    assert time.process_time() - start < 2.0  # 0.2 s measured; room for a busy machine

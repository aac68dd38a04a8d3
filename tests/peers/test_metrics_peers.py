"""Our scores against other people's: scikit-learn, scipy, seqeval, a second SQuAD script, `evaluate`."""

import os
import socket
import string
import subprocess
import sys
import unicodedata
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit import metrics
from bertkit.metrics.classification import binary_f1, classification, multilabel
from bertkit.metrics.regression import regression
from bertkit.metrics.squad import best_threshold, squad, squad_v2
from bertkit.metrics.tagging import spans, spans_by_type, tagging

ROOT = Path(__file__).parents[2]
SEEDS = range(5)
FUNCTIONS = {
    function.__name__: function
    for function in (classification, binary_f1, multilabel, regression, tagging, spans, squad, squad_v2)
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("class_count", [2, 3, 7])
def test_label_scores_equal_scikit_learn(seed, class_count):
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    rng = np.random.default_rng((seed, class_count))
    names = np.array([f"label {code}" for code in range(class_count)])
    references = names[rng.integers(class_count, size=200)]
    predictions = np.where(rng.random(200) < 0.5, references, names[rng.integers(class_count, size=200)])
    assert classification(predictions.tolist(), references.tolist()) == pytest.approx(
        {
            "accuracy": accuracy_score(references, predictions),
            "f1_macro": f1_score(references, predictions, average="macro"),
            "matthews": matthews_corrcoef(references, predictions),
        }
    )
    positive = str(names[0])
    expected = f1_score(references == positive, predictions == positive)
    assert binary_f1(predictions.tolist(), references.tolist(), positive)["f1"] == pytest.approx(expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_multilabel_scores_equal_scikit_learn(seed):
    from sklearn.metrics import accuracy_score, f1_score

    rng = np.random.default_rng(seed)
    labels = list("abcde")
    guesses, truths = rng.random((60, 5)) < 0.4, rng.random((60, 5)) < 0.4
    predictions, references = ([list(np.array(labels)[row]) for row in table] for table in (guesses, truths))
    assert multilabel(predictions, references, labels) == pytest.approx(
        {
            "f1_micro": f1_score(truths, guesses, average="micro"),
            "f1_macro": f1_score(truths, guesses, average="macro"),
            "subset_accuracy": accuracy_score(truths, guesses),
        }
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_number_scores_equal_scipy_and_numpy(seed):
    from scipy.stats import rankdata

    rng = np.random.default_rng(seed)
    references = rng.integers(0, 11, size=80) / 2  # with ties, as in STS-B
    predictions = references + rng.normal(size=80)
    scores = regression(predictions.tolist(), references.tolist())
    assert scores["pearson"] == pytest.approx(np.corrcoef(predictions, references)[0, 1])
    assert scores["spearman"] == pytest.approx(np.corrcoef(rankdata(predictions), rankdata(references))[0, 1])
    assert scores["mse"] == pytest.approx(np.var(predictions - references) + np.mean(predictions - references) ** 2)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.filterwarnings("ignore::seqeval.metrics.v1.UndefinedMetricWarning")
def test_entity_scores_equal_seqeval(seed):
    from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score
    from seqeval.metrics.sequence_labeling import get_entities as seqeval_entities

    rng = np.random.default_rng(seed)
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-A-B", "I-A-B", "B", "I"][: rng.integers(1, 10)]
    if seed % 3 == 0:
        tags += ["E-PER", "S-PER", "E-LOC", "S-LOC", "E", "S"]
    lengths = rng.integers(0 if seed % 2 else 1, 9, size=rng.integers(1, 25))
    references = [rng.choice(tags, size=length).tolist() for length in lengths]
    predictions = [[tag if rng.random() < 0.7 else str(rng.choice(tags)) for tag in row] for row in references]
    ours = {name: score or 0.0 for name, score in spans(predictions, references).items()}  # seqeval: undefined is 0
    peers = {"f1": f1_score, "precision": precision_score, "recall": recall_score}
    assert ours == pytest.approx({name: peer(references, predictions, zero_division=0) for name, peer in peers.items()})
    true, found = set(seqeval_entities(references)), set(seqeval_entities(predictions))
    assert spans_by_type(predictions, references) == {
        name: tuple(sum(kind == name for kind, *_ in some) for some in (true & found, found, true))
        for name in sorted({kind for kind, *_ in true | found})
    }
    if sum(lengths):
        assert tagging(predictions, references)["accuracy"] == pytest.approx(accuracy_score(references, predictions))


# A second script, from the rules alone: characters scanned one by one, tokens matched by merging sorted lists.


def is_letter(character: str) -> bool:
    return character.isalnum() or character == "_"


def english(text: str) -> str:
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    runs = ["".join(run) for _, run in groupby(kept, key=is_letter)]
    return " ".join("".join(" " if run in {"a", "an", "the"} else run for run in runs).split())


def chinese(text: str) -> str:
    out = []
    for character in unicodedata.normalize("NFKC", text).lower():
        category, name = unicodedata.category(character), unicodedata.name(character, "")
        alone = name.startswith(("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA"))
        if category[0] not in "PS" and category != "Cf":
            out.append(f" {character} " if alone else character)
    return " ".join("".join(out).split())


def merged_f1(one: list[str], other: list[str]) -> float:
    one, other, shared = sorted(one), sorted(other), 0
    left = right = 0
    while left < len(one) and right < len(other):
        if one[left] == other[right]:
            shared, left, right = shared + 1, left + 1, right + 1
        elif one[left] < other[right]:
            left += 1
        else:
            right += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(one), shared / len(other)
    return 2 * precision * recall / (precision + recall)


def second_squad(predictions, references, normalise):
    f1 = exact = 0.0
    for prediction, golds in zip(predictions, references, strict=True):
        guess = normalise(prediction)
        f1 += max(merged_f1(guess.split(), normalise(gold).split()) for gold in golds)
        exact += max(guess == normalise(gold) for gold in golds)
    return {"f1": f1 / len(predictions), "exact_match": exact / len(predictions)}


def second_squad_v2(prediction, golds, normalise):
    guess, golds = normalise(prediction), [normalise(gold) for gold in golds if normalise(gold)] or [""]
    if not guess or golds == [""]:
        return float(guess in golds), float(guess in golds)
    return max(merged_f1(guess.split(), gold.split()) for gold in golds), float(guess in golds)


NORMALISE = {"en": english, "zh": chinese}
PIECES = [*"a'-—_x7%°红楼《》，１éカ々𠮷ＡẞİⅧ", " ", "  ", "\u00a0", "\u3000", "\u200b", "e\u0301"]
PIECES += ["the", "The ", "an", "U.S.", "19"]
texts = st.lists(st.sampled_from(PIECES), max_size=7).map("".join) | st.text(st.characters(max_codepoint=0x2FF))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1), st.sampled_from(["en", "zh"]))
def test_answer_scores_equal_a_second_script(rows, language):
    predictions, references = zip(*rows, strict=True)
    expected = second_squad(predictions, references, NORMALISE[language])
    assert squad(predictions, references, language) == pytest.approx(expected)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(texts, st.lists(texts, max_size=3)), min_size=1), st.sampled_from(["en", "zh"]))
def test_answer_scores_with_silence_equal_a_second_script(rows, language):
    predictions, references = zip(*rows, strict=True)
    scores = squad_v2(predictions, [0.0] * len(rows), references, language)
    expected = np.array([second_squad_v2(*row, NORMALISE[language]) for row in rows])
    answerable = np.array([bool(golds) for golds in references])
    assert [scores["f1"], scores["exact_match"]] == pytest.approx(expected.mean(axis=0).tolist())
    if answerable.any():
        pair = [scores["has_answer_f1"], scores["has_answer_exact_match"]]
        assert pair == pytest.approx(expected[answerable].mean(axis=0).tolist())
    if not answerable.all():
        assert scores["no_answer_accuracy"] == pytest.approx(expected[~answerable, 1].mean())


@pytest.mark.parametrize("seed", range(20))
def test_best_threshold_equals_the_walk_of_the_official_search(seed):
    rng = np.random.default_rng(seed)
    scores, has_answer = rng.random(50), rng.random(50) < 0.6
    worth = np.where(has_answer, rng.random(50), rng.random(50) < 0.2)
    total = best = sum(not answerable for answerable in has_answer)
    threshold = np.nextafter(scores.min(), -1)  # the script: 0; nothing to tell apart as long as scores are positive
    for row in sorted(range(50), key=lambda row: scores[row]):
        total += worth[row] if has_answer[row] else worth[row] - 1  # the answer is worth 1 there when it is ""
        if total > best + 1e-12:
            best, threshold = total, scores[row]
    our_threshold, our_f1 = best_threshold(scores, worth, has_answer)
    assert our_f1 == pytest.approx(best / 50)
    assert our_threshold == threshold


# Each name once: columns, then what `compute` takes beside them.
CASES = {
    "classification": ({"predictions": ["好", "坏", "é", "好"], "references": ["好", "好", "é", "坏"]}, {}),
    "binary_f1": ({"predictions": ["是", "否", "是"], "references": ["是", "是", "否"]}, {"positive": "是"}),
    "multilabel": (
        {"predictions": [["甲"], [], ["甲", "乙"]], "references": [["甲"], ["乙"], []]},
        {"labels": ["甲", "乙", "丙"]},
    ),
    "regression": ({"predictions": [1.5, 2.0, 2.5], "references": [1.0, 3.0, 2.0]}, {}),
    "tagging": ({"predictions": [["NOUN"], ["VERB", "X"]], "references": [["NOUN"], ["NOUN", "X"]]}, {}),
    "spans": ({"predictions": [["B-人"], ["O", "I-地"]], "references": [["B-人"], ["O", "O"]]}, {}),
    "squad": (
        {"predictions": ["1970年代後", "巴黎"], "references": [["1970年代"], ["《巴黎》", "里昂"]]},
        {"language": "zh"},
    ),
    "squad_v2": (
        {
            "predictions": ["", "Zoë", "x"],
            "references": [[], ["Zoë", "a Zoë"], []],
            "no_answer_scores": [2.0, -1.0, 0.5],
        },
        {"threshold": 0.0},
    ),
}


@pytest.fixture
def attempts(monkeypatch, tmp_path):
    """A list that grows with every attempt to reach the network, all of which fail; an empty cache for `evaluate`."""
    import evaluate

    seen = []

    def refuse(*target, **_):
        seen.append(target)
        raise OSError("no network in this test")

    for owner, name in [(socket.socket, "connect"), (socket.socket, "connect_ex"), (socket, "getaddrinfo")]:
        monkeypatch.setattr(owner, name, refuse)
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path)
    return seen


def test_the_block_sees_an_attempt(attempts):
    with pytest.raises(OSError, match="no network in this test"):
        socket.create_connection(("127.0.0.1", 9))
    assert len(attempts) == 1


def test_every_metric_has_a_case():
    assert set(CASES) == set(metrics.names()) == set(FUNCTIONS)


@pytest.mark.parametrize("name", CASES)
def test_the_evaluate_metric_equals_the_function_without_a_network(name, attempts):
    import evaluate

    columns, options = CASES[name]
    expected = FUNCTIONS[name](**columns, **options)
    metric = metrics.load(name)
    assert isinstance(metric, evaluate.Metric)
    assert metric.name == name
    at_once = metric.compute(**columns, **options)
    assert at_once == expected
    assert list(at_once) == list(expected)

    singular = {"predictions": "prediction", "references": "reference"}
    for row in zip(*columns.values(), strict=True):
        metric.add(**{singular.get(column, column): value for column, value in zip(columns, row, strict=True)})
    assert metric.compute(**options) == expected

    metric.add_batch(**{column: values[:1] for column, values in columns.items()})
    metric.add_batch(**{column: values[1:] for column, values in columns.items()})
    assert metric.compute(**options) == expected
    assert attempts == []


def test_loading_and_scoring_never_reach_for_the_network_in_a_fresh_offline_process(tmp_path):
    program = """
import socket, sys
sys.addaudithook(lambda event, details: sys.exit(f"reached for the network: {event}")
                 if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"} else None)
from bertkit import metrics
for name in metrics.names():
    metrics.load(name)
print(metrics.load("classification").compute(predictions=["好"], references=["好"])["accuracy"])
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "1.0\n"), done.stderr

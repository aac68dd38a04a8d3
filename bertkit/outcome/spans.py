"""Which questions are answered well, and the wrong answers that the model is surest of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from bertkit.findings import Finding, Passage, Passages, Span, Table
from bertkit.metrics import squad
from bertkit.outcome.scored import WORST, Scored, mean, percent

OTHER = "other"
NO_ANSWER = "(no answer)"
# group -> pattern; the leftmost in a question counts, and of those at one position the first here
QUESTION_WORDS = {
    "en": {
        "how many/much": r"\bhow (?:many|much)\b",
        "who": r"\bwho(?:m|se)?\b",
        **{word: rf"\b{word}\b" for word in ("what", "when", "where", "which", "why", "how")},
    },
    "zh": {
        "何时/什么时候": "何[时時]|什[么麼][时時]候",
        "为什么": "(?<![称稱成作认認])[为為](?:什[么麼]|何)",  # 称为什么 asks what something is called
        "怎么/如何": "怎[么麼样樣]|如何",
        "什么": "什[么麼]",
        "多少/几": "多少|[几幾]",
        "谁": "[谁誰]",
        "哪": "哪",
    },
}
# the longest answer of each group, in words or characters
LENGTHS = {"en": (1, 2, 4, 8), "zh": (2, 4, 8, 16)}


def findings(scored: Scored) -> list[Finding]:
    """Tables by what a question and its answer are like, and questions to read."""
    task, rows = scored.task, scored.rows
    language, unanswerable = getattr(task, "language", "en"), bool(getattr(task, "unanswerable", False))
    golds = [[answer["text"] for answer in answers] for answers in scored.golds]
    agreement = squad.answer_scores(scored.answers, golds, language, nothing_is_an_answer=unanswerable)
    units = "characters" if language == "zh" else "words"
    question = task.reads.text[0]

    def table(title: str, first: str, groups: Sequence[str], names: Iterable[str], caption: str = "") -> Table:
        return by_group(title, f"{caption} On {scored.where}.".strip(), first, groups, list(names), agreement)

    edges = LENGTHS[language]
    found = [
        table("By question word", "question word", (*QUESTION_WORDS[language], OTHER),
              map(question_word(language), (row[question] for row in rows))),
        table("By length of the gold answer", units, (*length_groups(edges), NO_ANSWER),
              (length_group(length(texts[0], language), edges) if texts else NO_ANSWER for texts in golds),
              f"In {units}, of the first gold answer."),
        table("By windows", "windows", ("1", "2", "3 or more"),
              (str(count) if count < 3 else "3 or more" for count in scored.window_counts),
              "How many windows the document needs beside its question."),
    ]  # fmt: skip
    if unanswerable:
        groups = ("answerable", "unanswerable")
        found.insert(0, table("Answerable or not", "question", groups, (groups[not texts] for texts in golds)))
    return [*found, surest_mistakes(scored, agreement)]


def by_group(
    title: str, caption: str, first: str, groups: Sequence[str], names: Sequence[str], agreement: squad.Agreement
) -> Table:
    """Exact match and F1 of each group that has rows, every row in one of them."""
    assert set(names) <= set(groups), f"{title}: a row is in no group"
    column = np.array(names, dtype=object)
    return Table(
        title=title,
        caption=caption,
        columns=(first, "count", "exact_match", "f1"),
        rows=tuple(
            (group, int(is_in.sum()), mean(agreement.exact[is_in]), mean(agreement.f1[is_in]))
            for group in groups
            if (is_in := column == group).any()
        ),
    )


def question_word(language: str) -> Callable[[str], str]:
    """A function from a question to the group of its first question word."""
    names = list(QUESTION_WORDS[language])
    pattern = re.compile("|".join(f"({found})" for found in QUESTION_WORDS[language].values()))

    def group(question: str) -> str:
        found = pattern.search(question.lower())
        return names[found.lastindex - 1] if found else OTHER

    return group


def length(text: str, language: str) -> int:
    """Words of an answer; in Chinese its characters, as they are scored."""
    return len(squad.chinese_tokens(text) if language == "zh" else text.split())


def length_groups(edges: Sequence[int]) -> list[str]:
    """Names of the groups that end at `edges`, and of the rest."""
    starts = (1, *(edge + 1 for edge in edges))
    ranges = zip(starts, edges, strict=False)
    return [*(f"{low}-{high}" if low < high else str(low) for low, high in ranges), f"{starts[-1]}+"]


def length_group(count: int, edges: Sequence[int]) -> str:
    return length_groups(edges)[int(np.searchsorted(edges, count))]


def surest_mistakes(scored: Scored, agreement: squad.Agreement) -> Passages:
    """Wrong answers that share nothing with a gold one, the surest first; then those that share something."""
    sure = [prediction.get("probability", 0.0) for prediction in scored.predictions]
    wrong = np.flatnonzero(agreement.exact == 0).tolist()
    worst = sorted(wrong, key=lambda number: (agreement.f1[number] > 0, -sure[number]))[:WORST]
    return Passages(
        title="Surest mistakes",
        caption=(
            f"{len(worst)} of {len(wrong):,} questions without an exact match ({scored.where}); those with an F1 of 0 "
            "first, by the probability of the answer."
        ),
        passages=tuple(passage(scored, number, sure[number], agreement.f1[number]) for number in worst),
    )


def passage(scored: Scored, number: int, probability: float, f1: float) -> Passage:
    answers, prediction = scored.golds[number], scored.predictions[number]
    context = scored.task.reads.text[-1]
    text = scored.rows[number][context]
    positions = dict.fromkeys((answer["start"], answer["start"] + len(answer["text"])) for answer in answers)
    marks = [Span(kind="gold", start=start, end=end) for start, end in positions]
    if prediction.get("start") is not None:
        marks.append(Span(kind="predicted", start=prediction["start"], end=prediction["end"]))
    facts = {
        "gold": " | ".join(dict.fromkeys(answer["text"] for answer in answers)) or NO_ANSWER,
        "predicted": prediction[scored.task.answer] or NO_ANSWER,
        "probability": percent(probability),
        "f1": percent(f1),
    }
    assert all(0 <= mark.start <= mark.end <= len(text) for mark in marks), f"a mark outside the {context}"
    return scored.passage(number, facts, {context: tuple(marks)})

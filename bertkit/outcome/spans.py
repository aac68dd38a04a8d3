"""Which questions are answered well, and the wrong answers that the model is surest of."""

import math
import re
from collections.abc import Iterable

import numpy as np

from bertkit.findings import Finding, Passage, Span, Table, tabulate, worst_first
from bertkit.metrics import squad
from bertkit.metrics.shown import mean, percent
from bertkit.outcome.scored import Scored

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
# group -> the longest answer in it, in words; in Chinese in characters, as they are scored
LENGTHS = {
    "en": {"1": 1, "2": 2, "3-4": 4, "5-8": 8, "9+": math.inf},
    "zh": {"1-2": 2, "3-4": 4, "5-8": 8, "9-16": 16, "17+": math.inf},
}
WINDOWS = {"1": 1, "2": 2, "3 or more": math.inf}


def findings(scored: Scored) -> list[Finding]:
    """Tables by what a question and its answer are like, and questions to read."""
    task, rows = scored.task, scored.rows
    language, unanswerable = getattr(task, "language", "en"), bool(getattr(task, "unanswerable", False))
    golds = [[answer["text"] for answer in answers] for answers in scored.golds]
    f1, exact = squad.answer_scores(scored.answers, golds, language, nothing_is_an_answer=unanswerable)
    units = "characters" if language == "zh" else "words"
    question = task.reads.text[0]

    def table(title: str, first: str, groups: Iterable[str], names: Iterable[str], caption: str = "") -> Table:
        """Exact match and F1 of each group that has rows; `names` is the group of each row."""
        column = np.array([*names], dtype=object)
        found = []
        for group in groups:
            is_in = column == group
            if is_in.any():
                found.append((group, int(is_in.sum()), mean(exact[is_in]), mean(f1[is_in])))
        assert sum(count for _, count, *_ in found) == len(rows), f"{title}: a row is in no group"
        caption = f"{caption} On {scored.where}.".strip()
        return tabulate(title, caption, (first, "count", "exact_match", "f1"), found)

    found = [
        table("By question word", "question word", (*QUESTION_WORDS[language], OTHER),
              (question_word(row[question], language) for row in rows)),
        table("By length of the gold answer", units, (*LENGTHS[language], NO_ANSWER),
              (group_of(length(texts[0], language), LENGTHS[language]) if texts else NO_ANSWER for texts in golds),
              f"In {units}, of the first gold answer."),
    ]  # fmt: skip
    if scored.window_counts:
        groups = (group_of(count, WINDOWS) for count in scored.window_counts)
        caption = "How many windows the document needs beside its question."
        found.append(table("By windows", "windows", WINDOWS, groups, caption))
    if unanswerable:
        groups = ("answerable", "unanswerable")
        found.insert(0, table("Answerable or not", "question", groups, (groups[not texts] for texts in golds)))
    sure = [prediction.get("probability", 0.0) for prediction in scored.predictions]
    worst = worst_first(
        f"questions without an exact match ({scored.where}); those with an F1 of 0 first, by the probability of the "
        "answer.",
        {n: (f1[n] == 0, sure[n]) for n in np.flatnonzero(exact == 0).tolist()},
        lambda number: passage(scored, number, sure[number], f1[number]),
        title="Surest mistakes",
    )
    return [*found, worst]


def question_word(question: str, language: str) -> str:
    """The group of a question's first question word."""
    patterns = QUESTION_WORDS[language]
    found = re.search("|".join(f"({pattern})" for pattern in patterns.values()), question.lower())
    return list(patterns)[found.lastindex - 1] if found else OTHER


def length(text: str, language: str) -> int:
    """Words of an answer; in Chinese its characters, as they are scored."""
    return len(squad.chinese_tokens(text) if language == "zh" else text.split())


def group_of(count: int, groups: dict[str, float]) -> str:
    """The first group that goes so far."""
    return next(name for name, most in groups.items() if count <= most)


def passage(scored: Scored, number: int, probability: float, f1: float) -> Passage:
    """A question with its answers marked in its document."""
    answers, prediction = scored.golds[number], scored.predictions[number]
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
    context = scored.rows[number][scored.task.reads.text[-1]]
    assert all(0 <= mark.start <= mark.end <= len(context) for mark in marks), "a mark outside the text"
    return scored.passage(number, facts, marks)

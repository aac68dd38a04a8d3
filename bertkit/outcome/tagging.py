"""Which tags are mistaken for which, how new and ambiguous words fare, and the sentences that are most wrong."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import accumulate, chain
from operator import eq

import numpy as np

from bertkit.findings import Finding, Passage, Span, Table, tabulate, worst_first
from bertkit.metrics.shown import counted, mean
from bertkit.outcome.classes import label_findings
from bertkit.outcome.scored import Scored
from bertkit.tasks.base import Row, Task

# by the number of tags that a word has in train: (title, what is counted, first column, group -> fewest and most)
NOVELTY = (
    ("Words seen in train", "Whether the word stands in train", "word", {"seen": (1, math.inf), "unseen": (0, 0)}),
    (
        "Ambiguous words",
        "How many tags the word has in train",
        "tags in train",
        {"1": (1, 1), "2": (2, 2), "3 or more": (3, math.inf), "unseen": (0, 0)},
    ),
)


def tags_seen(task: Task, rows: Iterable[Row]) -> dict[str, Set[str]]:
    """Word -> the tags that it has in some rows; empty for tasks that tag no words."""
    seen: dict[str, set[str]] = {}
    if task.head == "token":
        for row in rows:
            for word, tag in zip(row[task.reads.words[0]], row[task.gold], strict=True):
                seen.setdefault(word, set()).add(tag)
    return seen


def findings(scored: Scored) -> list[Finding]:
    """Of a task with one tag a word."""
    golds, given = scored.columns
    where = f"{scored.where}, {counted(len(golds), 'word')}"
    found = label_findings(scored.task.labels, golds, given, "tag", where)
    if scored.tags_seen:
        words = list(chain.from_iterable(row[scored.task.reads.words[0]] for row in scored.rows))
        found += by_novelty(words, np.fromiter(map(eq, golds, given), bool), scored.tags_seen, where)
    wrong = {
        number: [index for index, (gold, answer) in enumerate(zip(*tags, strict=True)) if gold != answer]
        for number, tags in enumerate(zip(scored.golds, scored.answers, strict=True))
    }
    badness = {number: len(places) for number, places in wrong.items() if places}
    caption = f"rows with wrong tags ({scored.where}), most wrong first."
    return [*found, worst_first(caption, badness, lambda number: sentence(scored, number, wrong[number]))]


def by_novelty(words: Sequence[str], is_right: np.ndarray, seen: Mapping[str, Set[str]], where: str) -> list[Table]:
    """Accuracy over words that train has or has not, and over the number of tags that they have there."""
    folded: dict[str, set[str]] = {}
    for word, tags in seen.items():
        folded.setdefault(word.casefold(), set()).update(tags)
    exact = np.array([len(seen.get(word, ())) for word in words])
    loose = np.array([len(folded.get(word.casefold(), ())) for word in words])
    tables = []
    for title, caption, first, groups in NOVELTY:
        rows = []
        for name, (fewest, most) in groups.items():
            chosen = [is_right[(fewest <= counts) & (counts <= most)] for counts in (exact, loose)]
            if any(map(len, chosen)):
                rows.append((name, *chain.from_iterable((len(some), mean(some)) for some in chosen)))
        caption += f" in this very form; ignoring case: in any form that differs in case only. On {where}."
        columns = (first, "count", "accuracy", "count, ignoring case", "accuracy, ignoring case")
        tables.append(tabulate(title, caption, columns, rows))
    return tables


def sentence(scored: Scored, number: int, wrong: Sequence[int]) -> Passage:
    """A row's words in one line; a fact for each word with a wrong tag, by its position where it stands there twice."""
    golds, answers = scored.golds[number], scored.answers[number]
    words = scored.rows[number][scored.task.reads.words[0]]
    starts = [*accumulate((len(word) + 1 for word in words), initial=0)]
    often = Counter(words[index] for index in wrong)
    names = [words[index] if often[words[index]] == 1 else f"{words[index]} (word {index + 1})" for index in wrong]
    facts = {name: f"{golds[index]} -> {answers[index]}" for name, index in zip(names, wrong, strict=True)}
    marks = [Span(kind="predicted", start=starts[index], end=starts[index + 1] - 1) for index in wrong]
    return scored.passage(number, facts, marks)

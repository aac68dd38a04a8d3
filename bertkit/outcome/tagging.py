"""Which tags are mistaken for which, how new and ambiguous words fare, and the sentences that are most wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import chain

from bertkit.findings import Finding, Passage, Passages, Span, Table
from bertkit.outcome.classes import label_findings
from bertkit.outcome.scored import WORST, Scored, ratio
from bertkit.tasks.base import Row, Task


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
    golds, given = (list(chain.from_iterable(column)) for column in (scored.golds, scored.answers))
    where = f"{scored.where}, {len(golds):,} words"
    found = label_findings(scored.task.labels, golds, given, "tag", where)
    if scored.tags_seen:
        words = list(chain.from_iterable(words_of(scored)))
        is_right = [gold == answer for gold, answer in zip(golds, given, strict=True)]
        found += by_novelty(words, is_right, scored.tags_seen, where)
    return [*found, most_wrong(scored)]


def words_of(scored: Scored) -> list[Sequence[str]]:
    return [row[scored.task.reads.words[0]] for row in scored.rows]


def by_novelty(words: Sequence[str], is_right: Sequence[bool], seen: Mapping[str, Set[str]], where: str) -> list[Table]:
    """Accuracy over words that train has or has not, and over the number of tags that they have there."""
    folded: dict[str, set[str]] = {}
    for word, tags in seen.items():
        folded.setdefault(word.casefold(), set()).update(tags)
    exact = [len(seen.get(word, ())) for word in words]
    loose = [len(folded.get(word.casefold(), ())) for word in words]
    forms = f"by its very form; ignoring case: by any form that differs in case only. On {where}."
    columns = ("count", "accuracy", "count, ignoring case", "accuracy, ignoring case")
    return [
        Table(
            title=title,
            caption=f"{caption}, {forms}",
            columns=(first, *columns),
            rows=tuple(beside(groups, *(accuracy_by(map(name_of, counts), is_right) for counts in (exact, loose)))),
        )
        for title, caption, first, groups, name_of in (
            (
                "Words seen in train",
                "Whether the word stands in train",
                "word",
                ("seen", "unseen"),
                lambda count: "seen" if count else "unseen",
            ),
            (
                "Ambiguous words",
                "How many tags the word has in train",
                "tags in train",
                ("1", "2", "3 or more", "unseen"),
                tag_count,
            ),
        )
    ]


def tag_count(count: int) -> str:
    return "unseen" if not count else str(count) if count < 3 else "3 or more"


def accuracy_by(groups: Iterable[str], is_right: Iterable[bool]) -> Callable[[str], tuple[int, float | None]]:
    """A function from a group's name to its words and its accuracy."""
    pairs = Counter(zip(groups, is_right, strict=True))
    return lambda name: (
        pairs[name, True] + pairs[name, False],
        ratio(pairs[name, True], pairs[name, True] + pairs[name, False]),
    )


def beside(groups: Sequence[str], exact: Callable, loose: Callable) -> Iterable[tuple]:
    """A row for each group that has words in either way of counting."""
    return ((name, *exact(name), *loose(name)) for name in groups if exact(name)[0] or loose(name)[0])


def most_wrong(scored: Scored) -> Passages:
    """The sentences with most wrong tags, first; the words with a wrong tag are marked."""
    wrong = [
        [index for index, (gold, answer) in enumerate(zip(*tags, strict=True)) if gold != answer]
        for tags in zip(scored.golds, scored.answers, strict=True)
    ]
    ranked = sorted((number for number, some in enumerate(wrong) if some), key=lambda number: -len(wrong[number]))
    return Passages(
        title="Most wrong",
        caption=f"{len(ranked[:WORST])} of {len(ranked):,} rows with wrong tags ({scored.where}), most wrong first.",
        passages=tuple(sentence(scored, number, wrong[number]) for number in ranked[:WORST]),
    )


def sentence(scored: Scored, number: int, wrong: Sequence[int]) -> Passage:
    """A row's words in one line; a fact for each word with a wrong tag, by its position where it stands there twice."""
    (column,) = scored.task.reads.words
    words, golds, answers = scored.rows[number][column], scored.golds[number], scored.answers[number]
    starts = [0]
    for word in words:
        starts.append(starts[-1] + len(word) + 1)
    often = Counter(words[index] for index in wrong)
    names = [words[index] if often[words[index]] == 1 else f"{words[index]} (word {index + 1})" for index in wrong]
    return Passage(
        title=str(scored.rows[number]["id"]),
        facts={name: f"{golds[index]} -> {answers[index]}" for name, index in zip(names, wrong, strict=True)},
        texts={column: " ".join(words)},
        spans={
            column: tuple(
                Span(kind="predicted", start=starts[index], end=starts[index] + len(words[index])) for index in wrong
            )
        },
    )

"""Caveats: sentences that a reader of a run must not miss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from bertkit.findings import Note
from bertkit.outcome.scored import Scored, percent


def notes(scored: Scored | None) -> Iterator[Note]:
    """What limits the scores of a run, as far as the run itself can tell."""
    if scored is not None and scored.rows:
        yield from undefined_scores(scored)
        yield from constant_answer(scored)
        yield from majority(scored)


def undefined_scores(scored: Scored) -> Iterator[Note]:
    names = [name for name, value in scored.scores.items() if value is None]
    if names:
        text = f"{', '.join(names)}: undefined on {scored.where}: the split has nothing this metric counts."
        yield Note(title="Undefined scores", text=text)


def constant_answer(scored: Scored) -> Iterator[Note]:
    given = list(chain.from_iterable(scored.answers)) if scored.task.head == "token" else scored.answers
    if len(given) > 1 and all(answer == given[0] for answer in given):
        shown = ", ".join(given[0]) or "no label" if scored.task.head == "multilabel" else given[0]
        text = f"All {len(given):,} answers on {scored.split} are {shown!r}, whatever the row."
        yield Note(title="The answer is always the same", text=text)


def majority(scored: Scored) -> Iterator[Note]:
    """Whether the most frequent gold label, given every time, would be as good."""
    if scored.task.head not in ("class", "token"):
        return
    golds, given = scored.golds, scored.answers
    if scored.task.head == "token":
        golds, given = list(chain.from_iterable(golds)), list(chain.from_iterable(given))
    if not golds:
        return
    label, count = Counter(golds).most_common(1)[0]
    right = sum(gold == answer for gold, answer in zip(golds, given, strict=True))
    if right <= count:
        text = (
            f"The accuracy on {scored.split} is {percent(right / len(golds))}; answering {label!r} every time "
            f"gives {percent(count / len(golds))} (n = {len(golds):,})."
        )
        yield Note(title="No better than the most frequent label", text=text)

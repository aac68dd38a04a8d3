"""Which words an answer stands on, as rows to read: the stronger the colour, the more a word adds or takes away."""

from collections.abc import Iterable, Mapping

from bertkit.findings import Passage, Passages, Span
from bertkit.metrics.shown import counted
from bertkit.tasks.base import Prediction, Task

FAINT = 0.05  # words below this share of the strongest one's weight stay unmarked


def reasons(task: Task, explained: Iterable[Prediction]) -> Passages:
    """Explained predictions as rows to read.

    Args:
        explained: records with an id, the task's texts, the answer, and what `bertkit.attribution` adds.
    """
    passages = tuple(passage(task, one) for one in explained)
    caption = (
        f"Integrated gradients of {counted(len(passages), 'row')}, added up by word (Sundararajan et al. 2017). The "
        "evidence is the log-odds of the answer, or the number itself, with the text and with a mask in place of each "
        "piece; the words share the difference among them."
    )
    return Passages(title="Why this answer", caption=caption, passages=passages)


def passage(task: Task, explained: Prediction) -> Passage:
    """One explained prediction; the words that it stands on are marked."""
    found, answer = explained["attributions"], explained[task.answer]
    strongest = max((abs(word["weight"]) for words in found.values() for word in words), default=0.0)
    evidence = f"{explained['evidence']:.2f}; {explained['baseline']:.2f} without the text"
    facts = {"gold": str(explained["gold"])} if isinstance(explained.get("gold"), str | float) else {}
    facts |= {"predicted": f"{answer:.2f}" if isinstance(answer, float) else str(answer)}

    def mark(word: Mapping) -> Span:
        kind = "for" if word["weight"] > 0 else "against"
        return Span(kind=kind, start=word["start"], end=word["end"], strength=abs(word["weight"]) / strongest)

    spans = {
        column: tuple(mark(word) for word in words if abs(word["weight"]) > FAINT * strongest)
        for column, words in found.items()
    }
    texts = {column: explained[column] for column in task.reads.text}
    texts |= {column: " ".join(explained[column]) for column in task.reads.words}
    return Passage(title=str(explained.get("id", "")), facts={**facts, "evidence": evidence}, texts=texts, spans=spans)

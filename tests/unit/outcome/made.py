"""Small answered splits, made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from bertkit.outcome import Scored
from bertkit.tasks.base import Prediction, Row, Task
from bertkit.tasks.classification import Classification
from bertkit.tasks.pos import Pos
from bertkit.tasks.qa import QA


def scored(
    task: Task, rows: Sequence[Row], predictions: Sequence[Prediction], tags_seen: Mapping[str, Set[str]] | None = None,
    window_counts: Sequence[int] | None = None,
) -> Scored:  # fmt: skip
    counts = window_counts or [1] * len(rows)
    return Scored("test", task, rows, predictions, task.score(predictions, rows), counts, tags_seen or {})


def classes(answers: Sequence[tuple[str, str, float]], labels: Sequence[str] = ("no", "yes")) -> Scored:
    """Of (gold, predicted, its probability), one for each row."""
    rows = [{"id": f"r{n}", "text": f"text {n}", "label": gold} for n, (gold, _, _) in enumerate(answers)]
    predictions = [
        {"label": given, "probabilities": {given: share, **{label: 0.0 for label in labels if label != given}}}
        for _, given, share in answers
    ]
    return scored(Classification(labels=labels), rows, predictions)


def sentences(*tagged: str, tags_seen: Mapping[str, Set[str]] | None = None) -> Scored:
    """Of sentences such as "the/DET/DET dog/NOUN/VERB": word, gold tag, predicted tag."""
    columns = [list(zip(*(word.split("/") for word in sentence.split()), strict=True)) for sentence in tagged]
    rows = [{"id": f"s{n}", "words": words, "tags": golds} for n, (words, golds, _) in enumerate(columns)]
    predictions = [{"words": words, "tags": given, "probabilities": [1.0] * len(words)} for words, _, given in columns]
    return scored(Pos(labels=("ADJ", "DET", "NOUN", "VERB")), rows, predictions, tags_seen)


def questions(
    asked: Sequence[tuple[str, str, Sequence[str], str, float]], window_counts: Sequence[int] | None = None, **settings
) -> Scored:
    """Of (question, context, gold texts, predicted text, its probability), one for each row."""
    rows, predictions = [], []
    for number, (question, context, golds, given, share) in enumerate(asked):
        answers = [{"text": gold, "start": context.index(gold)} for gold in golds]
        rows.append({"id": f"q{number}", "question": question, "context": context, "answers": answers})
        start = context.index(given) if given else None
        end = start + len(given) if given else None
        prediction = {"answer": given, "start": start, "end": end, "probability": share, "n_best": []}
        if settings.get("unanswerable"):
            prediction |= {"no_answer_score": -1.0 if given else 1.0, "best_span": given}
        predictions.append(prediction)
    return scored(QA(**settings), rows, predictions, window_counts=window_counts)

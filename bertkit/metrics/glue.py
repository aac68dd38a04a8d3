"""The GLUE score, the other averages that are printed under its name, and the human line.

Source: Wang et al. 2018 (an unweighted mean over nine tasks; a task with several metrics counts their mean). The
diagnostic set AX is reported on its own and enters no average.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from bertkit.metrics.shown import mean

TITLES = MappingProxyType({
    "cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B", "qqp": "QQP", "mnli": "MNLI", "qnli": "QNLI",
    "rte": "RTE", "wnli": "WNLI",
})  # fmt: skip
TASKS = tuple(TITLES)
OFFICIAL = MappingProxyType({  # the metrics of each task, in the order in which papers print them
    "cola": ("matthews",), "sst2": ("accuracy",), "mrpc": ("f1", "accuracy"), "stsb": ("pearson", "spearman"),
    "qqp": ("f1", "accuracy"), "mnli": ("matched", "mismatched"), "qnli": ("accuracy",), "rte": ("accuracy",),
    "wnli": ("accuracy",),
})  # fmt: skip

# What a run calls a metric, and the split that it scores for it, where that is not its own name on validation
PLACES = MappingProxyType({"matched": ("validation", "accuracy"), "mismatched": ("test", "accuracy")})

Scores = Mapping[str, float | None]  # metric -> fraction, None where undefined


class Average(NamedTuple):
    """One way to make a single number of the tasks."""

    name: str  # what it is called in print; "GLUE" stands for the official score over all nine tasks only
    value: float | None  # a fraction; None where a part of it is undefined or missing
    rule: str  # how it is computed


def places(task: str, splits: Collection[str]) -> dict[str, tuple[str, str]]:
    """Official metric -> its split and its name in a run that was scored on these splits."""
    found = {metric: PLACES.get(metric, ("validation", metric)) for metric in OFFICIAL[task]}
    return {metric: place for metric, place in found.items() if place[0] in ("validation", *splits)}


def task_score(task: str, scores: Scores) -> float | None:
    """The unweighted mean of those official metrics of a task that are there; None when one is undefined or none is."""
    return mean([scores[metric] for metric in OFFICIAL[task] if metric in scores])


def is_complete(task: str, scores: Scores) -> bool:
    """Whether every official metric of the task is there."""
    return all(metric in scores for metric in OFFICIAL[task])


def glue_score(scores: Mapping[str, Scores]) -> Average:
    """The mean of the task scores: "GLUE" when all nine tasks have all their metrics, else "mean of k of 9 tasks"."""
    there = [task for task in TASKS if scores.get(task)]
    partial = [task for task in there if not is_complete(task, scores[task])]
    value = mean([task_score(task, scores[task]) for task in there])
    if len(there) == len(TASKS) and not partial:
        return Average("GLUE", value, "unweighted mean of the nine task scores")
    rule = "unweighted mean of the task scores"
    if left_out := [TITLES[task] for task in TASKS if task not in there]:
        rule += f"; without {', '.join(left_out)}"
    for task in partial:
        rule += f"; {TITLES[task]} by {', '.join(metric for metric in OFFICIAL[task] if metric in scores[task])} alone"
    return Average(f"mean of {len(there)} of 9 tasks", value, rule)


# What else is printed as a GLUE average: (name, what it is the mean of, rule). A task stands for its score, the mean of
# all its metrics; `task.metric` for that metric alone.
OTHER_AVERAGES = (
    ("without WNLI", "cola sst2 mrpc stsb qqp mnli qnli rte", "unweighted mean of the other eight task scores"),
    ("BERT paper", "cola sst2 mrpc.f1 stsb.spearman qqp.f1 mnli.matched mnli.mismatched qnli rte",
     "nine columns without WNLI: MNLI twice, F1 for MRPC and QQP, Spearman for STS-B (Devlin et al. 2019)"),
    ("BERT paper, eight tasks", "cola sst2 mrpc.f1 stsb.spearman qqp.f1 mnli qnli rte",
     "as above, with MNLI counted once"),
    ("one metric each", "cola sst2 mrpc.accuracy stsb.pearson qqp.accuracy mnli.matched qnli rte",
     "eight tasks without WNLI: accuracy for MRPC and QQP, Pearson for STS-B, MNLI matched (Liu et al. 2019)"),
    ("flat mean", " ".join(f"{task}.{metric}" for task in TASKS for metric in OFFICIAL[task]),
     "mean of all metric columns; differs from GLUE by one to three points"),
)  # fmt: skip


def other_averages(scores: Mapping[str, Scores]) -> list[Average]:
    """The averages of `OTHER_AVERAGES`; None where a part is missing or undefined."""
    return [
        Average(name, mean([whole_score(part, scores) for part in parts.split()]), rule)
        for name, parts, rule in OTHER_AVERAGES
    ]


def whole_score(part: str, scores: Mapping[str, Scores]) -> float | None:
    """A task by all its metrics, or by one of them (`task.metric`); None where one is missing or undefined."""
    task, _, metric = part.partition(".")
    return mean([scores.get(task, {}).get(name) for name in ([metric] if metric else OFFICIAL[task])])


class Published(NamedTuple):
    """A row that others have printed."""

    name: str
    split: Literal["test", "dev"]  # of the scores; those of dev and of test do not compare (QQP and WNLI least of all)
    source: str  # where the row stands
    scores: Mapping[str, Scores]  # task -> metric -> fraction
    average: float | None  # the printed one, a fraction; None where the source prints none


def _row(name: str, split: Literal["test", "dev"], source: str, average: float | None, printed: str) -> Published:
    """From the row as it is printed: one field a task, `/` between its metrics, `-` for what is not printed."""
    scores = {}
    for task, field in zip(TASKS, printed.split(), strict=True):
        values = {
            metric: float(value) / 100
            for metric, value in zip(OFFICIAL[task], field.split("/"), strict=True)
            if value != "-"
        }
        if values:
            scores[task] = values
    return Published(name, split, source, scores, None if average is None else average / 100)


_SMALL = "google-research/bert, README"
_MT_DNN = "Liu et al. 2019 (MT-DNN), table 2"
_BERT = "Devlin et al. 2019, table 1"
_RUN_GLUE = "transformers, examples/pytorch/text-classification, README"
# order:                                     CoLA SST-2 MRPC STS-B QQP MNLI QNLI RTE WNLI
PUBLISHED = (
    _row("BERT-Tiny", "test", _SMALL, 64.2, "0.0 83.2 81.1/71.1 74.3/73.6 62.2/83.4 70.2/70.3 81.5 57.2 62.3"),
    _row("BERT-Mini", "test", _SMALL, 65.8, "0.0 85.9 81.1/71.8 75.4/73.3 66.4/86.2 74.8/74.3 84.1 57.9 62.3"),
    _row("BERT-Small", "test", _SMALL, 71.2, "27.8 89.7 83.4/76.2 78.8/77.0 68.1/87.0 77.6/77.0 86.4 61.8 62.3"),
    _row("BERT-Medium", "test", _SMALL, 73.5, "38.0 89.6 86.6/81.6 80.4/78.4 69.6/87.9 80.0/79.1 87.7 62.2 62.3"),
    _row("BERT-large", "test", _MT_DNN, 80.5, "60.5 94.9 89.3/85.4 87.6/86.5 72.1/89.3 86.7/85.9 92.7 70.1 65.1"),
    _row("MT-DNN, not fine-tuned", "test", _MT_DNN, 81.7,
         "58.9 94.6 90.1/86.4 89.5/88.8 72.7/89.6 86.5/85.8 93.1 79.1 65.1"),
    _row("MT-DNN", "test", _MT_DNN, 82.7, "62.5 95.6 91.1/88.2 89.5/88.8 72.7/89.6 86.7/86.0 93.1 81.4 65.1"),
    _row("BERT-base (paper)", "test", _BERT, 79.6, "52.1 93.5 88.9/- -/85.8 71.2/- 84.6/83.4 90.5 66.4 -"),
    _row("BERT-large (paper)", "test", _BERT, 82.1, "60.5 94.9 89.3/- -/86.5 72.1/- 86.7/85.9 92.7 70.1 -"),
    _row("bert-base-cased", "dev", _RUN_GLUE, None,
         "56.53 92.32 88.85/84.07 88.64/88.48 87.49/90.71 83.91/84.10 90.66 65.70 56.34"),
)  # fmt: skip
HUMAN = _row(
    "Human", "test", f"Nangia and Bowman 2019; {_MT_DNN}", 87.1,
    "66.4 97.8 86.3/80.8 92.7/92.6 59.5/80.4 92.0/92.8 91.2 93.6 95.9",
)  # fmt: skip
# what predicting the most frequent label scores on WNLI's dev set; a model at this value has learned nothing from it
WNLI_MAJORITY = 0.563


def human_score(task: str, scores: Scores) -> float | None:
    """What people score on test, by those official metrics of the task that `scores` has."""
    return task_score(task, {metric: value for metric, value in HUMAN.scores[task].items() if metric in scores})


def beside_people(scores: Mapping[str, Scores]) -> dict[str, float | None]:
    """Task -> task score relative to people (human = 1.0), and `average`: relative to theirs over the same tasks."""
    ours = {task: task_score(task, scores[task]) for task in TASKS if scores.get(task)}
    people = {task: human_score(task, scores[task]) for task in ours}
    relative = {task: None if value is None else value / people[task] for task, value in ours.items()}
    average = mean(list(ours.values()))
    return {**relative, "average": None if average is None else average / mean(list(people.values()))}

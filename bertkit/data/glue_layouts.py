"""GLUE's nine tasks and its diagnostic set: their columns, labels and sizes, and how their files are named.

Source: Wang et al. 2018; the files of gluebenchmark.com, of its download script, and of `nyu-mll/glue` on the Hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Layout(NamedTuple):
    """One task of GLUE: where its columns stand, what its labels mean, how many rows it has."""

    title: str
    texts: tuple[tuple[str, ...], ...]  # of one or two texts the names of the column; a number: a file without header
    label: tuple[str, ...]  # the names of the column with the label or score
    labels: tuple[str, ...]  # class names in the order of their ids, as on the Hub; empty for scores
    codes: tuple[str, ...]  # what stands for each of them in the files and in a submission
    dev_rows: Mapping[str, int]  # split -> number of its rows in GLUE
    test_rows: Mapping[str, int]


NLI = ("entailment", "neutral", "contradiction")
TWO = ("entailment", "not_entailment")
BITS = ("0", "1")
PAIR = (("sentence1",), ("sentence2",))
PREMISE = (("sentence1", "premise", "Premise"), ("sentence2", "hypothesis", "Hypothesis"))
LAYOUTS: Mapping[str, Layout] = MappingProxyType({
    "cola": Layout("CoLA", (("sentence", "3"),), ("label", "1"), ("unacceptable", "acceptable"), BITS,
                   {"validation": 1043}, {"test": 1063}),
    "sst2": Layout("SST-2", (("sentence", "content"),), ("label",), ("negative", "positive"), BITS,
                   {"validation": 872}, {"test": 1821}),
    "mrpc": Layout("MRPC", (("#1 String", "sentence1"), ("#2 String", "sentence2")), ("Quality", "label"),
                   ("not_equivalent", "equivalent"), BITS, {"validation": 408}, {"test": 1725}),
    "stsb": Layout("STS-B", PAIR, ("score", "label"), (), (), {"validation": 1500}, {"test": 1379}),
    "qqp": Layout("QQP", (("question1",), ("question2",)), ("is_duplicate", "label"), ("not_duplicate", "duplicate"),
                  BITS, {"validation": 40430}, {"test": 390965}),
    "mnli": Layout("MNLI", PREMISE, ("gold_label", "label"), NLI, NLI,
                   {"validation": 9815, "validation_mismatched": 9832}, {"test": 9796, "test_mismatched": 9847}),
    "qnli": Layout("QNLI", (("question",), ("sentence",)), ("label",), TWO, TWO, {"validation": 5463}, {"test": 5463}),
    "rte": Layout("RTE", PAIR, ("label",), TWO, TWO, {"validation": 277}, {"test": 3000}),
    "wnli": Layout("WNLI", PAIR, ("label",), ("not_entailment", "entailment"), BITS, {"validation": 71}, {"test": 146}),
    "ax": Layout("AX", PREMISE, ("label", "Label"), NLI, NLI, {}, {"test": 1104}),
})  # fmt: skip
FOLDERS = {"sts": "stsb", "diagnostic": "ax", "diagnostics": "ax"}  # beside the tasks' own names
STEMS = {  # split, train first -> how its file's name may begin; the first is GLUE's, the last the Hub's
    "train": ("train",),
    "validation": ("dev", "val", "valid", "validation"),
    "test": ("test",),
}
OTHER_STEMS = {
    "mnli": {
        "train": ("train",),
        "validation": ("dev_matched", "validation_matched"),
        "validation_mismatched": ("dev_mismatched", "validation_mismatched"),
        "test": ("test_matched",),
        "test_mismatched": ("test_mismatched",),
    },
    "ax": {"test": ("diagnostic", "ax", "test")},
}
MSR_TRAIN, MSR_TEST = "msr_paraphrase_train.txt", "msr_paraphrase_test.txt"  # MRPC as Microsoft hands it out
DEV_IDS = "dev_ids.tsv"  # which of its training pairs are GLUE's dev set


def task_of(name: str) -> str | None:
    """The task that a folder's name means, whatever its case and hyphens."""
    name = re.sub(r"[^a-z0-9]", "", name.lower())
    name = FOLDERS.get(name, name)
    return name if name in LAYOUTS else None

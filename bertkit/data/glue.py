"""The rows of GLUE's nine tasks and of its diagnostic set, in whichever layout they were handed on.

Source: Wang et al. 2018; the files of gluebenchmark.com, of its download script, and of `nyu-mll/glue` on the Hub.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bertkit.data.files import BadRow, File, Table, cut, name_parts, no_rows, show, unreadable
from bertkit.data.opening import READERS, open_table
from bertkit.data.rules import Columns, Rules
from bertkit.data.sources import collect
from bertkit.disk import checksum, parse, read_whole
from bertkit.errors import BertkitError


class Layout(NamedTuple):
    """One task: where its columns stand, what its labels mean, how many rows GLUE has."""

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
FOLDERS = {**{task: task for task in LAYOUTS}, "sts": "stsb", "diagnostic": "ax", "diagnostics": "ax"}
# split, train first -> how its file's name may begin; the first is GLUE's, the last the Hub's
STEMS = {"train": ("train",), "validation": ("dev", "val", "valid", "validation"), "test": ("test",)}
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
HUB = "nyu-mll/glue"
INDEX = ("index", "idx", "id")  # of a test row, which a submission needs
HINT = "GLUE's files have tabs between their columns and quote nothing"


class Split(NamedTuple):
    """The rows of one split and where they came from."""

    rows: list[dict[str, object]]  # id, text, maybe second, label: a class name, a score, or None where there is none
    source: str
    sha256: str | None  # of the file
    skipped: tuple[str, ...]  # `FILE:LINE: reason`, one for each row that could not be read
    held_back: bool  # a validation split cut from train, for want of GLUE's own


class GlueTask(NamedTuple):
    """What was found of one task."""

    splits: dict[str, Split]
    missing: tuple[str, ...]  # a sentence for each thing that is not there


def read_glue(task: str, source: str | Path | None, held_back: float = 0.1) -> GlueTask:
    """Read every split of a task.

    Args:
        task: a key of LAYOUTS.
        source: a folder with a folder for each task, in GLUE's layout or the Hub's; None: the Hub.
        held_back: share of the training rows, the last ones, that stand in for a dev set that is not there.
    Raises:
        BertkitError: the task or its training rows are not there, a file lacks a column, or no row of it is right.
    """
    stems_of = OTHER_STEMS.get(task, STEMS)
    folder = None
    if source is not None:
        folders = find_tasks(source)
        if task not in folders:
            there = ", ".join(sorted(os.path.basename(path) for path in folders.values()))
            raise BertkitError(f"{source}: there is no folder of {LAYOUTS[task].title}", hint=f"it has: {there}")
        folder = folders[task]
    if not folder or os.path.isfile(os.path.join(folder, "dataset_dict.json")):  # as `save_to_disk` writes it
        names = {split: stems[-1] for split, stems in stems_of.items()}
        there = saved_splits(folder) if folder else names.values()
        origin = (folder or HUB, None if folder else task)
        splits = {split: read_split(task, split, *origin, name) for split, name in names.items() if name in there}
    else:
        files = {split: find_file(folder, stems) for split, stems in stems_of.items()}
        if task == "mrpc" and not files["train"] and os.path.isfile(os.path.join(folder, MSR_TRAIN)):
            splits = read_msr(folder, files["test"])
        else:
            splits = {split: read_split(task, split, path) for split, path in files.items() if path}
    needed = next(iter(stems_of))
    if needed not in splits:
        there = ", ".join(names_in(folder)[:10]) or "nothing"
        message = f"{folder}: {LAYOUTS[task].title} has no {stems_of[needed][0]}.tsv"
        raise BertkitError(message, hint=f"the folder has: {there}")
    missing = [stand_in(task, split, splits, held_back) for split in stems_of if split not in splits]
    return GlueTask({split: splits[split] for split in stems_of if split in splits}, tuple(missing))


def stand_in(task: str, split: str, splits: dict[str, Split], held_back: float) -> str:
    """The sentence about a split that is missing; the last training rows are held back for a dev set."""
    title, stem = LAYOUTS[task].title, OTHER_STEMS.get(task, STEMS)[split][0]
    if split != "validation":
        return f"{title}: no {stem}.tsv"
    train = splits["train"]
    size = len(train.rows)
    count = min(max(round(held_back * size), min(16, size // 2)), size - 1)
    if not count:
        raise BertkitError(f"{train.source}: 1 row is too few to hold some back", hint=f"add {stem}.tsv")
    splits["validation"] = train._replace(rows=train.rows[-count:], skipped=(), held_back=True)
    splits["train"] = train._replace(rows=train.rows[:-count])
    what = f"pair of a {DEV_IDS}" if train.source.endswith(MSR_TRAIN) else f"{stem}.tsv"
    return f"{title}: no {what}; the last {count:,} of {size:,} training rows are held back instead"


def find_tasks(source: str | Path) -> dict[str, str]:
    """Task -> its folder, in GLUE's order; refuses a folder that has none, or two of one task."""
    folder = os.path.expanduser(source)
    if not os.path.isdir(folder):
        raise BertkitError(f"{source}: there is no such folder", hint="name the folder of CoLA, SST-2 and so on")
    found: dict[str, str] = {}
    for name in names_in(folder):
        task = task_of(name) if os.path.isdir(os.path.join(folder, name)) else None
        if task in found:
            other = os.path.basename(found[task])
            raise BertkitError(f"{source}: {other} and {name} are both {LAYOUTS[task].title}", hint="leave one of them")
        if task:
            found[task] = os.path.join(folder, name)
    if not found:
        is_task = task_of(os.path.basename(os.path.abspath(folder)))
        hint = "name the folder above it" if is_task else "it should hold folders such as CoLA, SST-2, MRPC"
        raise BertkitError(f"{source}: no folder of a GLUE task is in it", hint=hint)
    return {task: found[task] for task in LAYOUTS if task in found}


def task_of(name: str) -> str | None:
    """The task that a folder's name means, whatever its case and hyphens."""
    return FOLDERS.get(re.sub(r"[^a-z0-9]", "", name.lower()))


def names_in(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise BertkitError(f"{folder}: cannot be read ({error.strerror})", hint="check its permissions") from None


def find_file(folder: str, stems: Sequence[str]) -> str | None:
    """The file of a split: by its whole name, else the only one whose name begins so, such as `train_subset.tsv`."""
    names = {
        name: parts[0].lower()
        for name in names_in(folder)
        if (parts := name_parts(name))[1] in READERS and parts[1] not in (".txt", ".conllu") and parts[0] != "dev_ids"
    }
    exact = [name for name, stem in names.items() if stem in stems]
    found = exact or [name for name, stem in names.items() if stem.startswith(tuple(stems))]
    if len(found) > 1:
        raise BertkitError(f"{folder}: several files may be {stems[0]}: {', '.join(found)}", hint="leave one of them")
    return os.path.join(folder, found[0]) if found else None


def saved_splits(folder: str) -> list[str]:
    path = os.path.join(folder, "dataset_dict.json")
    try:
        return list(parse(read_whole(path))["splits"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise unreadable(path, error) from None


def read_split(task: str, split: str, path: str, config: str | None = None, part: str = "") -> Split:
    """One split from a file; or, where `part` names it there, from a saved folder or the Hub."""
    layout, is_test = LAYOUTS[task], split.startswith("test")
    _, ending, packing = name_parts(path)
    ending = ".tsv" if ending == ".txt" else ending  # Microsoft's names; what they hold are columns
    wanted = {name: name for names in (*layout.texts, layout.label, INDEX) for name in names}
    file = File(path, path, ending, packing, wanted, True)
    table = open_table(file, part, config)
    if ending == ".tsv" and layout.texts[0][-1].isdecimal() and layout.texts[0][0] not in table.names:
        table = open_table(file._replace(header=False), part, config)
    located = locate(file, table, layout, is_test)
    columns = Columns(text=("text", "second"), **{"label" if layout.labels else "number": "label"})
    known = {name: name for name in layout.labels} | dict(zip(layout.codes, layout.labels, strict=True))
    names = table.class_names.get(located["label"])
    rules = GlueRules(columns=columns, class_names=names, required=not is_test, known=known)
    found = collect(file, table, rules, located)
    rows, bad = found.rows, tuple(found.left.bad)
    if not rows and not bad:
        raise no_rows(file)
    if not rows:
        raise BertkitError(f"{path}: none of its {len(bad)} rows is right; the first: {bad[0]}", hint=HINT)
    twice = [name for name, times in Counter(row["id"] for row in rows).items() if times > 1] if is_test else []
    if twice:
        message = f"{path}: column {located['id']!r} holds {show(twice[0])} more than once"
        raise BertkitError(message, hint="a submission needs an index of its own for each test row")
    source = ", ".join(filter(None, (path, config, part)))
    return Split(rows, source, checksum(path) if os.path.isfile(path) else None, bad, False)


def locate(file: File, table: Table, layout: Layout, is_test: bool) -> dict[str, str | None]:
    """Our columns -> the source's; of the ids, only those of test rows are the source's own."""
    where = f"{file.name}:1" if file.ending in (".tsv", ".csv") else file.name
    located: dict[str, str | None] = {"id": next((name for name in INDEX if is_test and name in table.names), None)}
    for column, names in (*zip(("text", "second"), layout.texts, strict=False), ("label", layout.label)):
        located[column] = next((name for name in names if name in table.names), None)
        if table.names.count(located[column]) > 1:
            raise BertkitError(f"{where}: two columns are named {located[column]!r}", hint="give each its own name")
        if located[column] is None and not (is_test and column == "label"):
            has = ", ".join(cut(name) for name in table.names[:20])
            raise BertkitError(f"{where}: {layout.title} needs a column {names[0]!r}; it has: {has}", hint=HINT)
    return located


@dataclass(frozen=True, kw_only=True)
class GlueRules(Rules):
    """What is right in a row of GLUE: a label by its code or its name, a score from 0 to 5; in a test, also none."""

    known: Mapping[str, str]  # what may stand for a label -> its name

    def check(self, row: dict[str, object]) -> None:
        """A set is kept whole, and some of its texts are empty."""

    def label(self, value: object) -> str | None:
        name = self.class_name(value)
        if name in self.known:
            return self.known[name]
        if name in (None, "-1") and not self.required:
            return None
        raise BadRow(f"holds {show(value)}, not one of {', '.join(self.known)}")

    def number(self, value: object) -> float | None:
        number = super().number(value)
        if number is None or 0 <= number <= 5:
            return number
        if number == -1 and not self.required:
            return None
        raise BadRow(f"holds {show(value)}, not a score from 0 to 5")


def read_msr(folder: str, test: str | None) -> dict[str, Split]:
    """MRPC as Microsoft hands it out: cut into train and dev by `dev_ids.tsv`, its test without the labels.

    Source: the download script of GLUE's baselines (format_mrpc).
    """
    path, ids = os.path.join(folder, MSR_TRAIN), os.path.join(folder, DEV_IDS)
    whole = read_split("mrpc", "train", path)
    splits = {"train": whole}
    if os.path.isfile(ids):
        dev_pairs, pairs = set(pairs_of(ids, False, "0", "1")), pairs_of(path, True, "#1 ID", "#2 ID")
        train, dev = [], []
        for row in whole.rows:
            part = dev if pairs[int(row["id"])] in dev_pairs else train
            part.append({**row, "id": str(len(part))})  # numbered as the rows of the script's own files are
        if train and dev:
            splits = {"train": whole._replace(rows=train), "validation": whole._replace(rows=dev, skipped=())}
    test = test or os.path.join(folder, MSR_TEST)
    if os.path.isfile(test):
        found = read_split("mrpc", "test", test)
        splits["test"] = found._replace(rows=[{**row, "label": None} for row in found.rows])
    return splits


def pairs_of(path: str, header: bool, first: str, second: str) -> list[tuple[object, object]]:
    """Two columns of every row, also of bad ones."""
    table = open_table(File(path, path, ".tsv", "", {}, header), "", None)
    records = ({} if isinstance(record, BadRow) else record for _, record in table.records)
    return [(record.get(first), record.get(second)) for record in records]

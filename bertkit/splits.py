"""The rows of a run: read, held back, drawn, and their labels decided."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from bertkit.config import validate
from bertkit.data.draws import content, fold_of, folded, group_keys, group_rows, hold_back, subset, unit_of
from bertkit.data.labels import check_labels, resolve_labels, spellings
from bertkit.data.opening import find
from bertkit.data.sources import GROUP, Rows, read_rows
from bertkit.disk import checksum
from bertkit.errors import BertkitError, did_you_mean
from bertkit.findings import Note
from bertkit.metrics.shown import counted
from bertkit.recipe import DataConfig, Recipe
from bertkit.tasks.base import Row, Task

SPLITS = ("train", "validation", "test")  # in the order that they are read in: the first decides the labels
BUNDLED = "bundled:"  # `bundled:sentiment.csv` and `bundled:tiny` come with the package


class Splits(NamedTuple):
    """The rows of a run, by split, empty where there is none."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    labels: dict[str, str]  # label -> id of the first training row that has it, before any were held back or drawn
    notes: tuple[Note, ...]  # what a reader of the scores must know of the rows
    found: Mapping[str, Rows]  # split -> what its source held beside the rows


def read_splits(
    recipe: Recipe, task: Task, say: Callable[[str], None], rows: Mapping[str, object] | None = None
) -> Splits:
    """The rows of all splits; `rows`, split -> rows in memory, take the place of all that the recipe names."""
    data = recipe.data
    sources: Mapping[str, tuple[object, str]] = sources_of(data)
    if rows is not None:
        if unknown := [split for split in rows if split not in SPLITS]:
            raise BertkitError(f"rows: there is no split {unknown[0]!r}", hint=did_you_mean(str(unknown[0]), SPLITS))
        sources = {split: (rows[split], split) for split in SPLITS if rows.get(split) is not None}
    if "train" not in sources:
        raise BertkitError("data.train: no training rows are given", hint="add --train FILE, or data.source=HUB_ID")
    idle = {}
    if "validation" in sources:
        idle = dict.fromkeys(("group_by", "validation_share", "folds"), "validation rows are given")
    elif data.folds is not None:
        idle = {"validation_share": "data.folds decides it"}
    if rows is None and len(files_of(data)) == len(sources):
        idle["config"] = "all rows are read from files"
    for name, reason in idle.items():
        value = getattr(data, name)
        if value != DataConfig.model_fields[name].default:
            message = f"data.{name}: {value!r} has no effect, because {reason}"
            raise BertkitError(message, hint=f"leave out data.{name}")
    found: dict[str, Rows] = {}
    labels: dict[str, str] = {}
    left_out = []
    names = {split: called(part if data.source else source, split) for split, (source, part) in sources.items()}
    for split, (source, part) in sources.items():
        group_by = data.group_by if split == "train" else "none"
        found[split] = read_split(recipe, task, source, part, group_by=group_by, known=labels)
        if split == "train":
            labels = labels_in(task, found[split].rows)
        if counts := say_left_out(found[split], names[split], say):
            left_out.append(f"{split}: {counts}")
    for label in data.labels:
        if all(label in some.unused for some in found.values()):
            raise BertkitError(f"data.labels: no row has the label {label!r}", hint=did_you_mean(label, labels))
    rows = {split: found[split].rows if split in found else [] for split in SPLITS}
    if "validation" not in sources:
        rows["train"], rows["validation"] = part_rows(recipe, task, names["train"], rows["train"], say)
    for split, wanted in (("train", data.train_rows), ("validation", data.validation_rows)):
        if wanted is not None:
            chosen = subset(list(map(task.labels_of, rows[split])), wanted, recipe.seed, split)
            say(f"{split}: {len(chosen):,} of {len(rows[split]):,} rows, drawn with seed {recipe.seed}")
            rows[split] = [rows[split][row] for row in chosen]
    caveats = caveats_of(task, rows, labels)
    for text in chain.from_iterable(caveats.values()):
        say(text)
    for split, some in rows.items():
        if text := task.describe(some, split):
            say(f"{split}: {text}")
    caveats["Rows left out"] = ["These rows are not part of any figure. " + "; ".join(left_out)] if left_out else []
    notes = tuple(Note(title=title, text="; ".join(texts) + ".") for title, texts in caveats.items() if texts)
    beside = {split: some._replace(rows=[]) for split, some in found.items()}
    return Splits(**rows, labels=labels, notes=notes, found=beside)


def sources_of(data: DataConfig) -> dict[str, tuple[str, str]]:
    """Split -> the source that its rows are in, and what they are called there, for those that a recipe names."""
    names = {"train": data.train or (data.source and "train"), "validation": data.validation, "test": data.test}
    named = {split: name for split, name in names.items() if name is not None}
    return {split: (data.source, name) if data.source else (name, split) for split, name in named.items()}


def files_of(data: DataConfig) -> dict[str, str]:
    """Split -> the path of its file; sources that are no files are left out."""
    paths = {split: find(path_of(source), part)[1] for split, (source, part) in sources_of(data).items()}
    return {split: path for split, path in paths.items() if Path(path).is_file()}


def called(source: object, split: str) -> str:
    """What messages call a source: rows in memory have no name but their split's."""
    return str(source) if isinstance(source, str | Path) else split


def part_rows(
    recipe: Recipe, task: Task, name: str, rows: list[Row], say: Callable[[str], None]
) -> tuple[list[Row], list[Row]]:
    """Train and validation of the training rows: no group has rows on both sides."""
    by = recipe.data.group_by
    if len(rows) < 2:
        raise BertkitError(f"{name}: {len(rows)} row is too few to hold some back", hint="give --validation FILE")
    if by == "auto":
        unit, keys = unit_of(task.reads), [group_keys(task.reads, row) for row in rows]
    else:  # without a value a row is a group of its own
        values = (row.get(GROUP, row.get(by)) for row in rows)
        names = ("" if value is None or value != value else folded(str(value)) for value in values)
        unit, keys = by, [(name,) if name else () for name in names]
    groups = group_rows(keys)
    is_one = len(set(groups)) == 1
    if is_one and by != "auto":
        hint = "name another column, give --validation FILE, or set data.group_by=none"
        raise BertkitError(f"data.group_by: all {len(rows):,} rows of {name} have the same {unit!r}", hint=hint)
    caveat = f"; all have the same {unit}, so it is on both sides" if is_one else ""
    if is_one or by == "none":
        groups, unit = list(range(len(rows))), "row"
    labels = [() if by == "none" else task.labels_of(row) for row in rows]
    data = recipe.data
    if data.folds is None:
        kept, held = hold_back(groups, labels, data.validation_share, recipe.seed)
    else:
        if data.folds > len(set(groups)):
            message = f"data.folds: {data.folds} folds are more than the {len(set(groups)):,} {unit}s of {name}"
            raise BertkitError(message, hint="take fewer")
        folds = fold_of(groups, labels, data.folds, recipe.seed)
        kept = [row for row, fold in enumerate(folds) if fold != data.fold]
        held = [row for row, fold in enumerate(folds) if fold == data.fold]
    count, share = len(set(groups)), f"{len(held):,} of {len(rows):,} training rows are held back by {unit}"
    parts = f"{len({groups[row] for row in held}):,} of {count:,}, " if count < len(rows) else ""
    say(f"validation: {share} ({parts}seed {recipe.seed}){caveat}")
    return [rows[row] for row in kept], [rows[row] for row in held]


def caveats_of(task: Task, rows: Mapping[str, list[Row]], labels: Collection[str]) -> dict[str, list[str]]:
    """What spoils learning or its score: labels without a training row, and rows that stand in train as well."""
    learned, unlearned, shared = labels_in(task, rows["train"]), [], []
    if unseen := [label for label in dict.fromkeys([*task.labels, *labels]) if label not in learned]:
        more = f" and {len(unseen) - 5} more" if len(unseen) > 5 else ""
        unlearned = [f"train: no row has the label {', '.join(map(repr, unseen[:5]))}{more}, so it is not learned"]
    seen = {content(task.reads, row) for row in rows["train"]}
    for split in ("validation", "test"):
        if twice := [str(row["id"]) for row in rows[split] if content(task.reads, row) in seen]:
            some = ", ".join(twice[:3]) + (", ..." if len(twice) > 3 else "")
            shared.append(f"{split}: {len(twice):,} of {len(rows[split]):,} rows stand in train as well ({some})")
    return {"Labels without a training row": unlearned, "Rows that stand in train as well": shared}


def bind_labels(recipe: Recipe, task: Task, splits: Splits, checkpoint: Mapping[int, str] | None) -> Task:
    """A copy of the task with its labels decided, every split checked against them."""
    if task.head in ("span", "number"):
        return task
    seen = splits.labels if task.labels else task.implied(splits.labels)
    declared = splits.found["train"].label_names
    labels = resolve_labels(
        seen, recipe=task.labels, checkpoint=checkpoint, features=declared, inventory=task.inventory
    )
    # validated again, for settings that name a label
    task = validate(type(task), {**task.model_dump(), "labels": labels}, where="task")
    for name in ("validation", "test"):
        file = getattr(recipe.data, name)
        check_labels(labels_in(task, getattr(splits, name)), labels, f"{name} ({file})" if file else name)
    return task


def labels_in(task: Task, rows: Sequence[Row]) -> dict[str, str]:
    """Label -> id of the first row that has it."""
    found: dict[str, str] = {}
    for row in rows:
        for label in task.labels_of(row):
            found.setdefault(label, str(row["id"]))
    return found


def path_of(name: str) -> str:
    """The file behind `bundled:NAME`; any other name as it is."""
    if not name.startswith(BUNDLED):
        return name
    folder = Path(__file__).parent / "assets"
    path = folder / name.removeprefix(BUNDLED)
    if not path.exists():
        known = [entry.name for entry in sorted(folder.iterdir()) if entry.suffix != ".md"]
        raise BertkitError(f"{name}: nothing of this name comes with bertkit", hint=did_you_mean(path.name, known))
    return str(path)


def read_split(
    recipe: Recipe,
    task: Task,
    source: object,
    split: str,
    require_gold: bool = True,
    group_by: str = "none",
    known: Collection[str] = (),  # labels that are decided already, where the task does not name them
    as_stream: bool = False,  # of rows to be answered: see `read_rows`
) -> Rows:
    """Read and check the rows of a split, and settle how its labels are spelt."""
    data, gold = recipe.data, task.reads.label or task.reads.labels or task.reads.tags
    for name in () if gold else ("labels", "ignore_labels"):
        if getattr(data, name):
            raise BertkitError(f"data.{name}: {task.name} has no labels", hint="leave it out")
    source = path_of(str(source)) if isinstance(source, str | Path) else source
    found = read_rows(
        source, task.reads, mapping=data.columns, split=split, config=data.config, require_gold=require_gold,
        ignore_labels=data.ignore_labels, skip_bad_rows=data.skip_bad_rows,
        unanswerable=bool(getattr(task, "unanswerable", False)), tag_names=task.labels, group_by=group_by,
        as_stream=as_stream,
    )  # fmt: skip
    if as_stream:
        return found
    counts = count_labels(task, found.rows)
    unused = data.labels.keys() - counts
    if data.labels:
        rename(found.rows, gold, data.labels)
        counts = count_labels(task, found.rows)
    renamed = spellings(counts, task.labels or known, called(source, split))
    if renamed:
        rename(found.rows, gold, renamed)
    times = {name: counted(counts[name], "time") for name in renamed}
    notes = [f"the label {name!r} is read as {other!r} ({times[name]})" for name, other in renamed.items()]
    return found._replace(notes=(*found.notes, *notes), unused=frozenset(unused))


def count_labels(task: Task, rows: Sequence[Row]) -> Counter[str]:
    """How often each label stands in some rows, as it is spelt there."""
    return Counter(label for row in rows for label in task.labels_of(row) or () if label is not None)


def rename(rows: Sequence[Row], gold: str, names: Mapping[str, str]) -> None:
    """Put other names in place of the rows' labels: of one, of several (each once), or of a tag for each word."""
    for row in rows:
        value = row[gold]
        if isinstance(value, str):
            row[gold] = names.get(value, value)
        elif value is not None:
            renamed = [names.get(name, name) for name in value]
            row[gold] = tuple(dict.fromkeys(renamed)) if isinstance(value, tuple) else renamed


def say_left_out(found: Rows, name: str, say: Callable[[str], None]) -> str:
    """Say which rows were not read, and what was done to others; returns the former, counted."""
    counts = []
    left = found.left
    kinds = [("bad row", "", left.bad, 1), *(("row", f" {why}", some, 5) for why, some in left.unused.items())]
    for noun, which, some, shown in kinds:
        if some:
            counts.append(counted(len(some), noun) + which)
            first = ", ".join(some[:shown]) + (", ..." if len(some) > shown else "")
            say(f"{name}: {counts[-1]} {'is' if len(some) == 1 else 'are'} left out: {first}")
    for note in found.notes:
        say(f"{name}: {note}")
    return ", ".join(counts)


def checksums(recipe: Recipe) -> dict[str, str]:
    """Split -> SHA-256 of its file, for environment.json."""
    return {split: f"sha256:{checksum(path)}" for split, path in files_of(recipe.data).items()}

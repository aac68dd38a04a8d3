"""The rows of a run: read, held back, drawn, and their labels decided."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bertkit.config import validate
from bertkit.data.labels import check_labels, resolve_labels, split_held_back, subset
from bertkit.data.sources import Rows, read_rows
from bertkit.errors import BertkitError, did_you_mean
from bertkit.recipe import Recipe
from bertkit.tasks.base import Row, Task

BUNDLED = "bundled:"  # `bundled:sentiment.csv` and `bundled:tiny` come with the package


class Splits(NamedTuple):
    """The rows of a run, by split, empty where there is none; and what was left out of each, in words."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    left_out: dict[str, str]


def read_splits(recipe: Recipe, task: Task, say: Callable[[str], None]) -> tuple[Splits, tuple[str, ...] | None]:
    """The rows of all splits, and the class names that the source declares.

    Raises:
        BertkitError: no training rows, or anything wrong in a source.
    """
    data = recipe.data
    names = {"train": data.train, "validation": data.validation, "test": data.test}
    if data.source:
        names["train"] = data.train or "train"
    if not names["train"]:
        raise BertkitError("data.train: no training rows are given", hint="add --train FILE, or data.source=HUB_ID")
    found: dict[str, Rows] = {}
    for split, name in names.items():
        if name is not None:
            source, part = (data.source, name) if data.source else (name, split)
            found[split] = read_split(recipe, task, source, part)
            say_skipped(found[split], name, say)
    rows = {split: found[split].rows if split in found else [] for split in names}
    if data.validation is None:
        if len(rows["train"]) < 2:
            raise BertkitError(
                f"{names['train']}: {len(rows['train'])} row is too few to hold some back",
                hint="give --validation FILE",
            )
        kept, held = split_held_back(len(rows["train"]), data.validation_share, recipe.seed)
        rows["validation"] = [rows["train"][row] for row in held]
        rows["train"] = [rows["train"][row] for row in kept]
        say(f"validation: {len(held):,} of {len(held) + len(kept):,} training rows are held back (seed {recipe.seed})")
    for split, wanted in (("train", data.train_rows), ("validation", data.validation_rows)):
        chosen = subset(len(rows[split]), wanted, recipe.seed, split)
        if wanted is not None:
            say(f"{split}: {len(chosen):,} of {len(rows[split]):,} rows, drawn with seed {recipe.seed}")
        rows[split] = [rows[split][row] for row in chosen]
    for split, some in rows.items():
        if text := task.describe(some, split):
            say(f"{split}: {text}")
    left_out = {split: text for split, some in found.items() if (text := describe_left_out(some))}
    return Splits(**rows, left_out=left_out), found["train"].label_names


def bind_labels(
    recipe: Recipe, task: Task, splits: Splits, features: Sequence[str] | None, checkpoint: Mapping[int, str] | None
) -> Task:
    """A copy of the task with its labels decided, every split checked against them."""
    if task.head in ("span", "number"):
        return task
    labels = resolve_labels(
        labels_in(task, splits.train), recipe=task.labels, checkpoint=checkpoint, features=features,
        inventory=task.inventory,
    )  # fmt: skip
    for name in ("validation", "test"):
        file = getattr(recipe.data, name)
        check_labels(labels_in(task, getattr(splits, name)), labels, f"{name} ({file})" if file else name)
    # validated again, for settings that name a label
    return validate(type(task), {**task.model_dump(), "labels": labels}, where="task")


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


def read_split(recipe: Recipe, task: Task, source: str, split: str, require_gold: bool = True) -> Rows:
    data = recipe.data
    return read_rows(
        path_of(source), task.reads, mapping=data.columns, split=split, config=data.config, require_gold=require_gold,
        ignore_labels=data.ignore_labels, skip_bad_rows=data.skip_bad_rows,
        unanswerable=bool(getattr(task, "unanswerable", False)), tag_names=task.labels,
    )  # fmt: skip


def say_skipped(found: Rows, name: str, say: Callable[[str], None]) -> None:
    if found.skipped:
        say(f"{name}: {len(found.skipped)} bad rows are left out; the first: {found.skipped[0]}")
    if found.ignored_labels:
        say(f"{name}: {found.ignored_labels} rows with ignored labels are left out")


def describe_left_out(found: Rows) -> str:
    """The rows that were not read, counted; empty when there are none."""
    counts = {"bad rows": len(found.skipped), "rows with ignored labels": found.ignored_labels}
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def checksums(recipe: Recipe) -> dict[str, str]:
    """Split -> SHA-256 of its file, for environment.json; sources that are no files are left out."""
    sums = {}
    for split in ("train", "validation", "test"):
        name = getattr(recipe.data, split)
        if name and not recipe.data.source and Path(path_of(name)).is_file():
            with Path(path_of(name)).open("rb") as file:
                sums[split] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return sums

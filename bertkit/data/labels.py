"""Class names and their numbers, decided once from the best authority there is."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from bertkit.errors import BertkitError, did_you_mean
from bertkit.metrics.shown import counted

LIST_ALL = "list every label in task.labels"


def resolve_labels(
    seen: Iterable[str],
    *,
    recipe: Sequence[str] | None = None,
    checkpoint: Mapping[int, str] | None = None,
    features: Sequence[str] | None = None,
    inventory: Sequence[str] = (),
) -> tuple[str, ...]:
    """The class names in the order of their ids.

    Order of authority: `task.labels` of the recipe; the checkpoint's `id2label`, when the labels seen in training rows
    are among its names (case does not matter, the rows' spelling is kept); the names that the data set declares, its
    `features`; the task's closed inventory (such as the 17 universal tags), when it holds all labels seen; the labels
    seen, sorted.

    Raises:
        BertkitError: fewer than two labels, a repeated label, or a label that `task.labels` does not list.
    """
    found = set(seen)
    if recipe:
        labels = tuple(recipe)
        if repeated := sorted({label for label in labels if labels.count(label) > 1}):
            raise BertkitError(f"task.labels: {repeated[0]!r} stands twice", hint="name each label once")
        check_labels(seen if isinstance(seen, Mapping) else found, labels, where="train")
    elif matched := _match_checkpoint(found, checkpoint or {}):
        labels = matched
    elif features and found <= set(features):
        labels = tuple(features)
    elif found and found <= set(inventory):
        labels = tuple(inventory)
    else:
        labels = tuple(sorted(found, key=_natural))
    if len(labels) < 2:
        there = f"only {labels[0]!r}" if labels else "none"
        message = f"{'task.labels' if recipe else 'train'}: a classifier needs two labels or more, and there is {there}"
        hint = "name all labels in task.labels" + ("" if recipe else ", or check data.columns and data.train_rows")
        raise BertkitError(message, hint=hint)
    return labels


def check_labels(found: Collection[str] | Mapping[str, str], labels: Sequence[str], where: str) -> None:
    """Refuse labels, or the keys of label -> id of a row that has it, that the model has no number for."""
    unknown = sorted(set(found) - set(labels), key=_natural)
    if unknown:
        shown = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        row = f" (row {found[unknown[0]]})" if isinstance(found, Mapping) else ""
        twin = next((label for label in labels if label.casefold() == unknown[0].casefold()), None)
        advice = _joined(unknown[0], twin) if twin else did_you_mean(unknown[0], labels)
        hint = f"{advice}; leave such rows out with data.ignore_labels, or {LIST_ALL} before training"
        raise BertkitError(f"{where}: unknown label {shown}{row}; the labels are {', '.join(labels)}", hint=hint)


def spellings(counts: Mapping[str, int], known: Collection[str], where: str) -> dict[str, str]:
    """Label -> the spelling that it gets: `1`, `1.0` and `True` are one class, as are `0`, `0.0` and `False`.

    Programs write the same value differently. The spelling in `known` is kept, else the most frequent one; a value that
    is spelt in one way only stays as it is.

    Raises:
        BertkitError: none is known, and one is hardly meant as a class of its own; the hint says what may be meant.
    """
    often = sorted(counts, key=lambda name: -counts[name])
    kept = {_value(name): name for name in reversed([*known, *often])}
    renamed = {name: kept[_value(name)] for name in counts if name not in known and kept[_value(name)] != name}
    seen: dict[str, str] = {}
    names = [name for name in often if name not in renamed and not known]
    for name in names:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            both = " and ".join(f"{one!r} ({counted(counts[one], 'time')})" for one in (other, name))
            hint = f"{_joined(name, other)}, or {LIST_ALL} to keep them apart"
            raise BertkitError(f"{where}: the labels {both} differ in case only", hint=hint)
    if "-1" in names and len(names) > 2 and all(re.fullmatch(r"-?\d+", name, re.ASCII) for name in names):
        message = f"{where}: the label -1 ({counted(counts['-1'], 'time')}) stands for 'no label' in many data sets"
        hint = f"leave such rows out with data.ignore_labels=-1, or, if it is a class, {LIST_ALL}"
        raise BertkitError(message, hint=hint)
    return renamed


def _value(label: str) -> str:
    truth = {"true": "1", "false": "0"}.get(label.casefold(), label)
    return truth.split(".")[0] if re.fullmatch(r"-?\d+\.0+", truth, re.ASCII) else truth


def _joined(name: str, other: str) -> str:
    if name.isidentifier():
        return f"join them with data.labels.{name}={other}"
    return f"join them with 'data.labels={json.dumps({name: other}, ensure_ascii=False)}'"


def _match_checkpoint(found: set[str], id2label: Mapping[int, str]) -> tuple[str, ...] | None:
    names = [id2label[index] for index in sorted(id2label)]
    spelling = {label.lower(): label for label in found}
    known = {name.lower() for name in names}
    if not found or len(spelling) < len(found) or len(known) < len(names) or not spelling.keys() <= known:
        return None
    return tuple(spelling.get(name.lower(), name) for name in names)


def _natural(label: str) -> tuple[int, float, str]:
    # "2" before "10", numbers before words
    return (0, int(label), label) if label.isdecimal() else (1, 0, label)

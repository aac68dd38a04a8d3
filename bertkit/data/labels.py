"""Class names and their numbers, decided once from the best authority there is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from bertkit.errors import BertkitError, did_you_mean


def resolve_labels(
    seen: Iterable[str],
    *,
    recipe: Sequence[str] | None = None,
    checkpoint: Mapping[int, str] | None = None,
    features: Sequence[str] | None = None,
    inventory: Sequence[str] = (),
) -> tuple[str, ...]:
    """The class names in the order of their ids.

    Order of authority: the recipe; the checkpoint's `id2label`, when the rows' labels are among its names (case does
    not matter, the rows' spelling is kept); the names that the data set declares; the task's closed inventory (such as
    the 17 universal tags), when it holds all labels seen; the labels seen in train, sorted.

    Args:
        seen: labels of the training rows, in any order, with repeats.
        recipe: `task.labels`.
        checkpoint: `config.id2label` of the checkpoint.
        features: names of a ClassLabel feature.
        inventory: labels that the task knows by itself.
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
        raise BertkitError(
            f"{'task.labels' if recipe else 'train'}: a classifier needs two labels or more, and there is "
            + (f"only {labels[0]!r}" if labels else "none"),
            hint="name all labels in task.labels" + ("" if recipe else ", or check data.columns and data.train_rows"),
        )
    return labels


def check_labels(found: Collection[str] | Mapping[str, str], labels: Sequence[str], where: str) -> None:
    """Refuse labels that the model has no number for.

    Args:
        found: labels; or label -> id of a row that has it.
        where: the split and its file, for the message.
    Raises:
        BertkitError: naming up to five of them and where they stand.
    """
    unknown = sorted(set(found) - set(labels), key=_natural)
    if unknown:
        shown = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        row = f" (row {found[unknown[0]]})" if isinstance(found, Mapping) else ""
        raise BertkitError(
            f"{where}: unknown label {shown}{row}; the labels are {', '.join(labels)}",
            hint=f"{did_you_mean(unknown[0], labels)}; leave such rows out with data.ignore_labels, "
            "or list every label in task.labels before training",
        )


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

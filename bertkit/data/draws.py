"""Which rows are held back or drawn, by the seed alone: groups stay together, and labels keep their shares."""

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from itertools import chain

import numpy as np

from bertkit.data.rules import Columns


def folded(value: object) -> Hashable:
    """A text or words without regard to case and white space."""
    text = value if isinstance(value, str) else "\n".join(map(str, value))
    return " ".join(text.split()).casefold()


def content(columns: Columns, row: Mapping[str, object]) -> Hashable:
    """All that a task reads of a row: rows that share it are the same to a model."""
    return tuple(folded(row[name]) for name in (*columns.text, *columns.words))


def unit_of(columns: Columns) -> str:
    """What the rows of a group share, in one word."""
    if columns.words:
        return "sentence"
    return "document" if columns.answers else columns.text[0]


def group_keys(columns: Columns, row: Mapping[str, object]) -> Collection[Hashable]:
    """What a row shares with others that tell its answer: a document, the first of two texts, or all it holds.

    The second text is no key: a short one ("a man sleeps") would chain most of the rows into one group.
    """
    if columns.answers:
        return (folded(row[columns.text[1]]),)
    read = content(columns, row)
    return (read[0], frozenset(read)) if len(read) > 1 else read  # a pair is the same either way round


def group_rows(keys: Iterable[Collection[Hashable]]) -> list[int]:
    """The number of each row's group; rows that share a key are in one group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    owners: dict[Hashable, int] = {}
    links = [[(row, owners.setdefault(key, row)) for key in some] for row, some in enumerate(keys)]
    pairs = np.array(list(chain.from_iterable(links)), np.int32).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(len(links), len(links)))
    return connected_components(graph, directed=False)[1].tolist()


def hold_back(
    groups: Sequence[int], labels: Sequence[Collection[str]], share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Row numbers of (train, validation), each in file order: whole groups, as near to the share as they come.

    Each label has its share of what is held back, but for its last group: that one is for train. There are two groups
    or more; where no row has labels, the draw is regardless of them.
    """
    count = len(groups)
    parts, strata = _stratified(groups, labels)
    order = spread(strata, np.random.default_rng((seed, 0x5711)))
    last = set({strata[part]: part for part in order}.values())
    order.sort(key=last.__contains__)
    wanted = min(max(1, round(count * share)), count - 1)
    held, size = [], 0
    for part in order:
        if size + len(parts[part]) / 2 <= wanted:  # nearer to what is wanted with it than without it
            held.append(part)
            size += len(parts[part])
    held = held[: len(parts) - 1] or [min(order, key=lambda part: len(parts[part]))]
    rows = set(chain.from_iterable(parts[part] for part in held))
    return [row for row in range(count) if row not in rows], sorted(rows)


def fold_of(groups: Sequence[int], labels: Sequence[Collection[str]], folds: int, seed: int) -> list[int]:
    """The number of each row's fold: whole groups, each label spread over the folds, and they of about one size."""
    parts, strata = _stratified(groups, labels)
    found, sizes, of_label = [0] * len(groups), [0] * folds, Counter()
    order = np.random.default_rng((seed, 0xF01D)).permutation(len(parts)).tolist()
    for part in sorted(order, key=lambda part: (str(strata[part]), -len(parts[part]))):  # so that sizes stay alike
        fold = min(range(folds), key=lambda fold: (of_label[strata[part], fold], sizes[fold]))
        of_label[strata[part], fold] += len(parts[part])
        sizes[fold] += len(parts[part])
        for row in parts[part]:
            found[row] = fold
    return found


def _stratified(groups: Sequence[int], labels: Sequence[Collection[str]]) -> tuple[list[list[int]], list[str | None]]:
    """The rows of each group, and of the labels that it has the one that the fewest groups have."""
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    parts = list(members.values())
    return parts, rarest([set().union(*(labels[row] for row in part)) for part in parts])


def subset(labels: Sequence[Collection[str]], wanted: int, seed: int, split: str) -> list[int]:
    """Row numbers of a random subset, in file order, in which each label has its share; it differs by split."""
    key = int.from_bytes(split.encode()[:6], "big")
    return sorted(spread(rarest(labels), np.random.default_rng((seed, key)))[:wanted])


def rarest(labels: Sequence[Collection[str]]) -> list[str | None]:
    """Of each row's labels the one that the fewest rows have; None where there are none."""
    counts = Counter(chain.from_iterable(map(set, labels)))
    return [min(some, key=lambda label: (counts[label], label), default=None) for some in labels]


def spread(strata: Sequence[Hashable], rng: np.random.Generator) -> list[int]:
    """All numbers in a random order whose every beginning holds about its share of each stratum."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for number in rng.permutation(len(strata)).tolist():
        members[strata[number]].append(number)
    keyed = []
    for some in members.values():
        start = rng.random()
        keyed += [((start + position) / len(some), number) for position, number in enumerate(some)]
    return [number for _, number in sorted(keyed)]

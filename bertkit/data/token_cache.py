"""Windows that were cut before, kept by the content of texts, tokenizer and settings: the same rows are tokenised once.

Files are plain numpy archives, read without pickles. A cache never fails a run: what cannot be read is made again, and
what cannot be written is left.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from bertkit.bounded import check_regular
from bertkit.data.windows import Inputs, WindowMaker, WindowStore, Words
from bertkit.disk import written_atomically
from bertkit.errors import BertkitError

FOLDER = "BERTKIT_CACHE"  # environment variable: where; empty: nowhere
SCHEMA = 1  # of the files; part of every key
LARGEST = 2 << 30  # bytes of all files; the ones that were not used for longest are removed
WORTHWHILE = 200_000  # characters; fewer are tokenised in the time that a file takes


def folder() -> Path | None:
    """Where the cache lies; None when there is none."""
    asked = os.environ.get(FOLDER)
    if asked is not None:
        return Path(asked).expanduser() if asked else None
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bertkit" / "windows"


def cut(maker: WindowMaker, inputs: Iterable[Inputs], spans: bool) -> WindowStore:
    """What `maker` makes of the inputs, made now or before."""
    place = folder() if maker.keep else None
    if place is None or not is_worthwhile(inputs := list(inputs)):
        return maker(inputs, spans)
    key = key_of(inputs, *maker.identity, str(spans))
    store = load(place, key)
    if store is None:
        store = maker(inputs, spans)
        save(place, key, store)
    return store


def is_worthwhile(inputs: Sequence[Inputs]) -> bool:
    """Whether there is enough text to keep."""
    size = 0
    for entry in inputs:
        size += sum(map(len, texts_of(entry)))
        if size >= WORTHWHILE:
            return True
    return False


def key_of(inputs: Sequence[Inputs], *parts: str) -> str:
    """The name of what these inputs become; `parts` are whatever else decides it."""
    total = hashlib.blake2b(digest_size=20)
    for text in (str(SCHEMA), *parts):
        total.update(f"{len(text)}:".encode() + text.encode())
    for entry in inputs:
        texts = texts_of(entry)
        # lengths and types too, for ("ab", "c") is not ("a", "bc")
        total.update(f"{type(entry).__name__}{getattr(entry, 'long', '')}{[len(text) for text in texts]}".encode())
        total.update("".join(texts).encode())
    return total.hexdigest()


def texts_of(entry: Inputs) -> Sequence[str]:
    if isinstance(entry, str):
        return (entry,)
    return entry.words if isinstance(entry, Words) else (entry.first, entry.second)


def load(place: Path, key: str) -> WindowStore | None:
    """What was kept under this key; None when it is not there or cannot be read."""
    path = place / f"{key}.npz"
    try:
        check_regular(path)
        with np.load(path, allow_pickle=False) as found:
            arrays = dict(found)
        os.utime(path)  # used just now
        return WindowStore(
            **{name: arrays.get(name) for name in ("spans", "words")},
            **{name: arrays[name] for name in ("input_ids", "token_type_ids", "offsets", "rows", "numbers", "counts")},
            **{name: tuple(arrays[name].tolist()) for name in ("shortened", "crowded")},
            pieceless=int(arrays["pieceless"]),
        )
    except Exception:  # whatever zip files and numpy's headers raise when they are broken; also for want of memory
        return None


def save(place: Path, key: str, store: WindowStore) -> None:
    """Keep windows under this key, and remove the oldest files beyond the limit."""
    arrays = {name: np.asarray(value) for name, value in vars(store).items() if value is not None}
    with suppress(BertkitError, OSError):
        with written_atomically(place / f"{key}.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)
        files = sorted(place.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
        size = 0
        for path in files:
            size += path.stat().st_size
            if size > LARGEST:
                path.unlink()

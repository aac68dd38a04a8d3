"""Windows that were cut before, kept by the content of texts, tokenizer and settings: the same rows are tokenised once.

Files are plain numpy archives, read without pickles, which only their owner can read. A cache never fails a run: what
cannot be read is made again, and what cannot be written is left.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path

import numpy as np

from bertkit import __version__
from bertkit.data.windows import Inputs, WindowMaker, WindowStore, size_of, texts_of
from bertkit.disk import TEMPORARY, check_regular, written_atomically
from bertkit.errors import BertkitError

FOLDER = "BERTKIT_CACHE"  # environment variable: where; empty: nowhere
# part of every key: the schema of the files, and what cuts windows; another version may cut them elsewhere
MADE_BY = {"schema": "1", "bertkit": __version__, "tokenizers": version("tokenizers")}
LARGEST = 2 << 30  # bytes of all files; the ones that were not used for longest are removed
FILE_NAME = re.compile(rf"({re.escape(TEMPORARY)})?[0-9a-f]{{40}}\.npz")  # also what a killed process left
WORTHWHILE = 200_000  # characters; fewer are tokenised in the time that a file takes


def cache_folder() -> Path | None:
    """Where the cache lies; None when there is none."""
    asked = os.environ.get(FOLDER)
    if asked is not None:
        return Path(asked).expanduser() if asked else None
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bertkit" / "windows"


def files_of(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """Our files in a folder, which may hold others too; the last used one first."""
    found = []
    for path in folder.glob("*.npz"):
        if FILE_NAME.fullmatch(path.name):
            with suppress(OSError):
                found.append((path, path.stat()))
    return sorted(found, key=lambda entry: entry[1].st_mtime, reverse=True)


def shrink(folder: Path, largest: int) -> tuple[int, int]:
    """Remove the files that were not used for longest, until the others have this many bytes; the count and bytes gone.

    An OSError says that one cannot be removed.
    """
    files = files_of(folder)
    sizes = [status.st_size for _, status in files]
    kept = sum(total <= largest for total in accumulate(sizes))
    for path, _ in files[kept:]:
        path.unlink(missing_ok=True)
    return len(files) - kept, sum(sizes[kept:])


def cut(maker: WindowMaker, inputs: Iterable[Inputs], spans: bool) -> WindowStore:
    """What `maker` makes of the inputs, made now or before."""
    folder = cache_folder() if maker.keep else None
    if folder is None or sum(map(size_of, inputs := list(inputs))) < WORTHWHILE:
        return maker(inputs, spans)
    tokenizer, config = maker.tokenizer, maker.config.model_dump_json()
    try:
        # whether special tokens are read as text is no part of tokenizer.json
        key = key_of(inputs, tokenizer.to_str(), str(tokenizer.encode_special_tokens), config, str(spans))
    except Exception:  # parts in Python, as RoFormer's pre-tokenizer, have no words for what they do
        return maker(inputs, spans)
    store = load(folder, key)
    if store is None:
        store = maker(inputs, spans)
        save(folder, key, store)
    return store


def key_of(inputs: Sequence[Inputs], *parts: str) -> str:
    """The name of what these inputs become; `parts` are whatever else decides it."""
    total = hashlib.blake2b(digest_size=20)
    for text in (*MADE_BY.values(), *parts):
        total.update(f"{len(text)}:".encode() + text.encode())
    for entry in inputs:
        texts = texts_of(entry)
        # lengths and types too, for ("ab", "c") is not ("a", "bc")
        total.update(f"{type(entry).__name__}{getattr(entry, 'long', '')}{[len(text) for text in texts]}".encode())
        total.update("".join(texts).encode())
    return total.hexdigest()


def load(folder: Path, key: str) -> WindowStore | None:
    """What was kept under this key; None when it is not there or cannot be read."""
    path = folder / f"{key}.npz"
    try:
        check_regular(path)
        with np.load(path, allow_pickle=False) as found:
            arrays = dict(found)
        os.utime(path)  # used just now
        rows = {name: tuple(arrays[name].tolist()) for name in ("shortened", "crowded")}
        return WindowStore(**arrays | rows | {"pieceless": int(arrays["pieceless"])})
    except Exception:  # whatever zip files and numpy's headers raise when they are broken; also for lack of memory
        return None


def save(folder: Path, key: str, store: WindowStore) -> None:
    """Keep windows under this key, and remove the oldest files beyond the limit."""
    arrays = {name: np.asarray(value) for name, value in vars(store).items() if value is not None}
    with suppress(BertkitError, OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        with (
            written_atomically(folder / f"{key}.npz") as temporary,
            open(temporary, "wb", opener=partial(os.open, mode=0o600)) as file,
        ):
            np.savez(file, **arrays)
        shrink(folder, LARGEST)

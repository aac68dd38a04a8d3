"""Running text as tokens on disk: tokenised once, in parts that survive a kill, and mapped into memory."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bertkit.data.files import BadRow, File, decoded_lines, name_parts
from bertkit.data.opening import find, open_table
from bertkit.data.token_cache import cache_folder
from bertkit.disk import checksum, discard, disk_errors, held, sync, write_atomically
from bertkit.errors import BertkitError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PART = 1 << 22  # characters that are tokenised at once, and the most that a kill loses
SCHEMA = 1  # of the files, a part of their name
FILES = ("tokens", "lines", "documents")


class Corpus(NamedTuple):
    """The tokens of all documents, without special ones, one behind the other."""

    tokens: np.ndarray  # (T,) uint16 or uint32
    lines: np.ndarray  # (P,) int64, where each line or paragraph ends
    documents: np.ndarray  # (D,) int64, where each document ends
    key: str  # a hash of the texts and the tokenizer


def read_documents(source: str) -> Iterator[list[str]]:
    """The documents of a source that have text, as lines or paragraphs.

    Plain text has a paragraph a line and a blank line between documents; in all other formats a row is a document, in
    the column `text`.
    """
    name, path = find(source, "train")
    _, ending, packing = name_parts(path)
    file = File(name, path, ending, packing, {"text": "text"}, None)
    if ending not in (".txt", ".tokens"):
        table = open_table(file, "train", None)
        if "text" not in table.names:
            raise BertkitError(f"{name}: no column 'text'; it has: {', '.join(table.names)}", hint="name it text")
        for line, record in table.records:
            if isinstance(record, BadRow) or not isinstance(record.get("text"), str):
                raise BertkitError(f"{name}:{line}: a row without a text", hint="mend it, or leave it out")
            if lines := [part for part in map(str.strip, record["text"].split("\n")) if part]:
                yield lines
        return
    lines: list[str] = []
    for _, line in decoded_lines(file):
        if line := line.strip():
            lines.append(line)
        elif lines:
            yield lines
            lines = []
    if lines:
        yield lines


def tokenised(
    sources: Sequence[str], tokenizer: Tokenizer, where: str, progress: Callable[[str, int], None] = lambda *_: None
) -> Corpus:
    """The tokens of some sources, made now or before; what a killed process has made is not made again.

    Args:
        where: the setting that names the sources, to say in messages.
        progress: told the source that is read and the tokens so far.
    Raises:
        BertkitError: a source cannot be read, or there is no text in it.
    """
    files = [file for source in sources for file in texts_in(source)]
    if not files:
        raise BertkitError(f"{where}: there is no text", hint="name files or folders of text")
    made_by = [SCHEMA, version("tokenizers"), tokenizer.to_str(), *map(_content, files)]
    key = hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:40]
    cache = cache_folder()
    folder = (Path(tempfile.mkdtemp()) if cache is None else cache.parent / "corpora") / key
    with held(folder):
        if not (folder / "done.json").exists():
            _write(files, tokenizer, folder, progress)
    kinds = zip(FILES, (_dtype(tokenizer), np.int64, np.int64), strict=True)
    return Corpus(*(np.memmap(folder / name, kind, "r") for name, kind in kinds), key)


def texts_in(source: str) -> list[str]:
    """The files of a folder in their order, or the source itself."""
    path = Path(source).expanduser()
    if not path.is_dir() or any(
        (path / name).exists() for name in ("dataset_info.json", "state.json", "dataset_dict.json")
    ):
        return [source]
    found = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    return [str(file) for file in found]


def _content(source: str) -> str:
    path = Path(source).expanduser()
    return checksum(path) if path.is_file() else source


def _dtype(tokenizer: Tokenizer) -> type[np.unsignedinteger]:
    return np.uint16 if tokenizer.get_vocab_size() <= 1 << 16 else np.uint32


def _write(files: Sequence[str], tokenizer: Tokenizer, folder: Path, progress: Callable) -> None:
    """Append to the three files, and note after each part how far they are whole."""
    noted = folder / "progress.json"
    state = {"file": 0, "documents": 0, "sizes": [0, 0, 0], "tokens": 0}
    with suppress(OSError, ValueError):
        state = json.loads(noted.read_text())
    dtype = _dtype(tokenizer)
    with disk_errors(folder):
        streams = []
        for name, size in zip(FILES, state["sizes"], strict=True):
            (folder / name).touch()
            stream = (folder / name).open("r+b")
            stream.truncate(size)
            stream.seek(size)
            streams.append(stream)
        for number in range(state["file"], len(files)):
            documents = islice(read_documents(files[number]), state["documents"], None)
            while part := _part(documents):
                lines = [line for document in part for line in document]
                ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(lines, add_special_tokens=False)]
                line_ends = state["tokens"] + np.cumsum([len(one) for one in ids], dtype=np.int64)
                ends = line_ends[np.cumsum([len(document) for document in part]) - 1]
                ends = ends[np.diff(ends, prepend=state["tokens"]) > 0]  # a document may have no piece at all
                arrays = (np.concatenate([np.asarray(one, dtype) for one in ids]), line_ends, ends)
                for stream, array in zip(streams, arrays, strict=True):
                    stream.write(array.tobytes())
                    stream.flush()
                state = {
                    "file": number, "documents": state["documents"] + len(part),
                    "sizes": [stream.tell() for stream in streams], "tokens": int(line_ends[-1]),
                }  # fmt: skip
                for name in FILES:
                    sync(folder / name)
                write_atomically(noted, json.dumps(state))
                progress(files[number], state["tokens"])
            state |= {"file": number + 1, "documents": 0}
        for stream in streams:
            stream.close()
    if not state["tokens"]:
        discard(folder)
        raise BertkitError(f"{', '.join(files)}: there is no text", hint="is it the right file, and is it whole?")
    write_atomically(folder / "done.json", json.dumps(state))
    noted.unlink(missing_ok=True)


def _part(documents: Iterator[list[str]]) -> list[list[str]]:
    """The next documents, about PART characters in all."""
    part, size = [], 0
    for document in documents:
        part.append(document)
        size += sum(map(len, document))
        if size >= PART:
            break
    return part

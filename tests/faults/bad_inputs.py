"""Every reader against files that are broken, huge, nested, packed or no files at all: one clear error, or an answer.

`sweep(folder, tries, seed)` counts inputs, crashes and hangs. The readers run in a process of their own, with bounded
memory and a clock beside it: a crash is any exception but `BertkitError`, and also a process that died; a hang is an
input that takes longer than `SECONDS`.

    python -m tests.faults.bad_inputs --tries 200
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

SECONDS = 30.0  # for one input; most take a millisecond, a loaded machine many times as long
MEMORY = 3 << 30  # bytes that a reader may take beyond what its imports took
DEEP = 100_000  # levels of nesting
WHOLE = "nothing"  # the damage that must be read without an error
HUGE = 8 << 20  # characters of one value

Read = Callable[[Path], object]


@dataclass
class Counts:
    """What a sweep came to."""

    inputs: int = 0
    refused: int = 0  # with a BertkitError
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)


class Reader(NamedTuple):
    """Something that reads files which may be broken.

    Attributes:
        make: writes whole files into an empty folder.
        files: which of them are damaged, by glob.
        read: reads the folder.
    """

    name: str
    make: Callable[[Path], None]
    files: tuple[str, ...]
    read: Read


class Case(NamedTuple):
    """One input: a file of a reader, and what is done to it."""

    reader: int
    file: str
    damage: str
    seed: int

    def describe(self) -> str:
        return f"{READERS[self.reader].name}: {self.file}: {self.damage} (seed {self.seed})"


# What is done to a file: whole bytes -> broken ones.


def flip(raw: bytes, rng: random.Random) -> bytes:
    broken = bytearray(raw or b"\0")
    for _ in range(rng.randint(1, 8)):
        broken[rng.randrange(len(broken))] = rng.randrange(256)
    return bytes(broken)


def cut(raw: bytes, rng: random.Random) -> bytes:
    return raw[: rng.randrange(len(raw) + 1)]


def insert(raw: bytes, rng: random.Random) -> bytes:
    junk = rng.choice([
        b"\0", b"\xff\xfe", b"\r", b'"', b"\t", b"[" * 50, b"{", b"\n\n", b"\xf0\x9f", b"&a [*a]",
        b"!!python/object:os.system ", b"1e999", b"\\ud800", b"," * 1000, rng.randbytes(20),
    ])  # fmt: skip
    place = rng.randrange(len(raw) + 1)
    return raw[:place] + junk + raw[place:]


def recode(raw: bytes, rng: random.Random) -> bytes:
    text = raw.decode("utf-8", "replace")
    return rng.choice([
        text.encode("utf-16"), text.encode("utf-32"), b"\xef\xbb\xbf" * 2 + raw, text.encode("cp037", "replace"),
        raw.replace(b"\n", b"\r"), b"", b"\0" * 4096, b"null", b"[]", b"{}", b"1", b'"x"', b"\n", b"[[]]",
        b'[{"a": 1}]',
    ])  # fmt: skip


def nest(raw: bytes, rng: random.Random) -> bytes:
    unit, end = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'{"data":[', b"]}"), (b"- ", b""), (b"{a: ", b"}")])
    return unit * DEEP + b"1" + end * rng.choice([0, DEEP])


def bomb(raw: bytes, rng: random.Random) -> bytes:
    """Few bytes that ask for much: aliases of aliases, a huge number, a huge value, a huge header."""
    laughs = b"a0: &a0 [x, x]\n" + b"".join(
        b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)
    )
    return rng.choice([
        laughs, b"train: {epochs: " + b"9" * 50_000 + b"}\n", b'{"splits": ' + b"9" * 50_000 + b"}",
        b'{"a": "' + b"x" * HUGE + b'"}',
        b'text,label\n"' + b"x" * HUGE + b'",y\n', b"x" * HUGE, (1 << 62).to_bytes(8, "little") + raw[8:],
        (HUGE).to_bytes(8, "little") + b"{" + b" " * HUGE + b"}",
    ])  # fmt: skip


def odd(rng: random.Random) -> object:
    return rng.choice([
        None, True, -1, 0, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\0", "\ud800", "../../x",
        "x" * 100_000, [], {}, [None], [[]], {"a": 1}, {"": {}}, [1, "a"], "<script>", 2**63, -(2**63) - 1, 0.5,
    ])  # fmt: skip


def reshape(raw: bytes, rng: random.Random) -> bytes:
    """Valid JSON (or JSON lines) of another shape: a value replaced, a key taken away, a value doubled."""
    try:
        trees = [json.loads(raw)]
    except ValueError:
        try:
            trees = [json.loads(line) for line in raw.decode().splitlines() if line.strip()]
        except ValueError:
            return insert(raw, rng)
    for _ in range(rng.randint(1, 2)):
        place, key = rng.choice([*places(trees), (trees, rng.randrange(len(trees)))])
        action = rng.randrange(4)
        if action == 0 and place is not trees:
            del place[key]
            continue
        place[key] = [place[key]] if action == 1 else odd(rng)
    return "\n".join(json.dumps(tree) for tree in trees).encode("utf-8", "surrogatepass")


def places(tree: object) -> list[tuple[object, object]]:
    """Every (container, key) below a tree; of long lists the first few."""
    found, left = [], [tree]
    while left and len(found) < 5000:
        node = left.pop()
        keys = list(node) if isinstance(node, dict) else range(min(len(node), 5)) if isinstance(node, list) else ()
        found += [(node, key) for key in keys]
        left += [node[key] for key in keys]
    return found


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    function.__name__: function for function in (flip, cut, insert, recode, nest, bomb, reshape)
}


# What stands where a file should be, and is none.


def is_loop(path: Path) -> None:
    path.symlink_to(path.name)


def is_folder(path: Path) -> None:
    path.mkdir()


def is_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def is_pipe(path: Path) -> None:
    os.mkfifo(path)


def is_nothing(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def is_unreadable(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


def is_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(6 << 30)


STANDINS: dict[str, Callable[[Path], None]] = {
    function.__name__: function
    for function in (is_loop, is_folder, is_endless, is_pipe, is_nothing, is_unreadable, is_sparse)
}


# The readers.


ROWS = {
    "a.csv": b"text,label,id\nx,y,1\n\"a, b\",z,2\n",
    "a.tsv": b"text\tlabel\nx\ty\n",
    "a.jsonl": b'{"text": "a", "label": "b"}\n{"text": "c", "label": "d"}\n',
    "a.json": b'{"data": [{"paragraphs": [{"context": "a b", "qas": ['
    b'{"id": "1", "question": "q", "answers": [{"text": "a", "answer_start": 0}]}]}]}]}',
    "a.conllu": b"# sent_id = x\n1\ta\t_\tX\tY\t_\t_\t_\t_\t_\n\n",
    "a.txt": b"a text\nanother\n",
}  # fmt: skip


def write_rows(folder: Path) -> None:
    for name, content in ROWS.items():
        (folder / name).write_bytes(content)
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        (folder / f"{name}.xz").write_bytes(lzma.compress(content))
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ["a", "b"], "label": ["x", "y"]}), folder / "a.parquet")


def read_rows_of(folder: Path) -> None:
    from bertkit.data.sources import Columns, read_rows
    from bertkit.errors import BertkitError

    path = next(iter(sorted(folder.iterdir())))
    refused = []
    for columns in (
        Columns(text=("text",), label="label"), Columns(words=("words",), tags="tags"),
        Columns(text=("question", "context"), answers="answers"), Columns(text=("text",)),
    ):  # fmt: skip
        try:
            read_rows(str(path), columns)
        except BertkitError as error:
            refused.append(error)
    if len(refused) == 4:  # no task could read it
        raise refused[0]


def write_saved(folder: Path) -> None:
    import datasets

    datasets.disable_progress_bars()

    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    datasets.DatasetDict({"train": rows}).save_to_disk(str(folder / "saved"))


def read_saved(folder: Path) -> None:
    from bertkit.data.sources import Columns, read_rows

    read_rows(str(folder / "saved"), Columns(text=("text",), label="label"))


def write_glue(folder: Path) -> None:
    import bertkit

    shutil.copytree(Path(bertkit.__file__).parent / "assets" / "glue" / "RTE", folder / "RTE")


def read_glue_of(folder: Path) -> None:
    from bertkit.data.glue import find_tasks, read_glue

    for task in find_tasks(folder):
        read_glue(task, folder)


def write_recipe(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(
        "# a recipe\ntask: {name: sentiment, labels: [a, b]}\nmodel: {checkpoint: bundled:tiny}\n"
        "data:\n  train: x.csv\n  columns: {text: 0}\n"
        "train: {epochs: 2, learning_rate: 2e-5, adam_betas: [0.9, 0.99]}\n"
    )


def read_recipe(folder: Path) -> None:
    from bertkit.recipe import load_recipe
    from bertkit.tasks.base import make_task

    make_task(load_recipe(folder / "recipe.yaml").task)


def write_run(folder: Path) -> None:
    """A finished run, and a checkpoint as an unfinished one has it."""
    shutil.copytree(_trained(), folder, dirs_exist_ok=True)


_made: list[Path] = []


def _trained() -> Path:
    """A run of two steps; made once in a process."""
    if not _made:
        from bertkit.recipe import load_recipe
        from bertkit.run import finetune
        from bertkit.rundir import latest

        place = Path(tempfile.mkdtemp()) / "run"
        settings = ["model.init=scratch", "model.checkpoint=bundled:tiny", "data.train=bundled:sentiment.csv",
                    "data.train_rows=8", "data.validation_rows=4", "train.batch_size=4", "train.steps=2",
                    "hardware.precision=fp32", "train.checkpoint_every=1", "hardware.device=cpu",
                    "windows.max_length=32", "log.every=1"]  # fmt: skip
        finetune(load_recipe({"task": {"name": "sentiment"}}, settings), place, quiet=True)
        _made.append(place)
        assert latest(place / "checkpoints"), "the run left no checkpoint"
    return _made[0]


def read_report(folder: Path) -> None:
    from bertkit.pages.html import render

    render(folder)


def read_model(folder: Path) -> None:
    from bertkit.run import load

    load(folder).predict(["a text"])


def go_on(folder: Path) -> None:
    """What `--resume` reads of a run before it trains."""
    from bertkit.recipe import load_recipe
    from bertkit.run import finetune

    (folder / "metrics.json").unlink(missing_ok=True)
    finetune(load_recipe(folder / "recipe.yaml"), folder, resume=True, quiet=True)


def write_a_study(folder: Path) -> None:
    from tests.unit.studies.studies import write_predictions, write_study

    write_study(folder, {"rte": [{"accuracy": 0.7}], "cola": [{"matthews": 0.5}]})
    for task, labels in (("rte", ("entailment", "not_entailment")), ("cola", ("unacceptable", "acceptable"))):
        run = folder / "runs" / f"{task}-0"
        metrics = json.loads((run / "metrics.json").read_text())
        metrics["splits"]["validation"]["rows"] = 2
        (run / "metrics.json").write_text(json.dumps(metrics))
        write_predictions(run / "predictions.jsonl", labels, labels, task)
        rows = "".join(
            json.dumps({"id": str(row), "text": "a", "second": "b", "label": None}) + "\n" for row in range(2)
        )
        (folder / "data" / task / "test.jsonl").write_text(rows)


def read_study(folder: Path) -> None:
    from bertkit.studies.glue.compare import compare
    from bertkit.studies.glue.results import gather
    from bertkit.studies.glue.submission import FILES, check_sizes
    from bertkit.studies.glue.tables import findings

    results = gather(folder)
    results.to_json()
    findings(results, published=True)
    read_report(folder)
    compare(folder, folder, 100)
    check_sizes(folder, [file for file in FILES if file.task in ("rte", "cola")], any_size=True)


def write_cache(folder: Path) -> None:
    import numpy as np

    from bertkit.data import token_cache

    arrays = {name: np.arange(3) for name in ("input_ids", "token_type_ids", "offsets", "rows", "numbers", "counts",
                                              "shortened", "crowded")}  # fmt: skip
    np.savez(folder / "key.npz", **arrays, pieceless=np.asarray(0))
    assert token_cache.load(folder, "key") is not None


def read_cache(folder: Path) -> None:
    from bertkit.data import token_cache

    token_cache.load(folder, "key")


READERS = (
    *(Reader(f"rows ({name}{packing})", write_rows, (f"{name}{packing}",), read_rows_of)
      for name in ROWS for packing in ("", ".gz", ".xz")),
    Reader("rows (a.parquet)", write_rows, ("a.parquet",), read_rows_of),
    Reader("rows (saved)", write_saved, ("saved/*.json", "saved/train/*.json", "saved/train/*.arrow"), read_saved),
    Reader("glue", write_glue, ("RTE/*.tsv",), read_glue_of),
    Reader("recipe", write_recipe, ("recipe.yaml",), read_recipe),
    Reader("report", write_run, ("*.json", "*.yaml", "*.jsonl"), read_report),
    Reader("load", write_run, ("environment.json", "task.json", "recipe.yaml", "model/*"), read_model),
    Reader("resume", write_run, ("environment.json", "history.jsonl", "checkpoints/step-*/*"), go_on),
    Reader("study", write_a_study, ("study.json", "data/rte/*", "runs/rte-0/*"), read_study),
    Reader("token cache", write_cache, ("key.npz",), read_cache),
)  # fmt: skip


def cases(tries: int, seed: int) -> Iterator[Case]:
    """Every reader's files as they are, every stand-in once for each file, and each damage `tries` times."""
    with tempfile.TemporaryDirectory() as place:
        for number, reader in enumerate(READERS):
            folder = Path(place) / str(number)
            folder.mkdir()
            reader.make(folder)
            found = sorted({path.relative_to(folder).as_posix() for glob in reader.files for path in folder.glob(glob)})
            assert found, f"{reader.name}: no file to damage"
            yield Case(number, found[0], WHOLE, 0)
            for file in found:
                yield from (Case(number, file, name, 0) for name in STANDINS)
                yield from (Case(number, file, name, seed + turn) for name in DAMAGES for turn in range(tries))


def damage(case: Case, folder: Path) -> None:
    """Write the reader's files, one of them broken."""
    reader = READERS[case.reader]
    reader.make(folder)
    path = folder / case.file
    if reader.make is write_rows:  # the reader takes the only file there
        for other in folder.iterdir():
            if other != path:
                other.unlink()
    if case.damage == WHOLE:
        return
    if case.damage in STANDINS:
        path.unlink()
        STANDINS[case.damage](path)
        return
    raw = path.read_bytes()
    rng = random.Random(f"{case}")
    packed = {".gz": gzip, ".xz": lzma}.get(path.suffix)
    if packed is not None and rng.random() < 0.5:  # whole outside, broken inside
        raw = packed.compress(DAMAGES[case.damage](packed.decompress(raw), rng))
    else:
        raw = DAMAGES[case.damage](raw, rng)
    path.unlink()
    path.write_bytes(raw)


def work(connection: Connection, folder: str) -> None:
    """Read what is sent, one case after the other, and say what came of each: "", "refused", or a crash."""
    from bertkit.errors import BertkitError

    os.environ["BERTKIT_CACHE"] = ""
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ["HF_DATASETS_CACHE"] = f"{folder}/datasets"
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    _trained()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 for as long as the process lives
    number = 0
    connection.send("ready")
    while True:
        case = connection.recv()
        number += 1
        place = Path(folder) / f"{os.getpid()}-{number}"
        place.mkdir()
        try:
            damage(case, place)
            connection.send("begun")
            READERS[case.reader].read(place)
            answer = ""
        except BertkitError as error:
            # an error without a word about what is wrong would be no answer
            answer = "refused" if error.message else "an empty error"
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)
            ours = [entry for entry in last if "/bertkit/" in entry.filename][-1:]
            where = ", ".join(f"{Path(entry.filename).name}:{entry.lineno}" for entry in ours)
            answer = f"{type(error).__name__} ({where}): {str(error)[:200]}"
        shutil.rmtree(place, ignore_errors=True)
        connection.send(answer)


def sweep(
    folder: Path, tries: int = 1, seed: int = 0, only: str = "", share: float = 1.0, say: Callable[[str], None] = print
) -> Counts:
    """Try bad inputs on every reader.

    Args:
        folder: an empty one, to work in.
        tries: how often each damage is done to each file, with other random numbers.
        only: part of a reader's name; the others are left out.
        share: of the cases, drawn at random; the rest is left out.
    """
    counts = Counts()
    rng = random.Random(seed)
    process = connection = None
    for case in cases(tries, seed):
        is_left_out = case.damage != WHOLE and rng.random() >= share
        if only not in READERS[case.reader].name or is_left_out:
            continue
        if process is None:
            process, connection = start(folder)
        counts.inputs += case.damage != WHOLE
        connection.send(case)
        answer = heard(connection, 120) and heard(connection, SECONDS)
        if answer is None:
            is_dead = process.exitcode is not None or not process.is_alive()
            (counts.crashes if is_dead else counts.hangs).append(case.describe())
            say(f"{'process died' if is_dead else 'hangs'}: {case.describe()}")
            process.kill()
            process.join()
            process = None
        elif answer == "refused" and case.damage != WHOLE:
            counts.refused += 1
        elif answer != "":
            counts.crashes.append(f"{case.describe()}: {answer}")
            say(counts.crashes[-1])
    if process is not None:
        process.kill()
        process.join()
    return counts


def start(folder: Path) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(theirs, str(folder)), daemon=True)
    process.start()
    theirs.close()
    assert heard(ours, 300) == "ready", "the readers' process did not start"
    return process, ours


def heard(connection: Connection, seconds: float) -> str | None:
    """What the other side says; None when it says nothing in time, or is gone."""
    try:
        return connection.recv() if connection.poll(seconds) else None
    except EOFError:
        return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--share", type=float, default=1.0)
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = sweep(Path(folder), asked.tries, asked.seed, asked.only, asked.share)
    print(f"{counts.inputs} bad inputs: {counts.refused} refused, {len(counts.crashes)} crashes, "
          f"{len(counts.hangs)} hangs, in {time.monotonic() - began:.0f} s")  # fmt: skip
    kinds = Counter(crash.partition("): ")[2] for crash in counts.crashes)
    for kind, count in kinds.most_common():
        print(f"{count:6} {kind}")
    sys.exit(bool(counts.crashes or counts.hangs))


if __name__ == "__main__":
    main()

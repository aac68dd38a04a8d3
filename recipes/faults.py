"""Kill, damage and starve runs, and count what is lost: the table of recipes/README.md.

    python recipes/faults.py --out runs/faults [--short] [--seed 0] [NAME ...]

Every fault is done to a run in a process of its own, forked from this one, which has imported everything: that takes
ten times as long as the run. What comes out is compared, byte by byte, with a run that nothing happened to. A row of
the table is a function in FAULTS.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import psutil

import bertkit.prepare
from bertkit import cli
from bertkit.disk import LOCK
from bertkit.errors import BertkitError
from bertkit.findings import Finding, Series, Table, to_json
from bertkit.outcome import curves
from bertkit.pages.html import write_report
from bertkit.rundir import PACE, RunDir, checkpoints_of, latest
from bertkit.train import checkpoint, keep, loop
from bertkit.train.loop import StepObserver, TrainState

ROOT = Path(__file__).parents[1]
BUNDLED = {"sentiment": "sentiment.csv", "nli": "nli.jsonl", "pos": "pos.conllu", "qa": "qa.json"}
SMALL = (
    "-m", "bundled:tiny", "model.init=scratch", "model.dropout=0.1", "hardware.precision=fp32", "hardware.threads=1",
    "windows.max_length=64", "train.batch_size=8", "train.learning_rate=1e-3", "train.epochs=100", "log.every=1",
    "data.train_rows=48", "data.validation_rows=8",
)  # fmt: skip
OFTEN = ("train.steps=30", "train.checkpoint_every=4", "train.evaluate_every=3")
COMPARED = ("history.jsonl", "predictions.jsonl", "task.json", "recipe.yaml", "model/model.safetensors")
GROWTH = 16  # MB that a process may grow by over the last half of a long run


class Count(NamedTuple):
    """What came of one kind of fault.

    Attributes:
        tried: faults.
        survived: those after which all was well.
        lost: bytes that differ from the run that nothing happened to.
        note: what a reader of the table should know.
        figure: a curve worth drawing.
    """

    tried: int
    survived: int
    lost: int
    note: str = ""
    figure: Series | None = None


class Place(NamedTuple):
    """Where faults happen: an empty folder, whether time is short, and where chance comes from."""

    folder: Path
    is_short: bool
    rng: random.Random

    def run(self, name: str) -> Path:
        """A run's folder."""
        return self.folder / name


class Fault(NamedTuple):
    """A row of the table: the law that it tries, and the function that does so."""

    law: str
    attempt: Callable[[Place], Count]


# processes


def start(arguments: Sequence[object], log: Path, before: Callable[[], None] = lambda: None) -> int:
    """Begin a command in a process of its own, and return its id.

    Args:
        log: gets what it prints.
        before: is called in the process first.
    """
    if pid := os.fork():
        return pid
    code = 70
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        before()
        sys.argv = ["bertkit", *map(str, arguments)]
        cli.main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()  # a bug: nobody else would tell
    finally:
        sys.stdout.flush()
        os._exit(code)


def warm_up() -> None:
    """Train a step, which imports what is imported late; on one thread, for a fork has only the thread that forks."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory() as folder:
        for task in BUNDLED:
            sys.argv = ["bertkit", *map(str, train(task, Path(folder) / task, "train.steps=1"))]
            with suppress(SystemExit), redirect_stdout(io.StringIO()):
                cli.main()


def end(pid: int) -> int:
    """Wait for a process; its exit code, or minus its signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def call(arguments: Sequence[object], log: Path, before: Callable[[], None] = lambda: None) -> int:
    """Run a command to its end."""
    return end(start(arguments, log, before))


def train(task: str, out: Path, *settings: str) -> list[object]:
    """The command that trains a small run, or goes on with it."""
    return ["train", task, "--train", f"bundled:{BUNDLED[task]}", *SMALL, *settings, "-q", "--resume", "--out", out]


def whole(place: Place, task: str, *settings: str) -> tuple[Path, float]:
    """A run that nothing happens to, and the seconds that it takes; made once."""
    out = place.run(f"whole-{task}")
    log, noted = out.with_suffix(".log"), out.with_suffix(".seconds")
    if not noted.exists():
        began = time.monotonic()
        if code := call(train(task, out, *settings), log):
            raise BertkitError(f"{out}: exit code {code}: {log.read_text()}")
        noted.write_text(str(time.monotonic() - began))
    return out, float(noted.read_text())


def lost_bytes(first: Path, second: Path) -> int:
    """Bytes in which two runs differ; files that are half-written or in the way count whole."""
    lost = 0
    for name in COMPARED:
        one, other = (path.read_bytes() if path.exists() else b"" for path in (first / name, second / name))
        if one != other:
            lost += abs(len(one) - len(other)) + sum(a != b for a, b in zip(one, other, strict=False))
    left = [path for path in second.rglob("*") if path.name.startswith((".tmp-", ".old-", "best-"))]
    return lost + sum(max(1, path.stat().st_size) for path in left)


def outcome(first: Path, second: Path, code: int) -> tuple[bool, int]:
    """Whether a resumed run ended well and as it should, and the bytes lost."""
    lost = lost_bytes(first, second)
    return code == 0 and not lost, lost


# faults


def kills(place: Place) -> Count:
    """kill -9 at a random moment of the process's life, the same run up to three times."""
    wanted = 6 if place.is_short else 20
    tried = survived = lost = finished = 0
    for number, task in enumerate(cycle(BUNDLED)):
        if tried >= wanted:
            break
        first, seconds = whole(place, task, *OFTEN)
        out, hits = place.run(f"kill-{number}"), 0
        while hits < min(3, wanted - tried):
            pid = start(train(task, out, *OFTEN), out.with_suffix(".log"))
            time.sleep(place.rng.uniform(0.0, seconds))
            os.kill(pid, signal.SIGKILL)
            if end(pid) == 0:  # it was quicker
                break
            hits += 1
        finished += 1
        is_well, gone = outcome(first, out, call(train(task, out, *OFTEN), out.with_suffix(".log")))
        tried, survived, lost = tried + hits, survived + hits * is_well, lost + gone
    return Count(tried, survived, lost, f"{finished} runs, {len(BUNDLED)} tasks")


def writes(place: Place) -> Count:
    """Death at every write: before each fsync, rename and removal, and in the middle of each file."""
    settings = ("train.steps=4", "train.checkpoint_every=2", "train.evaluate_every=1")
    counted = place.folder / "writes"
    first = place.run("whole-writes")
    call(train("sentiment", first, *settings), first.with_suffix(".log"), lambda: die_at(-1, counted))
    total = counted.stat().st_size
    numbers = range(1, total + 1)
    chosen = sorted(place.rng.sample(numbers, 8)) if place.is_short else numbers
    survived = lost = 0
    for number in chosen:
        out = place.run(f"write-{number}")
        log = out.with_suffix(".log")
        code = call(train("sentiment", out, *settings), log, lambda number=number: die_at(number, place.folder / "x"))
        assert code == 9, f"write {number}: exit code {code}: {log.read_text()}"
        is_well, gone = outcome(first, out, call(train("sentiment", out, *settings), log))
        survived, lost = survived + is_well, lost + gone
        shutil.rmtree(out)
    return Count(len(chosen), survived, lost, f"of {total} writes of one run")


def die_at(number: int, counted: Path) -> None:
    """Have this process die, as from kill -9, at its write of this number; `counted` grows by a byte with each."""
    seen = 0

    def mortal(owner: object, name: str, half: Callable[..., None]) -> None:
        write = getattr(owner, name)

        def done(*arguments: object, **options: object) -> object:
            nonlocal seen
            seen += 1
            with counted.open("ab") as file:
                file.write(b".")
            if seen == number:
                half(write, *arguments)
                os._exit(9)
            return write(*arguments, **options)

        setattr(owner, name, done)

    def nothing(write: Callable, *arguments: object) -> None:
        return None

    def half_a_text(write: Callable, path: Path, text: str) -> None:
        path.write_bytes(text.encode()[: len(text) // 2])

    def half_a_file(write: Callable, what: object, path: str) -> None:
        write(what, path)
        os.truncate(path, Path(path).stat().st_size // 2)

    def half_a_folder(write: Callable, path: Path) -> None:
        for entry in sorted(Path(path).rglob("*"))[::2]:
            if entry.is_file():
                entry.unlink()

    counted.unlink(missing_ok=True)
    mortal(os, "fsync", nothing)
    mortal(os, "replace", nothing)
    mortal(shutil, "rmtree", half_a_folder)
    mortal(Path, "write_text", half_a_text)
    mortal(checkpoint, "save_model", half_a_file)
    mortal(checkpoint, "save_file", half_a_file)


def damages(place: Place) -> Count:
    """A checkpoint that is cut, altered by one bit, gone in part, or of another recipe or version is refused."""
    settings = (*OFTEN, "train.keep=2")
    first, _ = whole(place, "pos", *OFTEN)
    made = place.run("damage-whole")
    call(train("pos", made, *settings), made.with_suffix(".log"), lambda: die_after(28))
    before, last = (path.name for path in checkpoints_of(made / "checkpoints"))
    survived = lost = tried = 0

    def refused(out: Path, *more: str, patch: Callable[[], None] = lambda: None) -> str:
        """What a resumed run says that ends with exit code 2; nothing when it does not."""
        log = out.with_suffix(".log")
        return log.read_text() if call(train("pos", out, *settings, *more), log, patch) == 2 else ""

    for name in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER, checkpoint.STATE):
        for kind in ("cut", "gone", *["bit"] * (2 if place.is_short else 8)):
            tried += 1
            out = place.run(f"damage-{tried}")
            shutil.copytree(made, out)
            file = out / "checkpoints" / last / name
            content = bytearray(file.read_bytes())
            if kind == "gone":
                file.unlink()
            else:
                if kind == "bit":
                    content[place.rng.randrange(len(content))] ^= 1 << place.rng.randrange(8)
                file.write_bytes(content[: len(content) - 1 if kind == "cut" else len(content)])
            said = refused(out)
            # the hint is followed: the one before goes on to the same digits
            shutil.rmtree(file.parent)
            code = call(train("pos", out, *settings), out.with_suffix(".log"))
            (out / "recipe.yaml").write_bytes((first / "recipe.yaml").read_bytes())  # they differ in train.keep
            is_well, gone = outcome(first, out, code)
            is_refused = last in said and f"go on from {before}" in said
            if not (is_well and is_refused):
                print(f"{name}, {kind}: {said}", file=sys.stderr)
            survived += is_well and is_refused
            lost += gone
            shutil.rmtree(out)
    others = (
        (("train.learning_rate=2e-3",), "train.learning_rate: 0.001 -> 0.002", lambda: None),
        (("seed=7",), "seed: 0 -> 7", lambda: None),
        ((), "resolved.versions.bertkit: ", lambda: setattr(bertkit.prepare, "__version__", "9.9")),
        ((), "schema 2, this version reads 99", lambda: setattr(checkpoint, "SCHEMA", 99)),
    )
    for more, named, patch in others:
        # the lock of the process that was killed is empty, and the next one takes it
        files = {path: path.read_bytes() for path in made.rglob("*") if path.is_file() and path.name != LOCK}
        said = refused(made, *more, patch=patch)
        if named not in said:
            print(f"{named}: {said}", file=sys.stderr)
        survived += named in said
        lost += sum(path.read_bytes() != content for path, content in files.items())
        tried += 1
    return Count(tried, survived, lost, "each named; the one before goes on")


def die_after(step: int) -> None:
    """Have this process die, as from kill -9, once the checkpoint of this step is written."""
    save = keep.Keeper.save

    def save_and_die(self: keep.Keeper, done: int) -> str:
        name = save(self, done)
        if done == step:
            os._exit(9)
        return name

    keep.Keeper.save = save_and_die


def stops(place: Place) -> Count:
    """SIGTERM and Ctrl-C at a random moment: exit 130, no step lost that was in the history."""
    wanted = 4 if place.is_short else 20
    tried = survived = lost = 0
    slowest = 0.0
    for number, task in enumerate(cycle(BUNDLED)):
        if tried == wanted:
            break
        first, seconds = whole(place, task, *OFTEN)
        out = place.run(f"stop-{number}")
        log = out.with_suffix(".log")
        pid = start(train(task, out, *OFTEN), log)
        time.sleep(place.rng.uniform(0.1, seconds))
        began = time.monotonic()
        os.kill(pid, (signal.SIGTERM, signal.SIGINT)[number % 2])
        code = end(pid)
        if code == 0:  # it was quicker
            continue
        tried, slowest = tried + 1, max(slowest, time.monotonic() - began)
        last, saved = RunDir(out).last_record(), latest(out / "checkpoints")
        is_saved = last is None or (saved is not None and checkpoint.read_state(saved)["step"] == last["step"])
        is_well, gone = outcome(first, out, call(train(task, out, *OFTEN), log))
        survived, lost = survived + (is_well and is_saved and code == 130), lost + gone
    return Count(tried, survived, lost, f"the slowest ended after {slowest:.1f} s")


def full_disks(place: Place) -> Count:
    """A disk that is full, at sizes that end in different files: one error, and the last good checkpoint stays."""
    first, _ = whole(place, "sentiment", *OFTEN)
    disk = place.run("disk")
    disk.mkdir()
    if shutil.which("mount") is None or os.geteuid() or mount(disk, 64):
        return Count(0, 0, 0, "not tried: it needs the right to mount a small disk")
    subprocess.run(["umount", disk], check=True)  # noqa: S603, S607
    total = sum(path.stat().st_size for path in first.rglob("*") if path.is_file()) // 1024
    survived = lost = 0
    sizes = [place.rng.randrange(64, 2 * total) for _ in range(3 if place.is_short else 12)]
    held = 0
    for size in sizes:
        mount(disk, size)
        out, log = disk / "run", disk.with_suffix(".log")
        code = call(train("sentiment", out, *OFTEN), log)
        said = log.read_text()
        is_told = code == 0 or (code == 2 and "No space left on device" in said)
        for path in checkpoints_of(out / "checkpoints"):
            checkpoint.read_state(path)
            held += 1
        mount(disk, 1024 * 64, "remount,")
        is_well, gone = outcome(first, out, call(train("sentiment", out, *OFTEN), log))
        survived, lost = survived + (is_well and is_told), lost + gone
        subprocess.run(["umount", disk], check=True)  # noqa: S603, S607
    return Count(len(sizes), survived, lost, f"{min(sizes):,} to {max(sizes):,} KiB; {held} checkpoints were held")


def mount(disk: Path, kibibytes: int, how: str = "") -> int:
    """Mount a disk of that size in memory; 0 when it went well."""
    command = ["mount", "-t", "tmpfs", "-o", f"{how}size={kibibytes}k", "tmpfs", str(disk)]
    return subprocess.run(command, capture_output=True, check=False).returncode  # noqa: S603


def memories(place: Place) -> Count:
    """Memory that torch and numpy are really refused: smaller micro-batches, the same losses to 1e-6."""
    settings = ("train.steps=3", "train.batch_size=512", "data.train_rows=null", "hardware.micro_batch_tokens=1000000")
    settings = (*settings, "model.dropout=0", "hardware.evaluation_tokens=1000000", "train.evaluate_every=1")
    rooms = (60, 120) if place.is_short else (40, 60, 80, 120, 160, 240)
    first = place.run("memory-whole")
    if code := call(train("qa", first, *settings), first.with_suffix(".log")):
        raise BertkitError(f"{first}: exit code {code}: {first.with_suffix('.log').read_text()}")
    survived = halved = deaths = 0
    for room in rooms:
        out = place.run(f"memory-{room}")
        code = call(train("qa", out, *settings), out.with_suffix(".log"), lambda room=room: starve(room))
        # where smaller batches do not help the run ends with its error; others than torch and numpy just die
        if code < 0 or (code == 2 and "error: out of memory" in out.with_suffix(".log").read_text()):
            deaths += 1
            code = call(train("qa", out, *settings), out.with_suffix(".log"))
        losses = [[line["loss"] for line in RunDir(run).read_history() if "loss" in line] for run in (first, out)]
        is_same = len(losses[0]) == len(losses[1]) and all(abs(a - b) <= 1e-6 for a, b in zip(*losses, strict=True))
        if code or not is_same:
            print(f"{out}: exit code {code}: {out.with_suffix('.log').read_text()}", file=sys.stderr)
        survived += code == 0 and is_same
        halved += sum("reason" in line for line in RunDir(out).read_history(PACE))
    note = f"{min(rooms)} to {max(rooms)} MiB to train in; halved {halved} times; {deaths} ended, and went on"
    return Count(len(rooms), survived, 0, note)


def starve(mebibytes: int) -> None:
    """Refuse this process more than so much memory beyond what it has when training begins."""
    learn = loop.train

    def train(state: TrainState, observer: StepObserver, begin: int) -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (mebibytes << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            return learn(state, observer, begin)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    loop.train = train


def disks(place: Place) -> Count:
    """At every moment at most `keep` + 1 checkpoints to resume from."""
    keeps = (1, 3) if place.is_short else (1, 2, 3, 5)
    survived = looks = 0
    for kept in keeps:
        out, most = place.run(f"keep-{kept}"), 0
        settings = ("train.steps=60", "train.checkpoint_every=1", "train.evaluate_every=2", f"train.keep={kept}")
        pid = start(train("nli", out, *settings), out.with_suffix(".log"))
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            most, looks = max(most, len(checkpoints_of(out / "checkpoints"))), looks + 1
        survived += (out / "metrics.json").exists() and kept <= most <= kept + 1
    return Count(len(keeps), survived, 0, f"{looks:,} looks")


def long_run(place: Place) -> Count:
    """Many steps with an evaluation every hundred: memory that stays."""
    steps = 300 if place.is_short else 2000
    out = place.run("long")
    settings = (f"train.steps={steps}", f"train.evaluate_every={steps // 20}", "data.train_rows=null", "log.every=10")
    code = call(train("sentiment", out, *settings, "train.epochs=1000"), out.with_suffix(".log"))
    pace = [line for line in RunDir(out).read_history(PACE) if "resident_mb" in line]
    half = [line["resident_mb"] for line in pace if line["step"] > steps // 2]
    growth = max(half) - half[0]
    (figure,) = curves(f"Memory over {steps:,} steps", "MB", pace, {"process": "resident_mb", "GPU, at most": "gpu_mb"})
    note = f"{steps:,} steps; {max(half)} MB at most, {growth} MB more than at half-time (allowed: {GROWTH})"
    return Count(1, int(code == 0 and growth <= GROWTH), 0, note, figure)


def pairs(place: Place) -> Count:
    """kill -9 of all processes of a run in two processes; it goes on in two, to the same bytes, or in one or three."""
    settings = ("model.dropout=0", "train.adam_epsilon=1e-5", *OFTEN)
    first = place.run("whole-pair")
    began = time.monotonic()
    if code := together(train("nli", first, *settings), 2, first.with_suffix(".log")).wait():
        raise BertkitError(f"{first}: exit code {code}: {first.with_suffix('.log').read_text()}")
    seconds = time.monotonic() - began
    wanted, survived, lost, hits = (2 if place.is_short else 6), 0, 0, 0
    for number in range(wanted):
        out, count = place.run(f"pair-{number}"), (2, 1, 3)[number % 3]
        log = out.with_suffix(".log")
        process = together(train("nli", out, *settings), 2, log)
        # nothing is written before the imports are done, which take most of the time
        time.sleep(place.rng.uniform(0.5 * seconds, seconds))
        with suppress(psutil.NoSuchProcess):
            launcher = psutil.Process(process.pid)
            for one in (launcher, *launcher.children(recursive=True)):
                one.kill()
        hits += process.wait() != 0
        code = together(train("nli", out, *settings), count, log).wait()
        losses = [[line["loss"] for line in RunDir(run).read_history() if "loss" in line] for run in (first, out)]
        is_same = len(losses[0]) == len(losses[1]) and all(abs(a - b) <= 1e-6 for a, b in zip(*losses, strict=True))
        gone = lost_bytes(first, out) if count == 2 else 0
        if code or gone or not is_same:
            print(f"{out}, on in {count}: exit code {code}: {log.read_text()}", file=sys.stderr)
        survived, lost = survived + (code == 0 and is_same and not gone), lost + gone
    return Count(wanted, survived, lost, f"{hits} were killed before they were done; on in 2, 1 or 3 processes")


def together(arguments: Sequence[object], count: int, log: Path) -> subprocess.Popen:
    """Begin a command in so many processes."""
    command = [sys.executable, "-m", "bertkit", *map(str, arguments), "--cpus", str(count)]
    with log.open("w") as words:
        return subprocess.Popen(command, stdout=words, stderr=words, cwd=ROOT)  # noqa: S603


def several(place: Place) -> Count:
    """One, two and three processes: the same losses, answers and scores."""
    return laws(place, "tests/distributed/test_same_result.py", "four tasks; 7, 8 and 9 rows")


def hosts(place: Place) -> Count:
    """Two hosts, one of which loses a process or its launcher."""
    return laws(place, "tests/distributed/test_hosts.py", "network namespaces where the machine allows them")


def laws(place: Place, file: str, note: str) -> Count:
    """Tests that are laws of their own; what they started several processes for is shared, so each costs little."""
    if place.is_short:
        return Count(0, 0, 0, "not tried in the short form, for it is among the tests")
    command = [sys.executable, "-m", "pytest", file]  # quiet enough by itself: more, and it counts nothing
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)  # noqa: S603
    passed, failed = (
        sum(int(number) for number in re.findall(rf"(\d+) {words}", done.stdout))
        for words in ("passed", "(?:failed|error)")
    )
    if failed or not passed:
        print(done.stdout, done.stderr, file=sys.stderr)
    return Count(passed + failed, passed, 0, note)


def bad_inputs(place: Place) -> Count:
    """Every reader against broken, huge, nested and packed files, links, pipes and devices."""
    from tests.faults.bad_inputs import sweep

    chance = place.rng.randrange(1 << 30)
    counts = sweep(place.folder, 1, chance, share=0.1 if place.is_short else 1.0, say=lambda text: None)
    for told in (*counts.crashes, *counts.hangs):
        print(told, file=sys.stderr)
    bad = len(counts.crashes) + len(counts.hangs)
    note = f"{counts.refused} refused with one error, the others read; {len(counts.crashes)} crashes, "
    return Count(counts.inputs, counts.inputs - bad, 0, f"{note}{len(counts.hangs)} hangs")


FAULTS = {
    "kills": Fault("killed at any moment, a run goes on to the same bytes", kills),
    "writes": Fault("so it does when killed at any write, or in the middle of one", writes),
    "damages": Fault("a checkpoint that is damaged, or of another recipe or version, is refused by name", damages),
    "stops": Fault("SIGTERM and Ctrl-C save within a step and exit with 130", stops),
    "full-disks": Fault("a full disk is one error, and the last good checkpoint stays", full_disks),
    "memories": Fault("what does not fit into memory is halved, with the same losses", memories),
    "disks": Fault("at every moment at most keep + 1 checkpoints", disks),
    "long-run": Fault("a long run does not grow", long_run),
    "pairs": Fault("two processes, killed, go on in two to the same bytes, in one or three to the same losses", pairs),
    "several": Fault("one, two and three processes learn and answer the same", several),
    "hosts": Fault("two hosts learn what one does, and a host's death is survived or ends both", hosts),
    "bad-inputs": Fault("bad input is one error, never a crash or a hang", bad_inputs),
}


def results(counts: dict[str, Count], seed: int) -> Iterator[Finding]:
    """The table, and the curves."""
    rows = tuple(
        (FAULTS[name].law, count.tried, count.survived, count.lost, count.note) for name, count in counts.items()
    )
    yield Table(
        title="Faults", caption=f"Seed {seed}. Bytes are those that differ from a run that nothing happened to.",
        columns=("law", "tried", "survived", "bytes lost", "note"), rows=rows,
    )  # fmt: skip
    yield from (count.figure for count in counts.values() if count.figure is not None)


def main() -> None:
    """Do what was asked for, print the table, and end with 1 when a law does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"faults to try, of {', '.join(FAULTS)}; all when none is named")
    parser.add_argument("--out", type=Path, default=Path("runs/faults"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="fewer of each, in about two minutes")
    options = parser.parse_args()
    options.out = options.out.resolve()
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    warm_up()
    shutil.rmtree(options.out, ignore_errors=True)
    counts: dict[str, Count] = {}
    print("| law | tried | survived | bytes lost | |\n|---|---|---|---|---|")
    for name in options.names or FAULTS:
        folder = options.out / name
        folder.mkdir(parents=True)
        count = FAULTS[name].attempt(Place(folder, options.short, random.Random(f"{options.seed} {name}")))  # noqa: S311
        counts[name] = count
        print(f"| {FAULTS[name].law} | {count.tried} | {count.survived} | {count.lost} | {count.note} |", flush=True)
    tried, survived = (sum(getattr(count, name) for count in counts.values()) for name in ("tried", "survived"))
    study = RunDir(options.out)
    study.write_json("findings.json", to_json(list(results(counts, options.seed))))
    study.write_json("study.json", {
        "schema": 1, "study": "faults", "title": "Faults",
        "headline": {"label": "of the faults survived", "value": survived / tried},
        "facts": {"faults": f"{tried:,}", "bytes lost": f"{sum(count.lost for count in counts.values()):,}",
                  "form": "short" if options.short else "long", "seed": str(options.seed)},
    })  # fmt: skip
    print(f"\nreport: {write_report(options.out)}", file=sys.stderr)
    sys.exit(survived < tried or any(count.lost for count in counts.values()))


if __name__ == "__main__":
    main()

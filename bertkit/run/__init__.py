"""The verbs of a run: finetune makes one; evaluate, predict and load let a finished one answer; export writes it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from heapq import nsmallest
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING

from bertkit.data.labels import check_labels
from bertkit.data.opening import is_pipe, is_table
from bertkit.data.rules import EMPTY
from bertkit.data.sources import NoColumn
from bertkit.data.writing import as_json, beside
from bertkit.disk import made, parse, written_atomically
from bertkit.errors import BertkitError, did_you_mean
from bertkit.findings import Passages
from bertkit.launch import Say, process_count, sayer, settle_xla
from bertkit.pages.html import read_findings
from bertkit.recipe import Recipe, digest
from bertkit.reopen import ONNX, answering, read_run, together
from bertkit.run.finetune import finetune as finetune
from bertkit.rundir import RunDir
from bertkit.splits import called, labels_in, read_split, say_left_out
from bertkit.tasks.base import Prediction, Row, Task

if TYPE_CHECKING:
    from bertkit.data.sources import Rows
    from bertkit.inference import Predictor

FINELY = ("hardware.precision=fp32",)  # sums of gradients need it
ENGINES = ("torch", "onnx")
# what an ONNX file is written from, and has settled
PLAINLY = (*FINELY, "hardware.device=cpu", "hardware.padding_free=false", "hardware.compile=false")
Runs = str | Path | Sequence[str | Path]
COMPARED = 500  # rows of a run that an export is compared on


def evaluate(
    run: Runs,
    data: object,
    *,
    assignments: Sequence[str] = (),
    split: str = "test",
    engine: str = "torch",
    quiet: bool = False,
) -> dict[str, object]:
    """Score a finished run on other rows.

    Args:
        run: its folder; of several runs, such as those of several seeds, the outputs are averaged.
        data: a file, a folder or a Hub id, with the columns that the run's recipe names; or rows in memory, as
            `finetune` takes them.
        assignments: `data.*` and `hardware.*` settings that differ from the run's, such as `data.columns.text=review`.
        split: of a folder or a Hub id.
        engine: `torch`, or `onnx` for what `export` wrote into the run.
    Returns:
        The headline's name, the metrics and the number of rows.
    """
    say = sayer(quiet)
    recipe, predictor = _open(run, assignments, say, engine)
    try:
        found, name = _read(recipe, predictor.task, data, split, say)
    except NoColumn as error:
        if error.column != predictor.task.gold:
            raise
        runs = " ".join(map(str, _several(run)))
        answer = f"`bertkit predict {runs} --input {called(data, split)}` answers rows without it"
        raise BertkitError(error.message, hint=f"{error.hint}; {answer}") from None
    check_labels(labels_in(predictor.task, found.rows), predictor.task.labels, name)
    from bertkit.encode import cover

    parts = list(predictor.parts(found.rows))
    if losses := cover(predictor.task, parts).losses():
        say(f"{name}: {losses}")
    scores, _ = predictor.evaluate(parts)
    counts = {"rows": len(found.rows), "skipped": len(found.left.bad) + len(found.left.unused[EMPTY])}
    return {"headline": predictor.task.headline, "data": name, **scores, **counts}


def predict(
    run: Runs,
    rows: object | Iterable[Row | str],
    *,
    assignments: Sequence[str] = (),
    split: str = "test",
    explain: bool = False,
    done: Iterable[Mapping] = (),
    engine: str = "torch",
    quiet: bool = True,
) -> Iterator[Prediction]:
    """Predictions of a finished run, one a row, in order.

    Args:
        run: its folder, or several, as `evaluate` takes them.
        rows: a file (csv, tsv, jsonl, conllu, SQuAD json, txt, ...) or `-` for standard input, whose predictions carry
            the row's `id` and columns; so do those of rows in memory, as `finetune` takes them. Or texts, as
            `Predictor.predict` takes them.
        assignments: settings that differ from the run's, such as `data.columns.text=review`.
        split: of a folder or a Hub id.
        done: answers of before to the first rows of a source, which are left out.
        explain: add what each word adds to the answer; see `bertkit.attribution`. Takes about 100 times as long.
        engine: `torch`, or `onnx` for what `export` wrote into the run.
    """
    say = sayer(quiet)
    recipe, predictor = _open(run, [*assignments, *(FINELY if explain else ())], say, engine)
    answer = predictor.explain if explain else partial(predictor.predict, first=1 if is_pipe(rows) else None)
    if not (isinstance(rows, str | Path) or is_table(rows)):
        yield from answer(rows)
        return
    columns = predictor.task.reads
    waiting: deque[tuple[object, Mapping]] = deque()  # what comes back beside the answers that are still computed

    def asked() -> Iterator[Row]:
        source = _asked(recipe, predictor.task, rows, split, say)
        for number, record in enumerate(done, start=1):
            row, given = next(source, ({"id": ""}, {}))
            given = parse(as_json({**given, "id": row["id"]}))
            if not beside(given, record, given).keys() <= record.keys():
                message = f"--resume: {called(rows, split)}: row {number} is not the one that was answered before"
                raise BertkitError(message, hint="put the rows back as they were, or begin with another --out")
        for row, given in source:
            waiting.append((row["id"], given))
            yield row

    for prediction in answer(asked()):
        name, given = waiting.popleft()
        yield beside(given, {"id": name, **prediction}, ("id", "text", *columns.text, *columns.words))


def _asked(recipe: Recipe, task: Task, source: object, split: str, say: Say) -> Iterator[tuple[Row, Mapping]]:
    """The rows to answer, and what the source holds of each; one process reads them as it goes."""
    if process_count() > 1:
        found, _ = _read(recipe, task, source, split, say, require_gold=False)
        yield from zip(found.rows, found.given, strict=True)
        return
    found = read_split(recipe, task, source, split, require_gold=False, as_stream=True)
    yield from found.rows
    say_left_out(found, called(source, split), say)


def explain(run: str | Path, rows: int | Sequence[Row | str] = 10, *, assignments: Sequence[str] = ()) -> Passages:
    """Which words the answers of a finished run stand on, as rows to read; a notebook draws them.

    Args:
        rows: texts or rows, as `Predictor.predict` takes them; or so many of the rows that the run was scored on, of
            which those come first that its report shows as most wrong.
        assignments: settings that differ from the run's.
    """
    from bertkit.outcome.reasons import reasons

    _, predictor = _open(run, [*assignments, *FINELY], sayer(quiet=True))
    if isinstance(rows, int):
        folder = RunDir(run)
        shown = [found for found in read_findings(folder["findings.json"]) if isinstance(found, Passages)]
        rank = {passage.title: number for found in shown for number, passage in enumerate(found.passages)}
        records = folder.read_jsonl("predictions.jsonl")
        rows = nsmallest(rows, records, key=lambda record: rank.get(str(record["id"]), len(rank)))
    pairs = zip(rows, predictor.explain(rows), strict=True)
    return reasons(predictor.task, [{**(row if isinstance(row, Mapping) else {}), **one} for row, one in pairs])


def load(run: Runs, assignments: Sequence[str] = (), quiet: bool = True, engine: str = "torch") -> Predictor:
    """A finished run, ready to answer: `bertkit.load("runs/x").predict(["a text"])`.

    Several runs answer together, as in `evaluate`. The engine `onnx` answers with what `export` wrote into the run.
    """
    return _open(run, assignments, sayer(quiet), engine)[1]


def export(
    run: str | Path,
    out: str | Path | None = None,
    *,
    int8: bool = False,
    data: object | None = None,
    split: str = "test",
    largest_difference: float | None = None,
    agreement: float = 0.95,
    assignments: Sequence[str] = (),
    quiet: bool = True,
) -> dict[str, object]:
    """Write a finished run as an ONNX file, with a script that answers without torch, if it answers as the run does.

    Args:
        out: a new folder; default: `onnx` in the run, where `engine="onnx"` finds it.
        int8: weights of 8 bits.
        data: rows to compare on, as `predict` takes them; default: those that the run was scored on. Of many, 500.
        split: of a folder or a Hub id.
        largest_difference: of an output, at most; default: 0.001, and any with int8. Float32 sums in another order
            move an output by 1e-5, what is wrong by more than 0.1; 0.001 moves a probability by 0.00025 at most.
        agreement: share of equal answers, at least. Numbers that are nearer than a tenth of their standard deviation
            are equal.
        assignments: settings that differ from the run's, such as `data.columns.text=review`.
    Returns:
        The folder, its bytes, and what `exported.Compared` holds.
    """
    from bertkit.run import exported

    folder, say = Path(out or RunDir(run)[ONNX].parent), sayer(quiet)
    if folder.exists():
        raise BertkitError(f"{folder} is there already", hint="remove it, or give --out a new name")
    recipe, predictor = _open(run, _plainly(assignments), say)
    if data is None:
        rows = list(RunDir(run).read_jsonl("predictions.jsonl"))
    else:
        rows = _read(recipe, predictor.task, data, split, say, require_gold=False)[0].rows
    if not rows:
        raise BertkitError("export: there are no rows to compare on", hint="give some with --data")
    if largest_difference is None:
        largest_difference = math.inf if int8 else 1e-3
    with made(folder.parent), written_atomically(folder) as temporary:
        theirs = exported.write(predictor, temporary, rows[0], int8)
        found = exported.compare(predictor, theirs, rows[:: -(-len(rows) // COMPARED)])
        # what is not a number is not within any bound
        if not (found.largest_difference <= largest_difference and found.equal_answers >= agreement):
            raise BertkitError(
                f"export: on {found.rows:,} rows outputs differ by up to {found.largest_difference:.2g} from torch's "
                f"(allowed: {largest_difference:g}), and {found.equal_answers:.1%} of the answers are equal (at least "
                f"{agreement:.1%})",
                hint=f"{'leave out --int8, or ' * int8}set --largest-difference and --agreement",
            )
        size = sum(file.stat().st_size for file in temporary.glob("model.onnx*"))
    return {"folder": str(folder), "bytes": size, **found._asdict()}


def merge(run: str | Path, out: str | Path) -> None:
    """Write the whole model of a finished run as any Hugging Face program loads it, an adapter put into its base."""
    if Path(out).exists():
        raise BertkitError(f"{out} is there already", hint="give --out a new name")
    _, task, config = read_run(run)[0]
    from bertkit.models.load import load_model, load_tokenizer
    from bertkit.models.source import quiet

    with written_atomically(Path(out)) as temporary, quiet():
        load_model(config, task.head, task.labels, 0).model.save_pretrained(temporary)
        load_tokenizer(config, words=bool(task.reads.words)).save_pretrained(temporary)
        with suppress(FileNotFoundError):  # older runs have no card
            copyfile(RunDir(run).model / "README.md", temporary / "README.md")


def _read(
    recipe: Recipe, task: Task, source: object, split: str, say: Say, require_gold: bool = True
) -> tuple[Rows, str]:
    """The rows to answer, which all processes must see alike, and what messages call them."""
    from bertkit.train.ranks import check_alike

    found, name = read_split(recipe, task, source, split, require_gold), called(source, split)
    say_left_out(found, name, say)
    check_alike(name, lambda: {"rows": digest({"rows": found.rows})})
    return found, name


def _several(run: Runs) -> Sequence[str | Path]:
    return [run] if isinstance(run, str | Path) else [*run]


def _open(run: Runs, assignments: Sequence[str], say: Say, engine: str = "torch") -> tuple[Recipe, Predictor]:
    """The recipe of the first of these runs, and what answers."""
    if engine not in ENGINES:
        raise BertkitError(f"there is no engine {engine!r}", hint=did_you_mean(engine, ENGINES))
    if engine == "onnx":
        assignments = _plainly(assignments)
    runs = _several(run)
    if len({Path(one).resolve() for one in runs}) < max(1, len(runs)):
        raise BertkitError("one run is named twice, or none", hint="name each run once")
    read = {str(one): read_run(one, assignments) for one in runs}
    opened, is_aloud = next(iter(read.values()))
    settle_xla(opened.recipe.hardware.device)
    from bertkit.train.device_setup import set_up_device

    # half the weights to read, and no casts: autocast is for training, whose weights stay float32
    setup = set_up_device(opened.recipe.hardware, autocast=False)
    answer = {name: answering(one, setup, engine) for name, (one, _) in read.items()}
    predictor, chosen = next(iter(answer.values()))
    if len(runs) > 1:
        predictor = together({name: one for name, (one, _) in answer.items()})
    if is_aloud:
        say(f"device: {setup.summary}")
        say(f"model: {f'{len(runs)} times ' * (len(runs) > 1)}{predictor.model.config.model_type}, {chosen}")
    return opened.recipe, predictor


def _plainly(assignments: Sequence[str]) -> list[str]:
    """Settings with those that an ONNX file has settled, which nobody may set otherwise."""
    settled = {setting.partition("=")[0]: setting for setting in PLAINLY}
    for asked in assignments:
        own = settled.get(asked.partition("=")[0], asked)
        if asked != own:
            raise BertkitError(f"{asked}: an ONNX file has {own}", hint="leave it out")
    return [*assignments, *PLAINLY]

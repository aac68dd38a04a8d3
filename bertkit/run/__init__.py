"""The verbs of a run: finetune makes one; evaluate, predict and load let a finished one answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING

from bertkit.config import validate
from bertkit.data.labels import check_labels
from bertkit.data.opening import is_table
from bertkit.data.writing import beside
from bertkit.errors import BertkitError
from bertkit.findings import Passages
from bertkit.launch import Say, sayer, settle_xla
from bertkit.pages.html import read_findings
from bertkit.recipe import ModelConfig, Recipe, check_windows, digest, load_recipe
from bertkit.run.finetune import finetune as finetune
from bertkit.rundir import RunDir
from bertkit.splits import called, labels_in, read_split, say_left_out
from bertkit.tasks.base import Prediction, Row, Task, task_class

if TYPE_CHECKING:
    from bertkit.data.sources import Rows
    from bertkit.inference import Predictor

FINELY = ("hardware.precision=fp32",)  # sums of gradients need it


def evaluate(
    run: str | Path, data: object, *, assignments: Sequence[str] = (), split: str = "test", quiet: bool = False
) -> dict[str, object]:
    """Score a finished run on other rows.

    Args:
        data: a file, a folder or a Hub id, with the columns that the run's recipe names; or rows in memory, as
            `finetune` takes them.
        assignments: `data.*` and `hardware.*` settings that differ from the run's, such as `data.columns.text=review`.
        split: of a folder or a Hub id.
    Returns:
        The headline's name, the metrics and the number of rows.
    """
    say = sayer(quiet)
    recipe, predictor = _open(run, assignments, say)
    found, name = _read(recipe, predictor.task, data, split, say)
    check_labels(labels_in(predictor.task, found.rows), predictor.task.labels, name)
    from bertkit.encode import cover

    parts = list(predictor.parts(found.rows))
    if losses := cover(predictor.task, parts).losses():
        say(f"{name}: {losses}")
    scores, _ = predictor.evaluate(parts)
    counts = {"rows": len(found.rows), "skipped": len(found.skipped) + len(found.empty)}
    return {"headline": predictor.task.headline, "data": name, **scores, **counts}


def predict(
    run: str | Path,
    rows: object | Iterable[Row | str],
    *,
    assignments: Sequence[str] = (),
    split: str = "test",
    explain: bool = False,
    quiet: bool = True,
) -> Iterator[Prediction]:
    """Predictions of a finished run, one a row, in order.

    Args:
        rows: a file (csv, tsv, jsonl, conllu, SQuAD json, txt, ...) or `-` for standard input, whose predictions carry
            the row's `id` and columns; so do those of rows in memory, as `finetune` takes them. Or texts, as
            `Predictor.predict` takes them.
        assignments: settings that differ from the run's, such as `data.columns.text=review`.
        split: of a folder or a Hub id.
        explain: add what each word adds to the answer; see `bertkit.attribution`. Takes about 100 times as long.
    """
    say = sayer(quiet)
    recipe, predictor = _open(run, [*assignments, *(FINELY if explain else ())], say)
    answer = predictor.explain if explain else predictor.predict
    if not (isinstance(rows, str | Path) or is_table(rows)):
        yield from answer(rows)
        return
    found, _ = _read(recipe, predictor.task, rows, split, say, require_gold=False)
    for row, given, prediction in zip(found.rows, found.given, answer(found.rows), strict=True):
        yield beside(given, {"id": row["id"], **prediction})


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


def load(run: str | Path, assignments: Sequence[str] = (), quiet: bool = True) -> Predictor:
    """A finished run, ready to answer: `bertkit.load("runs/x").predict(["a text"])`."""
    return _open(run, assignments, sayer(quiet))[1]


def _read(
    recipe: Recipe, task: Task, source: object, split: str, say: Say, require_gold: bool = True
) -> tuple[Rows, str]:
    """The rows to answer, which all processes must see alike, and what messages call them."""
    from bertkit.train.ranks import check_alike

    found, name = read_split(recipe, task, source, split, require_gold), called(source, split)
    say_left_out(found, name, say)
    check_alike(name, lambda: {"rows": digest({"rows": found.rows})})
    return found, name


def _open(run: str | Path, assignments: Sequence[str], say: Say) -> tuple[Recipe, Predictor]:
    folder = RunDir(run).open()
    recipe = load_recipe(folder["recipe.yaml"], assignments)
    name, here = str(recipe.task["name"]), Path.cwd().resolve()
    if "." in name and here.is_relative_to(folder.path.resolve()):
        # a run that someone else made must not bring the module along that it names
        raise BertkitError(
            f"{folder.path}: its task is a module of its own, {name}, which is not looked for in the run itself",
            hint="go to the folder that holds the module",
        )
    # what a run's own recipe trusts is not what its reader does
    asked = load_recipe({"task": {"name": name}}, assignments)
    trusts, attention = asked.model.trust_remote_code, recipe.model.attention
    config = ModelConfig(checkpoint=str(folder.trained()), attention=attention, trust_remote_code=trusts)
    task = validate(task_class(name), folder.read_json("task.json"), where=str(folder["task.json"]))

    settle_xla(recipe.hardware.device)
    from bertkit.data.windows import WindowMaker
    from bertkit.inference import Predictor
    from bertkit.models.load import load_model, load_tokenizer, longest_input
    from bertkit.models.ready import make_answering
    from bertkit.train.device_setup import set_up_device, with_shapes

    # half the weights to read, and no casts: autocast is for training, whose weights stay float32
    setup = set_up_device(recipe.hardware, autocast=False)
    detail = say if asked.log.verbose else sayer(quiet=True)
    detail(f"device: {setup.summary}")
    tokenizer = load_tokenizer(config, words=bool(task.reads.words))
    model = load_model(config, task.head, task.labels, recipe.seed).model
    windows = check_windows(recipe.windows, longest_input(model.config, tokenizer))  # the recipe may have been edited
    recipe = recipe.model_copy(update={"windows": windows})
    setup = with_shapes(setup, recipe)
    chosen = make_answering(model, recipe.hardware, setup.accelerator.device, setup.precision)
    detail(f"model: {model.config.model_type}, {chosen}")
    maker = WindowMaker(tokenizer.backend_tokenizer, windows, recipe.hardware.token_cache)
    return recipe, Predictor(task, model, maker, tokenizer, setup.accelerator, setup.evaluation)

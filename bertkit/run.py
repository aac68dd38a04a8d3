"""The verbs: finetune, evaluate, predict; and load, which opens a run."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bertkit import __version__
from bertkit.config import dump_yaml, flatten, validate
from bertkit.data.labels import check_labels
from bertkit.errors import BertkitError, did_you_mean
from bertkit.findings import to_json
from bertkit.heads import HEADS
from bertkit.launch import is_first, own_the_cores, process_count, restarts, settle_xla
from bertkit.recipe import ModelConfig, Recipe, check_windows, digest, fingerprint, load_recipe
from bertkit.rundir import (
    PACE,
    SCHEMA,
    RunDir,
    disk_errors,
    next_run,
    write_atomically,
    written_atomically,
)
from bertkit.splits import bind_labels, checksums, labels_in, path_of, read_split, read_splits, say_skipped
from bertkit.tasks.base import Prediction, Row, Task, make_task, task_class

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from bertkit.encode import Part
    from bertkit.inference import Predictor
    from bertkit.outcome import Background
    from bertkit.train.keep import Keeper, Watch
    from bertkit.train.place import Place

Say = Callable[[str], None]
T = TypeVar("T")


def finetune(
    recipe: Recipe | str | Path | Mapping[str, object],
    out: str | Path | None = None,
    *,
    resume: bool = False,
    quiet: bool = False,
) -> dict[str, object]:
    """Fine-tune a checkpoint and write a run directory.

    Args:
        recipe: a Recipe, the path of one, or a tree of plain values.
        out: folder of the run; None takes the next free name under `runs/`.
        resume: go on from the last checkpoint in `out`, to the same digits; starts anew when there is none.
        quiet: show no progress.
    Returns:
        What metrics.json holds.
    Raises:
        BertkitError: anything the user can mend; before the first step nothing is written.
        Interrupted: SIGINT or SIGTERM; a checkpoint was written.
    """
    with ExitStack() as held:  # the folder, by the first process
        return _finetune(recipe, out, resume, quiet, held)


def _finetune(
    recipe: Recipe | str | Path | Mapping[str, object],
    out: str | Path | None,
    resume: bool,
    quiet: bool,
    held: ExitStack,
) -> dict[str, object]:
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    task = make_task(recipe.task)
    resume = resume or restarts() > 0
    settle_xla(recipe.hardware.device)
    run, finished, before = _of_first(recipe, lambda: _claim(recipe, task, out, resume, held))
    if finished is not None:
        _sayer(quiet)(f"{run.path} is finished already; these are its results")
        if is_first():
            run.sweep()
        return finished
    splits, label_names = read_splits(recipe, task, _sayer(quiet))

    own_the_cores(recipe.hardware.threads)
    import numpy as np

    from bertkit.data.collate import Collator
    from bertkit.data.plan import Plan
    from bertkit.encode import cover, cut_rows, stack_targets, targets_of
    from bertkit.models.load import load_config, load_model, load_tokenizer, longest_input
    from bertkit.models.padding_free import is_padding_free
    from bertkit.models.ready import make_trainable
    from bertkit.models.vocabulary import follow_decay
    from bertkit.outcome import Background, tags_seen
    from bertkit.train import keep, loop, memory
    from bertkit.train.loss import make_loss, masses
    from bertkit.train.observe import Trackers, check_trackers, make_progress
    from bertkit.train.optim import make_optimizer
    from bertkit.train.place import choose_place, with_shapes, without_padding
    from bertkit.train.ranks import check_alike

    place = choose_place(recipe.hardware, check_trackers(recipe.log.trackers), run.path, before)
    is_main = place.accelerator.is_main_process
    say = _sayer(quiet or not is_main)
    say(f"device: {place.summary}")

    # everything that can be wrong is found out before anything is written
    checkpoint = recipe.model.model_copy(update={"checkpoint": path_of(recipe.model.checkpoint)})
    architecture = load_config(checkpoint)
    tokenizer = load_tokenizer(checkpoint, words=bool(task.reads.words))
    windows = check_windows(recipe.windows, longest_input(architecture, tokenizer))
    if windows.max_length < recipe.windows.max_length:
        say(f"windows: this model reads {windows.max_length} tokens at once, not {recipe.windows.max_length}")
    place = with_shapes(place, recipe.hardware, recipe.train.batch_size, windows.max_length)
    if place.training.widths:
        say(f"batches: padded to {place.training.widths}, one shape each")
    task = bind_labels(recipe, task, splits, label_names, getattr(architecture, "id2label", None))
    best_by = _best_by(recipe, task, splits.validation)
    recipe = recipe.model_copy(update={"windows": windows, "task": task.model_dump(mode="json")})
    loaded = load_model(checkpoint, task.head, task.labels, recipe.seed)
    predictor = _predictor(task, loaded.model, tokenizer, recipe, place)
    train_part = cut_rows(task, splits.train, predictor.maker)
    parts = {name: list(predictor.parts(rows)) for name in ("validation", "test") if (rows := getattr(splits, name))}
    covered = {name: cover(task, some) for name, some in {"train": [train_part], **parts}.items()}
    for name, part in covered.items():
        say(f"{name}: {part.describe()}")
    store, targets = train_part.store, stack_targets(task, targets_of(task, train_part))
    ready = make_trainable(
        loaded.model, recipe.model, recipe.hardware, place.accelerator.device, place.precision,
        np.append(store.input_ids, tokenizer.pad_token_id), recipe.train.order,
    )  # fmt: skip
    if is_padding_free(loaded.model):
        place = without_padding(place, recipe.hardware)
    say(f"model: {loaded.summary}; {ready.padding}")
    weights = _class_weights(recipe, task, targets)
    plan = Plan(
        store.lengths, recipe.train.batch_size, recipe.train.epochs, recipe.train.steps, recipe.train.order, recipe.seed
    )
    marks = fingerprint(recipe, {
        "precision": place.precision,
        "dropout": ready.dropout,
        "embeddings": ready.embeddings,
        "model": architecture.model_type,
        "train_windows": _hash(store.input_ids, store.offsets, *targets.values()),
        # another validation set would be compared with the best score on this one
        **{name: _digest_of_rows(parts.get(name, ())) for name in ("validation", "test")},
        # another version may compute other digits; torch's build for a device is a matter of place
        "versions": {
            "bertkit": __version__,
            "torch": version("torch").split("+")[0],
            "transformers": version("transformers"),
        },
    })  # fmt: skip
    check_alike("the run", lambda: marks)
    background = Background(covered, tags_seen(task, splits.train), splits.left_out)
    del splits, train_part  # training needs the windows, not the rows

    place.accelerator.wait_for_everyone()
    optimizer = make_optimizer(loaded.model, recipe.train)
    follow_decay(loaded.model, optimizer)
    model, optimizer = place.accelerator.prepare(loaded.model, optimizer)
    keeper = keep.Keeper(run, loaded.model, optimizer, recipe, marks, place.accelerator)
    # a checkpoint of other settings is refused before anything is written
    start = keeper.resume(say) if resume else 0
    if is_main:
        _open_run(run, recipe, task, place, plan.step_count)
    _check_shared(run, recipe)
    progress = make_progress(plan.step_count, start, quiet or not is_main)
    trackers = Trackers(place.accelerator, recipe.log.trackers, recipe.log.project, flatten(recipe.tree()))
    watch = keep.Watch(
        run, recipe, keeper, progress, trackers, best_by, plan,
        partial(predictor.evaluate, parts["validation"]) if "validation" in parts else None, is_main,
    )  # fmt: skip
    # where it is neither in a forward nor in a backward pass, smaller batches would not help
    exhausted = memory.or_else(
        lambda: f"out of memory; the last good checkpoint is {keeper.last_saved}",
        hint="free some memory, then go on with --resume",
    )
    try:
        if not keeper.stopped:
            budget = place.training._replace(tokens=keeper.token_budget or place.training.tokens)
            work = loop.Run(
                place.accelerator, model, optimizer, plan,
                Collator(
                    store, tokenizer.pad_token_id, predictor.inputs, targets, task.head == "token", budget,
                    place.accelerator.device,
                ),
                masses(task.head, targets, store.offsets, weights), make_loss(task.head, recipe.train, weights),
                HEADS[task.head].outputs, recipe.train, recipe.log.every,
                watch, watch.is_due, watch.is_checkpoint, keeper.save, watch.resized, keeper.last_saved,
            )  # fmt: skip
            with exhausted:
                if place.finds_tokens and not keeper.token_budget:
                    work.resize(loop.find_token_budget(work))
                    watch.resized(start, work.budget.tokens, "the fastest that fits")
                loop.train(work, start)
    finally:
        progress.close()
        trackers.close()
    return _finish(run, recipe, predictor, tokenizer, parts, keeper, watch, background, say)


def _finish(
    run: RunDir,
    recipe: Recipe,
    predictor: Predictor,
    tokenizer: PreTrainedTokenizerBase,
    parts: Mapping[str, Sequence[Part]],
    keeper: Keeper,
    watch: Watch,
    background: Background,
    say: Say,
) -> dict[str, object]:
    """Score the best weights, and write what a reader of the run needs; metrics.json last, for it says "finished"."""
    from bertkit.outcome import Scored, findings, records
    from bertkit.train.xla import weights_at_hand

    keeper.load_best()
    results: dict[str, object] = {}
    scored: Scored | None = None
    is_main = predictor.accelerator.is_main_process
    for name, some in parts.items():
        rows = [row for part in some for row in part.rows]
        is_fresh = name == "validation" and watch.best_predictions is not None
        predictions = watch.best_predictions if is_fresh else predictor.evaluate(some)[1]
        if name == "validation" and (tuned := predictor.task.tuned(predictions, rows)) != predictor.task:
            # settings that are chosen on validation, such as a threshold; they hold for test and from now on
            predictor = replace(predictor, task=tuned)
            predictions = predictor.evaluate(some)[1]
        scores = predictor.task.score(predictions, rows)
        results[name] = {**scores, "rows": len(rows)}
        window_counts = [count for part in some for count in part.store.counts.tolist()]
        scored = Scored(name, predictor.task, rows, predictions, scores, window_counts, background.tags_seen)
        if is_main:
            is_last = name == next(reversed(parts))
            run.write_jsonl(
                f"predictions{'' if is_last else f'.{name}'}.jsonl", records(predictor.task, rows, predictions)
            )
    split = next(reversed(results), None)
    metrics = {
        "headline": predictor.task.headline,
        "split": split,
        **(results[split] if split else {}),
        "splits": results,
        "step": keeper.best["step"] if keeper.best else keeper.step,  # whose weights these are
        "best": keeper.best,
        "train": {
            "rows": background.covered["train"].rows, "windows": background.covered["train"].windows,
            "steps": keeper.step, "seconds": round(keeper.seconds(), 1),
        },
        "seed": recipe.seed,
    }  # fmt: skip
    if is_main:
        run.write_json("task.json", predictor.task.model_dump(mode="json"))
        found = findings(scored, background, run.read_history(), watch.best_by, run.read_history(PACE))
        run.write_json("findings.json", to_json(found))
        with written_atomically(run.model) as temporary:
            predictor.model.save_pretrained(temporary, state_dict=weights_at_hand(predictor.model))
            tokenizer.save_pretrained(temporary)
        run.write_json("metrics.json", metrics)
        run.sweep()
    predictor.accelerator.wait_for_everyone()
    say(f"run: {run.path} (model: {run.model})")
    return metrics


def evaluate(
    run: str | Path, data: str, *, assignments: Sequence[str] = (), split: str = "test", quiet: bool = False
) -> dict[str, object]:
    """Score a finished run on other rows.

    Args:
        data: a file, a folder or a Hub id, with the columns that the run's recipe names.
        assignments: `data.*` and `hardware.*` settings that differ from the run's, such as `data.columns.text=review`.
        split: of a folder or a Hub id.
    Returns:
        The headline's name, the metrics and the number of rows.
    """
    say = _sayer(quiet)
    recipe, predictor = _open(run, assignments, say)
    found = read_split(recipe, predictor.task, data, split)
    say_skipped(found, data, say)
    check_labels(labels_in(predictor.task, found.rows), predictor.task.labels, data)
    from bertkit.encode import cover
    from bertkit.train.ranks import check_alike

    check_alike(data, lambda: {"rows": digest({"rows": found.rows})})
    parts = list(predictor.parts(found.rows))
    say(f"{data}: {cover(predictor.task, parts).describe()}")
    scores, _ = predictor.evaluate(parts)
    counts = {"rows": len(found.rows), "skipped": len(found.skipped)}
    return {"headline": predictor.task.headline, "data": data, **scores, **counts}


def predict(
    run: str | Path,
    rows: str | Iterable[Row | str],
    *,
    assignments: Sequence[str] = (),
    split: str = "test",
    quiet: bool = True,
) -> Iterator[Prediction]:
    """Predictions of a finished run, one a row, in order.

    Args:
        rows: a file (csv, tsv, jsonl, conllu, SQuAD json, txt, ...), whose predictions carry the row's `id`; or rows in
            memory, as `Predictor.predict` takes them.
        assignments: settings that differ from the run's, such as `data.columns.text=review`.
        split: of a folder or a Hub id.
    """
    say = _sayer(quiet)
    recipe, predictor = _open(run, assignments, say)
    if not isinstance(rows, str):
        yield from predictor.predict(rows)
        return
    found = read_split(recipe, predictor.task, rows, split, require_gold=False)
    say_skipped(found, rows, say)
    from bertkit.train.ranks import check_alike

    check_alike(rows, lambda: {"rows": digest({"rows": found.rows})})
    for row, prediction in zip(found.rows, predictor.predict(found.rows), strict=True):
        yield {"id": row["id"], **prediction}


def load(run: str | Path, assignments: Sequence[str] = ()) -> Predictor:
    """A finished run, ready to answer: `bertkit.load("runs/x").predict(["a text"])`."""
    return _open(run, assignments, _sayer(quiet=True))[1]


def _open(run: str | Path, assignments: Sequence[str], say: Say) -> tuple[Recipe, Predictor]:
    folder = RunDir(run).open()
    recipe = load_recipe(folder["recipe.yaml"], assignments)
    if not folder.model.is_dir():
        raise BertkitError(f"{folder.path} has no model yet", hint="finish it with `bertkit train ... --resume`")
    name = str(recipe.task["name"])
    if "." in name and folder.path.resolve() in (Path.cwd().resolve(), *Path.cwd().resolve().parents):
        # a run that someone else made must not bring the module along that it names
        raise BertkitError(
            f"{folder.path}: its task is a module of its own, {name}, which is not looked for in the run itself",
            hint="go to the folder that holds the module",
        )
    # what a run's own recipe trusts is not what its reader does
    trusted = load_recipe({"task": {"name": name}}, assignments).model.trust_remote_code
    task = validate(task_class(name), folder.read_json("task.json"), where=str(folder["task.json"]))
    config = ModelConfig(checkpoint=str(folder.model), attention=recipe.model.attention, trust_remote_code=trusted)

    own_the_cores(recipe.hardware.threads)
    settle_xla(recipe.hardware.device)
    from bertkit.models.load import load_model, load_tokenizer, longest_input
    from bertkit.models.ready import make_answering
    from bertkit.train.place import choose_place, with_shapes

    # half the weights to read, and no casts: autocast is for training, whose weights stay float32
    place = choose_place(recipe.hardware, autocast=False)
    say(f"device: {place.summary}")
    tokenizer = load_tokenizer(config, words=bool(task.reads.words))
    model = load_model(config, task.head, task.labels, recipe.seed).model
    windows = check_windows(recipe.windows, longest_input(model.config, tokenizer))  # the recipe may have been edited
    recipe = recipe.model_copy(update={"windows": windows})
    place = with_shapes(place, recipe.hardware, recipe.train.batch_size, windows.max_length)
    model, chosen = make_answering(model, recipe.hardware, place.accelerator.device, place.precision)
    say(f"model: {model.config.model_type}, {chosen}")
    return recipe, _predictor(task, model, tokenizer, recipe, place)


def _predictor(
    task: Task, model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, place: Place
) -> Predictor:
    from bertkit.data.windows import WindowMaker
    from bertkit.inference import Predictor
    from bertkit.models.load import forward_inputs

    maker = WindowMaker(tokenizer.backend_tokenizer, recipe.windows, recipe.hardware.token_cache)
    inputs = forward_inputs(model, tokenizer)
    return Predictor(task, model, maker, tokenizer.pad_token_id, inputs, place.accelerator, place.evaluation)


def _open_run(run: RunDir, recipe: Recipe, task: Task, place: Place, step_count: int) -> None:
    """Create the folder, or tidy it; recipe.yaml last, for a folder with a recipe is a run."""
    with disk_errors(run.path):
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        run.sweep()
    packages = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy")
    run.write_json("environment.json", {
        "schema": SCHEMA,
        "bertkit": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "platform": platform.platform(),
        "device": place.summary,
        "processes": place.accelerator.num_processes,
        "host": platform.node(),
        "steps": step_count,
        "precision": place.precision,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": checksums(recipe),
    })  # fmt: skip
    run.write_json("task.json", task.model_dump(mode="json"))
    write_atomically(run["recipe.yaml"], dump_yaml(recipe.tree()))


def _of_first(recipe: Recipe, make: Callable[[], T]) -> T:
    """`ranks.of_first`, before torch is needed: a process alone imports it when its threads have their cores."""
    if process_count() == 1:
        return make()
    from bertkit.train.place import join
    from bertkit.train.ranks import of_first

    join(recipe.hardware)
    return of_first(make)


def _claim(
    recipe: Recipe, task: Task, out: str | Path | None, resume: bool, held: ExitStack
) -> tuple[RunDir, dict[str, object] | None, str | None]:
    """The folder of the run; its metrics, when it is finished; the precision that it began with."""
    run = RunDir(out if out is not None else held.enter_context(next_run(task.name)))
    held.enter_context(run.claim(resume))
    is_finished = resume and run["metrics.json"].exists()
    return run, run.open().read_json("metrics.json") if is_finished else None, _precision_before(run, recipe)


def _check_shared(run: RunDir, recipe: Recipe) -> None:
    """Refuse a folder that only the first process has: the others read its checkpoints."""
    written = _of_first(recipe, lambda: run.read_json("environment.json"))
    if not run["environment.json"].exists() or run.read_json("environment.json") != written:
        raise BertkitError(
            f"{run.path}: this host does not see what the first one wrote there",
            hint="--out must be on a disk that all hosts share",
        )


def _precision_before(run: RunDir, recipe: Recipe) -> str | None:
    """The precision that `auto` chose when the run began; chosen again, it might differ, and the digits with it."""
    if recipe.hardware.precision != "auto" or not run["environment.json"].exists():
        return None
    return str(run.read_json("environment.json")["precision"])


def _class_weights(recipe: Recipe, task: Task, targets: Mapping) -> list[float] | None:
    from bertkit.train.loss import balanced_weights

    asked = recipe.train.class_weights
    if asked is None:
        return None
    if task.head not in ("class", "token"):
        raise BertkitError(f"train.class_weights: {task.name} has no classes to weigh", hint="leave it out")
    if asked == "balanced":
        return balanced_weights(targets["labels"], len(task.labels))
    if unknown := sorted(asked.keys() - set(task.labels)):
        raise BertkitError(f"train.class_weights: no label {unknown[0]!r}", hint=did_you_mean(unknown[0], task.labels))
    return [float(asked.get(label, 1.0)) for label in task.labels]


def _best_by(recipe: Recipe, task: Task, validation: Sequence[Row]) -> str:
    """The metric that picks the best checkpoint, refused before the first step when the task has no such metric."""
    asked = recipe.train.best_by
    if asked is None or not validation:
        return task.headline
    row = validation[0]
    right: Prediction = {task.answer: row[task.gold]}
    if task.head == "span":
        right = {task.answer: "", "no_answer_score": 0.0, "best_span": ""}
    known = list(task.score([right], [row]))
    name = asked.removeprefix("eval_").removeprefix("validation_")
    if name not in known:
        raise BertkitError(f"train.best_by: {task.name} has no metric {asked!r}", hint=did_you_mean(name, known))
    return name


def _digest_of_rows(parts: Sequence[Part]) -> str:
    """A hash of what rows hold, whatever file they came from."""
    rows = [{name: value for name, value in row.items() if name != "id"} for part in parts for row in part.rows]
    return digest({"rows": rows})


def _hash(*arrays: object) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(memoryview(array).cast("B"))
    return total.hexdigest()[:16]


def _sayer(quiet: bool) -> Say:
    return (lambda text: None) if quiet or not is_first() else (lambda text: print(text, file=sys.stderr, flush=True))

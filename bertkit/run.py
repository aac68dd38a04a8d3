"""The verbs: finetune, evaluate, predict; and load, which opens a run."""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bertkit import __version__
from bertkit.config import validate
from bertkit.data.labels import check_labels, resolve_labels, split_held_back, subset
from bertkit.data.sources import Rows, read_rows
from bertkit.errors import BertkitError, did_you_mean
from bertkit.findings import Finding, Heatmap, Series, Table, to_json
from bertkit.heads import HEADS
from bertkit.launch import own_the_cores
from bertkit.recipe import Recipe, check_windows, fingerprint, load_recipe
from bertkit.rundir import SCHEMA, RunDir, next_name, write_atomically
from bertkit.tasks.base import Prediction, Row, Task, make_task, task_class

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase

    from bertkit.encode import Coverage, Part
    from bertkit.inference import Predictor
    from bertkit.train.loop import Step
    from bertkit.train.observe import Progress, Trackers
    from bertkit.train.place import Place

LOWER_IS_BETTER = frozenset({"mse"})


class Splits(NamedTuple):
    """The rows of a run, by split; a split that is not there is empty."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]


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
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    task = make_task(recipe.task)
    checkpoint = recipe.model.model_copy(update={"checkpoint": _path(recipe.model.checkpoint)})
    run = RunDir(out if out is not None else next_name(Path("runs"), task.name.rsplit(".", 1)[-1]))
    run.claim(resume)
    if resume and run["metrics.json"].exists():
        _sayer(quiet)(f"{run.path} is finished already; these are its results")
        return run.open().read_json("metrics.json")

    own_the_cores(recipe.hardware.threads)
    from bertkit.models.load import forward_inputs, load_config, load_model, load_tokenizer, longest_input
    from bertkit.train.observe import check_trackers, make_progress
    from bertkit.train.place import choose_place, micro_batch_tokens

    before = None
    if run["environment.json"].exists() and recipe.hardware.precision == "auto":
        before = run.read_json("environment.json").get("precision")
    place = choose_place(recipe.hardware, check_trackers(recipe.log.trackers), run.path, before)
    say = _sayer(quiet or not place.accelerator.is_main_process)
    say(f"device: {place.summary}")
    splits, label_names = read_splits(recipe, task, say)
    architecture = load_config(checkpoint)
    tokenizer = load_tokenizer(checkpoint, words=bool(task.reads.words))
    windows = check_windows(recipe.windows, longest_input(architecture, tokenizer))
    if windows.max_length < recipe.windows.max_length:
        say(f"windows: this model reads {windows.max_length} tokens at once, not {recipe.windows.max_length}")
    task = bind_labels(task, splits, label_names, getattr(architecture, "id2label", None))
    recipe = recipe.model_copy(update={"windows": windows, "task": task.model_dump(mode="json")})

    from bertkit.data.collate import Collator
    from bertkit.data.plan import Plan
    from bertkit.data.windows import WindowMaker
    from bertkit.encode import cover, cut_rows, stack_targets, targets_of
    from bertkit.inference import Predictor
    from bertkit.train.loss import balanced_weights, make_loss, masses
    from bertkit.train.optim import make_optimizer

    maker = WindowMaker(tokenizer.backend_tokenizer, windows)
    loaded = load_model(checkpoint, task.head, task.labels, recipe.seed)
    model = loaded.model
    inputs = forward_inputs(model, tokenizer)
    predictor = Predictor(task, model, maker, tokenizer.pad_token_id, inputs, place.accelerator, place.evaluation_tokens)
    train_part = cut_rows(task, splits.train, maker)
    parts = {name: list(predictor.parts(rows)) for name in ("validation", "test") if (rows := getattr(splits, name))}
    covered = {name: cover(task, some) for name, some in {"train": [train_part], **parts}.items()}
    for name, part in covered.items():
        say(f"{name}: {part.describe()}")
    say(f"model: {loaded.summary}")
    if recipe.hardware.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    store, targets = train_part.store, stack_targets(task, targets_of(task, train_part))
    weights = _class_weights(recipe, task, targets, balanced_weights)
    best_by = _best_by(recipe, task, splits.validation)
    plan = Plan(
        store.lengths, recipe.train.batch_size, recipe.train.epochs, recipe.train.steps, recipe.train.order, recipe.seed
    )
    collate = Collator(store, tokenizer.pad_token_id, inputs, targets, per_token=task.head == "token")
    marks = fingerprint(recipe, {
        "precision": place.precision,
        "model": architecture.model_type,
        "train_windows": _hash(store.input_ids, store.offsets, *targets.values()),
    })  # fmt: skip

    place.accelerator.wait_for_everyone()
    if place.accelerator.is_main_process:
        _open_run(run, recipe, task, place)
    wrapped, optimizer = place.accelerator.prepare(model, make_optimizer(model, recipe.train))
    keeper = Keeper(run, model, optimizer, recipe, marks, place.accelerator)
    start = keeper.resume(say) if resume else 0
    progress = make_progress(plan.step_count, start, quiet or not place.accelerator.is_main_process)
    watch = Watch(run, recipe, keeper, progress, _trackers(place.accelerator, recipe), best_by, plan.steps_per_epoch,
                  predictor, parts.get("validation", []))  # fmt: skip
    if start < plan.step_count and not keeper.stopped:
        from bertkit.train import loop

        try:
            loop.train(
                loop.Run(
                    place.accelerator, wrapped, optimizer, plan, collate,
                    masses(task.head, targets, store.offsets, weights),
                    make_loss(task.head, recipe.train, weights), HEADS[task.head].outputs, recipe.train,
                    micro_batch_tokens(place, int(store.lengths.max())), recipe.log.every, watch, watch.is_due,
                    lambda step: _is_due(step, recipe.train.checkpoint_every, plan.steps_per_epoch), keeper.save,
                    last_saved=keeper.last_saved,
                ),
                start,
            )  # fmt: skip
        finally:
            progress.close()
            watch.trackers.close()
    progress.close()
    return _finish(run, recipe, predictor, tokenizer, parts, keeper, watch, covered, say)


def _finish(
    run: RunDir,
    recipe: Recipe,
    predictor: Predictor,
    tokenizer: PreTrainedTokenizerBase,
    parts: Mapping[str, Sequence[Part]],
    keeper: Keeper,
    watch: Watch,
    covered: Mapping[str, Coverage],
    say: Callable[[str], None],
) -> dict[str, object]:
    """Score the best weights, and write what a reader of the run needs."""
    keeper.load_best()
    results: dict[str, object] = {}
    predictions: list[Prediction] = []
    rows: list[Row] = []
    for name, some in parts.items():
        rows = [row for part in some for row in part.rows]
        is_fresh = name == "validation" and watch.best_predictions is not None
        predictions = watch.best_predictions if is_fresh else predictor.evaluate(some)[1]
        if name == "validation" and (tuned := predictor.task.tuned(predictions, rows)) != predictor.task:
            # settings that are chosen on validation, such as a threshold; they hold for test and from now on
            predictor = replace(predictor, task=tuned)
            predictions = predictor.evaluate(some)[1]
        results[name] = {**predictor.task.score(predictions, rows), "rows": len(rows)}
    split = next(reversed(results), None)
    metrics = {
        "headline": predictor.task.headline,
        "split": split,
        **(results[split] if split else {}),
        "splits": results,
        "best": keeper.best,
        "train": {
            "rows": covered["train"].rows, "windows": covered["train"].windows, "steps": keeper.step,
            "seconds": round(keeper.seconds(), 1),
        },
        "seed": recipe.seed,
    }  # fmt: skip
    if predictor.accelerator.is_main_process:
        run.write_jsonl("predictions.jsonl", _records(predictor.task, rows, predictions))
        run.write_json("task.json", predictor.task.model_dump(mode="json"))
        run.write_json("findings.json", to_json(findings(predictor.task, rows, predictions, covered, run.read_history())))
        export(run, predictor.model, tokenizer)
        run.write_json("metrics.json", metrics)
        keeper.drop_best()
    predictor.accelerator.wait_for_everyone()
    for name, scores in results.items():
        say(f"{name}: {describe_scores(scores)}")
    say(f"run: {run.path} (model: {run.model})")
    return metrics


def evaluate(
    run: str | Path, data: str, *, assignments: Sequence[str] = (), split: str = "test", quiet: bool = False
) -> dict[str, object]:
    """Score a finished run on other rows.

    Args:
        data: a file, a folder or a Hub id, with the columns that the run's recipe names.
        assignments: `data.*` and `hardware.*` settings that differ from the run's, such as `data.columns.text=review`.
    Returns:
        The headline's name, the metrics and the number of rows.
    """
    recipe, predictor, say = _open(run, assignments, quiet)
    found = _read(recipe, predictor.task, data, split)
    check_labels({label for row in found.rows for label in predictor.task.labels_of(row)}, predictor.task.labels, data)
    _say_skipped(found, data, say)
    from bertkit.encode import cover

    parts = list(predictor.parts(found.rows))
    say(f"{data}: {cover(predictor.task, parts).describe()}")
    scores, _ = predictor.evaluate(parts)
    return {"headline": predictor.task.headline, "data": data, **scores, "rows": len(found.rows), "skipped": len(found.skipped)}


def predict(
    run: str | Path, rows: str | Iterable[Row | str], *, assignments: Sequence[str] = (), split: str = "test",
    quiet: bool = True,
) -> Iterator[Prediction]:  # fmt: skip
    """Predictions of a finished run, one a row, in order, each with the row's `id`.

    Args:
        rows: a file (csv, tsv, jsonl, conllu, SQuAD json, txt, ...), or rows in memory as `Predictor.predict` takes them.
    """
    recipe, predictor, say = _open(run, assignments, quiet)
    if not isinstance(rows, str):
        yield from predictor.predict(rows)
        return
    found = _read(recipe, predictor.task, rows, split, require_gold=False)
    _say_skipped(found, rows, say)
    for row, prediction in zip(found.rows, predictor.predict(found.rows), strict=True):
        yield {"id": row["id"], **prediction}


def load(run: str | Path, assignments: Sequence[str] = ()) -> Predictor:
    """A finished run, ready to answer: `bertkit.load("runs/x").predict(["a text"])`."""
    return _open(run, assignments, quiet=True)[1]


def _open(run: str | Path, assignments: Sequence[str], quiet: bool) -> tuple[Recipe, Predictor, Callable[[str], None]]:
    folder = RunDir(run).open()
    recipe = load_recipe(folder["recipe.yaml"], assignments)
    if not folder.model.is_dir():
        raise BertkitError(f"{folder.path} has no model yet", hint="finish it with `bertkit train ... --resume`")
    task = validate(task_class(str(recipe.task["name"])), folder.read_json("task.json"), where=str(folder["task.json"]))
    config = recipe.model.model_copy(update={"checkpoint": str(folder.model), "init": "pretrained", "revision": None})

    own_the_cores(recipe.hardware.threads)
    from bertkit.data.windows import WindowMaker
    from bertkit.inference import Predictor
    from bertkit.models.load import forward_inputs, load_model, load_tokenizer
    from bertkit.train.place import choose_place

    place = choose_place(recipe.hardware)
    say = _sayer(quiet)
    tokenizer = load_tokenizer(config, words=bool(task.reads.words))
    model = load_model(config, task.head, task.labels, recipe.seed).model.to(place.accelerator.device).eval()
    maker = WindowMaker(tokenizer.backend_tokenizer, recipe.windows)
    inputs = forward_inputs(model, tokenizer)
    say(f"device: {place.summary}")
    return recipe, Predictor(
        task, model, maker, tokenizer.pad_token_id, inputs, place.accelerator, place.evaluation_tokens
    ), say  # fmt: skip


def read_splits(recipe: Recipe, task: Task, say: Callable[[str], None]) -> tuple[Splits, tuple[str, ...] | None]:
    """The rows of all splits, and the class names that the source declares.

    Raises:
        BertkitError: no training rows, or anything wrong in a source.
    """
    data = recipe.data
    names = {"train": data.train, "validation": data.validation, "test": data.test}
    if data.source:
        names["train"] = data.train or "train"
    if not names["train"]:
        raise BertkitError("data.train: no training rows are given", hint="add --train FILE, or data.source=HUB_ID")
    found: dict[str, Rows] = {}
    for split, name in names.items():
        if name is not None:
            source, part = (data.source, name) if data.source else (name, split)
            found[split] = _read(recipe, task, source, part)
            _say_skipped(found[split], name, say)
    rows = {split: found[split].rows if split in found else [] for split in names}
    if data.validation is None:
        if len(rows["train"]) < 2:
            raise BertkitError(
                f"{names['train']}: {len(rows['train'])} row is too few to hold some back", hint="give --validation FILE"
            )
        kept, held = split_held_back(len(rows["train"]), data.validation_share, recipe.seed)
        rows["validation"] = [rows["train"][row] for row in held]
        rows["train"] = [rows["train"][row] for row in kept]
        say(f"validation: {len(held):,} of {len(held) + len(kept):,} training rows are held back (seed {recipe.seed})")
    for split, wanted in (("train", data.train_rows), ("validation", data.validation_rows)):
        chosen = subset(len(rows[split]), wanted, recipe.seed, split)
        if wanted is not None:
            say(f"{split}: {len(chosen):,} of {len(rows[split]):,} rows, drawn with seed {recipe.seed}")
        rows[split] = [rows[split][row] for row in chosen]
    return Splits(**rows), found["train"].label_names


def bind_labels(
    task: Task, splits: Splits, features: Sequence[str] | None, checkpoint: Mapping[int, str] | None
) -> Task:
    """A copy of the task with its labels decided, every split checked against them."""
    if task.head in ("span", "number"):
        return task
    seen = {label for row in splits.train for label in task.labels_of(row)}
    labels = resolve_labels(
        seen, recipe=task.labels, checkpoint=checkpoint, features=features, inventory=task.inventory
    )
    for name in ("validation", "test"):
        check_labels({label for row in getattr(splits, name) for label in task.labels_of(row)}, labels, name)
    return task.model_copy(update={"labels": labels})


@dataclass
class Keeper:
    """Checkpoints of a run: the last ones to resume from, and the best weights."""

    run: RunDir
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    fingerprint: Mapping[str, object]
    accelerator: Accelerator
    best: dict[str, object] | None = None
    stale: int = 0  # evaluations since the best one
    stopped: bool = False  # early stopping has ended the run
    step: int = 0
    last_saved: str = "none, for none was written yet"
    _began: float = field(default_factory=time.monotonic)
    _seconds_before: float = 0.0

    def seconds(self) -> float:
        """Seconds of training so far, over all resumes."""
        return self._seconds_before + time.monotonic() - self._began

    def save(self, step: int) -> str:
        """Write the checkpoint of this step and remove those beyond `train.keep`; returns its name."""
        from bertkit.train.checkpoint import save_checkpoint, step_name, steps

        self.step, self.last_saved = step, step_name(step)
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else None
            save_checkpoint(
                self.run.checkpoints / self.last_saved, self.model, _plain(self.optimizer),
                {"step": step, "best": self.best, "stale": self.stale, "stopped": self.stopped,
                 "seconds": round(self.seconds(), 3), "scaler": scaler, "fingerprint": dict(self.fingerprint)},
            )  # fmt: skip
            for old in steps(self.run.checkpoints)[: -self.recipe.train.keep]:
                shutil.rmtree(old)
        return self.last_saved

    def save_best(self, step: int, name: str, value: float) -> None:
        """Keep the weights of this step as the best so far, without the optimiser's state."""
        from bertkit.train.checkpoint import save_checkpoint

        self.best = {"step": step, "metric": name, "value": value}
        if self.accelerator.is_main_process:
            save_checkpoint(self.run.checkpoints / "best", self.model, None, {"step": step})

    def resume(self, say: Callable[[str], None]) -> int:
        """Go on from the last checkpoint; returns the steps done, 0 when there is none."""
        from bertkit.train.checkpoint import latest, resume

        path = latest(self.run.checkpoints)
        if path is None:
            say("resume: there is no checkpoint yet, starting from the first step")
            self.run.rewind_history(0)
            return 0
        state = resume(path, self.model, _plain(self.optimizer), self.fingerprint)
        if state["scaler"] and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.best, self.stale, self.stopped, self.step = state["best"], state["stale"], state["stopped"], state["step"]
        self._seconds_before, self.last_saved = state["seconds"], path.name
        if self.accelerator.is_main_process:
            self.run.rewind_history(self.step)
        say(f"resume: going on from {path.name}")
        return self.step

    def load_best(self) -> None:
        """Put the best weights into the model, where an evaluation found one."""
        from bertkit.train.checkpoint import load_weights

        if self.best is not None and self.best["step"] != self.step:
            load_weights(self.run.checkpoints / "best", self.model)

    def drop_best(self) -> None:
        """Remove the best weights once `model/` holds them."""
        if (self.run.checkpoints / "best").exists():
            shutil.rmtree(self.run.checkpoints / "best")


@dataclass
class Watch:
    """The observer of a run: history, progress, evaluations, the best checkpoint and early stopping."""

    run: RunDir
    recipe: Recipe
    keeper: Keeper
    progress: Progress
    trackers: Trackers
    best_by: str
    steps_per_epoch: int
    predictor: Predictor
    validation: Sequence[Part]
    best_predictions: list[Prediction] | None = None  # of the best evaluation, when this process made it

    def is_due(self, step: int) -> bool:
        """Whether to evaluate after this step."""
        return bool(self.validation) and _is_due(step, self.recipe.train.evaluate_every, self.steps_per_epoch)

    def __call__(self, steps: list[Step]) -> bool:
        is_main = self.predictor.accelerator.is_main_process
        if is_main:
            self.run.append_history(step._asdict() for step in steps)
        self.progress.steps(steps)
        for step in steps:
            self.trackers.log(
                {"train/loss": step.loss, "train/learning_rate": step.learning_rate, "train/gradient_norm": step.gradient_norm},
                step.step,
            )  # fmt: skip
        return self.is_due(steps[-1].step) and self._evaluate(steps[-1].step, steps[-1].epoch)

    def _evaluate(self, step: int, epoch: float) -> bool:
        scores, predictions = self.predictor.evaluate(self.validation)
        if self.predictor.accelerator.is_main_process:
            self.run.append_history([{"step": step, "epoch": epoch, "validation": scores}])
        self.progress.say(f"step {step} (epoch {epoch:.2f})  validation: {describe_scores(scores)}")
        self.trackers.log({f"validation/{name}": value for name, value in scores.items()}, step)
        value = scores[self.best_by]
        best = None if self.keeper.best is None else self.keeper.best["value"]
        # an undefined metric is never the best
        if value is not None and (best is None or (value < best if self.best_by in LOWER_IS_BETTER else value > best)):
            self.keeper.stale, self.best_predictions = 0, predictions
            self.keeper.save_best(step, self.best_by, value)
        else:
            self.keeper.stale += 1
        patience = self.recipe.train.early_stopping
        self.keeper.stopped = patience is not None and self.keeper.stale >= patience
        if self.keeper.stopped:
            self.progress.say(f"early stopping: no better {self.best_by} in {patience} evaluations")
        return self.keeper.stopped


def findings(
    task: Task, rows: Sequence[Row], predictions: Sequence[Prediction], covered: Mapping[str, Coverage], history: Sequence[Mapping]
) -> list[Finding]:  # fmt: skip
    """What a reader would look at: the loss, the coverage, and which classes are mistaken for which."""
    from bertkit.encode import coverage_table

    steps = [record for record in history if "loss" in record]
    found: list[Finding] = [coverage_table(dict(covered))]
    if steps:
        found.append(Series(
            title="Training loss", x_label="step", y_label="loss", x=tuple(float(record["step"]) for record in steps),
            lines={"train": tuple(record["loss"] for record in steps)},
        ))  # fmt: skip
    if task.head in ("class", "token") and rows:
        found += _confusion(task, rows, predictions)
    return found


def _confusion(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction]) -> list[Finding]:
    pairs = [(row[task.gold], prediction[task.answer]) for row, prediction in zip(rows, predictions, strict=True)]
    if task.head == "token":
        pairs = [pair for gold, given in pairs for pair in zip(gold, given, strict=True)]
    counts = {gold: dict.fromkeys(task.labels, 0) for gold in task.labels}
    for gold, given in pairs:
        counts[gold][given] += 1
    seen = {label: sum(counts[label].values()) for label in task.labels}
    return [
        Heatmap(
            title="Confusion", caption="Rows: gold; columns: predicted; counts.", row_label="gold", column_label="predicted",
            rows=task.labels, columns=task.labels, values=tuple(tuple(map(float, counts[gold].values())) for gold in task.labels),
        ),
        Table(
            title="Accuracy by label", columns=("label", "count", "accuracy"),
            rows=tuple((label, seen[label], counts[label][label] / seen[label] if seen[label] else None) for label in task.labels),
        ),
    ]  # fmt: skip


def describe_scores(scores: Mapping[str, object]) -> str:
    """Scores for people: times 100, undefined ones by that word, counts as they are."""
    shown = []
    for name, value in scores.items():
        if value is None:
            shown.append(f"{name} undefined")
        elif isinstance(value, int):
            shown.append(f"{value:,} {name}")
        else:
            # thresholds and errors are not fractions
            shown.append(f"{name} {value:.3f}" if name in LOWER_IS_BETTER or "threshold" in name else f"{name} {100 * value:.2f}")
    return ", ".join(shown)


def export(run: RunDir, model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write `model/`, which any Hugging Face program loads."""
    from bertkit.rundir import written_atomically

    with written_atomically(run.model) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def _open_run(run: RunDir, recipe: Recipe, task: Task, place: Place) -> None:
    from bertkit.config import dump_yaml
    from bertkit.rundir import disk_errors
    from bertkit.train.place import device_name

    with disk_errors(run.path):
        run.checkpoints.mkdir(parents=True, exist_ok=True)
    packages = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy")
    run.write_json("environment.json", {
        "schema": SCHEMA,
        "bertkit": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "platform": platform.platform(),
        "device": device_name(place.accelerator.device.type),
        "processes": place.accelerator.num_processes,
        "precision": place.precision,
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": _checksums(recipe),
    })  # fmt: skip
    run.write_json("task.json", task.model_dump(mode="json"))
    # last: a folder with a recipe is a run
    write_atomically(run["recipe.yaml"], dump_yaml(recipe.tree()))


def _checksums(recipe: Recipe) -> dict[str, str]:
    sums = {}
    for split in ("train", "validation", "test"):
        name = getattr(recipe.data, split)
        if name and not recipe.data.source and Path(_path(name)).is_file():
            with Path(_path(name)).open("rb") as file:
                sums[split] = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    return sums


BUNDLED = "bundled:"  # `bundled:sentiment.csv` and `bundled:tiny` come with the package


def _path(name: str) -> str:
    """The file behind `bundled:NAME`; any other name as it is."""
    if not name.startswith(BUNDLED):
        return name
    folder = Path(__file__).parent / "assets"
    path = folder / name.removeprefix(BUNDLED)
    if not path.exists():
        known = [entry.name for entry in sorted(folder.iterdir()) if entry.suffix != ".md"]
        raise BertkitError(f"{name}: nothing of this name comes with bertkit", hint=did_you_mean(path.name, known))
    return str(path)


def _read(recipe: Recipe, task: Task, source: str, split: str, require_gold: bool = True) -> Rows:
    data = recipe.data
    return read_rows(
        _path(source), task.reads, mapping=data.columns, split=split, config=data.config, require_gold=require_gold,
        ignore_labels=data.ignore_labels, skip_bad_rows=data.skip_bad_rows,
        unanswerable=bool(getattr(task, "unanswerable", False)),
    )  # fmt: skip


def _say_skipped(found: Rows, name: str, say: Callable[[str], None]) -> None:
    if found.skipped:
        say(f"{name}: {len(found.skipped)} bad rows are left out; the first: {found.skipped[0]}")
    if found.ignored_labels:
        say(f"{name}: {found.ignored_labels} rows with ignored labels are left out")


def _records(task: Task, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Iterator[dict[str, object]]:
    for row, prediction in zip(rows, predictions, strict=True):
        texts = {name: row[name] for name in task.reads.text}
        yield {"id": row["id"], **texts, "gold": row[task.gold], **prediction}


def _class_weights(
    recipe: Recipe, task: Task, targets: Mapping, balanced: Callable[..., list[float]]
) -> list[float] | None:
    asked = recipe.train.class_weights
    if asked is None:
        return None
    if task.head not in ("class", "token"):
        raise BertkitError(f"train.class_weights: {task.name} has no classes to weigh", hint="leave it out")
    if asked == "balanced":
        return balanced(targets["labels"], len(task.labels))
    if unknown := sorted(asked.keys() - set(task.labels)):
        raise BertkitError(f"train.class_weights: no label {unknown[0]!r}", hint=did_you_mean(unknown[0], task.labels))
    return [float(asked.get(label, 1.0)) for label in task.labels]


def _best_by(recipe: Recipe, task: Task, validation: Sequence[Row]) -> str:
    """The metric that picks the best checkpoint, refused before the first step when the task has no such metric."""
    asked = recipe.train.best_by
    if asked is None or not validation:
        return task.headline
    row = validation[0]
    known = list(task.score([_right_answer(task, row)], [row]))
    name = asked.removeprefix("eval_").removeprefix("validation_")
    if name not in known:
        raise BertkitError(f"train.best_by: {task.name} has no metric {asked!r}", hint=did_you_mean(name, known))
    return name


def _right_answer(task: Task, row: Row) -> Prediction:
    gold = row[task.gold]
    if task.head == "span":
        return {"answer": gold[0]["text"] if gold else "", "no_answer_score": 0.0, "best_span": ""}
    return {task.answer: gold}


def _is_due(step: int, every: int | None, steps_per_epoch: int) -> bool:
    return step % (every or steps_per_epoch) == 0


def _trackers(accelerator: Accelerator, recipe: Recipe) -> Trackers:
    from bertkit.config import flatten
    from bertkit.train.observe import Trackers

    return Trackers(accelerator, recipe.log.trackers, recipe.log.project, flatten(recipe.tree()))


def _plain(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    # accelerate wraps the optimiser; its state lies inside
    return getattr(optimizer, "optimizer", optimizer)


def _hash(*arrays: object) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(memoryview(array).cast("B"))
    return total.hexdigest()[:16]


def _sayer(quiet: bool) -> Callable[[str], None]:
    return (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr, flush=True))

"""Finished runs opened again, to answer alone or together, or to teach another model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bertkit.config import read_yaml, validate
from bertkit.errors import BertkitError
from bertkit.heads import HEADS
from bertkit.recipe import HardwareConfig, ModelConfig, Recipe, check_windows, load_recipe
from bertkit.rundir import RunDir
from bertkit.splits import checksums
from bertkit.tasks.base import Task, task_class

if TYPE_CHECKING:
    from bertkit.encode import Part
    from bertkit.inference import Predictor
    from bertkit.train.device_setup import DeviceSetup


ONNX = "onnx/model.onnx"  # in a run
# settings that may differ from those that a run was trained with; of all others its files hold what they came to
FREE = (
    "data.columns", "data.config", "data.labels", "data.ignore_labels", "data.skip_bad_rows", "windows", "hardware",
    "log.verbose", "model.attention", "model.trust_remote_code",
)  # fmt: skip


class Opened(NamedTuple):
    """What the files of a finished run say."""

    recipe: Recipe
    task: Task  # with its labels bound
    model: ModelConfig


def read_run(run: str | Path, assignments: Sequence[str] = ()) -> tuple[Opened, bool]:
    """A finished run with settings that differ from its own; and whether `log.verbose` is among them.

    Raises:
        BertkitError: the folder is no finished run, or a setting would change nothing.
    """
    folder = RunDir(run).open()
    if not folder["task.json"].exists() and "corpus" in read_yaml(folder["recipe.yaml"]):
        message = f"{folder.path} is a pre-training, which answers nothing yet"
        raise BertkitError(message, hint=f"fine-tune it: bertkit train TASK --model {folder.path}")
    recipe = load_recipe(folder["recipe.yaml"], assignments)
    keys = [assignment.partition("=")[0].strip() for assignment in assignments]
    if idle := next((key for key in keys if not f"{key}.".startswith(tuple(f"{free}." for free in FREE))), None):
        raise BertkitError(
            f"{idle}: changes nothing of a finished run", hint=f"leave it out; others: {', '.join(FREE)}"
        )
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
    model = ModelConfig(checkpoint=str(folder.trained()), attention=attention, trust_remote_code=trusts)
    task = validate(task_class(name), folder.read_json("task.json"), where=str(folder["task.json"]))
    return Opened(recipe, task, model), asked.log.verbose


def answering(opened: Opened, setup: DeviceSetup, engine: str = "torch") -> tuple[Predictor, str]:
    """A run's model on a device, with weights of the setup's precision; and how it treats padding, in words.

    The engine `onnx` has the file that `bertkit export` wrote into the run in the model's place.
    """
    from bertkit.data.windows import WindowMaker
    from bertkit.inference import Predictor
    from bertkit.models.exported import Session
    from bertkit.models.load import load_config, load_model, load_tokenizer, longest_input
    from bertkit.models.ready import make_answering
    from bertkit.train.device_setup import with_shapes

    recipe, task, config = opened
    tokenizer = load_tokenizer(config, words=bool(task.reads.words))
    if engine == "onnx":
        model, chosen = Session(Path(config.checkpoint).parent / ONNX, load_config(config)), "by onnxruntime"
    else:
        model = load_model(config, task.head, task.labels, recipe.seed).model
    windows = check_windows(recipe.windows, longest_input(model.config, tokenizer))  # the recipe may have been edited
    setup = with_shapes(setup, recipe.model_copy(update={"windows": windows}))
    if engine != "onnx":
        chosen = make_answering(model, recipe.hardware, setup.accelerator.device, setup.precision)
    maker = WindowMaker(tokenizer.backend_tokenizer, windows, recipe.hardware.token_cache)
    return Predictor(task, model, maker, tokenizer, setup.accelerator, setup.evaluation), chosen


def together(predictors: Mapping[str, Predictor]) -> Predictor:
    """The predictor of an ensemble, by those of its runs: their outputs are averaged, and what was tuned in each.

    Raises:
        BertkitError: two of them do not read or answer alike.
    """
    from bertkit.models.ensemble import Ensemble

    (first, ours), *others = predictors.items()
    changed: dict[str, object] = {}
    for run, theirs in others:
        reads = [(one.tokenizer.backend_tokenizer.to_str(), one.tokenizer.model_input_names) for one in (ours, theirs)]
        for what, one, other in (
            ("task", type(ours.task), type(theirs.task)),
            ("tokenizer", *reads),
            ("windows", ours.maker.config, theirs.maker.config),
        ):
            if one != other:
                raise BertkitError(f"{run} has another {what} than {first}", hint="the runs of an ensemble read alike")
    for name in type(ours.task).model_fields:
        try:
            changed[name] = _mean([getattr(predictor.task, name) for predictor in predictors.values()])
        except TypeError:
            names = ", ".join(predictors)
            raise BertkitError(f"task.{name} is not the same in {names}", hint="give runs that answer alike") from None
    models = [predictor.model for predictor in predictors.values()]
    model = Ensemble(models, HEADS[ours.task.head])
    return replace(ours, task=ours.task.model_copy(update=changed), model=model)


def _mean(values: Sequence[object]) -> object:
    """What equal values are, or the mean of numbers, which were tuned."""
    if all(value == values[0] for value in values):
        return values[0]
    if all(isinstance(value, Mapping) and value.keys() == values[0].keys() for value in values):
        return {key: _mean([value[key] for value in values]) for key in values[0]}
    if all(isinstance(value, float) for value in values):
        return sum(values) / len(values)
    raise TypeError


def seen_by(run: str, recipe: Recipe) -> list[str]:
    """Scored splits with rows that a finished run has learned from, as far as sums of files tell."""
    folder = RunDir(run).open()
    learned, sums = folder.read_json("environment.json").get("data", {}).get("train"), checksums(recipe)
    found = [split for split in ("validation", "test") if learned is not None and sums.get(split) == learned]
    if learned is not None and sums.get("train") == learned and recipe.data.validation is None:
        drawn_by = {"validation", "columns", "validation_share", "group_by", "labels", "ignore_labels", "skip_bad_rows"}
        both = recipe, load_recipe(folder["recipe.yaml"])
        ours, theirs = ((one.seed, one.data.model_dump(include=drawn_by)) for one in both)
        found += ["validation"] if ours != theirs else []  # drawn alike, they were held back then as well
    return found


def lessons(run: str, task: Task, part: Part, hardware: HardwareConfig, setup: DeviceSetup) -> np.ndarray:
    """What a finished run says of rows, once for all steps: float32 logits in the order of the task's labels.

    Returns:
        (N, C), for each window the mean of its row, as in decoding; or (T, C), at the first piece of each word, else
        NaN. Rows and words are what both models have in common, whatever their tokenizers.
    Raises:
        BertkitError: it does not answer what this task asks.
    """
    opened, _ = read_run(run)
    theirs = opened.task
    for what, ours, its in (
        ("head", [task.head], [theirs.head]),
        ("columns", task.reads.text + task.reads.words, theirs.reads.text + theirs.reads.words),
        ("labels", sorted(task.labels), sorted(theirs.labels)),
    ):
        if ours != its:
            raise BertkitError(f"train.teacher: {run} has the {what} {', '.join(its)}, and this run {', '.join(ours)}",
                               hint="take a run of the same task and labels")  # fmt: skip
    recipe = opened.recipe.model_copy(update={"hardware": hardware.model_copy(update={"compile": False})})
    predictor, _ = answering(opened._replace(recipe=recipe), replace(setup, precision="fp32"))
    order = [theirs.labels.index(label) for label in task.labels] or [0]
    found = chain.from_iterable(predictor.outputs(some.store) for some in predictor.parts(part.rows))
    store, is_per_token, said = part.store, HEADS[task.head].per_token, []
    for row, outputs in zip(part.rows, found, strict=True):
        if is_per_token:  # one more than words, for the pieces that begin none: -1 reads the last
            logits = np.full((len(row[task.reads.words[0]]) + 1, len(order)), np.nan, np.float32)
            for output in outputs:
                logits[output.window.words[output.window.words >= 0]] = output.logits[0][:, order]
        else:
            logits = np.mean([output.logits[0][order] for output in outputs], axis=0, dtype=np.float64)
        said.append(logits)
    rows = store.rows.tolist()
    if is_per_token:
        return np.concatenate([said[row][store[window].words] for window, row in enumerate(rows)])
    return np.stack([said[row] for row in rows]).astype(np.float32)

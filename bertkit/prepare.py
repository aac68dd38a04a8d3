"""From a recipe to what trains: the one place where a training is put together."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bertkit import __version__
from bertkit.data.blocks import Cut, Frame
from bertkit.data.corpus import Corpus, tokenised
from bertkit.data.keyed import uniform
from bertkit.data.labels import check_labels
from bertkit.data.plan import Plan
from bertkit.data.windows import WindowMaker
from bertkit.depth import frozen_sum
from bertkit.disk import checksum
from bertkit.encode import Part, cover, cut_parts, cut_rows, stack_targets
from bertkit.errors import BertkitError
from bertkit.findings import Note
from bertkit.inference import Predictor, Reader
from bertkit.models.load import load_config, load_model, load_tokenizer, longest_input
from bertkit.models.padding_free import is_padding_free
from bertkit.models.ready import Ready, make_trainable
from bertkit.named import class_of
from bertkit.objectives.base import Objective
from bertkit.objectives.labelled import check_settings
from bertkit.outcome import Background, tags_seen
from bertkit.recipe import (
    AnyRecipe,
    ModelConfig,
    PretrainRecipe,
    Recipe,
    WindowsConfig,
    check_windows,
    digest,
    fingerprint,
)
from bertkit.reopen import lessons, seen_by
from bertkit.rundir import RunDir
from bertkit.splits import Splits, bind_labels, path_of
from bertkit.tasks.base import Task
from bertkit.train.device_setup import DeviceSetup, without_padding
from bertkit.train.loop import TrainState

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SCORED = ("validation", "test")
HELD_OUT = 0x4E1D  # stream of random numbers that draws the documents to score


@dataclass(frozen=True, kw_only=True)
class Material:
    """The rows of a run, and all that does not depend on the device; windows are cut when they are first asked for."""

    recipe: Recipe  # with its windows and its task resolved
    task: Task  # with its labels bound
    tokenizer: PreTrainedTokenizerBase
    maker: WindowMaker
    splits: Splits
    best_by: str  # the metric that picks the best weights

    @property
    def head(self) -> str:
        """What the model puts out."""
        return self.task.head

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that it puts out."""
        return self.task.labels

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of each training window."""
        return self.train.store.lengths

    def predictor(self, model: PreTrainedModel, setup: DeviceSetup) -> Predictor:
        """Lets the model answer while it trains."""
        return Predictor(self.task, model, self.maker, self.tokenizer, setup.accelerator, setup.evaluation)

    def marks(self) -> dict[str, object]:
        """Hashes of what is learned from, and of what it is scored on."""
        windows = hashlib.sha256()
        for array in (self.train.store.input_ids, self.train.store.offsets, *self.targets.values()):
            windows.update(memoryview(array).cast("B"))
        # another validation set would be compared with the best score on this one
        scored = {name: _hash_of_rows(self.scored.get(name, ())) for name in SCORED}
        return {"train_windows": windows.hexdigest()[:16], **scored}

    @cached_property
    def train(self) -> Part:
        """The training rows as windows."""
        return cut_rows(self.task, self.splits.train, self.maker)

    @cached_property
    def targets(self) -> dict[str, np.ndarray]:
        """What is right in the training windows; see `heads.base.Head.stack`."""
        return stack_targets(self.task, self.train)

    @cached_property
    def scored(self) -> dict[str, list[Part]]:
        """Validation and test rows as windows, where there are any."""
        rows = {name: getattr(self.splits, name) for name in SCORED}
        return {name: list(cut_parts(self.task, some, self.maker)) for name, some in rows.items() if some}

    def background(self) -> Background:
        """What windows and decoding leave to a perfect model, by split."""
        covered = {name: cover(self.task, parts) for name, parts in {"train": [self.train], **self.scored}.items()}
        return Background(covered, tags_seen(self.task, self.splits.train), self.splits.notes)


@dataclass(frozen=True, kw_only=True)
class Text:
    """The running text of a pre-training, and all that does not depend on the device."""

    recipe: PretrainRecipe
    tokenizer: PreTrainedTokenizerBase
    train: Cut
    held_out: Cut  # of the documents that are scored; of none, where there is one document
    frame: Frame  # special tokens around one text, or two
    head: str
    labels: tuple[str, ...] = ()
    scored: Mapping[str, Sequence[Part]] = field(default_factory=dict)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of each training window, special ones included."""
        return self.train.sizes + sum(text is None for _, _, text in self.frame)

    def predictor(self, model: PreTrainedModel, setup: DeviceSetup) -> Reader:
        """Lets the model read while it trains."""
        return Reader(model, self.tokenizer, setup.accelerator, setup.evaluation)

    def marks(self) -> dict[str, object]:
        """What is learned from, and scored on; the corpus is named by its content."""
        return {"text": self.train.hash(), "held_out": self.held_out.hash()}


AnyMaterial = Material | Text


def read_text(
    recipe: PretrainRecipe, say: Callable[[str], None], progress: Callable[[str, int], None] = lambda *_: None
) -> Text:
    """Tokenise the text, once, and cut it; finds out all that can be wrong before a weight is read."""
    checkpoint = local(recipe.model)
    tokenizer, architecture = load_tokenizer(checkpoint), load_config(checkpoint)
    if tokenizer.mask_token_id is None:
        raise BertkitError(f"model.checkpoint: the tokenizer of {recipe.model.checkpoint} has no mask token")
    objective = objective_of(recipe)
    config, limit = recipe.corpus, longest_input(architecture, tokenizer)
    if config.max_length > limit:
        raise BertkitError(
            f"corpus.max_length: this model reads {limit} tokens at once, not {config.max_length}",
            hint=f"take {limit} at most",
        )
    windows = WindowsConfig(max_length=config.max_length, stride=0)
    frame = WindowMaker(tokenizer.backend_tokenizer, windows).frames[objective.texts]
    size = config.max_length - sum(text is None for _, _, text in frame)
    corpus = tokenised(config.train, tokenizer.backend_tokenizer, "corpus.train", progress)
    if config.held_out:
        train = Cut(corpus, size)
        held_out = Cut(tokenised(config.held_out, tokenizer.backend_tokenizer, "corpus.held_out", progress), size)
    else:
        kept, held = held_back(corpus, config.held_out_share, recipe.seed)
        train, held_out = Cut(corpus, size, kept), Cut(corpus, size, held)
    say(f"text: {train.sizes.sum():,} tokens in {len(train.sizes):,} windows, {held_out.sizes.sum():,} held back")
    return Text(recipe=recipe, tokenizer=tokenizer, train=train, held_out=held_out, frame=frame, head=objective.head)


def held_back(corpus: Corpus, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the documents to learn from, and of those to score: as near to the share of the tokens as they come,
    one at least, unless there is one alone.
    """
    sizes = np.diff(corpus.documents, prepend=0)
    order = np.argsort(uniform(seed, HELD_OUT, np.arange(len(sizes))), kind="stable")
    wanted, held, size = share * sizes.sum(), [], 0
    for document in order.tolist():
        if size + sizes[document] / 2 <= wanted:
            held.append(document)
            size += sizes[document]
    held = (held or [int(sizes.argmin())])[: len(sizes) - 1]
    return np.setdiff1d(np.arange(len(sizes)), held), np.array(sorted(held), np.int64)


def read_material(recipe: Recipe, task: Task, splits: Splits, say: Callable[[str], None]) -> Material:
    """Open the checkpoint's files and bind the labels; finds out all that can be wrong before a weight is read."""
    checkpoint = local(recipe.model)
    architecture = load_config(checkpoint)
    tokenizer = load_tokenizer(checkpoint, words=bool(task.reads.words))
    windows = check_windows(recipe.windows, longest_input(architecture, tokenizer))
    if windows.max_length < recipe.windows.max_length:
        say(f"windows: this model reads {windows.max_length} tokens at once, not {recipe.windows.max_length}")
    known = getattr(architecture, "id2label", None) or {}
    is_run = checkpoint.checkpoint != path_of(recipe.model.checkpoint)
    keeps_head = is_run and "LABEL_0" not in known.values() and not recipe.model.replace_head
    if keeps_head and not task.labels:  # its outputs keep their meanings
        check_labels(splits.labels, tuple(known.values()), f"train, going on from {recipe.model.checkpoint}")
    theirs = tuple(known[number] for number in sorted(known))
    if task.labels != theirs and sorted(task.labels) == sorted(theirs) and recipe.model.init != "scratch":
        raise BertkitError(
            f"task.labels: {recipe.model.checkpoint} has these labels in another order, {', '.join(theirs)}: its head "
            "would say one for another",
            hint="list them in that order, or leave task.labels out",
        )
    earlier = [run for run in (is_run and recipe.model.checkpoint, recipe.train.teacher) if run]
    if seen := [f"{split}: {run} learned from rows of it" for run in earlier for split in seen_by(run, recipe)]:
        text = f"{'; '.join(seen)}: its scores are too high"
        say(text)
        splits = splits._replace(notes=(*splits.notes, Note(title="Rows learned before", text=f"{text}.")))
    task = bind_labels(recipe, task, splits, known)
    return Material(
        recipe=recipe.model_copy(update={"windows": windows, "task": task.model_dump(mode="json")}),
        task=task,
        tokenizer=tokenizer,
        maker=WindowMaker(tokenizer.backend_tokenizer, windows, recipe.hardware.token_cache),
        splits=splits,
        best_by=check_settings(recipe.train, task, splits.validation),
    )


def local(model: ModelConfig) -> ModelConfig:
    """The settings of a model whose checkpoint may come with bertkit, or be a finished run."""
    path = path_of(model.checkpoint)
    run = RunDir(path)
    return model.model_copy(update={"checkpoint": str(run.trained()) if run["recipe.yaml"].exists() else path})


class Built(NamedTuple):
    """A model on its device, made ready to train; and what was done to it."""

    model: PreTrainedModel
    ready: Ready
    summary: str


def build(material: AnyMaterial, recipe: AnyRecipe, setup: DeviceSetup) -> Built:
    """Load the model of a recipe and make it ready to train.

    The recipe is the material's own, or one with other `model`, `train` and `hardware` settings.
    """
    loaded = load_model(local(recipe.model), material.head, material.labels, recipe.seed)
    ids = objective_of(recipe).ids_of(material)
    device, order = setup.accelerator.device, recipe.train.order
    ready = make_trainable(loaded.model, recipe.model, recipe.hardware, device, setup.precision, ids, order)
    trained = sum(weight.numel() for weight in loaded.model.parameters() if weight.requires_grad)
    return Built(loaded.model, ready, f"{loaded.summary}; {trained:,} are trained; {ready.padding}")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What trains, but for the optimiser and who watches."""

    recipe: Recipe
    setup: DeviceSetup
    built: Built
    scored: Mapping[str, Sequence[Part]]  # rows to score as windows, by split
    predictor: Predictor | Reader
    objective: Objective
    plan: Plan

    def train_state(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> TrainState:
        """What the loop works on, with model and optimiser as the accelerator wrapped them."""
        setup = self.setup
        return TrainState(
            accelerator=setup.accelerator,
            device=setup.device,
            loss_scale=setup.loss_scale,
            model=model,
            optimizer=optimizer,
            plan=self.plan,
            objective=self.objective,
            budget=setup.training,
            config=self.recipe.train,
            log_every=self.recipe.log.every,
        )


def assemble(material: AnyMaterial, recipe: AnyRecipe, setup: DeviceSetup, built: Built) -> Prepared:
    """Put objective, plan and predictor together around a model, by the recipe that it was built by."""
    if is_padding_free(built.model):
        setup = without_padding(setup, recipe.hardware)
    train, predictor = recipe.train, material.predictor(built.model, setup)
    plan = Plan(material.lengths, train.batch_size, train.epochs, train.steps, train.order, recipe.seed)
    if train.warmup >= max(1, plan.step_count):
        raise BertkitError(
            f"train.warmup: {train.warmup:g} steps of warm-up do not end within the {plan.step_count:,} of the run",
            hint="take fewer; below 1 it is a share of all steps, such as 0.1",
        )
    objective = objective_of(recipe)(material, recipe, predictor)
    if train.teacher is not None:
        objective.follow(lessons(train.teacher, material.task, material.train, recipe.hardware, setup))
    return Prepared(
        recipe=recipe,
        setup=setup,
        built=built,
        scored=material.scored,
        predictor=predictor,
        objective=objective,
        plan=plan,
    )


def objective_of(recipe: AnyRecipe) -> type[Objective]:
    """The class that a recipe names."""
    if isinstance(recipe, PretrainRecipe):
        return class_of(str(recipe.objective["name"]), "objective.name", Objective)
    return class_of(recipe.train.objective, "train.objective", Objective)


def marks_of(material: AnyMaterial, prepared: Prepared) -> dict[str, object]:
    """What a checkpoint must share with the run that resumes it; see `recipe.fingerprint`."""
    ready, teacher = prepared.built.ready, prepared.recipe.train.teacher
    taught_by = sorted(RunDir(teacher).model.glob("*.safetensors")) if teacher else ()
    return fingerprint(prepared.recipe, {
        "precision": prepared.setup.precision,
        "dropout": ready.dropout,
        "embeddings": ready.embeddings,
        "teacher": list(map(checksum, taught_by)) or None,
        "frozen": frozen_sum(prepared.built.model),
        "model": prepared.built.model.config.model_type,
        **material.marks(),
        # another version may compute other digits; torch's build for a device is a matter of place
        "versions": {
            "bertkit": __version__, "torch": version("torch").split("+")[0], "transformers": version("transformers"),
        },
    })  # fmt: skip


def _hash_of_rows(parts: Sequence[Part]) -> str:
    """A short hash of what rows hold, whatever file they came from."""
    rows = [{name: value for name, value in row.items() if name != "id"} for part in parts for row in part.rows]
    return digest({"rows": rows})

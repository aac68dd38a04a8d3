"""Every setting of the toolkit on one page: the Recipe and its sections, typed and frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StrictInt,
    field_validator,
    model_validator,
)

from bertkit.config import Section, Tree, flatten, override, read_yaml, validate
from bertkit.errors import BertkitError

Share = Annotated[float, Field(ge=0, lt=1)]
# `log.trackers=wandb` stands for `log.trackers=[wandb]`
Many = Annotated[tuple[str, ...], BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,))]
Folder = Annotated[str, AfterValidator(lambda name: str(Path(name).expanduser()) if name.startswith("~") else name)]


class ModelConfig(Section):
    """The checkpoint, and what is new in it."""

    checkpoint: Folder = Field(
        "google-bert/bert-base-uncased", description="Hub id or folder with config, safetensors weights and tokenizer"
    )
    revision: str | None = Field(None, description="Hub revision (branch, tag or commit)")
    init: Literal["pretrained", "scratch"] = Field(
        "pretrained", description="start from the checkpoint's weights, or from random ones of the same shape"
    )
    replace_head: bool = Field(
        False, description="allow a head of another size in the checkpoint to be replaced by a new one"
    )
    lowercase: bool | None = Field(
        None, description="lowercase the text; null: as the tokenizer's files say, or its vocabulary suggests"
    )
    dropout: Share | None = Field(
        None, description="one rate for every dropout of the model; null: as the checkpoint says"
    )
    attention_dropout: Share | None = Field(
        None,
        description="dropout rate of attention probabilities alone; null: as model.dropout or the checkpoint says. "
        "0 allows the GPU kernel for batches without padding",
    )
    attention: Literal["auto", "sdpa", "eager"] = Field(
        "auto",
        description="transformers' attention implementation; auto: sdpa, and on a CPU a faster dropout than torch's",
    )
    trust_remote_code: bool = Field(False, description="run Python code from a Hub repository")


class DataConfig(Section):
    """Where the rows are, and what their columns hold."""

    source: str | None = Field(
        None, description="Hub dataset id or folder; train, validation and test then name its splits"
    )
    config: str | None = Field(None, description="configuration name of the Hub dataset")
    train: str | None = Field(
        None, description="training file (csv tsv jsonl json parquet conllu, also .gz .xz) or split"
    )
    validation: str | None = Field(None, description="validation file or split; null: a share of train is held back")
    test: str | None = Field(None, description="test file or split; scored once, with the best weights")
    columns: dict[str, str | StrictInt] = Field(
        default_factory=dict,
        description="task column: column of the file (a name, or a position when it has no header)",
    )
    validation_share: Share = Field(0.1, gt=0, description="share of train held back when there is no validation")
    group_by: str = Field(
        "auto",
        description="rows that are held back together: those with the same value in this column; auto: with the same "
        "document, premise or text; none: each row for itself, whatever it holds",
    )
    train_rows: PositiveInt | None = Field(None, description="use a random subset of this many training rows")
    validation_rows: PositiveInt | None = Field(None, description="use a random subset of this many validation rows")
    labels: dict[str, str] = Field(
        default_factory=dict, description="label in the files: the class it stands for; joins spellings of one class"
    )
    ignore_labels: Many = Field((), description="rows with one of these labels are left out, and counted")
    skip_bad_rows: bool = Field(False, description="leave out rows that cannot be used, and count them")


class WindowsConfig(Section):
    """How long texts are read: in overlapping windows of tokens."""

    max_length: PositiveInt = Field(
        384, ge=5, description="tokens of a window, special tokens included; clamped to what the model can read"
    )
    stride: NonNegativeInt | None = Field(
        None, description="overlap of neighbouring windows in tokens (not the step); null: a third of max_length"
    )
    max_short_length: PositiveInt | None = Field(
        None, description="tokens kept of the side that does not slide, such as a question; null: half of the window"
    )


class TrainConfig(Section):
    """What changes the numbers of a training run."""

    objective: str = Field(
        "labelled", description="what a step learns: labelled (what the task says is right), or a module of your own"
    )
    batch_size: PositiveInt = Field(32, description="windows of one optimiser step, over all devices")
    learning_rate: PositiveFloat = Field(3e-5, description="peak learning rate")
    epochs: PositiveInt = Field(3, description="passes over the training windows")
    steps: PositiveInt | None = Field(None, description="stop after this many steps, also in mid-epoch")
    schedule: Literal["linear", "cosine", "constant"] = Field("linear", description="learning rate after the warm-up")
    warmup: NonNegativeFloat = Field(
        0.1, description="warm-up: a share of all steps below 1, a number of steps from 1 on"
    )
    weight_decay: NonNegativeFloat = Field(0.01, description="decoupled weight decay; not on biases and norms")
    adam_betas: tuple[Share, Share] = Field((0.9, 0.999), description="decay rates of AdamW's two moments")
    adam_epsilon: PositiveFloat = Field(1e-8, description="epsilon of AdamW")
    gradient_clip: NonNegativeFloat = Field(1.0, description="largest global gradient norm; 0: no clipping")
    label_smoothing: Share = Field(0.0, description="share of the target spread over all classes")
    class_weights: Literal["balanced"] | dict[str, PositiveFloat] | None = Field(
        None, description="weight of each class in the loss: balanced (inverse frequency), or label: weight"
    )
    order: Literal["random", "length"] = Field(
        "random", description="rows of a step: drawn at random, or of similar length (shuffled buckets)"
    )
    evaluate_every: PositiveInt | None = Field(None, description="steps between evaluations; null: every epoch")
    checkpoint_every: PositiveInt | None = Field(None, description="steps between checkpoints; null: every epoch")
    keep: PositiveInt = Field(1, description="resumable checkpoints kept, beside the best weights")
    best_by: str | None = Field(None, description="metric that picks the best checkpoint; null: the task's headline")
    early_stopping: PositiveInt | None = Field(
        None, description="stop after this many evaluations without a better one"
    )

    @field_validator("steps", "epochs", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        return int(value) if isinstance(value, float) and value.is_integer() else value


class HardwareConfig(Section):
    """Where and how fast; of these only the precision can change a number."""

    device: Literal["auto", "cpu", "cuda", "mps", "xla"] = Field(
        "auto", description="device to run on; xla: a TPU, or what PJRT_DEVICE names (needs torch_xla)"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="arithmetic of the forward pass; weights stay float32. "
        "auto: bf16 where the device has it, else fp16 on GPUs from V100 on",
    )
    threads: PositiveInt | None = Field(None, description="CPU threads; null: one a core")
    micro_batch_tokens: PositiveInt | Literal["auto"] | None = Field(
        None,
        description="padded tokens of one forward and backward pass; null: by device; auto: the fastest that a GPU has "
        "memory for, found before the first step. Changes memory, not results",
    )
    evaluation_tokens: PositiveInt | None = Field(
        None, description="padded tokens of one forward pass in evaluation and prediction; null: by device"
    )
    pass_overhead: NonNegativeInt | None = Field(
        None,
        description="fixed cost of a pass, in tokens: batches are cut where that and padding cost least together; "
        "null: by device",
    )
    padding_free: Literal["auto", True, False] = Field(
        "auto",
        description="compute no padding within the encoder; auto: on GPUs that have a "
        "kernel for it, and in training on CPUs with order=random",
    )
    fixed_shapes: Literal["auto", True, False] = Field(
        "auto", description="pad batches to a few fixed shapes; auto: where the model is compiled for each of them"
    )
    compile: bool = Field(
        False, description="compile the model (torch.compile, CUDA graphs on a GPU): minutes at first, then short steps"
    )
    compact_vocabulary: bool = Field(
        True, description="train only the word embeddings that the training rows use; the others would only decay"
    )
    token_cache: bool = Field(
        True, description="keep the tokens of large data on disk (in $BERTKIT_CACHE, else ~/.cache/bertkit)"
    )
    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass to save memory")

    @model_validator(mode="before")
    @classmethod
    def _of_older_runs(cls, value: object) -> object:
        # recipe.yaml of older runs names a setting that is gone
        is_off = isinstance(value, dict) and value.get("int8") is False
        return {name: given for name, given in value.items() if name != "int8"} if is_off else value


class LogConfig(Section):
    """What a run reports, and to whom."""

    every: PositiveInt = Field(10, description="steps between log lines")
    verbose: bool = Field(False, description="also say the device, the model, and the windows of each split")
    trackers: Many = Field((), description="accelerate trackers by name: tensorboard, wandb, mlflow, trackio, ...")
    project: str = Field("bertkit", description="project name given to the trackers")


class Recipe(Section):
    """The complete description of a run."""

    task: dict[str, object] = Field(description="name of the task and its own settings")
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    windows: WindowsConfig = WindowsConfig()
    train: TrainConfig = TrainConfig()
    hardware: HardwareConfig = HardwareConfig()
    log: LogConfig = LogConfig()
    seed: NonNegativeInt = Field(0, lt=2**63, description="the one seed: head, data order, dropout, subsets")

    @field_validator("task", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        # `task: qa` and `task=qa` stand for `task: {name: qa}`
        return {"name": value} if isinstance(value, str) else value

    @field_validator("task")
    @classmethod
    def _has_name(cls, value: dict[str, object]) -> dict[str, object]:
        if not isinstance(value.get("name"), str):
            raise ValueError("has no name; `bertkit tasks` lists the tasks")
        return value

    def tree(self) -> Tree:
        """The recipe as plain values, every default filled in."""
        return self.model_dump(mode="json")


def load_recipe(source: str | Path | Mapping[str, object], assignments: Sequence[str] = ()) -> Recipe:
    """A recipe from a YAML file, or from a tree of plain values, with `key=value` assignments on top.

    Raises:
        BertkitError: a missing file, an unknown key, or a value out of range; one line, with a suggestion.
    """
    tree = source if isinstance(source, Mapping) else read_yaml(Path(source))
    for assignment in ("", *assignments):
        tree = override(tree, [assignment] if assignment else [])
        if isinstance(tree.get("task"), str):
            tree["task"] = {"name": tree["task"]}
    # a section whose lines are all commented out reads as null
    return validate(Recipe, {section: value for section, value in tree.items() if value is not None})


def fingerprint(recipe: Recipe, resolved: Mapping[str, object]) -> dict[str, object]:
    """What a checkpoint must share with the run that resumes it: flat keys and values.

    `hardware` and `log` change speed and reports, not numbers, and stay out; the precision and attention chosen on
    this machine enter through `resolved`. File names stay out because files move: `resolved` has a hash of what was
    read instead.
    """
    tree = recipe.tree()
    for section in ("hardware", "log"):
        del tree[section]
    tree["data"] = {key: value for key, value in tree["data"].items() if key in ("train_rows", "validation_rows")}
    # more steps than planned change the schedule; keeping fewer files does not
    tree["train"] = {key: value for key, value in tree["train"].items() if key not in ("keep", "checkpoint_every")}
    del tree["model"]["checkpoint"], tree["model"]["revision"]
    return flatten({**tree, "resolved": dict(resolved)})


def digest(values: Mapping[str, object]) -> str:
    """A short hash of plain values, the same on any machine."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def differing_keys(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """`key: theirs -> ours`, for each key on which two fingerprints differ."""
    ours, theirs = (json.loads(json.dumps(side, default=str)) for side in (ours, theirs))
    return [
        f"{key}: {theirs.get(key)!r} -> {ours.get(key)!r}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]


def check_windows(config: WindowsConfig, limit: int) -> WindowsConfig:
    """The windows that this model can read: `max_length` clamped to `limit`, the stride filled in.

    Raises:
        BertkitError: a stride that leaves no room for any token.
    """
    max_length = min(config.max_length, limit)
    stride = max_length // 3 if config.stride is None else config.stride
    if stride >= max_length - 2:
        raise BertkitError(
            f"windows.stride: an overlap of {stride} tokens leaves no step in windows of {max_length}",
            hint=f"stride is the overlap, not the step; take at most {max_length // 2}, or leave it out",
        )
    return config.model_copy(update={"max_length": max_length, "stride": stride})

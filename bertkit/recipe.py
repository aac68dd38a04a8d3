"""Every setting of the toolkit on one page: the Recipe and its sections, typed and frozen."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bertkit.config import Section, Tree, flatten, knob, override, read_yaml, validate
from bertkit.errors import BertkitError

Share = Annotated[float, Field(ge=0, lt=1)]
# `log.trackers=wandb` stands for `log.trackers=[wandb]`
Many = Annotated[tuple[str, ...], BeforeValidator(lambda value: value if isinstance(value, list | tuple) else (value,))]
Folder = Annotated[str, AfterValidator(lambda name: str(Path(name).expanduser()) if name.startswith("~") else name)]


class ModelConfig(Section):
    """The checkpoint, and what is new in it."""

    checkpoint: Folder = knob(
        "google-bert/bert-base-uncased", "Hub id or folder with config, safetensors weights and tokenizer"
    )
    revision: str | None = knob(None, "Hub revision (branch, tag or commit)")
    init: Literal["pretrained", "scratch"] = knob(
        "pretrained", "start from the checkpoint's weights, or from random ones of the same shape"
    )
    replace_head: bool = knob(False, "allow a head of another size in the checkpoint to be replaced by a new one")
    lowercase: bool | None = knob(
        None, "lowercase the text; null: as the tokenizer's files say, or its vocabulary suggests"
    )
    dropout: Share | None = knob(None, "one rate for every dropout of the model; null: as the checkpoint says")
    attention_dropout: Share | None = knob(
        None,
        "dropout rate of attention probabilities alone; null: as model.dropout or the checkpoint says. 0 allows "
        "the GPU kernel for batches without padding",
    )
    attention: Literal["auto", "sdpa", "eager"] = knob(
        "auto", "transformers' attention implementation; auto: sdpa, and on a CPU a faster dropout than torch's"
    )
    freeze: Literal["embeddings", "encoder"] | PositiveInt | None = knob(
        None, "weights that stay as they are: embeddings, a number of layers from below (and embeddings), or encoder"
    )
    adapter: Literal["lora", "dora", "ia3"] | None = knob(
        None, "train a small adapter and the head, and keep the checkpoint's weights as they are (needs peft)"
    )
    adapter_rank: PositiveInt | None = knob(None, "rank of the matrices of LoRA and DoRA; null: 8")
    adapter_alpha: PositiveFloat | None = knob(
        None, "LoRA and DoRA add their product times alpha / rank; null: twice the rank"
    )
    trust_remote_code: bool = knob(False, "run Python code from a Hub repository")

    @model_validator(mode="after")
    def _adapter_settings_fit(self) -> Self:
        for name in ("adapter_rank", "adapter_alpha") if self.adapter not in ("lora", "dora") else ():
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: would change nothing: adapter is {self.adapter or 'null'}")
        if self.adapter and self.freeze:
            raise ValueError(f"freeze: {self.freeze} would change nothing: an adapter keeps all but the head as it is")
        if self.adapter and self.init == "scratch":
            raise ValueError("adapter: it adapts what was learned before, and init is scratch")
        return self


class DataConfig(Section):
    """Where the rows are, and what their columns hold."""

    source: str | None = knob(None, "Hub dataset id or folder; train, validation and test then name its splits")
    config: str | None = knob(None, "configuration name of the Hub dataset")
    train: str | None = knob(None, "training file (csv tsv jsonl json parquet conllu, also .gz .xz) or split")
    validation: str | None = knob(None, "validation file or split; null: a share of train is held back")
    test: str | None = knob(None, "test file or split; scored once, with the best weights")
    columns: dict[str, str | StrictInt] = knob(
        {}, "task column: column of the file (a name, or a position when it has no header)"
    )
    validation_share: Annotated[Share, Field(gt=0)] = knob(0.1, "share of train held back when there is no validation")
    group_by: str = knob(
        "auto",
        "rows that are held back together: those with the same value in this column; auto: with the same document,"
        " premise or text; none: each row for itself, whatever it holds",
    )
    folds: Annotated[PositiveInt, Field(ge=2)] | None = knob(
        None, "parts that the training rows are cut into; validation is part data.fold (`bertkit study folds`)"
    )
    fold: NonNegativeInt | None = knob(None, "number of the part that is validation, from 0; the others are train")
    train_rows: PositiveInt | None = knob(None, "use a random subset of this many training rows")
    validation_rows: PositiveInt | None = knob(None, "use a random subset of this many validation rows")
    labels: dict[str, str] = knob({}, "label in the files: the class it stands for; joins spellings of one class")
    ignore_labels: Many = knob((), "rows with one of these labels are left out, and counted; predict answers them, too")
    skip_bad_rows: bool = knob(False, "leave out rows that cannot be used, and count them")

    @model_validator(mode="after")
    def _a_fold_is_one_of_them(self) -> Self:
        if (self.folds is None) != (self.fold is None):
            raise ValueError("fold: folds and fold go together")
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold: {self.fold} is none of the {self.folds} folds, which begin with 0")
        return self


class WindowsConfig(Section):
    """How long texts are read: in overlapping windows of tokens."""

    max_length: Annotated[PositiveInt, Field(ge=5)] = knob(
        384, "tokens of a window, special tokens included; clamped to what the model can read"
    )
    stride: NonNegativeInt | None = knob(
        None, "overlap of neighbouring windows in tokens (not the step); null: a third of max_length"
    )
    max_short_length: PositiveInt | None = knob(
        None, "tokens kept of the side that does not slide, such as a question; null: half of the window"
    )


class TrainConfig(Section):
    """What changes the numbers of a training run."""

    objective: str = knob(
        "labelled", "what a step learns: labelled (what the task says is right), or a module of your own"
    )
    batch_size: PositiveInt = knob(32, "windows of one optimiser step, over all devices")
    learning_rate: PositiveFloat = knob(3e-5, "peak learning rate")
    layer_decay: Annotated[float, Field(gt=0, lt=1)] | None = knob(
        None, "factor of the learning rate from each layer to the one below, such as 0.9; the head has the full rate"
    )
    head_learning_rate: PositiveFloat | None = knob(
        None, "peak learning rate of the head and the pooler; null: as all others"
    )
    epochs: PositiveInt = knob(3, "passes over the training windows")
    steps: PositiveInt | None = knob(None, "stop after this many steps, also in mid-epoch")
    schedule: Literal["linear", "cosine", "constant"] = knob("linear", "learning rate after the warm-up")
    warmup: NonNegativeFloat = knob(0.1, "warm-up: a share of all steps below 1, a number of steps from 1 on")
    weight_decay: NonNegativeFloat = knob(0.01, "decoupled weight decay; not on biases and norms")
    adam_betas: tuple[Share, Share] = knob((0.9, 0.999), "decay rates of AdamW's two moments")
    adam_epsilon: PositiveFloat = knob(1e-8, "epsilon of AdamW")
    gradient_clip: NonNegativeFloat = knob(1.0, "largest global gradient norm; 0: no clipping")
    label_smoothing: Share = knob(0.0, "share of the target spread over all classes")
    class_weights: Literal["balanced"] | dict[str, PositiveFloat] | None = knob(
        None, "weight of each class in the loss: balanced (inverse frequency), or label: weight"
    )
    teacher: Folder | None = knob(None, "a finished run, of another model perhaps, whose outputs are learned as well")
    distillation_temperature: PositiveFloat = knob(2.0, "what logits are divided by before they are compared")
    distillation_share: Annotated[float, Field(gt=0, le=1)] = knob(
        0.5, "share of the loss that is the distance from the teacher's outputs; the rest is that from the labels"
    )
    order: Literal["random", "length"] = knob(
        "random", "rows of a step: drawn at random, or of similar length (shuffled buckets)"
    )
    evaluate_every: PositiveInt | None = knob(None, "steps between evaluations; null: every epoch")
    checkpoint_every: PositiveInt | None = knob(None, "steps between checkpoints; null: every epoch")
    keep: PositiveInt = knob(1, "resumable checkpoints kept, beside the best weights")
    best_by: str | None = knob(None, "metric that picks the best checkpoint; null: the task's headline")
    early_stopping: PositiveInt | None = knob(None, "stop after this many evaluations without a better one")

    @model_validator(mode="after")
    def _teacher_is_there(self) -> Self:
        for name in ("distillation_temperature", "distillation_share") if self.teacher is None else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: would change nothing without teacher")
        if self.distillation_share == 1 and self.label_smoothing:
            raise ValueError("label_smoothing: would change nothing: distillation_share=1 leaves the labels out")
        return self


class HardwareConfig(Section):
    """Where and how fast; of these only the precision can change a number."""

    device: Literal["auto", "cpu", "cuda", "mps", "xla"] = knob(
        "auto", "device to run on; xla: a TPU, or what PJRT_DEVICE names (needs torch_xla)"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = knob(
        "auto",
        "arithmetic of the forward pass; weights stay float32. auto: bf16 where the device has it, else fp16 on "
        "GPUs from V100 on",
    )
    threads: PositiveInt | None = knob(None, "CPU threads; null: one a core")
    micro_batch_tokens: PositiveInt | Literal["auto"] | None = knob(
        None,
        "padded tokens of one forward and backward pass; null: by device; auto: the fastest that a GPU has memory "
        "for, found before the first step. Changes memory, not results",
    )
    evaluation_tokens: PositiveInt | None = knob(
        None, "padded tokens of one forward pass in evaluation and prediction; null: by device"
    )
    pass_overhead: NonNegativeInt | None = knob(
        None,
        "fixed cost of a pass, in tokens: batches are cut where that and padding cost least together; null: by device",
    )
    padding_free: Literal["auto", True, False] = knob(
        "auto",
        "compute no padding within the encoder; auto: on GPUs that have a kernel for it, and in training on CPUs "
        "with order=random",
    )
    fixed_shapes: Literal["auto", True, False] = knob(
        "auto", "pad batches to a few fixed shapes; auto: where the model is compiled for each of them"
    )
    compile: bool = knob(
        False, "compile the model (torch.compile, CUDA graphs on a GPU): minutes at first, then short steps"
    )
    compact_vocabulary: bool = knob(
        True, "train only the word embeddings that the training rows use; the others would only decay"
    )
    token_cache: bool = knob(True, "keep the tokens of large data on disk (in $BERTKIT_CACHE, else ~/.cache/bertkit)")
    gradient_checkpointing: bool = knob(False, "recompute activations in the backward pass to save memory")


class LogConfig(Section):
    """What a run reports, and to whom."""

    every: PositiveInt = knob(10, "steps between log lines")
    verbose: bool = knob(False, "also say the device, the model, and the windows of each split")
    trackers: Many = knob((), "accelerate trackers by name: tensorboard, wandb, mlflow, trackio, ...")
    project: str = knob("bertkit", "project name given to the trackers")


class CorpusConfig(Section):
    """The running text of a pre-training."""

    train: Many = knob((), "files or folders of text (txt, jsonl, parquet, ..., also .gz .xz .zst), or Hub data sets")
    held_out: Many = knob((), "text to score on; none: a share of the documents of train is held back")
    held_out_share: Annotated[Share, Field(gt=0)] = knob(0.005, "share of the documents that is held back")
    max_length: Annotated[PositiveInt, Field(ge=8)] = knob(128, "tokens of a window, special tokens included")


class _Named(Section):
    """A recipe, whose first section has a name and settings of its own."""

    @field_validator("task", "objective", mode="before", check_fields=False)
    @classmethod
    def _named(cls, value: object, info: ValidationInfo) -> object:
        # `task: qa` and `task=qa` stand for `task: {name: qa}`
        value = {"name": value} if isinstance(value, str) else value
        if isinstance(value, dict) and not isinstance(value.get("name"), str):
            raise ValueError(f"has no name{'; `bertkit tasks` lists the tasks' * (info.field_name == 'task')}")
        return value

    def tree(self) -> Tree:
        """The recipe as plain values, every default filled in."""
        return self.model_dump(mode="json")


class Recipe(_Named):
    """The complete description of a run."""

    task: dict[str, object] = Field(description="name of the task and its own settings")
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    windows: WindowsConfig = WindowsConfig()
    train: TrainConfig = TrainConfig()
    hardware: HardwareConfig = HardwareConfig()
    log: LogConfig = LogConfig()
    seed: Annotated[NonNegativeInt, Field(lt=2**63)] = knob(0, "the one seed: head, data order, dropout, subsets")


class PretrainRecipe(_Named):
    """The complete description of a pre-training."""

    objective: dict[str, object] = Field({"name": "mlm"}, description="name of the objective and its own settings")
    model: ModelConfig = ModelConfig()
    corpus: CorpusConfig = CorpusConfig()
    train: TrainConfig = TrainConfig()
    hardware: HardwareConfig = HardwareConfig()
    log: LogConfig = LogConfig()
    seed: Annotated[NonNegativeInt, Field(lt=2**63)] = knob(0, "the one seed: weights, data order, corruption, dropout")


AnyRecipe = TypeVar("AnyRecipe", Recipe, PretrainRecipe)


def load_recipe(
    source: str | Path | Mapping[str, object], assignments: Sequence[str] = (), kind: type[AnyRecipe] = Recipe
) -> AnyRecipe:
    """A recipe from a YAML file, or from a tree of plain values, with `key=value` assignments on top.

    Raises:
        BertkitError: a missing file, an unknown key, or a value out of range; one line, with a suggestion.
    """
    tree = source if isinstance(source, Mapping) else read_yaml(Path(source))
    for assignment in ("", *assignments):
        tree = override(tree, [assignment] if assignment else [])
        for name in ("task", "objective"):
            if isinstance(tree.get(name), str):
                tree[name] = {"name": tree[name]}
    # a section whose lines are all commented out reads as null
    return validate(kind, {section: value for section, value in tree.items() if value is not None})


def fingerprint(recipe: AnyRecipe, resolved: Mapping[str, object]) -> dict[str, object]:
    """What a checkpoint must share with the run that resumes it: flat keys and values.

    `hardware` and `log` change speed and reports, not numbers, and stay out; the precision and attention chosen on
    this machine enter through `resolved`. File names stay out because files move: `resolved` has a hash of what was
    read instead.
    """
    # more steps than planned change the schedule; keeping fewer files does not
    left_out = {
        "hardware": True,
        "log": True,
        "model": {"checkpoint", "revision"},
        "train": {"keep", "checkpoint_every", "teacher"},
        "corpus": {"train", "held_out"},
    }
    tree = recipe.model_dump(mode="json", exclude=left_out)
    if "data" in tree:
        tree["data"] = {key: tree["data"][key] for key in ("train_rows", "validation_rows")}
    return flatten({**tree, "resolved": dict(resolved)})


def digest(values: Mapping[str, object]) -> str:
    """A short hash of plain values, the same on any machine."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def differing_keys(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    """`key: theirs -> ours`, for each key on which two fingerprints differ."""
    ours, theirs = (json.loads(json.dumps(side, default=str)) for side in (ours, theirs))
    differing = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    return [f"{key}: {theirs.get(key)!r} -> {ours.get(key)!r}" for key in differing]


def check_windows(config: WindowsConfig, limit: int) -> WindowsConfig:
    """The windows that this model can read: `max_length` clamped to `limit`, the stride filled in and checked."""
    max_length = min(config.max_length, limit)
    stride = max_length // 3 if config.stride is None else config.stride
    if stride >= max_length - 2:
        raise BertkitError(
            f"windows.stride: an overlap of {stride} tokens leaves no step in windows of {max_length}",
            hint=f"stride is the overlap, not the step; take at most {max_length // 2}, or leave it out",
        )
    return config.model_copy(update={"max_length": max_length, "stride": stride})

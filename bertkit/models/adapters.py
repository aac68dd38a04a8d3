"""Adapters, through peft: a few weights of their own beside those of a checkpoint, which stay as they are.

Sources: Hu et al. 2022 (LoRA), Liu et al. 2024 (DoRA), Liu et al. 2022 (IA3).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from bertkit.depth import depths_of, frozen_sum, mark_frozen
from bertkit.disk import parse, read_whole
from bertkit.errors import BertkitError
from bertkit.models.source import ADAPTER, reading
from bertkit.named import library
from bertkit.recipe import ModelConfig
from bertkit.rundir import shaped

if TYPE_CHECKING:
    from peft import PeftConfig

WEIGHTS, PREFIX = "adapter_model.safetensors", "base_model.model."  # as peft writes them
RANK = 8
# IA3 scales keys and values, by the names that the families give them (queries as well in ModernBERT), and what enters
# the second layer of the feed-forward part (section 3.3)
KEYS_AND_VALUES = {"key", "value", "k_lin", "v_lin", "key_proj", "value_proj", "Wqkv"}


class Notes(BaseModel):
    """adapter_config.json, as far as it is relied on: peft would also follow fields that name code."""

    base_model_name_or_path: str
    revision: str | None = None
    peft_type: str
    r: Annotated[int, Field(gt=0, le=4096)] = RANK
    lora_alpha: float = 2.0 * RANK
    use_dora: bool = False


def add_adapter(model: PreTrainedModel, config: ModelConfig) -> None:
    """Let only an adapter and the head learn, in place."""
    if config.adapter is None:
        return
    folder, settings = Path(config.checkpoint), _settings(model, config, heads=True)
    settings.base_model_name_or_path = str(folder.absolute()) if folder.is_dir() else config.checkpoint
    settings.revision = config.revision
    library("peft", "adapters", "model.adapter").inject_adapter_in_model(settings, model)
    mark_frozen(model)
    model.config.frozen_weights = frozen_sum(model)


def save_model(model: PreTrainedModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    """As `save_pretrained`; of a model with an adapter, what it learned and the name of its base.

    Args:
        weights: all of the model by their names, where files are written from.
    """
    if not hasattr(model, "peft_config"):
        model.save_pretrained(folder, state_dict=weights)
        return
    peft = library("peft", "adapters", "model.adapter")
    model.config.save_pretrained(folder)
    settings = model.peft_config["default"]
    for name in ("target_modules", "feedforward_modules", "modules_to_save"):
        if value := getattr(settings, name, None):
            setattr(settings, name, sorted(value))  # sets have another order in each process
    settings.save_pretrained(folder)
    learned = peft.get_peft_model_state_dict(model, state_dict=weights)
    save_file({PREFIX + name: weight.contiguous() for name, weight in learned.items()}, folder / WEIGHTS)


def base_of(config: ModelConfig) -> ModelConfig | None:
    """The checkpoint that the adapter in a folder belongs to, with the adapter's settings; else None."""
    path = Path(config.checkpoint) / ADAPTER
    if not path.exists():
        return None
    with reading(config):
        notes = Notes.model_validate(shaped(parse(read_whole(path)), Notes))
    return config.model_copy(update={
        "checkpoint": notes.base_model_name_or_path,
        "revision": notes.revision,
        "adapter": "ia3" if notes.peft_type == "IA3" else "dora" if notes.use_dora else "lora",
        "adapter_rank": notes.r,
        "adapter_alpha": notes.lora_alpha,
    })  # fmt: skip


def merge_adapter(model: PreTrainedModel, config: ModelConfig, base: ModelConfig) -> dict[str, Tensor]:
    """Put the adapter in a folder into the weights of its base, in place; returns the weights of the head beside it.

    Raises:
        BertkitError: the base is not what the adapter was trained on, or the adapter has other parts than bertkit's.
    """
    folder = Path(config.checkpoint)
    with reading(config):
        saved = {name.removeprefix(PREFIX): weight for name, weight in load_file(folder / WEIGHTS).items()}
        noted = parse(read_whole(folder / "config.json")).get("frozen_weights")
    peft = library("peft", "adapters", f"model.checkpoint: {folder}")
    kind = peft.IA3Model if base.adapter == "ia3" else peft.LoraModel
    adapted = kind(model, _settings(model, base, heads=False), "default")
    mark_frozen(model)
    if frozen_sum(model) != noted:
        raise BertkitError(
            f"model.checkpoint: {folder} is an adapter for other weights than {base.checkpoint} has",
            hint=f"put that checkpoint back as it was, or let base_model_name_or_path in {ADAPTER} say where it is now",
        )
    there = peft.get_peft_model_state_dict(model)
    own = {name: weight for name, weight in saved.items() if ".lora_" in name or ".ia3_" in name}
    if odd := min(own.keys() ^ there.keys(), default=None):
        raise BertkitError(f"model.checkpoint: {folder} is an adapter of other parts than bertkit's, such as {odd}",
                           hint="put it into its base: peft's merge_and_unload, then save_pretrained")  # fmt: skip
    with reading(config):
        peft.set_peft_model_state_dict(model, own)
        adapted.merge_and_unload()
    model.requires_grad_(True)
    return {name: weight for name, weight in saved.items() if name not in own}


def _settings(model: PreTrainedModel, config: ModelConfig, heads: bool) -> "PeftConfig":
    """What peft is told: LoRA on each linear layer of the encoder; the head and the pooler learn as a whole.

    Attention alone falls behind. Source: Dettmers et al. 2023, QLoRA, section 4.
    """
    peft = library("peft", "adapters", f"model.adapter={config.adapter}")
    depths, top = depths_of(model)
    parts = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    linear = {name: module for name, module in parts.items() if 0 < depths.get(f"{name}.weight", 0) <= top}
    # peft takes what a name ends with
    above = {name.removeprefix(f"{model.base_model_prefix}.").split(".")[0] for name in depths if depths[name] > top}
    saved = sorted(above) if heads else None
    if config.adapter == "ia3":
        narrowing = [name for name, module in linear.items() if module.in_features > module.out_features]
        scaled = [name for name in linear if name.rpartition(".")[2] in KEYS_AND_VALUES]
        return peft.IA3Config(target_modules=scaled + narrowing, feedforward_modules=narrowing,
                              modules_to_save=saved)  # fmt: skip
    rank = config.adapter_rank or RANK
    return peft.LoraConfig(
        r=rank, lora_alpha=config.adapter_alpha or 2 * rank, use_dora=config.adapter == "dora",
        target_modules=list(linear), modules_to_save=saved,
    )  # fmt: skip

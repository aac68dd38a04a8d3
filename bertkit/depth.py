"""How deep in its model a weight stands, by its name: which weights are frozen, and at what rate the others learn."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from bertkit.errors import BertkitError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from bertkit.recipe import TrainConfig

LAYER = re.compile(r"\.(?:layers?|albert_layer_groups)\.(\d+)\.")


def depths_of(model: PreTrainedModel) -> tuple[dict[str, int], int]:
    """Depth of each weight by its name, and of the top layer; the head is one above, with the pooler.

    Embeddings have depth 0, with what belongs to no layer (DeBERTa's relative positions, ELECTRA's projection), and the
    lowest layer has 1. The layers of an ALBERT share their weights, and are one.
    """
    found: dict[str, int | None] = {}
    for name, _ in model.named_parameters():
        layer = LAYER.search(name)
        is_inner = name.startswith(f"{model.base_model_prefix}.") and ".pooler." not in name
        found[name] = (int(layer[1]) + 1 if layer else 0) if is_inner else None
    top = max((depth for depth in found.values() if depth), default=0)
    found |= {name: top for name in found if name.endswith(".final_norm.weight")}  # ModernBERT's, behind all layers
    return {name: top + 1 if depth is None else depth for name, depth in found.items()}, top


def freeze(model: PreTrainedModel, what: str | int | None) -> None:
    """Keep `embeddings`, these and so many layers from below, or the whole `encoder` as they are, in place.

    Raises:
        BertkitError: the model has fewer layers.
    """
    if what is None:
        return
    depths, top = depths_of(model)
    if isinstance(what, int) and what > top:
        shared = ", whose weights all its layers share" if model.config.model_type == "albert" else ""
        raise BertkitError(f"model.freeze: {what} layers, and {model.config.model_type} has {top} here{shared}",
                           hint="take fewer, or model.freeze=encoder")  # fmt: skip
    highest = {"embeddings": 0, "encoder": top}.get(what, what)
    for name, weight in model.named_parameters():
        weight.requires_grad_(weight.requires_grad and depths[name] > highest)


def mark_frozen(model: PreTrainedModel) -> None:
    """Note the weights that no step changes, as they are now, in `model.frozen`."""
    model.frozen = frozenset(name for name, weight in model.named_parameters() if not weight.requires_grad)


def frozen_sum(model: PreTrainedModel) -> str | None:
    """A short hash of the weights that no step changes, which a checkpoint leaves out; None where all learn."""
    found, (depths, top) = hashlib.sha256(), depths_of(model)
    for name, weight in model.named_parameters():
        if name in model.frozen and depths[name] <= top:  # of a head peft trains a copy
            found.update(memoryview(weight.detach().cpu().numpy()).cast("B"))
    return found.hexdigest()[:16] if model.frozen else None


def rate_factors(model: PreTrainedModel, config: TrainConfig) -> dict[str, float]:
    """What the learning rate of each weight is multiplied by: `layer_decay` once for every layer that is above it.

    Source: Sun et al. 2019, How to Fine-Tune BERT for Text Classification (layer-wise decreasing rates).

    Raises:
        BertkitError: the model has no layers of different depth.
    """
    decay, above = config.layer_decay, config.head_learning_rate
    if decay is None and above is None:
        return {}
    depths, top = depths_of(model)
    if decay is not None and top < 2:
        raise BertkitError(
            f"train.layer_decay: {model.config.model_type} has one layer's weights here, so no layer is above another",
            hint="leave it out; model.freeze=embeddings keeps the embeddings as they are",
        )
    of_head = 1.0 if above is None else above / config.learning_rate
    return {
        name: of_head if depth > top else (1.0 if decay is None else decay) ** (top - depth)
        for name, depth in depths.items()
    }

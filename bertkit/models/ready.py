"""A loaded model made ready, for training or to answer: what its device asks for is decided here alone."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from bertkit.depth import freeze, mark_frozen
from bertkit.errors import BertkitError
from bertkit.models.dropout import speed_up
from bertkit.models.load import DTYPES, replace_attention
from bertkit.models.padding_free import attention_dropout, has_kernel, make_padding_free, obstacle
from bertkit.models.vocabulary import train_used_rows
from bertkit.recipe import HardwareConfig, ModelConfig

GRAPHS = 256  # that torch compiles of a model, two a shape; by itself it runs all but the first eight uncompiled
COMPILER = {"cuda": {"mode": "reduce-overhead"}}  # by device: one CUDA graph a shape, instead of a launch an operation


class Ready(NamedTuple):
    """What was chosen for training."""

    dropout: str  # whose generator draws the masks; other masks are other numbers
    padding: str  # how padding is treated and why, in a few words
    embeddings: str  # which rows of the word embeddings are trained: `used` or `all`


def make_trainable(
    model: PreTrainedModel,
    config: ModelConfig,
    hardware: HardwareConfig,
    device: torch.device,
    precision: str,
    ids: np.ndarray,
    order: str,
) -> Ready:
    """Give a model, in place, the dropout, padding, embeddings and memory that training on this device wants.

    Args:
        ids: of the tokens of all training windows, and of padding.
        order: of the training batches, as the recipe has it.
    """
    freeze(model, config.freeze)
    mark_frozen(model)
    dropout = "xla" if device.type == "xla" else "torch"
    # dropout first: a padding-free stack keeps the attention that the model had
    if device.type == "cpu" and config.attention == "auto" and not hardware.compile:
        dropout = speed_up(model)
    if hardware.gradient_checkpointing:
        # renamed in transformers 5.2x; the old name goes in 6
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    padding = choose_padding(model, hardware, device, precision, order)
    # not on XLA: its rows not in use decay by factors that are constants, other ones in each step
    uses_some = hardware.compact_vocabulary and device.type != "xla" and train_used_rows(model, ids)
    return Ready(dropout, padding, "used" if uses_some else "all")


def make_answering(model: PreTrainedModel, hardware: HardwareConfig, device: torch.device, precision: str) -> str:
    """Let a model, in place, answer on this device with weights of the precision itself; says as `choose_padding`."""
    model.eval().to(device, DTYPES[precision])
    return choose_padding(model, hardware, device, precision, None)


def choose_padding(
    model: PreTrainedModel, hardware: HardwareConfig, device: torch.device, precision: str, order: str | None
) -> str:
    """Let a model, in place, leave padding out or have fixed shapes, as is asked or, if `auto`, where that is faster.

    Args:
        order: of the training batches, `random` or `length`; None for a model that answers.
    Returns:
        What was chosen and why, in a few words.
    """
    asked = hardware.padding_free
    if device.type == "xla":
        if asked is True or hardware.compile:
            raise BertkitError(
                "XLA compiles a model for fixed shapes by itself",
                hint="leave out hardware.padding_free, hardware.compile",
            )
        fit_xla(model, device)
        return "padded (XLA compiles a graph for each shape)"
    if hardware.compile:
        if asked is True:
            raise BertkitError(
                "hardware.compile: without padding every batch has a shape of its own, and would be compiled anew",
                hint="leave out hardware.padding_free or hardware.compile",
            )
        torch._dynamo.config.recompile_limit = GRAPHS
        # in place, so that names, modes and files of the model stay as they are
        model.compile(dynamic=False, **COMPILER.get(device.type, {}))
        return "padded to fixed shapes, compiled"
    if asked is True:
        make_padding_free(model)
        return "padding-free (as asked)"
    reason = "as asked" if asked is False else _against_unpadding(model, device, precision, order)
    if reason:
        return f"padded ({reason})"
    is_cpu = device.type == "cpu"
    # on a CPU, one pass instead of several of similar length: 1.02 to 1.19 times as fast on four work loads
    make_padding_free(model, only_in_training=is_cpu)
    return f"padding-free ({'batches in random order' if is_cpu else 'variable-length kernel'})"


def _against_unpadding(model: PreTrainedModel, device: torch.device, precision: str, order: str | None) -> str | None:
    """Why `auto` keeps the padding, in words; None where it is faster without."""
    if device.type != "cuda" and (device.type != "cpu" or order != "random"):
        # measured on 2 cores: batches of one length leave little padding, and gathering then costs 0 to 15 %
        return f"unpadding gains nothing on {device.type}, where batches are of similar length"
    reason = obstacle(model)
    if reason or device.type == "cpu":
        return reason
    if not has_kernel(device, DTYPES[precision]):
        return f"the kernel for unpadded batches takes bf16 or fp16, on sm80 or newer, and this is {precision}"
    if order is not None and (rate := attention_dropout(model.config)):
        return (
            f"the kernel for unpadded batches has no attention dropout, and it is {rate} here; "
            "model.attention_dropout=0 allows it"
        )
    return None


def fit_xla(model: PreTrainedModel, device: torch.device) -> None:
    """Put a model there, in place, before an optimiser sees its parameters, which become others and are tied anew."""
    model.to(device)
    model.tie_weights()
    replace_attention(model, "sdpa", "bertkit_xla", sdpa_attention_forward, _mask_in_any_case)


def _mask_in_any_case(*given: object, **named: object) -> Tensor | None:
    """transformers' mask for `sdpa`.

    Whether a batch needs one depends on its values: to ask is to wait for the device, and either answer is a graph.
    """
    return sdpa_mask(*given, **{**named, "allow_is_bidirectional_skip": False})

"""A loaded model made ready, for training or to answer: what its device asks for is decided here alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedModel

from bertkit.errors import BertkitError
from bertkit.models.dropout import speed_up
from bertkit.models.load import DTYPES
from bertkit.models.on_xla import fit_xla
from bertkit.models.padding_free import choose_padding
from bertkit.models.vocabulary import train_used_rows
from bertkit.recipe import HardwareConfig, ModelConfig

GRAPHS = 256  # that torch compiles of a model, two a shape; by itself it runs all but the first eight uncompiled
COMPILER = {"cuda": {"mode": "reduce-overhead"}}  # by device: one CUDA graph a shape, instead of a launch an operation


class Ready(NamedTuple):
    """What was chosen for training.

    Attributes:
        dropout: whose generator draws the masks; other masks are other numbers.
        padding: how padding is treated and why, in a few words.
        embeddings: which rows of the word embeddings are trained: `used` or `all`.
    """

    dropout: str
    padding: str
    embeddings: str


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
    Raises:
        BertkitError: `hardware.padding_free` is asked for, and this model cannot.
    """
    if device.type == "xla":
        fit_xla(model, device)
    # dropout first: a padding-free stack keeps the attention that the model had
    is_fast = device.type == "cpu" and config.attention == "auto" and not hardware.compile
    dropout = speed_up(model) if is_fast else "xla" if device.type == "xla" else "torch"
    padding = _choose_padding(hardware, model, device, precision, order)
    if hardware.gradient_checkpointing:
        # renamed in transformers 5.2x; the old name goes in 6
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    _compile(model, hardware, device)
    # not on XLA: its rows not in use decay by factors that are constants, other ones in each step
    uses_some = hardware.compact_vocabulary and device.type != "xla" and train_used_rows(model, ids)
    return Ready(dropout, padding, "used" if uses_some else "all")


def make_answering(
    model: PreTrainedModel, hardware: HardwareConfig, device: torch.device, precision: str
) -> tuple[PreTrainedModel, str]:
    """A model on its device that answers with weights of the precision itself, and what was chosen.

    Raises:
        BertkitError: `hardware.padding_free` is asked for, and this model cannot.
    """
    model = model.eval().to(device, DTYPES[precision])
    if device.type == "xla":
        fit_xla(model, device)
    padding = _choose_padding(hardware, model, device, precision, None)
    _compile(model, hardware, device)
    return model, padding


def _choose_padding(
    hardware: HardwareConfig, model: PreTrainedModel, device: torch.device, precision: str, order: str | None
) -> str:
    if device.type == "xla":
        if hardware.padding_free is True or hardware.compile:
            raise BertkitError(
                "XLA compiles a model for fixed shapes by itself",
                hint="leave out hardware.padding_free, hardware.compile",
            )
        return "padded (XLA compiles a graph for each shape)"
    if not hardware.compile:
        return choose_padding(hardware.padding_free, model, device, precision, order)
    if hardware.padding_free is True:
        raise BertkitError(
            "hardware.compile: without padding every batch has a shape of its own, and would be compiled anew",
            hint="leave out hardware.padding_free or hardware.compile",
        )
    return "padded to fixed shapes, compiled"


def _compile(model: PreTrainedModel, hardware: HardwareConfig, device: torch.device) -> None:
    """Compile in place, so that names, modes and files of the model stay as they are."""
    if hardware.compile:
        torch._dynamo.config.recompile_limit = GRAPHS
        model.compile(dynamic=False, **COMPILER.get(device.type, {}))

"""int8 weights and activations for prediction on a CPU."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from transformers import PreTrainedModel

from bertkit.errors import BertkitError


def to_int8(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """The model with its linear layers in int8: weights once, activations as they come (dynamic quantisation).

    Answers differ a little from float32; `bertkit evaluate` with and without `hardware.int8` says how much.

    Raises:
        BertkitError: on another device than a CPU, or a processor that torch has no int8 kernels for.
    """
    if device.type != "cpu":
        raise BertkitError(f"hardware.int8: this is for CPUs, and the device is {device.type}", hint="leave it out")
    engines = [name for name in torch.backends.quantized.supported_engines if name != "none"]
    if not engines:
        raise BertkitError("hardware.int8: torch has no int8 kernels for this processor", hint="leave it out")
    if torch.backends.quantized.engine not in engines:
        torch.backends.quantized.engine = engines[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it moves to another package some day
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=True)

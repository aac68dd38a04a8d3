"""What a turn of a benchmark took and what was computed in it: seconds, tokens, floating-point operations."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from bertkit.models.load import DTYPES

PRODUCT_ROWS, PRODUCT_CALLS = 1024, 8


class Sample(NamedTuple):
    """One measured turn."""

    wall: float  # seconds
    cpu: float  # seconds of this process on all its threads
    count: int  # windows of training, rows of evaluation, or floating-point operations of matrix products
    tokens: int = 0  # useful ones, without padding
    padded: int = 0  # with padding
    operations: float = 0.0  # floating-point operations that the useful tokens need


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """What some work takes: seconds, and seconds of this process on all its threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


class Shape(NamedTuple):
    """What of a model counts for its operations: weights of its matrices, layers, width, and width between."""

    matrices: int
    layers: int
    hidden: int
    inner: int


def shape_of(model: PreTrainedModel) -> Shape:
    """Counted in one forward pass of a few tokens, so that layers which share weights count as often as they work."""
    weights: list[int] = []
    length = 5

    def count(module: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape[:-1].numel() == length:  # the pooler and the head of a text see one token of it
            weights.append(module.weight.numel())

    hooks = [module.register_forward_pre_hook(count) for module in model.modules() if isinstance(module, nn.Linear)]
    was_training = model.training
    tokens = torch.ones(1, length, dtype=torch.long, device=model.device)
    with torch.inference_mode():
        model.eval()(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    config = model.config
    inner = getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", 4 * config.hidden_size)
    return Shape(sum(weights), config.num_hidden_layers, config.hidden_size, inner)


def forward_operations(lengths: np.ndarray, shape: Shape) -> float:
    """Floating-point operations of one forward pass over windows of these lengths; training takes three times as many.

    2 * matrices * L + 4 * layers * hidden * L**2 for a window of L tokens: a multiplication and an addition for each
    weight of a matrix and token, and the products of queries with keys and of probabilities with values. The backward
    pass takes twice the forward pass, so training comes to 6 * matrices for a token. Only useful tokens count, not
    padding; embeddings, norms and activations are left out, as is usual, and what is computed twice to save memory.

    Source: Kaplan et al. 2020, section 2.1 (6 N a token); Chowdhery et al. 2022, appendix B (with attention, and as a
    share of the peak).
    """
    lengths = lengths.astype(np.float64)
    return float((2 * shape.matrices * lengths + 4 * shape.layers * shape.hidden * lengths**2).sum())


def products(shape: Shape, precision: str, threads: int, device: torch.device) -> Sample:
    """Matrix products as large as those of the model's feed-forward layers; the fastest call counts."""
    torch.set_num_threads(threads)
    rows = torch.randn(PRODUCT_ROWS, shape.hidden, device=device).to(DTYPES[precision])
    weight = torch.randn(shape.inner, shape.hidden, device=device).to(DTYPES[precision])

    def product() -> None:
        functional.linear(rows, weight)
        if device.type != "cpu":
            torch.accelerator.synchronize()

    with torch.inference_mode():
        fastest = min(timed(product) for _ in range(PRODUCT_CALLS))
    return Sample(*fastest, 2 * PRODUCT_ROWS * shape.hidden * shape.inner)

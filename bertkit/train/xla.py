"""What XLA devices want of a step: graphs that are cut where shapes end, and numbers that are data, not constants.

An XLA device records operations and compiles each graph that it has not seen before, which takes seconds. A graph is
known again by its shapes and constants: so what changes from step to step must be a tensor, and every graph must end
before the next shape begins. On other devices these functions do nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bertkit.data.plan import Budget


def cut(device: torch.device) -> None:
    """End the graph recorded so far and start running it; nothing waits for it."""
    if device.type == "xla":
        import torch_xla

        torch_xla.sync()


def number(value: float, device: torch.device) -> float | Tensor:
    """A number that differs from step to step, as data of the device."""
    return torch.tensor(value, dtype=torch.float32, device=device) if device.type == "xla" else value


def at_hand(values: Tensor) -> Tensor:
    """Values on the host, one tensor at a time: stacked first, each number of tensors would be a graph of its own."""
    return values.cpu() if values.device.type == "xla" else values


def graphs_at_most(training: Budget, evaluation: Budget) -> int:
    """Graphs that a run on one device compiles, however long it is and whatever it reads, dropout or not.

    A first and a later micro-batch of a step for each shape of training, a pass for each shape of evaluation, the
    first and a later step of the optimiser, and one for the wait of processes for each other.
    """
    return 2 * len(training.shapes()) + len(evaluation.shapes()) + 3


def weights_at_hand(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model by name, where files are written from; names that share a weight still do."""
    found: dict[int, Tensor] = {}
    weights = model.state_dict(keep_vars=True)
    for value in weights.values():
        if id(value) not in found:
            found[id(value)] = at_hand(value.detach())
    return {name: found[id(value)] for name, value in weights.items()}


def seed(key: int, device: torch.device) -> None:
    """Begin all random numbers of a step anew."""
    torch.manual_seed(key)
    if device.type == "xla":
        import torch_xla

        torch_xla.manual_seed(key, device)

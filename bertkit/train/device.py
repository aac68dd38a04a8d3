"""What the loop asks of a device: an XLA device wants more of a step than any other.

An XLA device records operations and compiles each graph that it has not seen before, which takes seconds. A graph is
known again by its shapes and constants: so what changes from step to step must be a tensor, and every graph must end
before the next shape begins.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from bertkit.data.plan import Budget


class Device:
    """A device that runs operations as they come, or one of XLA that compiles what it has recorded."""

    def __init__(self, where: torch.device) -> None:
        self.where, self.is_xla = where, where.type == "xla"

    def seed(self, key: int) -> None:
        """Begin all random numbers of a step anew."""
        torch.manual_seed(key)
        if self.is_xla:
            import torch_xla

            torch_xla.manual_seed(key, self.where)

    def number(self, value: float) -> float | Tensor:
        """A number that differs from step to step."""
        return torch.tensor(value, dtype=torch.float32, device=self.where) if self.is_xla else value

    def cut(self) -> None:
        """End the graph recorded so far and start running it; nothing waits for it."""
        if self.is_xla:
            import torch_xla

            torch_xla.sync()

    def without_gradients(self) -> AbstractContextManager:
        """A block that answers and learns nothing."""
        # XLA cannot take views of a model's buffers in inference mode
        return torch.no_grad() if self.is_xla else torch.inference_mode()


def at_hand(values: Tensor) -> Tensor:
    """Values that can be read one tensor at a time: on XLA, each number of tensors stacked would be another graph."""
    return values.cpu() if values.device.type == "xla" else values


def weights_at_hand(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a model by name, where files are written from; names that share a weight still do."""
    weights = model.state_dict(keep_vars=True)
    found = {id(value): at_hand(value.detach()) for value in weights.values()}
    return {name: found[id(value)] for name, value in weights.items()}


def graphs_at_most(training: Budget, evaluation: Budget) -> int:
    """Graphs that a run on one XLA device compiles, however long it is and whatever it reads, dropout or not.

    A first and a later micro-batch of a step for each shape of training, a pass for each shape of evaluation, the
    first and a later step of the optimiser, and one for the wait of processes for each other.
    """
    return 2 * len(training.widths) + len(evaluation.widths) + 3

"""Train the rows of the word embeddings that the training data use: the others only ever decay."""

from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

WORTHWHILE_SHARE = 0.7  # of the rows in use; above it, little is saved
BLOCK = 1 << 16  # numbers that decay together, in a processor's cache


class UsedEmbedding(nn.Embedding):
    """`nn.Embedding`, of which the rows in use are trained as a parameter of their own, `rows`.

    A row that no training window holds has no gradient, and AdamW does nothing to it but decay it; a gradient, two
    moments and an update for each of the others are a third of a small model's step, and more of a multilingual one's.
    Outside of training the module is the full embedding, up to date, as are the names and shapes on disk.
    """

    def __init__(self, full: nn.Embedding, used: np.ndarray) -> None:
        """Take the place of `full`, whose storage is kept; `used` are the (U,) rows that training reads, ascending."""
        super().__init__(1, 1, device="meta")
        self.num_embeddings, self.embedding_dim = full.num_embeddings, full.embedding_dim
        self.padding_idx = full.padding_idx
        self.weight = nn.Parameter(full.weight.detach(), requires_grad=False)
        place = np.full(full.num_embeddings, -1)  # which no lookup takes
        place[used] = np.arange(len(used))
        for name, numbers in (("used", used), ("place", place)):
            self.register_buffer(name, torch.from_numpy(numbers).to(self.weight.device), persistent=False)
        self.rows = nn.Parameter(self.weight[self.used].clone())
        self.padding = int(place[full.padding_idx]) if full.padding_idx in used else None
        self.factors: list[float] = []  # of the decays that the rows not in use have not had yet
        self.train(full.training)

    def forward(self, ids: Tensor) -> Tensor:
        """(...) row numbers -> (..., H)."""
        if self.training:
            return functional.embedding(self.place[ids], self.rows, self.padding)
        return functional.embedding(ids, self.weight)

    def train(self, mode: bool = True) -> Self:
        """Switch; what is read outside of training is up to date."""
        if not mode:
            self.bring_up_to_date()
        return super().train(mode)

    @torch.no_grad()
    def bring_up_to_date(self) -> None:
        """Write what was learned into the full weight, and let the rest of it decay.

        One factor after the other, rounded as if each step had done it: it does not matter how often this is called.
        """
        if self.factors:
            on_cpu = self.weight.device.type == "cpu"
            for block in self.weight.view(-1).split(BLOCK if on_cpu else self.weight.numel()):
                for factor in self.factors:
                    block.mul_(factor)
            self.factors.clear()
        self.weight[self.used] = self.rows

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        self.bring_up_to_date()
        destination[prefix + "weight"] = self.weight if keep_vars else self.weight.detach()

    def _load_from_state_dict(self, state: dict, prefix: str, *others: object) -> None:
        self.factors.clear()
        with torch.no_grad():
            self.weight.copy_(state[prefix + "weight"])
            self.rows.copy_(self.weight[self.used])


def train_used_rows(model: PreTrainedModel, ids: np.ndarray) -> bool:
    """Let a model train, in place, only those rows of its word embeddings that are among `ids`, if they are few enough.

    A model whose embeddings are its output layer too keeps them whole: every row has a gradient there.

    Args:
        ids: of the tokens of all training windows, and of padding.
    """
    full = model.get_input_embeddings()
    if type(full) is not nn.Embedding or full.max_norm is not None or not full.weight.requires_grad:
        return False
    owners = [name for name, value in model.named_parameters(remove_duplicate=False) if value is full.weight]
    used = np.flatnonzero(np.bincount(ids, minlength=full.num_embeddings))
    if len(owners) > 1 or len(used) > WORTHWHILE_SHARE * full.num_embeddings:
        return False
    model.set_input_embeddings(UsedEmbedding(full, used))
    return True


def follow_decay(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Let the decay of every step reach the rows that the optimiser does not know of, where there are such rows."""
    for embedding in (module for module in model.modules() if isinstance(module, UsedEmbedding)):
        (group,) = (one for one in optimizer.param_groups if any(value is embedding.rows for value in one["params"]))

        def note(*given: object, embedding: UsedEmbedding = embedding, group: dict = group) -> None:
            if group["weight_decay"]:
                embedding.factors.append(1 - group["lr"] * group["weight_decay"])

        optimizer.register_step_post_hook(note)

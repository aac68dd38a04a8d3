"""Windows become padded tensors: (B, S) input ids, mask, types and targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bertkit.data.plan import Budget
from bertkit.data.windows import WindowStore, is_answerable
from bertkit.heads import IGNORED

CPU, NO_SHAPES = torch.device("cpu"), Budget(0)


@dataclass(frozen=True)
class Collator:
    """Gathers windows by their numbers from a flat store that lies on the device; no per-row Python.

    For a batch only the numbers of its windows go to the device, so nothing waits for it.
    """

    store: WindowStore
    pad_id: int
    inputs: frozenset[str]  # names of the tensors that the model's forward takes, beside `input_ids`
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)  # one entry a window, or a token of the store
    per_token: bool = False  # whether targets have one entry a token
    device: torch.device = CPU  # where the store and the batches lie

    def __call__(
        self, windows: Sequence[int] | np.ndarray, budget: Budget = NO_SHAPES
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pad some windows, to a fixed shape of the budget if it has some.

        A batch with fewer rows than its shape is filled with its first window, whose targets there are IGNORED.

        Returns:
            The model's inputs, (B, S) each; and what the loss needs: the targets, (B, ...) or (B, S), and
            `answerable` (B, S) bool, true on the text of the long side and on [CLS], when the store keeps spans. The
            mask keeps its row lengths with it, as the attribute `lengths`, for whoever leaves padding out and would
            otherwise have to wait for the device to count them.
        """
        windows = np.asarray(windows)
        count, lengths = len(windows), self.store.lengths[windows]
        rows, width = budget.shape(count, int(lengths.max()))
        if rows > count:
            windows = np.concatenate([windows, np.full(rows - count, windows[0])])
            lengths = np.concatenate([lengths, np.full(rows - count, lengths[0])])
        # one transfer, and data for a compiler: as bounds of a slice, each number of rows would be compiled anew
        sent = torch.from_numpy(np.stack([windows, np.arange(rows) < count])).to(self.device, non_blocking=True)
        chosen, there = sent[0], self._there
        column = torch.arange(width, device=self.device)
        start = there["offsets"][chosen]
        is_token = column < (there["offsets"][chosen + 1] - start)[:, None]
        # padding reads position 0 of the store and is overwritten
        position = torch.where(is_token, start[:, None] + column, 0)
        inputs = {"input_ids": torch.where(is_token, there["input_ids"][position], self.pad_id).long()}
        if "attention_mask" in self.inputs:
            inputs["attention_mask"] = is_token.long()
            inputs["attention_mask"].lengths = lengths.tolist()
        if "token_type_ids" in self.inputs:
            inputs["token_type_ids"] = torch.where(is_token, there["token_type_ids"][position], 0).long()
        targets = {}
        for name in self.targets:
            values = there[name]
            nothing = torch.nan if values.is_floating_point() else IGNORED
            if self.per_token:
                is_inside = is_token.view(*is_token.shape, *[1] * (values.dim() - 1))
                targets[name] = torch.where(is_inside, values[position], nothing)
            else:
                targets[name] = values[chosen]
            if budget.widths:
                is_given = sent[1].bool().view(-1, *[1] * (targets[name].dim() - 1))
                targets[name] = torch.where(is_given, targets[name], nothing)
        if "answerable" in there:
            targets["answerable"] = is_token & there["answerable"][position]
            targets["answerable"][:, 0] = True  # [CLS] stands for "no answer here"
        return inputs, targets

    @cached_property
    def _there(self) -> dict[str, Tensor]:
        """What batches are gathered from, moved to the device when the first one is asked for."""
        arrays = {"offsets": self.store.offsets, "input_ids": self.store.input_ids, **self.targets}
        if "token_type_ids" in self.inputs:
            arrays["token_type_ids"] = self.store.token_type_ids
        if self.store.spans is not None:
            arrays["answerable"] = is_answerable(self.store.spans)
        return {name: torch.from_numpy(values).to(self.device) for name, values in arrays.items()}

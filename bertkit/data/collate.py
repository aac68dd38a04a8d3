"""Windows become padded tensors: (B, S) input ids, mask, types and targets."""

from __future__ import annotations

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

    Attributes:
        store: the windows.
        pad_id: id of the padding token.
        inputs: names of the tensors that the model's forward takes, beside `input_ids`.
        targets: name -> array, with one entry a window; or one a token of the store, where `per_token` says so.
        per_token: whether targets have one entry a token.
        device: where the store and the batches lie.
    """

    store: WindowStore
    pad_id: int
    inputs: frozenset[str]
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    per_token: bool = False
    device: torch.device = CPU

    def __call__(
        self, windows: Sequence[int] | np.ndarray, budget: Budget = NO_SHAPES
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pad some windows.

        A batch with fewer rows than its shape is filled with its first window, whose targets there are IGNORED.

        Args:
            budget: its fixed shapes, if it has some, are what batches are padded to.
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
        chosen = sent[0]
        column = torch.arange(width, device=self.device)
        start = self._offsets[chosen]
        is_token = column < (self._offsets[chosen + 1] - start)[:, None]
        # padding reads position 0 of the store and is overwritten
        position = torch.where(is_token, start[:, None] + column, 0)
        inputs = {"input_ids": torch.where(is_token, self._ids[position], self.pad_id).long()}
        if "attention_mask" in self.inputs:
            inputs["attention_mask"] = is_token.long()
            inputs["attention_mask"].lengths = lengths.tolist()
        if "token_type_ids" in self.inputs:
            inputs["token_type_ids"] = torch.where(is_token, self._types[position], 0).long()
        targets = {}
        for name, values in self._targets.items():
            targets[name] = torch.where(is_token, values[position], IGNORED) if self.per_token else values[chosen]
            if budget.widths:
                is_given = sent[1].bool().view(-1, *[1] * (targets[name].dim() - 1))
                nothing = torch.nan if values.is_floating_point() else IGNORED
                targets[name] = torch.where(is_given, targets[name], nothing)
        if self._answerable is not None:
            answerable = is_token & self._answerable[position]
            answerable[:, 0] = True  # [CLS] stands for "no answer here"
            targets["answerable"] = answerable
        return inputs, targets

    def _there(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    @cached_property
    def _offsets(self) -> Tensor:
        return self._there(self.store.offsets)

    @cached_property
    def _ids(self) -> Tensor:
        return self._there(self.store.input_ids)

    @cached_property
    def _types(self) -> Tensor:
        return self._there(self.store.token_type_ids)

    @cached_property
    def _targets(self) -> dict[str, Tensor]:
        return {name: self._there(values) for name, values in self.targets.items()}

    @cached_property
    def _answerable(self) -> Tensor | None:
        return None if self.store.spans is None else self._there(is_answerable(self.store.spans))

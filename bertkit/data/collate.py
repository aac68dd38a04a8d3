"""Windows become padded tensors: (B, S) input ids, mask, types and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bertkit.data.windows import WindowStore, is_answerable

IGNORED = -100  # target of a token that has none, as in torch's cross entropy


@dataclass(frozen=True)
class Collator:
    """Gathers windows from a flat store by their numbers; no per-row Python.

    Attributes:
        store: the windows.
        pad_id: id of the padding token.
        inputs: names of the tensors that the model's forward takes, beside `input_ids`.
        targets: name -> array, with one entry a window; or one a token of the store, where `per_token` says so.
        per_token: whether targets have one entry a token.
        multiple: S is rounded up to a multiple of this.
    """

    store: WindowStore
    pad_id: int
    inputs: frozenset[str]
    targets: Mapping[str, np.ndarray] = field(default_factory=dict)
    per_token: bool = False
    multiple: int = 1

    def __call__(self, windows: Sequence[int] | np.ndarray) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pad some windows.

        Returns:
            The model's inputs, (B, S) each; and what the loss needs: the targets, (B, ...) or (B, S), and
            `answerable` (B, S) bool, true on the text of the long side and on [CLS], when the store keeps spans.
        """
        store, windows = self.store, np.asarray(windows)
        lengths = store.lengths[windows]
        column = np.arange(self.width(windows))
        is_token = column < lengths[:, None]
        # padding reads position 0 of the store and is overwritten
        place = np.where(is_token, store.offsets[windows][:, None] + column, 0)
        gathered = {"input_ids": np.where(is_token, store.input_ids[place], self.pad_id)}
        if "attention_mask" in self.inputs:
            gathered["attention_mask"] = is_token
        if "token_type_ids" in self.inputs:
            gathered["token_type_ids"] = np.where(is_token, store.token_type_ids[place], 0)
        inputs = {name: torch.from_numpy(value.astype(np.int64)) for name, value in gathered.items()}
        targets = {}
        for name, values in self.targets.items():
            chosen = np.where(is_token, values[place], IGNORED) if self.per_token else values[windows]
            targets[name] = torch.from_numpy(chosen)
        if store.spans is not None:
            answerable = is_token & is_answerable(store.spans[place])
            answerable[:, 0] = True  # [CLS] stands for "no answer here"
            targets["answerable"] = torch.from_numpy(answerable)
        return inputs, targets

    def width(self, windows: np.ndarray) -> int:
        """S of these windows in one batch."""
        return -(-int(self.store.lengths[windows].max()) // self.multiple) * self.multiple


def move(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The tensors on a device.

    The mask keeps its row lengths with it, as the attribute `lengths`, for whoever leaves padding out and would
    otherwise have to wait for the device to count them.
    """
    moved = {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}
    if "attention_mask" in moved:
        moved["attention_mask"].lengths = tensors["attention_mask"].sum(1).tolist()
    return moved

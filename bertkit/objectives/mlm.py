"""Masked language modelling: words that are hidden, or wrong, are to be restored from those around them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field

from bertkit.config import Section, knob, validate
from bertkit.data.blocks import Cut, Read, framed
from bertkit.data.masking import Vocabulary, chosen, masked
from bertkit.data.plan import cut_passes
from bertkit.heads import HEADS, LossSettings
from bertkit.models.places import ask, only_places
from bertkit.objectives.base import Objective
from bertkit.train.device import Device

if TYPE_CHECKING:
    from torch import Tensor

EVALUATION = 1 << 62  # the epoch of held-out text: every evaluation hides the same words


class Masking(Section):
    """Settings of `mlm`."""

    name: str = "mlm"
    rate: Annotated[float, Field(gt=0, lt=1)] = knob(0.15, "share of the tokens to restore")
    whole_words: bool = knob(False, "choose whole words instead of pieces of words")


class Mlm(Objective):
    """Restore 15 % of the tokens. Source: Devlin et al. 2019, section 3.1."""

    head = "lm"
    best_by, lower_is_better = "loss", True

    def __init__(self, material, recipe, predictor):
        self.material, self.reader, self.seed = material, predictor, recipe.seed
        self.settings = validate(Masking, recipe.objective, where="objective")
        self.vocabulary = vocabulary_of(material.tokenizer)
        self.steps_per_epoch = -(-len(material.lengths) // recipe.train.batch_size)
        self.has_scores = len(material.held_out.sizes) > 0
        only_places(predictor.model)

    @classmethod
    def ids_of(cls, material):
        return np.arange(len(material.tokenizer))  # any may be put in the place of another

    def read(self, cut: Cut, windows: np.ndarray) -> Read:
        """Windows as they are before anything is hidden."""
        texts = [(cut.begins[windows], cut.ends[windows])]
        return framed(cut.corpus.tokens, texts, self.material.frame, self.material.tokenizer.pad_token_id)

    def places(self, read: Read, windows: np.ndarray, epoch: int) -> np.ndarray:
        """(B, S) bool: the tokens to restore."""
        continues = self.vocabulary.continues if self.settings.whole_words else None
        return chosen(read.ids, read.is_text, (self.seed, epoch, windows[:, None]), self.settings.rate, continues)

    def batch(self, step, windows, budget):
        return self._batch(self.material.train, windows, step // self.steps_per_epoch)

    def weight(self, step, windows):
        read = self.read(self.material.train, windows)
        return self.places(read, windows, step // self.steps_per_epoch).sum(1).astype(np.float64)

    def loss(self, outputs, targets):
        head = HEADS[self.head]
        return head.loss([getattr(outputs, name) for name in head.outputs], targets, LossSettings())

    def evaluate(self):
        """Nats a hidden token, their exponential, and the share that is restored; sums over all ranks."""
        cut, model, accelerator = self.material.held_out, self.reader.model, self.reader.accelerator
        lengths = cut.sizes + self.material.lengths.max() - self.material.train.sizes.max()
        passes = cut_passes(np.argsort(-lengths, kind="stable"), lengths, self.reader.budget)
        sums, was_training = torch.zeros(3, dtype=torch.float64), model.training
        model.eval()
        with Device(accelerator.device).without_gradients():
            for windows in passes[accelerator.process_index :: accelerator.num_processes]:
                inputs, targets = self._batch(cut, windows, EVALUATION)
                with accelerator.autocast():
                    outputs = model(**inputs)
                right = (outputs.logits[0].argmax(-1) == targets["labels"]).sum()
                loss, count = self.loss(outputs, targets), len(targets["labels"])
                sums += torch.tensor([loss.item(), right.item(), count], dtype=torch.float64)
        model.train(was_training)
        nats, right, count = accelerator.reduce(sums.to(accelerator.device), "sum").tolist()
        return {"loss": nats / count, "perplexity": math.exp(min(nats / count, 700)), "accuracy": right / count}, []

    def _batch(self, cut: Cut, windows: np.ndarray, epoch: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        read = self.read(cut, windows)
        places = self.places(read, windows, epoch)
        ids = masked(read.ids, places, (self.seed, epoch, windows[:, None]), self.vocabulary)
        where = np.flatnonzero(places)
        labels = read.ids.reshape(-1)[where]
        arrays = ids, read.types, where, labels, read.lengths
        ids, types, where, labels, lengths = (
            torch.from_numpy(array).to(self.reader.accelerator.device, non_blocking=True) for array in arrays
        )
        mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]).long()
        mask.lengths = read.lengths.tolist()
        ask(mask, where)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self.reader.inputs:
            inputs["token_type_ids"] = types
        return inputs, {"labels": labels}


def vocabulary_of(tokenizer: object) -> Vocabulary:
    """What masking must know of a tokenizer: WordPiece marks pieces that go on, the others those that begin."""
    pieces = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    special = set(tokenizer.all_special_ids)
    if any(piece.startswith("##") for piece in pieces):
        continues = [piece.startswith("##") for piece in pieces]
    else:
        continues = [not piece.startswith(("\u2581", "\u0120")) for piece in pieces]
    ordinary = np.array(
        [id for id, piece in enumerate(pieces) if id not in special and not piece.startswith("[unused")]
    )
    return Vocabulary(tokenizer.mask_token_id, ordinary, np.array(continues))

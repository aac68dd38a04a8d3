"""Which words an answer stands on: integrated gradients over the word embeddings, added up by word.

Source: Sundararajan et al. 2017; computed by captum (Kokhlikyan et al. 2020).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bertkit.data.windows import Words, texts_of, trimmed_spans
from bertkit.encode import Part, stack_targets
from bertkit.heads import HEADS
from bertkit.machine import bound_threads
from bertkit.named import library
from bertkit.tasks.base import Prediction, Row

if TYPE_CHECKING:
    from tokenizers import Encoding

    from bertkit.inference import Predictor


def attributed(predictor: Predictor, row: Row, prediction: Prediction, steps: int) -> dict[str, object]:
    """What each word of a row adds to the evidence for its answer.

    The evidence is the log-odds of the answer (of all tags, added up; of the first and the last token of a span), the
    mean over all labels where a text may have several, or the number itself; a long text has the mean of its windows.
    The baseline is the evidence when the mask token stands in place of every piece. The weights add up to the
    difference, but for the error of taking `steps` points on the way from one to the other.

    Returns:
        `attributions`: for each column that is read, its words as `start`, `end` and `weight`; of a column of words,
        start and end count characters as if spaces stood between them. `evidence` and `baseline`.
    """
    task, head, tokenizer = predictor.task, HEADS[predictor.task.head], predictor.tokenizer.backend_tokenizer
    entry = task.inputs(row)
    store = predictor.maker([entry], spans=task.with_spans, origins=True)
    targets = stack_targets(task, Part([task.as_if_right(row, prediction)], store))
    is_split = isinstance(entry, Words)
    texts = [list(entry.words)] if is_split else texts_of(entry)
    encodings = [tokenizer.encode(text, is_pretokenized=is_split, add_special_tokens=False) for text in texts]
    pieces, ends = np.zeros(sum(len(encoding.ids) for encoding in encodings)), np.zeros(2)
    collate = predictor.collator(store, targets)
    with bound_threads(predictor.accelerator.device.type):
        for window in np.flatnonzero(head.holders(targets, store)):
            origins = store.origins[store.offsets[window] : store.offsets[window + 1]]
            weights, both = integrated(predictor, *collate([window]), origins < 0, steps)
            pieces += np.bincount(origins[origins >= 0], weights[origins >= 0], len(pieces))
            ends += both
    found = {}
    for column, text, encoding in zip((*task.reads.text, *task.reads.words), texts, encodings, strict=True):
        own, pieces = pieces[: len(encoding.ids)], pieces[len(encoding.ids) :]
        shift = 0 if is_split else row[column].find(text)  # a task may strip a text
        found[column] = list(by_word(encoding, own, text, shift))
    return {"attributions": found, "evidence": float(ends[0]), "baseline": float(ends[1])}


def integrated(
    predictor: Predictor,
    inputs: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    is_special: np.ndarray,
    steps: int,
) -> tuple[np.ndarray, tuple[float, float]]:
    """(S,) float64: what each token of one window adds to the evidence; and the evidence with the text and without.

    Args:
        inputs: of the model, (1, S) each.
        targets: of the head, (1, ...) each.
        is_special: (S,) bool, which tokens stand in the baseline, too.
        steps: points of the integral.
    """
    attr = library("captum.attr", "explain", "attributions")
    model, head, tokenizer = predictor.model, HEADS[predictor.task.head], predictor.tokenizer
    ids = inputs["input_ids"]
    nothing = tokenizer.pad_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
    blank = torch.where(torch.from_numpy(is_special).to(ids.device), ids, nothing)

    def evidence(some: Tensor) -> Tensor:
        def repeated(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: values.expand(len(some), *values.shape[1:]) for name, values in tensors.items()}

        with predictor.accelerator.autocast():
            outputs = model(**{**repeated(inputs), "input_ids": some})
        return head.evidence([getattr(outputs, name) for name in head.outputs], repeated(targets)).reshape(1)

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            ends = evidence(ids).item(), evidence(blank).item()
        weights = attr.LayerIntegratedGradients(evidence, model.get_input_embeddings()).attribute(
            ids, blank, n_steps=steps, internal_batch_size=max(1, predictor.budget.tokens // ids.shape[1])
        )
    finally:
        model.train(was_training)
    return weights.sum(-1)[0].double().cpu().numpy(), ends


def by_word(
    encoding: Encoding, weights: np.ndarray, text: str | Sequence[str], shift: int
) -> Iterator[dict[str, int | float]]:
    """The words of a text with the sums of their pieces' weights; a word is what the tokenizer splits a text into."""
    if isinstance(text, str):
        spans = trimmed_spans(encoding, text).tolist()
    else:
        begins = [*accumulate((len(word) + 1 for word in text), initial=0)]
        spans = [(begins[word], begins[word + 1] - 1) for word in encoding.word_ids]
    for _, group in groupby(zip(encoding.word_ids, spans, weights.tolist(), strict=True), key=itemgetter(0)):
        _, places, each = zip(*group, strict=True)
        yield {"start": places[0][0] + shift, "end": places[-1][1] + shift, "weight": sum(each)}

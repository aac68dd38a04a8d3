"""A trained model answers rows: windows in length order, outputs grouped by row, one part of the rows at a time."""

from __future__ import annotations

import inspect
import reprlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from bertkit.data.collate import Collator
from bertkit.data.plan import Budget, cut_passes
from bertkit.data.windows import WindowMaker, WindowStore
from bertkit.data.words import words_of
from bertkit.encode import Part, cut_parts
from bertkit.errors import BertkitError
from bertkit.heads import HEADS
from bertkit.machine import bound_threads
from bertkit.metrics.shown import counted
from bertkit.tasks.base import Output, Prediction, Row, Scores, Task
from bertkit.train.device import Device
from bertkit.train.memory import is_exhausted, release

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Predictor:
    """A model, its task and its tokenizer, ready to answer."""

    task: Task  # with its labels bound
    model: nn.Module  # in evaluation mode or not; it is put back as it was
    maker: WindowMaker
    tokenizer: PreTrainedTokenizerBase
    accelerator: Accelerator
    budget: Budget  # what one forward pass may hold

    def predict(self, rows: Iterable[Row | str | Sequence[str]], first: int | None = None) -> Iterator[Prediction]:
        """One prediction a row, in order; memory is bounded by a part of the rows and the longest row.

        Args:
            rows: dicts with the task's columns; or plain texts (a string, or a tuple for tasks of two texts; words come
                as a list, or as a string that is cut into words).
            first: rows to answer before more are read, where rows come slowly; later parts grow.
        Raises:
            BertkitError: a row that lacks a column, or holds something else than text.
        """
        if isinstance(rows, str | Mapping):  # its letters, or its keys, would be answered one by one
            raise BertkitError(f"{reprlib.repr(rows)} is one row, not a sequence of rows", hint="put it into a list")
        for part in self.parts(map(self.as_row, rows), first):
            yield from self._answer(part)

    def explain(self, rows: Iterable[Row | str | Sequence[str]], steps: int = 50) -> Iterator[Prediction]:
        """Predictions with their texts and what `bertkit.attribution` adds, one a row; `rows` as `predict` takes them.

        Args:
            steps: points of the integral; more make the sum of the weights more exact.
        """
        from bertkit.attribution import attributed

        for part in self.parts(map(self.as_row, rows)):
            for row, prediction in zip(part.rows, self._answer(part), strict=True):
                texts = {name: row[name] for name in (*self.task.reads.text, *self.task.reads.words)}
                yield {**texts, **prediction, **attributed(self, row, prediction, steps)}

    def evaluate(self, parts: Iterable[Part]) -> tuple[Scores, list[Prediction]]:
        """Scores on rows with gold answers, and the predictions.

        The parts are those of `parts`; kept in a list, they serve many evaluations without being tokenised again.
        """
        rows, predictions = [], []
        for part in parts:
            rows += part.rows
            predictions += self._answer(part)
        return self.task.score(predictions, rows), predictions

    def parts(self, rows: Iterable[Row], first: int | None = None) -> Iterator[Part]:
        """The rows as windows, a bounded part at a time; see `cut_parts`."""
        return cut_parts(self.task, rows, self.maker, first)

    def collator(self, store: WindowStore, targets: Mapping[str, np.ndarray]) -> Collator:
        """Makes batches of these windows and targets as the model takes them, on its device."""
        pad_id, is_per_token = self.tokenizer.pad_token_id, HEADS[self.task.head].per_token_targets
        return Collator(store, pad_id, self._inputs, targets, is_per_token, self.accelerator.device)

    @cached_property
    def _inputs(self) -> frozenset[str]:
        return inputs_of(self.model, self.tokenizer)

    def _answer(self, part: Part) -> Iterator[Prediction]:
        for row, outputs in zip(part.rows, self.outputs(part.store), strict=True):
            yield self.task.decode(row, outputs)

    def as_row(self, given: Row | str | Sequence[str]) -> Row:
        columns = self.task.reads
        names = (*columns.text, *columns.words)
        if isinstance(given, Mapping):
            row = dict(given)
            if missing := [name for name in names if name not in row]:
                raise BertkitError(f"a row has no {missing[0]!r}", hint=f"rows of {self.task.name} have it")
        else:
            texts = given if isinstance(given, list | tuple) and not columns.words else (given,)
            if len(texts) != len(names):
                raise BertkitError(
                    f"{self.task.name} reads {' and '.join(names)}, and was given {counted(len(texts), 'text')}",
                    hint=f"give a tuple of {counted(len(names), 'text')}, or a dict with these keys",
                )
            row = dict(zip(names, texts, strict=True))
        for name in columns.text:
            if not _is_text(row[name]):
                shown = reprlib.repr(row[name])
                raise BertkitError(f"a row's {name!r} is {shown}, not text", hint="give a str, whole characters only")
        for name in columns.words:
            words = row[name]
            if _is_text(words):
                row[name] = words_of(words)
                if columns.entities:
                    row["text"] = words  # entities have their characters in it
            elif isinstance(words, list | tuple) and all(map(_is_text, words)):
                row[name] = list(words)
            else:
                shown = reprlib.repr(words)
                raise BertkitError(f"a row's {name!r} is {shown}, not words", hint="give a list of str, or one str")
        return {"id": "0", **row}

    def outputs(self, store: WindowStore) -> Iterator[list[Output]]:
        """What the model says of every window, row by row, each row's windows in order.

        Only what decoding needs is kept: class logits, the logits of owned first pieces, or two numbers a token.
        """
        device, keep, collate = self.accelerator.device, HEADS[self.task.head].kept, self.collator(store, {})
        longest_first = np.argsort(-store.lengths, kind="stable")
        batches = cut_passes(longest_first, store.lengths, self.budget)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        found: dict[int, tuple[np.ndarray, ...]] = {}
        was_training = self.model.training
        self.model.eval()
        try:
            with Device(device).without_gradients(), bound_threads(device.type):
                for batch, logits in self._passes(collate, batches[rank::world]):
                    for position, number in enumerate(batch.tolist()):
                        found[number] = tuple(keep(array[position], store[number]) for array in logits)
        finally:
            self.model.train(was_training)
        if world > 1:
            from accelerate.utils import gather_object

            found = {window: logits for part in gather_object([found]) for window, logits in part.items()}
        numbers = iter(range(len(store)))
        for count in store.counts.tolist():
            yield [Output(store[number], found.pop(number)) for number in islice(numbers, count)]

    def _passes(self, collate: Collator, batches: list[np.ndarray]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Batches and their logits; what does not fit into memory is cut smaller, as is all that comes after it."""
        waiting, allowed = batches, self.budget
        while waiting:
            batch = waiting.pop(0)
            try:
                logits = self._forward(collate, batch, allowed)
            except (RuntimeError, MemoryError) as error:
                if not is_exhausted(error):
                    raise
            else:
                yield batch, logits
                continue
            rows, length = allowed.shape(len(batch), int(collate.store.lengths[batch].max()))
            if rows == 1:
                raise BertkitError(
                    f"out of memory with one window of {length} tokens",
                    hint="free some memory, or use a device with more; training with a lower windows.max_length helps",
                )
            release()
            allowed = allowed._replace(tokens=rows * length // 2)
            waiting = cut_passes(np.concatenate([batch, *waiting]), collate.store.lengths, allowed)
            warnings.warn(
                f"{rows} windows of {length} tokens did not fit into memory; going on with {allowed.tokens:,} "
                "tokens at a time (hardware.evaluation_tokens)",
                stacklevel=2,
            )

    def _forward(self, collate: Collator, batch: np.ndarray, budget: Budget) -> list[np.ndarray]:
        inputs, _ = collate(batch, budget)
        with self.accelerator.autocast():
            outputs = self.model(**inputs)
        Device(self.accelerator.device).cut()
        return [getattr(outputs, name).float().cpu().numpy() for name in HEADS[self.task.head].outputs]


@dataclass(frozen=True)
class Reader:
    """A model that reads running text, and is asked for no answers."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    accelerator: Accelerator
    budget: Budget  # what one forward pass of an evaluation may hold

    @cached_property
    def inputs(self) -> frozenset[str]:
        return inputs_of(self.model, self.tokenizer)


def inputs_of(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """Names of the tensors that both the tokenizer gives and the model takes."""
    accepted = inspect.signature(model.forward).parameters
    return frozenset(name for name in tokenizer.model_input_names if name in accepted)


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:  # half a character, which no tokenizer takes
        return False

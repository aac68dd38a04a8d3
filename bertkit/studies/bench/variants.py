"""The switches that a benchmark puts the other way, as far as this machine has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bertkit.recipe import Recipe

AS_GIVEN = "as given"
WORKS = {"train": "Training", "evaluate": "Evaluation", "predict": "Prediction"}


class Variant(NamedTuple):
    """A switch put the other way: its name, its settings, and the kinds of work that it can change."""

    name: str
    settings: tuple[str, ...] = ()
    works: tuple[str, ...] = tuple(WORKS)


class Machine(NamedTuple):
    """What decides which variants there are."""

    device: str
    precision: str  # of the recipe as given
    has_bf16: bool
    threads: int  # of the recipe as given
    cores: int


def variants(recipe: Recipe, machine: Machine, longest: int) -> tuple[list[Variant], list[str]]:
    """The recipe as given first, then each switch the other way; and what this machine cannot do, in words.

    Args:
        longest: tokens of the longest window.
    """
    other = "random" if recipe.train.order == "length" else "length"
    found = [Variant(AS_GIVEN), Variant(f"train.order={other}", (f"train.order={other}",), ("train",))]
    skipped = []
    if machine.precision != "fp32":
        found.append(Variant("hardware.precision=fp32", ("hardware.precision=fp32",)))
    elif machine.has_bf16:
        found.append(Variant("hardware.precision=bf16", ("hardware.precision=bf16",)))
    else:
        skipped.append("hardware.precision=bf16: this device has no native bf16")
    asked = recipe.hardware.padding_free
    if machine.device != "cpu":
        # auto: on where there is a kernel for it, which takes no attention dropout in training
        values = ("true", "false") if asked == "auto" else ("false",) if asked else ("true",)
        found += [Variant(f"hardware.padding_free={value}", (f"hardware.padding_free={value}",)) for value in values]
        found.append(Variant("padding_free, attention_dropout=0",
                             ("hardware.padding_free=true", "model.attention_dropout=0"), ("train",)))  # fmt: skip
    else:
        # auto: on in training with batches in random order
        is_free = asked is True or (asked == "auto" and recipe.train.order == "random")
        found.append(switched("hardware.padding_free", is_free))
        other = "auto" if recipe.model.attention == "sdpa" else "sdpa"
        found.append(Variant(f"model.attention={other}", (f"model.attention={other}",), ("train",)))
    if machine.device == "cuda":
        found.append(switched("hardware.compile", recipe.hardware.compile))
    if machine.device != "cpu":
        skipped.append("hardware.threads: the work is not on the CPU")
    elif machine.cores < 2:
        skipped.append("hardware.threads: there is one core")
    else:
        count = 1 if machine.threads > 1 else machine.cores
        found.append(Variant(f"hardware.threads={count}", (f"hardware.threads={count}",)))
    found.append(switched("hardware.compact_vocabulary", recipe.hardware.compact_vocabulary, ("train",)))
    whole = recipe.train.batch_size * longest
    budgets = (f"hardware.micro_batch_tokens={whole}", f"hardware.evaluation_tokens={whole}")
    found.append(Variant("whole batches", (*budgets, f"hardware.pass_overhead={whole}")))
    rate = "null" if recipe.model.dropout == 0 else "0"
    found.append(Variant(f"model.dropout={rate}", (f"model.dropout={rate}",), ("train",)))
    return found, skipped


def switched(name: str, is_on: bool, works: Sequence[str] = tuple(WORKS)) -> Variant:
    """A switch the other way."""
    setting = f"{name}={'false' if is_on else 'true'}"
    return Variant(setting, (setting,), tuple(works))

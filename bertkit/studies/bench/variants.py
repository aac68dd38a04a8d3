"""The switches that a benchmark puts the other way, as far as this machine has them."""

from __future__ import annotations

from typing import NamedTuple

from bertkit.recipe import Recipe

AS_GIVEN = "as given"
WORKS = {"train": "Training", "evaluate": "Evaluation", "predict": "Prediction"}


class Variant(NamedTuple):
    """A switch put the other way."""

    name: str
    settings: tuple[str, ...]
    works: tuple[str, ...]  # the kinds of work that it can change


def variants(recipe: Recipe, device: str, has_bf16: bool, cores: int, longest: int) -> tuple[list[Variant], list[str]]:
    """The recipe as given first, then each switch the other way; and what this machine cannot do, in words.

    Args:
        recipe: with its precision and threads decided.
        has_bf16: whether the device itself multiplies in bf16.
        longest: tokens of the longest window.
    """
    model, hardware, skipped = recipe.model, recipe.hardware, []
    found = [Variant(AS_GIVEN, (), tuple(WORKS))]

    def add(*settings: str, name: str = "", works: tuple[str, ...] = tuple(WORKS)) -> None:
        found.append(Variant(name or settings[0], settings, works))

    add(f"train.order={'random' if recipe.train.order == 'length' else 'length'}", works=("train",))
    if hardware.precision != "fp32":
        add("hardware.precision=fp32")
    elif has_bf16:
        add("hardware.precision=bf16")
    else:
        skipped.append("hardware.precision=bf16: this device has no native bf16")
    asked = hardware.padding_free
    if device == "cpu":
        # auto: on in training with batches in random order
        is_free = asked is True or (asked == "auto" and recipe.train.order == "random")
        add(f"hardware.padding_free={_other(is_free)}")
        add(f"model.attention={'auto' if model.attention == 'sdpa' else 'sdpa'}", works=("train",))
    else:
        # auto: on where there is a kernel for it, which takes no attention dropout in training
        for value in ("true", "false") if asked == "auto" else (_other(asked),):
            add(f"hardware.padding_free={value}")
        add("hardware.padding_free=true", "model.attention_dropout=0",
            name="padding_free, attention_dropout=0", works=("train",))  # fmt: skip
    if device == "cuda":
        add(f"hardware.compile={_other(hardware.compile)}")
    if device != "cpu":
        skipped.append("hardware.threads: the work is not on the CPU")
    elif cores < 2:
        skipped.append("hardware.threads: there is one core")
    else:
        add(f"hardware.threads={1 if hardware.threads > 1 else cores}")
    add(f"hardware.compact_vocabulary={_other(hardware.compact_vocabulary)}", works=("train",))
    whole = recipe.train.batch_size * longest
    budgets = ("micro_batch_tokens", "evaluation_tokens", "pass_overhead")
    add(*(f"hardware.{budget}={whole}" for budget in budgets), name="whole batches")
    add(f"model.dropout={'null' if model.dropout == 0 else '0'}", works=("train",))
    return found, skipped


def _other(is_on: bool) -> str:
    return "false" if is_on else "true"

"""Resumable checkpoints: weights, optimiser state and the step, written whole or not at all, never pickled."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from bertkit.disk import check_regular, checksum, parse, read_whole, written_atomically
from bertkit.errors import BertkitError
from bertkit.recipe import differing_keys, digest
from bertkit.rundir import checkpoints_of, shaped
from bertkit.train.device import at_hand, weights_at_hand

SCHEMA = 2  # of checkpoints: since 2 with sums, which safetensors files do not have
WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
# what reading a checkpoint that is broken may raise
BROKEN = (BertkitError, SafetensorError, OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, state: Mapping[str, object]
) -> None:
    """Write one checkpoint folder atomically: a temporary name, fsync, rename.

    Args:
        optimizer: None for weights that are only kept to be loaded again, such as the best ones.
        state: JSON values; size and sum of each file are added, and a sum of the state, so that a truncated file or
            a flipped bit is known. That takes 0.9 s a GB, beside the seconds that writing takes.
    """
    with written_atomically(path) as temporary:
        temporary.mkdir()
        try:
            save_model(_at_hand(model), str(temporary / WEIGHTS))
            if optimizer is not None:
                save_file(_flatten(model, optimizer), str(temporary / OPTIMIZER))
        except SafetensorError as error:
            # safetensors wraps the operating system's error in its own
            raise OSError(28 if "No space" in str(error) else 5, str(error)) from error
        files = {file.name: [file.stat().st_size, checksum(file)] for file in sorted(temporary.iterdir())}
        content = {"schema": SCHEMA, **state, "files": files}
        content["sum"] = digest(content)
        (temporary / STATE).write_text(_text(content), encoding="utf-8")


def read_state(path: Path) -> dict:
    """The state of a checkpoint, its files checked to the last bit; refused where one is missing or altered."""
    with _broken(path):
        return _checked(path)


def _checked(path: Path) -> dict:
    text = read_whole(path / STATE)
    state = shaped(parse(text))
    schema, files, _ = state["schema"], state["files"], state["step"]
    noted = state.pop("sum", None)
    if schema != SCHEMA:
        raise BertkitError(f"{path}: schema {schema!r}, this version reads {SCHEMA}")
    if noted != digest(state) or text != _text({**state, "sum": noted}):
        raise BertkitError(f"{path}: {STATE} was altered: its sum is another")
    for name, (size, noted) in files.items():
        check_regular(path / name)
        if (path / name).stat().st_size != size:
            raise BertkitError(f"{path}: {name} is truncated")
        if checksum(path / name) != noted:
            raise BertkitError(f"{path}: {name} was altered: its sum is another")
    return state


def best_of(path: Path) -> int | None:
    """The step whose weights were the best when this checkpoint was written."""
    try:
        return parse(read_whole(path / STATE))["best"]["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # there was none yet; or it is broken, and will be refused


def load_weights(path: Path, model: nn.Module) -> None:
    """Load the weights of a checkpoint into a model of the same shape."""
    with _broken(path):
        load_model(_at_hand(model), str(path / WEIGHTS))


def resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, fingerprint: Mapping[str, object]) -> dict:
    """Load a checkpoint to go on from; returns its state. Settings that differ from its own are refused by name."""
    state = read_state(path)
    if different := differing_keys(fingerprint, state["fingerprint"]):
        raise BertkitError(
            f"{path} was trained with other settings: {'; '.join(different)}",
            hint="install those versions again, or give --out a new name"
            if all(line.startswith("resolved.versions.") for line in different)
            else "resume with the settings it was started with, or give --out a new name",
        )
    load_weights(path, model)
    with _broken(path):
        _unflatten(model, optimizer, load_file(str(path / OPTIMIZER)))
    return state


def _text(state: Mapping[str, object]) -> str:
    return json.dumps(state, indent=2) + "\n"


def _flatten(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": at_hand(value.detach()).contiguous()
        for parameter, slots in optimizer.state.items()
        for key, value in slots.items()
    }


def _unflatten(model: nn.Module, optimizer: torch.optim.Optimizer, flat: Mapping[str, torch.Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for name, value in flat.items():
        owner, key = name.rsplit("/", 1)
        parameter = parameters[owner]
        # the step count stays where the optimiser makes it: beside fused parameters on their device
        is_beside = value.ndim or optimizer.defaults.get("fused") or optimizer.defaults.get("capturable")
        optimizer.state[parameter][key] = value.to(parameter.device) if is_beside else value


def _at_hand(model: nn.Module) -> SimpleNamespace:
    """A model as safetensors takes it, which asks every weight where it lies: on XLA they cannot tell.

    Without `model.frozen`, the weights that never change: a run that goes on has them from its checkpoint of origin.
    """
    frozen = getattr(model, "frozen", frozenset())

    def trained() -> dict[str, torch.Tensor]:
        return {name: weight for name, weight in weights_at_hand(model).items() if name not in frozen}

    def load(state: dict[str, torch.Tensor], strict: bool) -> tuple[list[str], list[str]]:
        missing, unexpected = model.load_state_dict(state, strict=False)
        return [name for name in missing if name not in frozen], unexpected

    return SimpleNamespace(state_dict=trained, load_state_dict=load)


@contextmanager
def _broken(path: Path) -> Iterator[None]:
    """Say of a checkpoint that cannot be read which one there is to go on from."""
    try:
        yield
    except BROKEN as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        message = error.message if isinstance(error, BertkitError) else f"{path}: broken checkpoint ({reason})"
        raise BertkitError(message, hint=_way_on(path)) from error


def _way_on(path: Path) -> str:
    if not path.name.startswith("step-"):
        return "remove the folder `checkpoints` to start again"
    before = list(takewhile(lambda other: other != path, checkpoints_of(path.parent)))
    for other in reversed(before):
        with suppress(*BROKEN):
            _checked(other)
            return f"remove that folder to go on from {other.name}"
    return "remove that folder to start again"

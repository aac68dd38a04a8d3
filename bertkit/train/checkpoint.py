"""Resumable checkpoints: weights, optimiser state and the step, written whole or not at all, never pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import BaseModel, Field, JsonValue
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from bertkit.bounded import check_regular, parse, read_whole
from bertkit.errors import BertkitError
from bertkit.recipe import differing_keys
from bertkit.rundir import SCHEMA, disk_errors, shaped, written_atomically

WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


class Best(BaseModel):
    """The evaluation whose weights are kept."""

    step: int
    metric: str
    value: float


class State(BaseModel):
    """state.json, as far as readers rely on it; the best weights are saved with their step alone."""

    schema_: int = Field(alias="schema")
    files: dict[str, int]
    step: int
    best: Best | None = None
    stale: int = 0
    stopped: bool = False
    seconds: float = 0.0
    scaler: dict[str, JsonValue] | None = None
    fingerprint: dict[str, JsonValue] = {}


def save_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer | None, state: Mapping[str, object]
) -> None:
    """Write one checkpoint folder atomically: a temporary name, fsync, rename.

    Args:
        optimizer: None for weights that are only kept to be loaded again, such as the best ones.
        state: JSON values; sizes of the files are added, so that a truncated one is known.
    Raises:
        BertkitError: the disk is full or forbidden; nothing is left under `path`.
    """
    with disk_errors(path), written_atomically(path) as temporary:
        temporary.mkdir()
        try:
            save_model(model, str(temporary / WEIGHTS))
            if optimizer is not None:
                save_file(_flatten(model, optimizer), str(temporary / OPTIMIZER))
        except SafetensorError as error:
            # safetensors wraps the operating system's error in its own
            raise OSError(28 if "No space" in str(error) else 5, str(error)) from error
        sizes = {file.name: file.stat().st_size for file in sorted(temporary.iterdir())}
        content = {"schema": SCHEMA, **state, "files": sizes}
        (temporary / STATE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_state(path: Path) -> dict:
    """The state of a checkpoint, its files checked.

    Raises:
        BertkitError: a file is missing or truncated, or the checkpoint is of another schema.
    """
    try:
        state = shaped(parse(read_whole(path / STATE)), State)
        for name in state["files"]:
            check_regular(path / name)
        sizes = {name: (path / name).stat().st_size for name in state["files"]}
    except (OSError, ValueError) as error:
        raise BertkitError(f"{path}: broken checkpoint ({error})", hint=_earlier(path)) from None
    if state["schema"] != SCHEMA:
        raise BertkitError(f"{path}: schema {state['schema']!r}, this version reads {SCHEMA}", hint=_earlier(path))
    if wrong := [name for name, size in state["files"].items() if sizes[name] != size]:
        raise BertkitError(f"{path}: {wrong[0]} is truncated", hint=_earlier(path))
    if missing := {WEIGHTS, OPTIMIZER} - state["files"].keys():
        raise BertkitError(f"{path}: {min(missing)} is missing", hint=_earlier(path))
    return state


def load_weights(path: Path, model: nn.Module) -> None:
    """Load the weights of a checkpoint into a model of the same shape."""
    with _broken(path):
        load_model(model, str(path / WEIGHTS))


def resume(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, fingerprint: Mapping[str, object]) -> dict:
    """Load a checkpoint to go on from.

    Returns:
        The state it was saved with.
    Raises:
        BertkitError: the checkpoint is broken, or of another recipe; the differing keys are named.
    """
    state = read_state(path)
    if different := differing_keys(fingerprint, state["fingerprint"]):
        raise BertkitError(
            f"{path} was trained with other settings: {'; '.join(different)}",
            hint="resume with the settings it was started with, or give --out a new name",
        )
    load_weights(path, model)
    with _broken(path):
        _unflatten(model, optimizer, load_file(str(path / OPTIMIZER)))
    return state


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run, or None."""
    found = steps(folder)
    return found[-1] if found else None


def steps(folder: Path) -> list[Path]:
    """All resumable checkpoints, oldest first."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def step_name(step: int) -> str:
    """Folder name of the checkpoint after `step` steps."""
    return f"step-{step:06d}"


def _flatten(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value.detach().contiguous()
        for parameter, slots in optimizer.state.items()
        for key, value in slots.items()
    }


def _unflatten(model: nn.Module, optimizer: torch.optim.Optimizer, flat: Mapping[str, torch.Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for name, value in flat.items():
        owner, key = name.rsplit("/", 1)
        parameter = parameters[owner]
        # the step count stays where the optimiser makes it: beside fused parameters on their device
        optimizer.state[parameter][key] = value.to(parameter.device) if value.ndim or _is_fused(optimizer) else value


def _is_fused(optimizer: torch.optim.Optimizer) -> bool:
    return bool(optimizer.defaults.get("fused"))


def _earlier(path: Path) -> str:
    others = [entry.name for entry in steps(path.parent) if entry.name < path.name]
    return f"remove that folder to go on from {others[-1]}" if others else "remove that folder to start again"


class _broken:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, SafetensorError | OSError | RuntimeError | KeyError | ValueError):
            raise BertkitError(f"{self.path}: broken checkpoint ({error})", hint=_earlier(self.path)) from error

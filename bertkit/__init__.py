"""Fine-tune pretrained BERT, ALBERT, mBERT and their family; every public name is imported when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertkit.errors import BertkitError
    from bertkit.inference import Predictor
    from bertkit.recipe import Recipe, load_recipe
    from bertkit.run import evaluate, finetune, load, predict
    from bertkit.tasks.base import Task

__version__ = "0.1.0"

_HOMES = {
    "BertkitError": "errors",
    "Predictor": "inference",
    "Recipe": "recipe",
    "Task": "tasks.base",
    "evaluate": "run",
    "finetune": "run",
    "load": "run",
    "load_recipe": "recipe",
    "predict": "run",
}
__all__ = [
    "BertkitError",
    "Predictor",
    "Recipe",
    "Task",
    "__version__",
    "evaluate",
    "finetune",
    "load",
    "load_recipe",
    "predict",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'bertkit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"bertkit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

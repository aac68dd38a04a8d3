"""Fine-tune pretrained BERT, ALBERT, mBERT and their family; every public name is imported when it is first used."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bertkit.errors import BertkitError as BertkitError
    from bertkit.inference import Predictor as Predictor
    from bertkit.launch.start import spawn as spawn
    from bertkit.pages.answers import show as show
    from bertkit.pages.notebook import Findings as Findings
    from bertkit.pages.notebook import report as report
    from bertkit.recipe import Recipe as Recipe
    from bertkit.recipe import load_recipe as load_recipe
    from bertkit.run import evaluate as evaluate
    from bertkit.run import explain as explain
    from bertkit.run import export as export
    from bertkit.run import finetune as finetune
    from bertkit.run import load as load
    from bertkit.run import predict as predict
    from bertkit.run.push import push as push
    from bertkit.studies.verbs import check as check
    from bertkit.studies.verbs import glue as glue
    from bertkit.tasks.base import Task as Task
    from bertkit.watching import watch as watch

__version__ = "0.1.0"

# of tqdm, in a notebook without ipywidgets, whose bars are then lines
warnings.filterwarnings("ignore", message="IProgress not found")

# no public name is the name of a module: importing that would hide it
_NAMES = {
    "errors": "BertkitError",
    "inference": "Predictor",
    "launch.start": "spawn",
    "pages.answers": "show",
    "pages.notebook": "Findings report",
    "recipe": "Recipe load_recipe",
    "run": "evaluate explain export finetune load predict",
    "run.push": "push",
    "studies.verbs": "check glue",
    "tasks.base": "Task",
    "watching": "watch",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'bertkit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"bertkit.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

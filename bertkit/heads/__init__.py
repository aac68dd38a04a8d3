"""The heads by name, a file each: what a model is trained on, what it puts out and what of it counts."""

from importlib import import_module
from pkgutil import iter_modules

from bertkit.heads.base import IGNORED, Head, LossSettings, balanced_weights

__all__ = ("HEADS", "IGNORED", "Head", "LossSettings", "balanced_weights")

# no registry: a new head is a new file
HEADS: dict[str, Head] = {
    kind.name: kind()
    for module in iter_modules(__path__)
    for kind in vars(import_module(f"{__name__}.{module.name}")).values()
    if isinstance(kind, type) and issubclass(kind, Head) and kind.__module__.endswith(f".{module.name}") and kind.name
}

"""What is imported by name: a class that a recipe names, of bertkit or of a module of yours; an optional package."""

import importlib
import pkgutil
from types import ModuleType
from typing import TypeVar

from bertkit.errors import BertkitError, did_you_mean

T = TypeVar("T")


def class_of(name: str, setting: str, kind: type[T]) -> type[T]:
    """The last class of a kind that a module defines: one beside the kind's own, or a dotted module of your own.

    Args:
        setting: where the name stands, to say in messages.
    """
    what, package = kind.__name__.lower(), kind.__module__.rpartition(".")[0]
    known = module_names(package)
    if name not in known and ("." not in name or name.startswith(".")):
        raise BertkitError(f"{setting}: unknown {what} {name!r}", hint=did_you_mean(name, known))
    module_name = name if "." in name else f"{package}.{name}"
    module = _module(module_name, f"{setting}: there is no module {name!r}", did_you_mean(name, known))
    classes = [
        entry
        for entry in vars(module).values()
        if isinstance(entry, type) and issubclass(entry, kind) and entry.__module__ == module_name
    ]
    if not classes:
        raise BertkitError(
            f"{setting}: module {name!r} holds no {what}", hint=f"define a subclass of {kind.__name__} in it"
        )
    return classes[-1]


def module_names(package: str) -> list[str]:
    """Names of the modules of a package, without the one that says what they share."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path) if module.name != "base")


def library(name: str, extra: str, where: str) -> ModuleType:
    """A module of an optional package.

    Args:
        extra: the extra of bertkit that brings it.
        where: what asks for it, such as an option, to say in the message.
    """
    return _module(name, f"{where}: {name.partition('.')[0]} is not installed", f"pip install 'bertkit[{extra}]'")


def _module(name: str, message: str, hint: str) -> ModuleType:
    """A module, or an error that says this where it is not there."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise BertkitError(message, hint) from None

"""Imports go downward only, siblings do not know each other, and heavy libraries stay in their rooms."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[2] / "bertkit"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {  # room -> floor
    "__main__": 10,
    "cli": 9,
    "studies": 8,
    "serve": 8,
    "run": 7,
    "prepare": 6.7,
    "objectives": 6.5,
    "inference": 6,
    "attribution": 5.7,
    "reopen": 6.2,
    "splits": 6,
    "outcome": 6,
    "encode": 5.5,
    "tasks": 5,
    "train": 5,
    "models": 5,
    "data": 4,
    "recipe": 3,
    "pages": 3,
    "watching": 3,
    "config": 2,
    "rundir": 2,
    "launch": 2,
    "disk": 1.5,
    "heads": 1,
    "machine": 1,
    "depth": 1,
    "findings": 1,
    "metrics": 1,
    "named": 1,
    "errors": 0.5,
    "": 0,
}
ROOMS = {  # library -> where it may be imported; inside functions only, where the room has a star
    "torch": {
        "models",
        "train",
        "inference",
        "attribution",
        "objectives",
        "studies",
        "data.collate",
        "cli.inventory*",
        "launch.last_words",
        "heads*",
        "machine*",
    },
    "transformers": {"models", "studies"},
    "accelerate": {"train", "inference", "launch"},
    "typer": {"cli"},
    "fastapi": {"serve"},
    "evaluate": {"metrics*"},
    "matplotlib": {"pages*"},
    "jinja2": {"pages*"},
    "datasets": {"data.opening*", "metrics*"},
    "huggingface_hub": {"models", "run.card*", "run.push*", "cli.inventory*"},
}


class Import(NamedTuple):
    """One import statement of one module."""

    by: str  # dotted name below bertkit
    what: str  # dotted name, of bertkit's own modules below bertkit
    is_ours: bool
    is_lazy: bool
    line: int


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {name_of(path): path for path in FILES}


@cache
def imports_of(name: str) -> tuple[Import, ...]:
    def visit(node: ast.AST, is_lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for part in node.orelse:
                yield from visit(part, is_lazy)
            return
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: a relative import"
            # `from bertkit.train import loop` imports a module, `from bertkit.errors import nearest` a name of one
            found = [
                f"{node.module}.{alias.name}"
                if f"{node.module}.{alias.name}".removeprefix("bertkit.") in MODULES
                else node.module
                for alias in node.names
            ]
        for dotted in found:
            is_ours = dotted.split(".")[0] == "bertkit"
            inner = dotted.removeprefix("bertkit").removeprefix(".") if is_ours else dotted
            yield Import(name, inner, is_ours, is_lazy, node.lineno)
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, is_lazy or is_function)

    return tuple(visit(ast.parse(MODULES[name].read_text(encoding="utf-8")), False))


def room(name: str) -> str:
    return name.split(".")[0]


def test_the_house_is_found_and_every_room_has_a_floor():
    assert len(FILES) > 40
    assert sum(1 for name in MODULES for entry in imports_of(name) if entry.is_ours) > 100
    assert {room(name) for name in MODULES} == set(FLOORS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downward_only(name):
    wrong = [
        f"{name}:{entry.line} (floor {FLOORS[room(name)]}) imports {entry.what} (floor {FLOORS[room(entry.what)]})"
        for entry in imports_of(name)
        if entry.is_ours and room(entry.what) != room(name) and FLOORS[room(entry.what)] >= FLOORS[room(name)]
    ]
    assert wrong == []


def test_no_module_imports_itself_by_a_detour():
    graph = {name: {entry.what for entry in imports_of(name) if entry.is_ours} - {name} for name in MODULES}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(MODULES)  # raises CycleError


@pytest.mark.parametrize("library", ROOMS)
def test_libraries_stay_in_their_rooms_and_every_room_uses_them(library):
    used, strays = set(), []
    for entry in (entry for name in MODULES for entry in imports_of(name) if room(entry.what) == library):
        names = {entry.by, room(entry.by)}
        doors = ROOMS[library] & (names | {f"{name}*" for name in names} if entry.is_lazy else names)
        used |= doors
        if not doors:
            strays.append(f"{entry.by}:{entry.line}")
    assert strays == []
    assert used == ROOMS[library]

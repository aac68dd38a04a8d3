"""Shared fixtures: offline, with a cache of tokens of its own, and tiny models."""

from __future__ import annotations

import os

# before torch is imported: workers of pytest-xdist share the cores
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

from collections.abc import Callable
from pathlib import Path

import pytest

ASSETS = Path(__file__).parents[1] / "bertkit" / "assets"


@pytest.fixture(scope="session", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The cache of tokens is on, as it is for users, in a folder of these tests; and the disk is not waited for.

    No test outlives a loss of power. Tests of durability see what is synced, and in which order, in the calls.
    """
    os.environ["BERTKIT_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.fsync = lambda descriptor: None


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny randomly initialised checkpoint of an architecture: `tiny("bert")`."""
    from tests.tiny import save_tiny

    made: dict[str, Path] = {}

    def folder(architecture: str = "bert") -> Path:
        if architecture not in made:
            made[architecture] = save_tiny(architecture, tmp_path_factory.mktemp("tiny") / architecture)
        return made[architecture]

    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; tests that need it skip where there is none."""
    folder = os.environ.get("BERTKIT_DATA")
    if not folder:
        pytest.skip("needs real data: set BERTKIT_DATA to its folder")
    return Path(folder)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Refuses every connection; the list holds the addresses that were asked for."""
    import socket

    asked: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        asked.append(address)
        raise OSError("this test runs without a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    return asked

"""Shared fixtures: offline, one process, tiny models."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["BERTKIT_CACHE"] = ""

from collections.abc import Callable
from pathlib import Path

import pytest

ASSETS = Path(__file__).parents[1] / "bertkit" / "assets"


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

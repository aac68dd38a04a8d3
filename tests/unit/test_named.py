"""What is imported by name is there, or one error says how to get it."""

import json
import sys

import pytest

from bertkit.errors import BertkitError
from bertkit.named import library


def test_an_optional_package_that_is_there_is_imported():
    assert library("json", "x", "--x") is json


def test_one_that_is_not_says_which_extra_brings_it():
    with pytest.raises(BertkitError) as caught:
        library("nosuchpackage.part", "explain", "--explain")
    assert "--explain: nosuchpackage is not installed" in caught.value.message
    assert caught.value.hint == "pip install 'bertkit[explain]'"


def test_a_package_that_lacks_something_itself_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import nosuchpackage")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nosuchpackage"):
        library("half_there", "x", "--x")
    sys.modules.pop("half_there", None)

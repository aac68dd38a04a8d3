"""Metrics by name, and what importing them costs."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from bertkit import metrics
from bertkit.errors import BertkitError

ROOT = Path(__file__).parents[3]


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(BertkitError, match="metrics: there is no metric 'squad_v3'") as raised:
        metrics.load("squad_v3")
    assert raised.value.hint == f"did you mean 'squad_v2'? one of: {', '.join(metrics.names())}"


def test_every_name_has_its_function():
    assert metrics.names()
    for name in metrics.names():
        module, _ = metrics.METRICS[name]
        assert getattr(importlib.import_module(f"bertkit.metrics.{module}"), name).__name__ == name


def test_scoring_never_imports_evaluate():
    program = """
import sys
import bertkit.metrics
heavy = {"evaluate", "datasets", "torch", "transformers", "sklearn", "scipy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from bertkit.metrics.classification import classification
from bertkit.metrics.regression import regression
from bertkit.metrics.squad import squad
assert squad(["a b"], [["b"]])["f1"] == 1.0
assert classification(["a", "b"], ["a", "b"])["matthews"] == 1.0
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert regression([1.0, 2.0], [1.0, 2.0])["pearson"] == 1.0
assert "scipy" in sys.modules
assert not {"evaluate", "datasets", "torch", "transformers", "sklearn"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

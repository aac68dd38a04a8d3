"""`make audit` fails on a known vulnerability, and says so where nothing was audited."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / ".ci" / "audit.py"
FAULT = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
SKIPPED = {"name": "b", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("said", "code", "line"),
    [
        ([{"name": "a", "version": "1.0", "vulns": [FAULT]}], 1, "a 1.0: PYSEC-1, mended in 2.0"),
        ([{"name": "a", "version": "1.0", "vulns": []}, SKIPPED], 0,
         "1 packages audited, 0 known vulnerabilities; 1 could not be audited"),
        ([SKIPPED], 0, "NOT AUDITED: the package index knows nothing of vulnerabilities (1 packages asked for)"),
        (None, 0, "NOT AUDITED: no service to ask (ConnectionError: no network)"),
    ],
)  # fmt: skip
def test_an_audit_fails_for_what_is_known_and_says_what_was_not_asked(tmp_path, said, code, line):
    body = f"print({json.dumps({'dependencies': said})!r})"
    if said is None:
        body = "import sys; sys.exit('ConnectionError: no network')"
    (tmp_path / "pip_audit.py").write_text(body)
    done = subprocess.run(
        [sys.executable, AUDIT], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.splitlines()[0]) == (code, line)

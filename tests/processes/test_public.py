"""The names that `import bertkit` gives."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, types
import bertkit
assert not [name for name in sys.modules if name.startswith("bertkit.")], "import bertkit imports what it may not use"
assert not {"torch", "numpy", "pydantic"} & set(sys.modules)
import pkgutil
for module in pkgutil.walk_packages(bertkit.__path__, "bertkit."):
    if module.name != "bertkit.__main__":
        __import__(module.name)
print([name for name in bertkit.__all__ if isinstance(getattr(bertkit, name), types.ModuleType)], len(bertkit.__all__))
"""


def test_a_public_name_is_what_it_is_whatever_modules_are_imported():
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, text=True, capture_output=True)
    hidden, count = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert hidden == "[]"
    assert int(count) >= 14

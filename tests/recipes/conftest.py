"""The command line in this process, as in tests/cli."""

from tests.cli.conftest import bertkit as bertkit

"""Where the jobs of a study run: on this machine, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from bertkit.errors import BertkitError
from bertkit.machine import check_gpus
from bertkit.studies.runner import cluster
from bertkit.studies.runner.slots import Slot, make_slots


class Room(NamedTuple):
    """What the jobs of a study may use.

    Attributes:
        jobs: how many at a time on each device.
        gpus: how many of the GPUs of this machine; None: all.
        executor: whether jobs run on this machine, or on the nodes of a Ray cluster, whose disk holds the study.
        address: of the Ray cluster: `HOST:PORT`, `ray://HOST:PORT`, or the one that this machine is part of.
    """

    jobs: int = 1
    gpus: int | None = None
    executor: Literal["local", "ray"] = "local"
    address: str = "auto"

    def check(self) -> None:
        """Refuse what this machine does not have."""
        if self.jobs < 1:
            raise BertkitError("--jobs is at least 1", hint="leave it out for one")
        if self.gpus is not None:
            if self.gpus < 1:
                raise BertkitError("--gpus is at least 1", hint="leave it out for all")
            check_gpus(self.gpus)

    @contextmanager
    def slots(self, folder: Path) -> Iterator[Sequence[Slot]]:
        """The slots for jobs of a study.

        Args:
            folder: of the study, which this process holds.
        Raises:
            BertkitError: the cluster does not answer, or cannot run jobs.
        """
        if self.executor == "local":
            yield make_slots(self.jobs, self.gpus)
            return
        with cluster.connected(self.address):
            yield cluster.make_slots(folder, self.jobs)

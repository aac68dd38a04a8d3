"""Where the jobs of a study run: on the GPUs or the CPU of this machine, or on a Ray cluster."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from bertkit.errors import BertkitError
from bertkit.machine import check_gpus, core_count
from bertkit.studies.runner.jobs import Slot


class Room(NamedTuple):
    """What the jobs of a study may use."""

    jobs: int = 1  # at a time on each device
    gpus: int | None = None  # of this machine; None: all
    executor: Literal["local", "ray"] = "local"  # this machine, or the nodes of a Ray cluster, whose disk has the study
    address: str | None = None  # of the cluster: `HOST:PORT` or `ray://HOST:PORT`; None: that of this machine

    def check(self) -> None:
        """Refuse what this machine does not have."""
        if self.jobs < 1:
            raise BertkitError("--jobs is at least 1", hint="leave it out for one")
        if self.address is not None and self.executor != "ray":
            raise BertkitError("--address needs a Ray cluster", hint="add --executor ray")
        if self.gpus is not None:
            if self.gpus < 1:
                raise BertkitError("--gpus is at least 1", hint="leave it out for all")
            if self.executor == "ray":
                raise BertkitError(f"--gpus {self.gpus}: a Ray cluster knows its own GPUs", hint="leave it out")
            check_gpus(self.gpus, otherwise="leave it out for all")

    @contextmanager
    def slots(self, folder: Path) -> Iterator[Sequence[Slot]]:
        """The slots for jobs of the study in a folder, which this process holds."""
        if self.executor == "local":
            yield make_slots(self.jobs, self.gpus)
            return
        from bertkit.studies.runner import cluster  # it imports Ray

        with cluster.connected(self.address or "auto"):
            yield cluster.make_slots(folder, self.jobs)


def make_slots(jobs_per_device: int, gpus: int | None = None) -> list[Slot]:
    """The slots of this machine: so many jobs on each of its first GPUs, or on the CPU, whose cores they share."""
    import torch

    if there := torch.cuda.device_count():
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        names = (seen or [str(number) for number in range(there)])[:there]  # CUDA reads up to a name that is none
        return [Slot({"CUDA_VISIBLE_DEVICES": name}) for name in names[:gpus] for _ in range(jobs_per_device)]
    # a job's share of the cores; the setting `hardware.threads` wins over it
    share = {} if jobs_per_device == 1 else {"OMP_NUM_THREADS": str(max(1, core_count() // jobs_per_device))}
    return [Slot(share) for _ in range(jobs_per_device)]

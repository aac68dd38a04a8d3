"""Slots for jobs on the GPUs or the CPU of this machine, each job in a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from bertkit.launch import FOLLOW
from bertkit.machine import core_count
from bertkit.studies.runner.jobs import Job


class Process(subprocess.Popen):
    """An attempt at a job on this machine.

    Attributes:
        lost: why it is over, when that was not its own doing; else empty.
    """

    lost = ""

    def release(self) -> None:
        """Give back what the process held; called when it is over."""
        self.stdin.close()


@dataclass
class Slot:
    """Room for one job on this machine.

    Attributes:
        environment: variables that its process gets.
    """

    environment: Mapping[str, str]
    job: Job | None = None
    process: Process | None = None

    def start(self, job: Job) -> Process | None:
        """Begin an attempt; None while there is no room for it."""
        with job.log.open("ab") as log:
            return Process(
                job.command, stdin=subprocess.PIPE, stdout=log, stderr=log,
                env={**os.environ, **self.environment, FOLLOW: "1"},
                start_new_session=True,  # the terminal's Ctrl-C is for us
            )  # fmt: skip


def make_slots(jobs_per_device: int, gpus: int | None = None) -> list[Slot]:
    """The slots of this machine: so many jobs on each GPU, or on the CPU, whose cores they share.

    Args:
        gpus: how many of the GPUs to use; None: all.
    """
    import torch

    there = torch.cuda.device_count()
    if there:
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        names = seen if len(seen) == there else [str(number) for number in range(there)]
        return [Slot({"CUDA_VISIBLE_DEVICES": name}) for name in names[:gpus] for _ in range(jobs_per_device)]
    share = {} if jobs_per_device == 1 else share_of(core_count() // jobs_per_device)
    return [Slot(share) for _ in range(jobs_per_device)]


def share_of(cores: int) -> dict[str, str]:
    """The variable that gives a job its share of the cores; the setting `hardware.threads` wins over it."""
    return {"OMP_NUM_THREADS": str(max(1, cores))}

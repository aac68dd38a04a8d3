"""How processes are started and end: one or many, on which devices, and whom they work for.

accelerate's launcher starts several processes, and torchrun watches them. What they lack is added here: mistakes are
found before anything is started, a failure is told once and not by every process, and processes end with the one that
started them.
"""

from __future__ import annotations

from bertkit.launch.plan import Asked, Launch, plan_launch, without_options
from bertkit.launch.ranks import (
    FOLLOW,
    follow_parent,
    is_first,
    is_rank,
    is_spawned,
    is_told_cpu,
    process_count,
    restarts,
    settle_xla,
)
from bertkit.launch.start import run_launch, spawn

__all__ = (
    "FOLLOW",
    "Asked",
    "Launch",
    "follow_parent",
    "is_first",
    "is_rank",
    "is_spawned",
    "is_told_cpu",
    "plan_launch",
    "process_count",
    "restarts",
    "run_launch",
    "settle_xla",
    "spawn",
    "without_options",
)

"""Where a run takes place: device, threads and precision, chosen once and said."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch.nn import functional

from bertkit.errors import BertkitError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from bertkit.recipe import HardwareConfig

Precision = Literal["fp32", "bf16", "fp16"]

WORTHWHILE_GAIN = 1.3  # below it, casts eat what the products gain


class Place(NamedTuple):
    """What was chosen.

    Attributes:
        accelerator: accelerate's object for this process.
        precision: of the forward pass.
        micro_batch_tokens: padded tokens of one forward and backward pass; 0 lets `micro_batch_tokens` choose, auto
            (on a GPU only) has them found before the first step.
        evaluation_tokens: padded tokens of one forward pass without gradients.
        summary: one line for people.
    """

    accelerator: Accelerator
    precision: Precision
    micro_batch_tokens: int | Literal["auto"]
    evaluation_tokens: int
    summary: str


def choose_place(
    config: HardwareConfig,
    trackers: Sequence[str] = (),
    folder: Path | None = None,
    before: str | None = None,
    autocast: bool = True,
) -> Place:
    """Set up this process.

    Args:
        trackers: names, as accelerate knows them.
        folder: where trackers write.
        before: the precision that a run was started with, which a resumed one keeps where it is `auto`.
        autocast: false for a model whose weights themselves will have the precision, as for prediction.
    Raises:
        BertkitError: a device or precision that is not there.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration

    # in worker processes the tokenizer's own threads would only warn
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    device = _device(config)
    precision, reason = _precision(config, device) if before is None else (before, "as the run began")
    AcceleratorState._reset_state()  # accelerate keeps the first precision of a process for good
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision=precision if autocast and precision != "fp32" else "no",
        log_with=list(trackers) or None,
        # buffers are constants here; sent with the first forward pass of a step, they would keep a rank that ran out of
        # memory from beginning the step again on its own
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)) if trackers else None,
    )
    large, asked = device != "cpu", config.micro_batch_tokens
    threads = "" if large else f", {torch.get_num_threads()} threads"
    return Place(
        accelerator,
        precision,
        (16384 if large else 0) if asked is None or (asked == "auto" and not large) else asked,
        config.evaluation_tokens or (65536 if large else 4096),
        f"{device_name(device)}{threads}, {precision} ({reason})",
    )


def way_back() -> Callable[[], None]:
    """A function that makes the place chosen last the process's again, after others: its threads and its precision.

    accelerate keeps one precision for all of a process; whoever works in several places in turn needs this.
    """
    from accelerate.state import AcceleratorState

    state, threads = dict(AcceleratorState._shared_state), torch.get_num_threads()

    def go() -> None:
        AcceleratorState._shared_state.clear()
        AcceleratorState._shared_state.update(state)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

    return go


def micro_batch_tokens(place: Place, longest: int) -> int:
    """Padded tokens of one forward and backward pass, when the longest window has `longest` tokens.

    A GPU wants them many. On a CPU small batches of windows of one length pad little: over 2, 256 tokens a pass were
    fastest on short phrases (1.3 times 1,024) and 1,024 on windows of 384 (1.16 times 2,048).
    """
    asked = place.micro_batch_tokens
    return asked if isinstance(asked, int) and asked else max(256, 3 * longest)


def device_name(device: str) -> str:
    """The device in words, for people and for environment.json."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return {"cpu": "CPU", "mps": "Apple GPU"}[device]


def bf16_gain(device: str) -> float:
    """How much faster this device multiplies matrices in bf16 than in fp32; 0 where it would only emulate.

    On CPUs the flags do not tell: with avx512_bf16, one was measured at 4 times fp32, another at half of it.
    """
    if device == "cuda":
        return 2.0 if torch.cuda.is_bf16_supported(including_emulation=False) else 0.0
    capabilities = getattr(torch.cpu, "get_capabilities", dict)() if device == "cpu" else {}
    if not (capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")):
        return 0.0
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        # the feed-forward product of a base-size model over 512 tokens: some 30 ms in all
        rows, weight = torch.ones(512, 768, dtype=dtype), torch.ones(3072, 768, dtype=dtype)
        times = []
        for _ in range(4):
            began = time.perf_counter()
            functional.linear(rows, weight)
            times.append(time.perf_counter() - began)
        seconds[dtype] = min(times)
    return seconds[torch.float32] / seconds[torch.bfloat16]


def _device(config: HardwareConfig) -> str:
    available = [
        name
        for name, is_there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()))
        if is_there
    ]
    if config.device == "auto":
        return available[0] if available else "cpu"
    if config.device != "cpu" and config.device not in available:
        raise BertkitError(
            f"hardware.device: there is no {config.device} device here", hint="see `bertkit doctor`, or use cpu"
        )
    return config.device


def _precision(config: HardwareConfig, device: str) -> tuple[Precision, str]:
    if config.precision == "auto":
        gain = bf16_gain(device)
        reason = f"bf16 products run at {gain:.1f} times the speed here" if gain and device == "cpu" else "native bf16"
        return ("bf16", reason) if gain > WORTHWHILE_GAIN else ("fp32", reason if gain else "no native bf16")
    if config.precision == "fp16" and device == "cpu":
        raise BertkitError(
            "hardware.precision: fp16 needs a GPU, and this run is on the CPU", hint="use bf16 or fp32, or leave it out"
        )
    return config.precision, "as asked"

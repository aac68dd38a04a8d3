"""Where a run runs: device, threads and precision, chosen once and said."""

import os
import timeit
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, GradScalerKwargs, ProjectConfiguration
from torch.distributed import PrefixStore, TCPStore
from torch.nn import functional

from bertkit.data.plan import Budget
from bertkit.errors import BertkitError
from bertkit.launch import is_told_cpu, process_count, restarts
from bertkit.machine import take_threads
from bertkit.metrics.shown import counted
from bertkit.recipe import HardwareConfig, Recipe
from bertkit.train.device import Device
from bertkit.train.optim import LossScale
from bertkit.train.ranks import of_first

Precision = Literal["fp32", "bf16", "fp16"]

TOGETHER = timedelta(minutes=5)  # for all processes to come
WORTHWHILE_GAIN = 1.3  # below it, casts eat what the products gain
FAST_FP16 = (7, 0)  # NVIDIA's compute capability from which on fp16 products have units of their own (V100, T4)
SHORTEST = 16  # tokens, of fixed shapes
# of training and of evaluation. On a CPU a pass was measured to cost as much as 50 to 120 tokens (30 to 50 without
# gradients) at 384 and at 768 hidden, and a token the more, the larger the pass; a GPU waits for launches, not tokens
BUDGETS = {
    "cpu": (Budget(1536, 64), Budget(4096, 48)),
    "gpu": (Budget(16384, 4096), Budget(65536, 16384)),
    # each pass is filled up to its shape, so that large ones are for much data only; not measured on a TPU
    "xla": (Budget(16384, 4096), Budget(16384, 4096)),
}


@dataclass(frozen=True, kw_only=True)
class DeviceSetup:
    """What was chosen."""

    accelerator: Accelerator
    device: Device  # as the loop sees it
    precision: Precision  # of the forward pass
    loss_scale: LossScale
    training: Budget  # what one forward and backward pass may hold
    evaluation: Budget  # what one forward pass without gradients may hold
    # whether the tokens of training are to be found before the first step: never on a CPU, nor where shapes are fixed,
    # for every size that is tried would be compiled
    finds_tokens: bool
    summary: str  # one line for people


def set_up_device(
    config: HardwareConfig,
    trackers: Sequence[str] = (),
    folder: Path | None = None,
    before: str | None = None,
    autocast: bool = True,
) -> DeviceSetup:
    """Set up this process.

    Args:
        trackers: names, as accelerate knows them.
        folder: where trackers write.
        before: the precision that a run was started with, which a resumed one keeps where it is `auto`.
        autocast: false for a model whose weights themselves will have the precision, as for prediction.
    """
    # in worker processes the tokenizer's own threads would only warn
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    take_threads(config.threads)
    device = join(config)
    # `auto` measures, and two processes might measure differently
    precision, reason = of_first(lambda: _precision(config, device, before))
    # the name that torch has for it since 2.13, accelerate does not pass on
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
    AcceleratorState._reset_state()  # accelerate keeps the first precision of a process for good
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision=precision if autocast and precision != "fp32" else "no",
        log_with=list(trackers) or None,
        kwargs_handlers=[
            # buffers are constants here; sent with the first forward pass of a step, they would keep a rank that ran
            # out of memory from beginning the step again on its own
            DistributedDataParallelKwargs(broadcast_buffers=False),
            # accelerate does not see that fused AdamW skips a step: `loss_scale` takes the place of its scaler
            GradScalerKwargs(enabled=False),
        ],
        project_config=ProjectConfiguration(project_dir=str(folder), logging_dir=str(folder)) if trackers else None,
    )
    count = f"{accelerator.num_processes} processes, each on " if accelerator.num_processes > 1 else ""
    threads = f", {counted(torch.get_num_threads(), 'thread')}" if device == "cpu" else ""
    training, evaluation = BUDGETS.get(device, BUDGETS["gpu"])
    return DeviceSetup(
        accelerator=accelerator,
        device=Device(accelerator.device),
        precision=precision,
        loss_scale=LossScale(accelerator.device.type, enabled=precision == "fp16"),
        training=_budget(training, config.micro_batch_tokens, config.pass_overhead),
        evaluation=_budget(evaluation, config.evaluation_tokens, config.pass_overhead),
        finds_tokens=config.micro_batch_tokens == "auto" and device not in ("cpu", "xla"),
        summary=f"{count}{_name_of(device)}{threads}, {precision} ({reason})",
    )


def join(config: HardwareConfig) -> str:
    """Meet the other processes of this launch, where there are any; returns the device."""
    device = _device(config)
    if process_count() > 1 and not PartialState._shared_state:
        PartialState(cpu=device == "cpu", **_meeting_point())
    return device


def _meeting_point() -> dict[str, object]:
    """Where the processes exchange their addresses: torchrun's store, in a part of its own for each restart.

    torchrun keeps one store for all restarts, and a process that comes first would read addresses of the dead.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return {}
    rank, world = int(os.environ["RANK"]), process_count()
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world, is_master=False)
    part = PrefixStore(f"bertkit/{restarts()}", store)
    part.set(str(rank), "here")
    part.wait([str(other) for other in range(world)], TOGETHER)  # not half an hour, as its first exchange would
    return {"store": part, "rank": rank, "world_size": world}


def with_shapes(setup: DeviceSetup, recipe: Recipe) -> DeviceSetup:
    """The setup, with fixed shapes where its device or the recipe asks for them.

    Lengths double from SHORTEST to that of the longest window that there can be. Each has one number of rows: the share
    of a process in a batch, or as many as the budget holds. So there are few shapes to compile, and a text is padded to
    less than twice its length.
    """
    config, longest = recipe.hardware, recipe.windows.max_length
    is_compiled = config.compile or setup.accelerator.device.type == "xla"
    if not (is_compiled if config.fixed_shapes == "auto" else config.fixed_shapes):
        return setup
    widths = [min(SHORTEST, longest)]
    while widths[-1] < longest:
        widths.append(min(2 * widths[-1], longest))
    rows = -(-recipe.train.batch_size // setup.accelerator.num_processes)
    return replace(
        setup,
        training=setup.training._replace(widths=tuple(widths), rows=rows),
        evaluation=setup.evaluation._replace(widths=tuple(widths), rows=setup.evaluation.tokens),
        finds_tokens=False,
    )


def without_padding(setup: DeviceSetup, config: HardwareConfig) -> DeviceSetup:
    """The setup for a model that computes no padding, whose passes may hold texts of all lengths.

    On a CPU few and full passes were then the fastest, by 12 % over those that are cut for padding.
    """
    overhead = config.pass_overhead if config.pass_overhead is not None else setup.training.tokens
    return replace(setup, training=setup.training._replace(overhead=overhead))


def way_back() -> Callable[[], None]:
    """A function that gives the process the threads and the precision again that it has now.

    accelerate keeps one precision for the whole process; whoever works with several in turn needs this.
    """
    state, threads = dict(AcceleratorState._shared_state), torch.get_num_threads()

    def go() -> None:
        AcceleratorState._shared_state.clear()
        AcceleratorState._shared_state.update(state)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

    return go


def _name_of(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    if device == "xla":
        import torch_xla.runtime

        return f"XLA on {torch_xla.runtime.device_type()}"
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
        seconds[dtype] = min(timeit.repeat(partial(functional.linear, rows, weight), number=1, repeat=4))
    return seconds[torch.float32] / seconds[torch.bfloat16]


def _budget(usual: Budget, tokens: int | str | None, overhead: int | None) -> Budget:
    return Budget(tokens if isinstance(tokens, int) else usual.tokens, usual.overhead if overhead is None else overhead)


def _device(config: HardwareConfig) -> str:
    from accelerate.utils import is_torch_xla_available

    settled, place, hint = "", "", ""
    if is_torch_xla_available():
        settled, place, hint = "xla", "this process is on XLA already", "set USE_TORCH_XLA=0 in its environment"
    elif is_told_cpu():
        settled, place, hint = "cpu", "the launch is on the CPU", "leave it out"
    if settled and config.device not in ("auto", settled):
        raise BertkitError(f"hardware.device: {config.device} was asked for, and {place}", hint)
    if settled:
        return settled
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if config.device == "auto":
        return next(name for name in there if there[name])
    if not there.get(config.device):
        raise BertkitError(
            f"hardware.device: there is no {config.device} device here", hint="see `bertkit doctor`, or use cpu"
        )
    return config.device


def _precision(config: HardwareConfig, device: str, before: str | None = None) -> tuple[Precision, str]:
    precision, began = before or config.precision, " (as the run began)" if before else ""
    way_on = "resume it on a device like the one where it began, or give --out a new name" if before else None
    if device == "xla":
        if precision not in ("auto", "fp32"):
            raise BertkitError(
                f"hardware.precision: XLA runs in fp32, not {precision}{began}", way_on or "leave it out"
            )
        return "fp32", "XLA's own choice of products"
    if precision == "auto":
        gain = bf16_gain(device)
        reason = f"bf16 products run at {gain:.1f} times the speed here" if gain and device == "cpu" else "native bf16"
        if gain > WORTHWHILE_GAIN:
            return "bf16", reason
        if device == "cuda" and torch.cuda.get_device_capability() >= FAST_FP16:
            return "fp16", "no native bf16"
        return "fp32", reason if gain else "no native bf16"
    if precision == "fp16" and device == "cpu":
        raise BertkitError(
            f"hardware.precision: fp16{began} needs a GPU, and this run is on the CPU",
            hint=way_on or "use bf16 or fp32, or leave it out",
        )
    return precision, "as the run began" if before else "as asked"

"""What this machine has, and what each missing package would add."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from bertkit.data import token_cache
from bertkit.errors import BertkitError
from bertkit.metrics.shown import counted

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "evaluate", "pydantic", "typer")
EXTRAS = {
    "tensorboard": "log.trackers=tensorboard",
    "wandb": "log.trackers=wandb",
    "mlflow": "log.trackers=mlflow",
    "trackio": "log.trackers=trackio",
    "torch_xla": "training on a TPU",
    "sentencepiece": "ALBERT, XLM-R and DeBERTa tokenizers without a tokenizer.json",
}


def examine() -> dict[str, dict[str, str]]:
    """Section -> name -> what was found, as text."""
    from bertkit.launch import settle_xla

    settle_xla("auto")
    import psutil
    import torch
    from huggingface_hub import constants

    from bertkit import __version__
    from bertkit.recipe import HardwareConfig
    from bertkit.train.device_setup import set_up_device

    setup = set_up_device(HardwareConfig())
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB memory"
    devices = {"cpu": f"{platform.machine()}, {os.cpu_count()} cores, {memory}"}
    for number in range(torch.cuda.device_count()):
        of = torch.cuda.get_device_properties(number)
        memory = f"{of.total_memory / 2**30:.0f} GiB"
        devices[f"gpu {number}"] = f"{of.name}, {memory}, compute {of.major}.{of.minor}"
    if len(devices) == 1:
        devices["gpu"] = "none that torch can use"
    return {
        "devices": {**devices, "chosen": setup.summary},
        "versions": {
            "bertkit": __version__,
            "python": platform.python_version(),
            **{name: version(name) if find_spec(name) else "missing" for name in PACKAGES},
        },
        "places": {
            "hub cache": _folder(Path(constants.HF_HUB_CACHE)),
            "token cache": _token_cache(),
            "hub": "offline (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else "online, for what is not cached",
            "this folder": f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free",
        },
        "extras": {
            name: f"{'installed' if find_spec(name) else 'missing'}, needed for {use}" for name, use in EXTRAS.items()
        },
    }


def empty_cache() -> str:
    """Remove all that the token cache holds; what was done, in words.

    Raises:
        BertkitError: a file cannot be removed.
    """
    folder = token_cache.cache_folder()
    if folder is None:
        return "there is no token cache: BERTKIT_CACHE is empty"
    try:
        count, size = token_cache.shrink(folder, -1)
    except OSError as error:
        raise BertkitError(f"{folder}: cannot be emptied ({error.strerror})", hint="check its permissions") from None
    return f"{folder}: {counted(count, 'file')} removed, {size / 2**20:.1f} MiB"


def _token_cache() -> str:
    folder = token_cache.cache_folder()
    if folder is None:
        return "none (BERTKIT_CACHE is empty)"
    sizes = [status.st_size for _, status in token_cache.files_of(folder)]
    held = f"{counted(len(sizes), 'file')}, {sum(sizes) / 2**20:.1f} MiB of at most {token_cache.LARGEST >> 20}"
    return f"{_folder(folder)}: {held}; --empty-cache empties it"


def _folder(path: Path) -> str:
    return str(path) if path.is_dir() else f"{path} (does not exist yet)"

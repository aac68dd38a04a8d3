"""Where a checkpoint comes from, a folder or the Hub: looked at before anything is read, and read quietly."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers.utils import logging

from bertkit.disk import parse, read_whole
from bertkit.errors import BertkitError
from bertkit.recipe import ModelConfig

PATIENCE = 5.0  # seconds for the Hub to answer
ADAPTER = "adapter_config.json"  # in a folder that holds an adapter, as peft writes it
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")  # and other kinds that are not read


@contextmanager
def quiet() -> Iterator[None]:
    """transformers' log and progress bars are off within the block alone."""
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


@contextmanager
def reading(config: ModelConfig) -> Iterator[dict[str, object]]:
    """What transformers is to read a checkpoint with, quietly; what it or the Hub client raises is a BertkitError."""
    is_folder = Path(config.checkpoint).is_dir()
    options = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
    try:
        with quiet():
            yield {**options, "local_files_only": not is_folder and not _answers(config)}
    except BaseException as error:
        # whatever a broken file leads these libraries to; tokenizers may also panic, which is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:300]
        raise BertkitError(
            f"model.checkpoint: {config.checkpoint} cannot be loaded ({reason})",
            hint="check the files in the folder"
            if is_folder
            else "without the network, give a folder: --model FOLDER (see `bertkit doctor`)",
        ) from error


def _answers(config: ModelConfig) -> bool:
    """Whether the Hub answers at all: where it does not, its client tries six times, in half a minute."""
    if is_offline_mode():
        return False
    try:
        get_hf_file_metadata(hf_hub_url(config.checkpoint, "config.json", revision=config.revision), timeout=PATIENCE)
    except (HfHubHTTPError, HFValidationError):
        return True  # and transformers says what is wrong
    except Exception:  # the network's, a proxy's, a certificate's
        return False
    return True


def check_folder(config: ModelConfig, with_model: bool) -> None:
    """Refuse a folder that is not there, lacks what a checkpoint has, or would hold a reader up or lead it elsewhere.

    A Hub id passes. Of a model more is asked than of a tokenizer alone.
    """
    path = Path(config.checkpoint)
    if not path.is_dir():
        if path.exists() or config.checkpoint.startswith((".", "/", "~")) or config.checkpoint.count("/") > 1:
            raise BertkitError(
                f"model.checkpoint: there is no folder {config.checkpoint}",
                hint="give a folder with config.json, model.safetensors and a tokenizer, or a Hub id",
            )
        return
    if with_model and (path / ADAPTER).exists() and not (path / "config.json").exists():
        raise BertkitError(
            f"model.checkpoint: {path} is an adapter for another checkpoint ({ADAPTER}), and none of bertkit's",
            hint="put it into that one: peft's merge_and_unload, then save_pretrained",
        )
    if with_model and not (path / "config.json").exists():
        raise BertkitError(
            f"model.checkpoint: {path} has no config.json", hint="give the folder that holds the checkpoint itself"
        )
    # a pipe would make its reader wait, a device would never end
    odd = [entry for entry in sorted(path.iterdir()) if entry.exists() and not entry.is_file() and not entry.is_dir()]
    if odd:
        raise BertkitError(f"model.checkpoint: {odd[0]} is a pipe or a device, not a file", hint="remove it")
    for name in () if config.trust_remote_code else ("config.json", "tokenizer_config.json"):
        if _has_code(path / name):
            raise BertkitError(
                f"model.checkpoint: {path} brings Python code of its own ({name} has auto_map), which is not run",
                hint="use a checkpoint that transformers knows by itself; or read its code, then set "
                "model.trust_remote_code=true",
            )
    if with_model and config.init == "pretrained" and not any(path.glob("*.safetensors")):
        pickled = next((file for ending in PICKLED for file in sorted(path.glob(ending))), None)
        raise BertkitError(
            f"model.checkpoint: {path} has no weights in safetensors format"
            + (f" ({pickled.name} is a pickle, which can run code and is not read)" if pickled else ""),
            hint="where you trust its origin, load it in transformers and save the model again with save_pretrained"
            if pickled
            else "the folder should hold model.safetensors; model.init=scratch starts without weights",
        )  # fmt: skip


def _has_code(path: Path) -> bool:
    """Whether a configuration names code; where it is missing or broken, transformers has to say what is wrong."""
    try:
        found = parse(read_whole(path))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "auto_map" in found

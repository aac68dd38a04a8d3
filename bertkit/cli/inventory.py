"""The verbs that say what there is: tasks, recipes, and what this machine has."""

import json
import os
import platform
import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

import bertkit
from bertkit.cli.recipes import read_recipe, recipe_path, shipped_recipes
from bertkit.cli.shared import Json, Settings, Verbs, What
from bertkit.errors import BertkitError
from bertkit.launch import settle_xla
from bertkit.metrics.shown import counted

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "evaluate", "pydantic", "typer")
EXTRAS = {
    **{name: f"log.trackers={name}" for name in ("tensorboard", "wandb", "mlflow", "trackio")},
    "torch_xla": "training on a TPU",
    "sentencepiece": "ALBERT, XLM-R and DeBERTa tokenizers without a tokenizer.json",
}
recipe = Verbs(help="List, show, check and copy recipes.", no_args_is_help=True)


def tasks() -> None:
    """List the tasks."""
    import ast

    from bertkit.tasks.base import task_names

    for name in task_names():
        source = (Path(bertkit.__file__).parent / "tasks" / f"{name}.py").read_text(encoding="utf-8")
        print(f"{name:16}{(ast.get_docstring(ast.parse(source)) or '').splitlines()[0]}")


@recipe.command("list")
def list_recipes() -> None:
    """List the recipes that come with bertkit."""
    for name, path in shipped_recipes().items():
        first = path.read_text(encoding="utf-8").splitlines()[0]
        print(f"{name:24}{first.removeprefix('#').strip()}")


@recipe.command("show")
def show_recipe(what: What, settings: Settings = ()) -> None:
    """Print a recipe with all defaults filled in: bertkit recipe show qa"""
    from bertkit.config import dump_yaml
    from bertkit.tasks.base import make_task

    found = read_recipe(what, settings)
    print(dump_yaml({**found.tree(), "task": make_task(found.task).model_dump(mode="json")}), end="")


@recipe.command("check")
def check_recipe(what: Annotated[list[str], typer.Argument(metavar="RECIPE...", show_default=False)]) -> None:
    """Check the keys, values and task of recipes without running them: bertkit recipe check mine.yaml"""
    from bertkit.tasks.base import make_task

    for name in what:
        make_task(read_recipe(name).task)
        print(f"{name}: fine")


@recipe.command("copy")
def copy_recipe(
    what: Annotated[str, typer.Argument(metavar="RECIPE", show_default=False)],
    to: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
) -> None:
    """Copy a recipe to a file that you can edit: bertkit recipe copy sentiment/csv mine.yaml"""
    if to.exists():
        raise BertkitError(f"{to} already exists", hint="give another name")
    from bertkit.disk import write_atomically

    write_atomically(to, recipe_path(what).read_text(encoding="utf-8"))
    print(to)


@recipe.command("schema")
def recipe_schema() -> None:
    """Print the JSON schema of recipes; editors complete and check files with it."""
    from bertkit.recipe import Recipe
    from bertkit.tasks.base import task_class, task_names

    schema = Recipe.model_json_schema()
    tasks = {name: task_class(name).model_json_schema() for name in task_names()}
    for name, task in tasks.items():
        task["properties"]["name"] = {"const": name}
        task["required"] = ["name"]
    schema["properties"]["task"] = {"anyOf": [*tasks.values(), {"type": "string", "enum": list(tasks)}]}
    print(json.dumps(schema, indent=2))


def doctor(
    as_json: Json = False,
    emptied: Annotated[bool, typer.Option("--empty-cache", help="Delete the cached tokens of texts.")] = False,
) -> None:
    """Show what this machine has: devices, precision, versions, caches, and optional packages."""
    from bertkit.data import token_cache

    cache = token_cache.cache_folder()
    if emptied:
        print(_empty(cache))
        return
    settle_xla("auto")
    from huggingface_hub import constants

    tokens = "none (BERTKIT_CACHE is empty)"
    if cache is not None:
        sizes = [status.st_size for _, status in token_cache.files_of(cache)]
        held = f"{counted(len(sizes), 'file')}, {sum(sizes) / 2**20:.1f} MiB of at most {token_cache.LARGEST >> 20}"
        tokens = f"{_folder(cache)}: {held}; --empty-cache empties it"
    report = {
        "devices": _devices(),
        "versions": {
            "bertkit": bertkit.__version__,
            "python": platform.python_version(),
            **{name: version(name) if find_spec(name) else "missing" for name in PACKAGES},
        },
        "places": {
            "hub cache": _folder(Path(constants.HF_HUB_CACHE)),
            "token cache": tokens,
            "hub": "offline (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else "online, for what is not cached",
            "this folder": f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free",
        },
        "extras": {
            name: f"{'installed' if find_spec(name) else 'missing'}, needed for {use}" for name, use in EXTRAS.items()
        },
    }
    if as_json:
        print(json.dumps(report, indent=2))
        return
    for section, lines in report.items():
        print(section)
        for name, value in lines.items():
            print(f"  {name:18}{value}")


def _empty(cache: Path | None) -> str:
    """Remove all that the token cache holds; what was done, in words."""
    from bertkit.data.token_cache import shrink

    if cache is None:
        return "there is no token cache: BERTKIT_CACHE is empty"
    try:
        count, size = shrink(cache, -1)
    except OSError as error:
        raise BertkitError(f"{cache}: cannot be emptied ({error.strerror})", hint="check its permissions") from None
    return f"{cache}: {counted(count, 'file')} removed, {size / 2**20:.1f} MiB"


def _devices() -> dict[str, str]:
    import psutil
    import torch

    from bertkit.recipe import HardwareConfig
    from bertkit.train.device_setup import set_up_device

    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB memory"
    found = {"cpu": f"{platform.machine()}, {os.cpu_count()} cores, {memory}"}
    for number in range(torch.cuda.device_count()):
        of = torch.cuda.get_device_properties(number)
        memory = f"{of.total_memory / 2**30:.0f} GiB"
        found[f"gpu {number}"] = f"{of.name}, {memory}, compute {of.major}.{of.minor}"
    if len(found) == 1:
        found["gpu"] = "none that torch can use"
    return {**found, "chosen": set_up_device(HardwareConfig()).summary}


def _folder(path: Path) -> str:
    return str(path) if path.is_dir() else f"{path} (does not exist yet)"

"""A checkpoint that is not whole, not safe or not of one piece is refused before anything is written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import SMALL


def copy_of(checkpoint: Path, to: Path, *, without: tuple[str, ...] = ()) -> Path:
    shutil.copytree(checkpoint, to)
    for name in without:
        (to / name).unlink()
    return to


CHECKPOINTS = {  # name: files taken away, what is said behind "model.checkpoint: FOLDER", hint
    "no weights": (["model.safetensors"], " has no weights in safetensors format", "should hold model.safetensors"),
    "no tokenizer": (
        ["tokenizer.json"],
        " has no tokenizer (none of tokenizer.json, vocab.txt",
        "copy the tokenizer's files",
    ),
    "no config": (["config.json"], " has no config.json", "the folder that holds the checkpoint itself"),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoint_folders_that_lack_a_part_are_named(refused, tiny, tmp_path, name):
    files, message, hint = CHECKPOINTS[name]
    folder = copy_of(tiny("bert"), tmp_path / "checkpoint", without=files)
    refused(
        "sentiment",
        "-m",
        folder,
        "--train",
        "bundled:sentiment.csv",
        message=f"model.checkpoint: {folder}{message}",
        hint=hint,
    )


def test_pickled_weights_are_never_read(refused, tiny, tmp_path):
    import torch

    folder = copy_of(tiny("bert"), tmp_path / "checkpoint", without=["model.safetensors"])

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "trapped"),)

    torch.save({"x": Trap()}, folder / "pytorch_model.bin")
    refused(
        "sentiment",
        "-m",
        folder,
        "--train",
        "bundled:sentiment.csv",
        message=f"{folder} has no weights in safetensors format (pytorch_model.bin is a pickle, which can run code",
        hint="save the model again with save_pretrained",
    )
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"\0" * 40, "cannot be loaded ("),
        ("model.safetensors", None, "cannot be loaded ("),  # cut in the middle
        ("config.json", b"{", "cannot be loaded ("),
        ("config.json", b'{"model_type": "brt"}', "cannot be loaded ("),
        ("tokenizer.json", b"{}", "cannot be loaded ("),
    ],
)
def test_broken_files_of_a_checkpoint_are_one_error(refused, tiny, tmp_path, name, content, message):
    folder = copy_of(tiny("bert"), tmp_path / "checkpoint")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    refused(
        "sentiment",
        "-m",
        folder,
        "--train",
        "bundled:sentiment.csv",
        message=f"model.checkpoint: {folder} {message}",
        hint="check the files in the folder",
    )


@pytest.mark.parametrize("replace", ["model.replace_head=false", "model.replace_head=true"])
@pytest.mark.parametrize(("config", "weights"), [("distilbert", "bert"), ("bert", "roberta"), ("roberta", "bert")])
def test_weights_of_another_model_than_the_config_are_refused(refused, tiny, tmp_path, config, weights, replace):
    folder = copy_of(tiny(config), tmp_path / "checkpoint")
    shutil.copy(tiny(weights) / "model.safetensors", folder)
    refused(
        "sentiment",
        "-m",
        folder,
        "--train",
        "bundled:sentiment.csv",
        replace,
        message=f"model.checkpoint: the weights in {folder} are not those of its config ({config})",
        hint="check that config.json and model.safetensors belong together",
    )


def test_weights_of_another_size_than_the_config_are_refused(refused, tiny, tmp_path):
    folder = copy_of(tiny("bert"), tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    refused(
        "sentiment",
        "-m",
        folder,
        "--train",
        "bundled:sentiment.csv",
        "model.replace_head=true",
        message=f"the weights in {folder} are not those of its config (bert)",
        hint="belong together",
    )


def test_a_tokenizer_of_another_model_is_refused(refused, tiny, tmp_path):
    folder = copy_of(tiny("bert"), tmp_path / "checkpoint")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    refused(
        "sentiment",
        "-m",
        folder,
        "model.init=scratch",
        "--train",
        "bundled:sentiment.csv",
        message="model.checkpoint: the tokenizer has 2854 tokens and the model knows 100",
        hint="belong together",
    )


def test_models_that_are_not_here_are_refused_without_a_network(refused, tmp_path, no_network):
    refused(
        "sentiment",
        "-m",
        "nobody/no-bert",
        "--train",
        "bundled:sentiment.csv",
        message="model.checkpoint: nobody/no-bert cannot be loaded (",
        hint="without the network, give a folder",
    )
    refused(
        "sentiment",
        "-m",
        tmp_path / "none",
        "--train",
        "bundled:sentiment.csv",
        message=f"model.checkpoint: there is no folder {tmp_path}/none",
        hint="give a folder with config.json",
    )
    refused(
        "sentiment",
        *SMALL,
        "--train",
        "nobody/no-rows",
        message="nobody/no-rows: there is no such file, and it",
        hint="net",
    )
    assert no_network == []


def test_a_head_of_another_size_is_replaced_only_on_demand(bertkit, refused, finished, tmp_path):
    arguments = (
        "nli",
        "-m",
        finished("sentiment") / "model",
        "--train",
        "bundled:nli.jsonl",
        "hardware.precision=fp32",
    )
    refused(
        *arguments, message="has classifier.bias for another number of labels than 3", hint="model.replace_head=true"
    )
    done = bertkit("train", *arguments, "model.replace_head=true", "train.steps=1", "-v", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert "new: classifier.bias, classifier.weight (" in done.err

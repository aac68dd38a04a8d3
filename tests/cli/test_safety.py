"""Safe by default: no pickles, no code of others, no file outside the folder, no secret in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bertkit.disk import written_atomically
from bertkit.errors import BertkitError
from bertkit.rundir import RunDir
from tests.cli.conftest import SMALL, check

SECRETS = {
    name: f"s3cr3t-{name.lower()}"
    for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "COMET_API_KEY", "MLFLOW_TRACKING_PASSWORD")
}
QUICK = (*SMALL, "train.batch_size=8", "train.steps=2", "log.every=1", "data.train_rows=16", "data.validation_rows=4")


def without_weights(checkpoint: Path, to: Path) -> Path:
    shutil.copytree(checkpoint, to)
    (to / "model.safetensors").unlink()
    return to


@pytest.mark.parametrize(
    "name", ["pytorch_model-00001-of-00002.bin", "model.pt", "model.pth", "tf_model.h5", "flax_model.msgpack"]
)
def test_weights_that_are_no_safetensors_are_refused_with_the_way_out(refused, tiny, tmp_path, name):
    folder = without_weights(tiny("bert"), tmp_path / "checkpoint")
    (folder / name).write_bytes(b"weights")
    refused(
        "sentiment", "-m", folder, "--train", "bundled:sentiment.csv",
        message=f"{folder} has no weights in safetensors format ({name} is a pickle, which can run code and is not",
        hint="save the model again with save_pretrained",
    )  # fmt: skip


def test_an_adapter_of_another_program_is_no_checkpoint(refused, tiny, tmp_path):
    folder = Path(shutil.copytree(tiny("bert"), tmp_path / "checkpoint"))
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    refused(
        "sentiment", "-m", folder, "--train", "bundled:sentiment.csv",
        message="is an adapter for another checkpoint", hint="merge_and_unload",
    )  # fmt: skip


@pytest.fixture
def armed(tiny, tmp_path) -> Path:
    """A checkpoint that brings code along, which leaves a file where it is run."""
    folder = Path(shutil.copytree(tiny("bert"), tmp_path / "checkpoint"))
    config = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": "code.Config", "AutoModelForSequenceClassification": "code.Model"}
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": auto_map}))
    (folder / "code.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
        "from transformers import BertConfig as Config, BertForSequenceClassification as Model\n"
    )
    return folder


def test_code_of_a_checkpoint_is_refused_unless_a_flag_says_so(bertkit, refused, armed, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    arguments = ("sentiment", *QUICK, "-m", armed, "--train", "bundled:sentiment.csv")
    refused(
        *arguments, message=f"{armed} brings Python code of its own (config.json has auto_map), which is not run",
        hint="model.trust_remote_code=true",
    )  # fmt: skip
    assert not (tmp_path / "ran").exists()


def test_a_run_does_not_trust_code_on_behalf_of_its_reader(bertkit, finished, tmp_path):
    run = Path(shutil.copytree(finished("sentiment"), tmp_path / "run"))
    recipe = (run / "recipe.yaml").read_text().replace("trust_remote_code: false", "trust_remote_code: true")
    assert "trust_remote_code: true" in recipe
    (run / "recipe.yaml").write_text(recipe)
    config = json.loads((run / "model" / "config.json").read_text())
    (run / "model" / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoConfig": "code.Config"}}))
    check(bertkit("predict", run, "--text", "a"), "brings Python code of its own", "trust_remote_code=true")


def test_a_run_does_not_bring_the_module_of_its_task_along(finished, tmp_path):
    run = Path(shutil.copytree(finished("sentiment"), tmp_path / "run"))
    (run / "evil").mkdir()
    (run / "evil" / "task.py").write_text("open('ran', 'w').close()\n")
    recipe = (run / "recipe.yaml").read_text()
    assert "name: sentiment" in recipe
    (run / "recipe.yaml").write_text(recipe.replace("name: sentiment", "name: evil.task"))
    done = subprocess.run(
        [sys.executable, "-m", "bertkit", "predict", ".", "--text", "a"], cwd=run, capture_output=True, text=True
    )
    assert (done.returncode, (run / "ran").exists()) == (2, False), done.stderr
    assert "which is not looked for in the run itself" in done.stderr


def test_a_data_set_with_a_loading_script_is_refused(refused, tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "rows.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    refused("sentiment", *SMALL, "--train", folder, message=f"{folder}: the folder has no file 'train'", hint="one")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", [".tmp-metrics.json", ".old-metrics.json", "metrics.json"])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_link_in_a_folder_leads_no_writer_outside(tmp_path, name, is_folder):
    victim, run = tmp_path / "victim", tmp_path / "run"
    run.mkdir()
    (victim / "file").mkdir(parents=True) if is_folder else victim.write_text("mine")
    (run / name).symlink_to(victim)
    RunDir(run).write_json("metrics.json", {})
    assert (run / "metrics.json").read_text() == "{}\n"
    assert not (run / "metrics.json").is_symlink()
    assert (victim / "file").is_dir() if is_folder else victim.read_text() == "mine"


def test_a_link_where_a_folder_is_written_leads_no_writer_outside(tmp_path):
    victim, run = tmp_path / "victim", tmp_path / "run"
    (victim / "file").mkdir(parents=True)
    run.mkdir()
    for name in (".tmp-model", ".old-model", "model"):
        (run / name).symlink_to(victim)
    with written_atomically(run / "model") as temporary:
        temporary.mkdir()
    assert list((run / "model").iterdir()) == []
    assert [path.name for path in run.iterdir()] == ["model"]
    assert (victim / "file").is_dir()


def leaks(folder: Path) -> list[str]:
    """The files below a folder that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [
        f"{path}: {name}" for path in files for name, secret in SECRETS.items() if secret.encode() in path.read_bytes()
    ]


def test_secrets_of_the_environment_are_in_no_file_of_a_run_and_nothing_printed(bertkit, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    run, study = tmp_path / "run", tmp_path / "study"
    for command in (
        ("train", "sentiment", *QUICK, "--train", "bundled:sentiment.csv", "log.trackers=tensorboard", "--out", run),
        ("report", run),
        ("evaluate", run, "--data", "bundled:sentiment.csv"),
        ("glue", "run", "--model", "bundled:tiny", "--data", "bundled:glue", "--tasks", "rte", "--out", study,
         "model.init=scratch", "train.steps=2", "train.batch_size=8"),
    ):  # fmt: skip
        done = bertkit(*command)
        assert done.code == 0, done.err
        assert not [name for name, secret in SECRETS.items() if secret in done.out + done.err]
    assert list(run.rglob("*tfevents*"))
    assert leaks(tmp_path) == []


URL = "https://me:s3cr3t-hf_token@example.org/rows.csv"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--train", URL), ("--train", "bundled:sentiment.csv", "--validation", URL), ("-m", URL),
        ("data.source=" + URL,), ("--train", "s3://key:s3cr3t-hf_token@bucket/rows.csv"),
    ],
)  # fmt: skip
def test_credentials_within_an_address_are_neither_shown_nor_written(bertkit, tmp_path, arguments):
    data = (
        () if any("source" in part or part == "--train" for part in arguments) else ("--train", "bundled:sentiment.csv")
    )
    done = bertkit("train", "sentiment", *SMALL, *data, *arguments, "--out", tmp_path / "run")
    assert done.code == 2
    assert "s3cr3t" not in done.err
    assert "***@" in done.err
    assert not (tmp_path / "run").exists()


def test_a_report_of_a_study_reads_nothing_outside_of_it(finished, tmp_path):
    from bertkit.pages.html import render

    study = tmp_path / "study"
    study.mkdir()
    runs = [{"name": "x", "path": str(path), "state": "done"} for path in (finished("sentiment"), "../run")]
    shutil.copytree(finished("sentiment"), tmp_path / "run")
    (study / "study.json").write_text(json.dumps({"schema": 1, "study": "mine", "title": "mine", "runs": runs}))
    assert render(study).count("is not in this study") == 2


def test_a_pipe_is_refused_where_a_file_is_due(bertkit, finished, tmp_path):
    run = Path(shutil.copytree(finished("sentiment"), tmp_path / "run"))
    (run / "metrics.json").unlink()
    os.mkfifo(run / "metrics.json")
    os.mkfifo(tmp_path / "rows.csv")
    check(bertkit("report", run), "metrics.json cannot be read", "")
    check(
        bertkit("evaluate", run, "--data", tmp_path / "rows.csv", "-q"), "is a pipe or a device, not a file", "a file"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", '{"headline": "accuracy", "splits": {"validation": 3}}'),
        ("metrics.json", '{"headline": 3}'),
        ("metrics.json", '{"headline": "accuracy", "splits": {"test": {"accuracy": 1' + "0" * 400 + "}}}"),
        ("metrics.json", '{"headline": "accuracy", "train": {"seconds": "long"}}'),
        ("environment.json", '{"schema": 1, "packages": [1]}'),
        ("environment.json", "[" * 100_000),
        ("recipe.yaml", "task: {name: sentiment}\n# " + "x" * (2 << 20)),
    ],
)
def test_a_run_that_was_changed_by_hand_is_one_error(bertkit, finished, tmp_path, name, content):
    run = Path(shutil.copytree(finished("sentiment"), tmp_path / "run"))
    (run / name).write_text(content)
    check(bertkit("report", run), f"{run / name}", "")


def test_aliases_of_aliases_are_not_unfolded(bertkit, write):
    lines = [f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]" for number in range(1, 12)]
    recipe = write("recipe.yaml", "\n".join(["a0: &a0 [x, x]", *lines]))
    check(bertkit("recipe", "check", recipe), f"{recipe}: not YAML (it has more than 100,000 values", "key: value")


def test_a_recipe_of_a_run_that_lost_its_windows_still_loads(bertkit, finished, tmp_path):
    run = Path(shutil.copytree(finished("sentiment"), tmp_path / "run"))
    (run / "recipe.yaml").write_text("task: {name: sentiment}\n")
    done = bertkit("predict", run, "--text", "a", "-q")
    assert done.code == 0, done.err


def test_a_long_name_costs_no_time():
    from bertkit.errors import did_you_mean

    assert did_you_mean("text", ["9" * 50_000]).startswith("one of: 999")


def test_a_disk_without_locks_is_said(tmp_path, monkeypatch):
    import errno
    import fcntl

    from bertkit.disk import held

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    message = f"{tmp_path / 'new' / '.lock'} cannot be locked (No locks available)"
    with pytest.raises(BertkitError) as caught, held(tmp_path / "new"):  # a study
        pass
    assert caught.value.message == message
    warning = re.escape(f"{message}: start no second process in this folder")
    with pytest.warns(UserWarning, match=warning), RunDir(tmp_path / "new").claim(resume=False):
        pass
    assert list(tmp_path.iterdir()) == []

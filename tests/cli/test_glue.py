"""GLUE on the command line: two miniature tasks to the end, killed and resumed, submitted and compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.conftest import check

pytestmark = pytest.mark.xdist_group("glue")  # one worker makes the studies that all of these look at
SETTINGS = (  # many quick steps, so that there is time to kill something between them
    "model.init=scratch", "hardware.precision=fp32", "hardware.threads=1", "train.batch_size=8",
    "train.learning_rate=1e-3", "train.epochs=50", "train.evaluate_every=100", "train.checkpoint_every=20",
    "log.every=1",
)  # fmt: skip
PREDICTIONS = [
    f"runs/{name}.jsonl" for name in ("rte-0/predictions", "mnli-0/predictions", "mnli-0/predictions.validation")
]
OPTIONS = ("--model", "bundled:tiny", "--data", "bundled:glue", "--tasks", "RTE,mnli", *SETTINGS)


def start(out: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "bertkit", "glue", "run", *OPTIONS, "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(out: Path, *more: str) -> tuple[int, str, str]:
    process = start(out, *more)
    printed, said = process.communicate(timeout=300)
    return process.returncode, printed, said


def scores(out: Path) -> dict:
    return json.loads((out / "results.json").read_text())["tasks"]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A study that nothing interrupted."""
    out = tmp_path_factory.mktemp("glue") / "study"
    code, printed, said = run(out)
    assert code == 0, said
    assert printed.splitlines()[-1] == "mean of 2 of 9 tasks (dev, 1 seed)"
    assert "CoLA: left out" in said
    return out


def wait_for(claim, seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.02)


def steps_of(out: Path, job: str) -> int:
    history = out / "runs" / job / "history.jsonl"
    return history.read_text().count("learning_rate") if history.exists() else 0


class Survived(NamedTuple):
    """A study whose first job was killed, and then the study itself; and what it said before and after that."""

    out: Path
    before: str
    after: str
    first: tuple[int, int]  # when the first job had finished, in nanoseconds: before and after


@pytest.fixture(scope="module")
def survived(tmp_path_factory) -> Survived:
    out = tmp_path_factory.mktemp("glue") / "survived"
    process = start(out)
    wait_for(lambda: steps_of(out, "rte-0") >= 8)  # the longer texts of RTE make it the first job
    kill_job(out / "runs" / "rte-0")
    metrics = out / "runs" / "rte-0" / "metrics.json"
    wait_for(lambda: metrics.exists() and steps_of(out, "mnli-0") >= 8)
    process.kill()
    before, finished = process.communicate()[1], metrics.stat().st_mtime_ns
    code, _, after = run(out, "--resume")
    assert code == 0, after
    return Survived(out, before, after, (finished, metrics.stat().st_mtime_ns))


def test_a_study_that_was_killed_goes_on_and_runs_nothing_twice(survived):
    assert "MNLI, seed 0: begins" in survived.after
    assert "RTE, seed 0: begins" not in survived.after
    assert survived.first[0] == survived.first[1]
    assert "resume: going on from step-" in (survived.out / "logs" / "mnli-0.log").read_text()


def test_a_job_that_is_killed_is_tried_again(survived):
    assert "RTE, seed 0: died: killed by SIGKILL" in survived.before
    assert "RTE, seed 0: is tried again" in survived.before


def test_what_was_killed_comes_to_the_same_digits(study, survived):
    assert scores(survived.out) == scores(study)
    for name in PREDICTIONS:
        assert (survived.out / name).read_bytes() == (study / name).read_bytes()


def test_control_c_stops_the_jobs_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "stopped"
    process = start(out)
    wait_for(lambda: steps_of(out, "rte-0") >= 3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-2:] == [
        "error: stopped; 0 of 2 jobs are done, and those that ran have saved a checkpoint",
        "hint: go on with the same command and --resume",
    ]
    assert "stopped at step" in (out / "logs" / "rte-0.log").read_text()
    assert list((out / "runs" / "rte-0" / "checkpoints").glob("step-*"))
    states = {entry["name"]: entry["state"] for entry in json.loads((out / "study.json").read_text())["runs"]}
    assert states == {"MNLI, seed 0": "waiting", "RTE, seed 0": "waiting"}


def kill_job(run: Path) -> None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "train" in command and str(run) in command:
                os.kill(int(entry.name), signal.SIGKILL)
                return
    raise AssertionError(f"no process writes {run}")


def test_every_score_is_what_the_predictions_say(study):
    script = Path(__file__).parents[2] / "recipes" / "glue_check.py"
    done = subprocess.run([sys.executable, str(script), str(study)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3 metrics and the average over 2 tasks")


def test_the_check_finds_a_score_that_is_not_so(study, tmp_path):
    for name in PREDICTIONS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((study / name).read_bytes())
    told = json.loads((study / "results.json").read_text())
    told["tasks"]["rte"]["seeds"]["0"]["accuracy"] += 0.01
    (tmp_path / "results.json").write_text(json.dumps(told))
    script = Path(__file__).parents[2] / "recipes" / "glue_check.py"
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: rte, seed 0, accuracy")


def test_a_study_that_is_done_answers_at_once(study, bertkit):
    done = bertkit("glue", "run", *OPTIONS, "--out", study, "--resume", "--json")
    assert done.code == 0, done.err
    assert "begins" not in done.err
    assert json.loads(done.out)["label"] == "mean of 2 of 9 tasks (dev, 1 seed)"


def test_the_report_stands_beside_it(study, bertkit):
    page = (study / "report.html").read_text(encoding="utf-8")
    assert "mean of 2 of 9 tasks (dev, 1 seed)" in page
    assert "MNLI, seed 0" in page
    done = bertkit("report", study, "--out", study / "again.html")
    assert done.code == 0, done.err
    assert (study / "again.html").read_text(encoding="utf-8") == page


def test_a_study_against_itself_differs_by_nothing(study, bertkit):
    done = bertkit("glue", "compare", study, study, "--draws", "100", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [entry["name"] for entry in found] == ["MNLI", "RTE", "mean of these 2 tasks"]
    assert {entry[key] for entry in found for key in ("difference", "low", "high")} == {0.0}
    shown = bertkit("glue", "compare", study, study, "--draws", "100")
    assert "95 % bootstrap interval" in shown.out


def test_part_of_a_submission_is_written_from_real_models(study, bertkit):
    done = bertkit("glue", "submit", study, "--any-size", "--tasks", "rte,ax")
    assert done.code == 0, done.err
    with zipfile.ZipFile(done.out.strip()) as archive:
        assert archive.namelist() == ["RTE.tsv", "AX.tsv"]
        lines = archive.read("RTE.tsv").decode().splitlines()
    assert lines[0] == "index\tprediction"
    assert len(lines) == 7
    assert {line.partition("\t")[2] for line in lines[1:]} <= {"entailment", "not_entailment"}


def test_what_cannot_be_submitted_is_named(study, bertkit):
    check(bertkit("glue", "submit", study), "files cannot be written: CoLA.tsv (no finished run of CoLA)", "--tasks")
    check(bertkit("glue", "submit", study, "--tasks", "rte"), "RTE.tsv: 6 rows instead of 3,000", "--any-size")
    check(bertkit("glue", "submit", study / "runs"), "is not a GLUE study", "glue run --out")


def test_a_study_is_not_begun_twice(study, bertkit):
    check(bertkit("glue", "run", *OPTIONS, "--out", study), "holds a study already", "--resume")
    done = bertkit("glue", "run", *OPTIONS, "--out", study, "--resume", "--seeds", "2")
    check(done, "was asked something else: seeds: [0] -> [0, 1]", "--out a new name")


@pytest.mark.parametrize("names", ["", " , "])
def test_tasks_without_a_name_are_not_all_tasks(bertkit, tmp_path, names):
    check(bertkit("glue", "run", *OPTIONS, "--tasks", names, "--out", tmp_path / "a"), "--tasks: no task", "cola,rte")
    check(bertkit("glue", "submit", tmp_path, "--tasks", names), "--tasks: no task", "cola,rte")
    assert not list(tmp_path.iterdir())

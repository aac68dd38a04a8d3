"""What a study plans and refuses, before any job begins."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bertkit.data.glue import LAYOUTS
from bertkit.errors import BertkitError
from bertkit.metrics.glue import OFFICIAL, TASKS
from bertkit.recipe import load_recipe
from bertkit.rundir import RunDir
from bertkit.splits import path_of
from bertkit.studies.base import Study
from bertkit.studies.glue import plan as plans
from bertkit.studies.glue import study
from bertkit.studies.glue.folder import Asked, GlueConfig
from bertkit.studies.glue.plan import plan_jobs
from bertkit.studies.runner.jobs import Runner, Slot
from bertkit.tasks.base import make_task

ASKED = Asked(model="models/tiny", data="data", tasks=["mnli", "rte", "cola"], seeds=[0, 1], glue=GlueConfig())
SCRATCH = "model.init=scratch"  # for the bundled model has no weights
SOURCES = {
    task: {"characters": size, "splits": {"train": {"rows": 100}, "validation": {"rows": 10}}, "missing": []}
    for task, size in (("mnli", 5000), ("rte", 3000), ("cola", 1000))
}


def plan(folder: Path, *settings: str, found=SOURCES) -> list:
    chosen, config = plans.split_assignments(settings)
    return plan_jobs(folder, ASKED.model_copy(update={"glue": config}), found, chosen)


def recipe(folder: Path, name: str) -> dict:
    return load_recipe(folder / "recipes" / f"{name}.yaml").tree()


@pytest.mark.parametrize("task", TASKS)
def test_each_task_is_a_recipe_that_ranks_by_its_official_score(task):
    tree = plans.recipe_tree(task, "models/tiny", {"train": "a.jsonl"})
    made = make_task(load_recipe(tree).task)
    assert made.labels == LAYOUTS[task].labels
    assert len(made.texts) == len(LAYOUTS[task].texts)
    gold = [1.0, 2.0, 3.0] if task == "stsb" else [*LAYOUTS[task].labels, LAYOUTS[task].labels[0]]
    rows = [{"label": label} for label in gold]
    scores = made.score([{"label": label} for label in gold], rows)
    ranked = {"mrpc": "accuracy_f1", "qqp": "accuracy_f1", "stsb": "pearson_spearman", "mnli": "accuracy"}
    assert made.headline == ranked.get(task, OFFICIAL[task][0]) == next(iter(scores))
    if task != "mnli":
        assert set(OFFICIAL[task]) <= set(scores)


@pytest.mark.parametrize("task", TASKS)
def test_the_positive_class_of_f1_is_glues_second(task):
    section = plans.recipe_tree(task, "m", {})["task"]
    assert section.get("positive") == {"mrpc": "equivalent", "qqp": "duplicate"}.get(task)


def test_a_job_is_a_task_and_a_seed_with_a_recipe_of_its_own(tmp_path):
    jobs = plan(tmp_path, "train.epochs=2", "rte.train.epochs=7")
    assert [job.run.path.name for job in jobs] == ["mnli-0", "mnli-1", "rte-0", "rte-1", "cola-0", "cola-1"]
    assert [recipe(tmp_path, name)["train"]["epochs"] for name in ("mnli-0", "rte-1", "cola-0")] == [2, 7, 2]
    assert [recipe(tmp_path, name)["seed"] for name in ("rte-0", "rte-1")] == [0, 1]
    assert [job.cost for job in jobs] == [10_000, 10_000, 21_000, 21_000, 2000, 2000]
    assert jobs[0].command[-4:] == [
        str(tmp_path / "recipes" / "mnli-0.yaml"), "--out", str(tmp_path / "runs" / "mnli-0"), "--resume"
    ]  # fmt: skip


def test_a_quick_run_costs_what_it_reads(tmp_path):
    jobs = {job.run.path.name: job for job in plan(tmp_path, "data.train_rows=50", "train.epochs=1")}
    assert jobs["rte-0"].cost == 1500
    jobs = {job.run.path.name: job for job in plan(tmp_path, "train.steps=5", "train.batch_size=10", "train.epochs=3")}
    assert (jobs["rte-0"].cost, jobs["rte-0"].length, jobs["rte-0"].by_steps) == (1500, 5, True)


def test_a_task_keeps_its_threads_where_jobs_share_the_cores(tmp_path):
    jobs = plan(tmp_path, "hardware.device=cpu", "hardware.precision=fp32", "rte.hardware.threads=3")
    code = """
import sys, torch
from bertkit.cli.recipes import read_recipe
from bertkit.train.device_setup import set_up_device
for recipe in sys.argv[1:]:
    set_up_device(read_recipe(recipe, []).hardware)
    print(torch.get_num_threads())
"""
    recipes = [job.command[job.command.index("train") + 1] for job in (jobs[0], jobs[2])]
    job = replace(jobs[0], command=[sys.executable, "-c", code, *recipes])
    process = Slot({"OMP_NUM_THREADS": "1"}).start(job)
    assert process.wait(60) == 0, job.log.read_text()
    process.release()
    assert job.log.read_text().split() == ["1", "3"]  # MNLI, RTE


def test_from_mnli_starts_rte_from_the_model_of_the_same_seed(tmp_path):
    jobs = {job.run.path.name: job for job in plan(tmp_path, "glue.from_mnli=true")}
    assert jobs["rte-1"].needs is jobs["mnli-1"]
    assert jobs["cola-1"].needs is None
    model = recipe(tmp_path, "rte-1")["model"]
    assert (model["checkpoint"], model["replace_head"]) == (str(tmp_path / "runs" / "mnli-1" / "model"), True)
    assert recipe(tmp_path, "cola-1")["model"]["checkpoint"] == "models/tiny"


def test_from_mnli_is_from_its_weights_also_where_mnli_is_from_scratch(tmp_path):
    plan(tmp_path, "glue.from_mnli=true", "model.init=scratch")
    inits = {name: recipe(tmp_path, name)["model"]["init"] for name in ("mnli-0", "rte-0", "cola-0")}
    assert inits == {"mnli-0": "scratch", "rte-0": "pretrained", "cola-0": "scratch"}


def test_the_mismatched_dev_set_is_scored_once_at_the_end(tmp_path):
    both = {**SOURCES["mnli"]["splits"], "validation_mismatched": {"rows": 10}}
    plan(tmp_path, found={**SOURCES, "mnli": {**SOURCES["mnli"], "splits": both}})
    data = recipe(tmp_path, "mnli-0")["data"]
    assert data["validation"] == str(tmp_path / "data" / "mnli" / "validation.jsonl")
    assert data["test"] == str(tmp_path / "data" / "mnli" / "validation_mismatched.jsonl")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.learning_rte=1"], "train: unknown key 'learning_rte'"),
        (["rte.train.epochs=many"], "train.epochs"),
        (["glue.from_mnl=true"], "glue: unknown key 'from_mnl'"),
        (["task.labels=[a,b]"], "task.labels: `glue run` decides this itself"),
        (["data.train=x.csv"], "data.train: `glue run` decides this itself"),
        (["rte.data.columns.text=x"], "data.columns.text: `glue run` decides this itself"),
        (["model.checkpoint=x"], "model.checkpoint: the checkpoint of a study is --model"),
        (["data={train_rows: 5}"], "data: give its settings one by one"),
        (["rte.model={checkpoint: other}"], "model: give its settings one by one"),
        (["rte.seed=3"], "rte.seed: the seeds are the same for all tasks"),
        (["nonsense"], "'nonsense' is not a setting"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(tmp_path, settings, message):
    with pytest.raises(BertkitError) as caught:
        study.run("bundled:tiny", tmp_path / "out", data="bundled:glue", assignments=settings)
    assert message in caught.value.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "no/such/checkpoint/here", "data": "bundled:glue"}, "no/such/checkpoint/here"),
        ({"data": "/no/such/folder"}, "/no/such/folder"),
        ({"data": "bundled:glue", "tasks": ["ret"]}, "--tasks: there is no task 'ret'"),
        (
            {"data": "bundled:glue", "tasks": ["rte"], "assignments": ["glue.from_mnli=true"]},
            "glue.from_mnli: MNLI is not among the tasks",
        ),
        ({"data": "bundled:glue", "seeds": 0}, "--seeds is at least 1"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(BertkitError) as caught:
        study.run(out=tmp_path / "out", **{"model": "bundled:tiny", **options})
    assert message in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_head_of_another_size_is_found_before_any_job(tmp_path, tiny):
    folder = tiny("bert")
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "config.json").write_text(json.dumps(config))

    def check(tasks: list[str], *settings: str) -> None:
        plans.check_model(str(copy), plans.read_recipes(str(copy), tasks, plans.split_assignments(settings)[0]))

    check(["mnli"])
    check(["mnli", "rte"], "model.replace_head=true")
    check(["mnli", "rte"], "rte.model.replace_head=true")
    with pytest.raises(BertkitError) as caught:
        check(["mnli", "rte"])
    assert caught.value.message == f"--model: {copy} has a head for 3 labels, and RTE needs 2"
    assert caught.value.hint == "allow new heads with model.replace_head=true"


def test_the_first_seed_can_be_chosen():
    assert plans.read_recipes("bundled:tiny", ["rte"], plans.split_assignments(["seed=5"])[0])["rte"].seed == 5


def test_a_task_that_the_folder_lacks_is_named(tmp_path):
    (tmp_path / "RTE").mkdir()
    with pytest.raises(BertkitError) as caught:
        plans.choose_tasks(["cola"], str(tmp_path))
    assert caught.value.message == f"{tmp_path}: there is no folder for CoLA"
    assert caught.value.hint == "it has RTE"
    (tmp_path / "AX").mkdir()  # which is no task to run
    with pytest.raises(BertkitError) as caught:
        plans.choose_tasks(["cola"], str(tmp_path))
    assert caught.value.hint == "it has RTE"
    assert plans.choose_tasks([], str(tmp_path)) == ["rte"]
    assert plans.choose_tasks(["SST-2", "cola"], None) == ["cola", "sst2"]
    assert plans.choose_tasks([], None) == [*TASKS]


def test_the_diagnostic_set_alone_is_nothing_to_run(tmp_path):
    (tmp_path / "AX").mkdir()
    with pytest.raises(BertkitError) as caught:
        plans.choose_tasks([], str(tmp_path))
    assert caught.value.message == f"{tmp_path}: it has the diagnostic set only"


@pytest.mark.parametrize("mistake", ["rows", "seed"])
def test_a_mistake_found_before_the_first_job_leaves_nothing_behind(tmp_path, mistake):
    data = tmp_path / "data"
    shutil.copytree(path_of("bundled:glue"), data)
    if mistake == "rows":
        (data / "WNLI" / "dev.tsv").write_text("")
    settings = [SCRATCH, *([f"seed={2**63 - 1}"] if mistake == "seed" else [])]
    with pytest.raises(BertkitError) as caught:
        study.run("bundled:tiny", tmp_path / "out", data=str(data), seeds=2, assignments=settings)
    assert {"rows": "there are no rows", "seed": "seed"}[mistake] in caught.value.message
    assert not (tmp_path / "out").exists()


def test_a_mistake_found_in_a_study_that_was_begun_keeps_what_it_has(tmp_path):
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "train.tsv").touch()
    asked = Asked(
        model="bundled:tiny", data=str(tmp_path), tasks=["rte"], seeds=[0], settings=[SCRATCH], glue=GlueConfig()
    )
    out = tmp_path / "out"
    Study(out, "glue", "GLUE").begin(asked=asked.model_dump())
    RunDir(out).write_json("runs/rte-0/metrics.json", {})
    with pytest.raises(BertkitError, match="there are no rows"):
        study.run("bundled:tiny", out, data=str(tmp_path), resume=True, assignments=[SCRATCH])
    assert (out / "study.json").exists()
    assert (out / "runs" / "rte-0" / "metrics.json").exists()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BertkitError) as caught:
        study.run("bundled:tiny", tmp_path / "file" / "out", data="bundled:glue", assignments=[SCRATCH])
    assert caught.value.message == f"{tmp_path / 'file' / 'out'} cannot be written (Not a directory)"
    with pytest.raises(BertkitError, match="cannot be written"):
        study.run("bundled:tiny", tmp_path / ("long" * 100), data="bundled:glue", assignments=[SCRATCH])


def begun(folder: Path) -> Study:
    """A study that was begun with ASKED."""
    folder.mkdir(exist_ok=True)
    begun = Study(folder, "glue", "GLUE")
    begun.begin(asked=ASKED.model_dump())
    return begun


def test_a_study_is_never_overwritten(tmp_path):
    with pytest.raises(BertkitError) as caught:
        begun(tmp_path / "a").refuse(ASKED.model_dump(), resume=False)
    assert caught.value.hint == "continue it with --resume, or give --out a new name"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").touch()
    with pytest.raises(BertkitError) as caught:
        Study(tmp_path / "b", "glue", "GLUE").refuse(ASKED.model_dump(), resume=True)
    assert caught.value.message == f"{tmp_path / 'b'} is not empty and holds no study"
    with pytest.raises(BertkitError, match="is a file, not a folder"):
        study.run("bundled:tiny", tmp_path / "b" / "mine.txt", data="bundled:glue", assignments=[SCRATCH])
    begun(tmp_path / "a").refuse(ASKED.model_dump(), resume=True)


@pytest.mark.parametrize("resume", [True, False])
def test_a_study_that_was_killed_as_it_began_can_begin(tmp_path, resume):
    (tmp_path / ".lock").touch()
    (tmp_path / ".tmp-study.json").touch()
    Study(tmp_path, "glue", "GLUE").refuse(ASKED.model_dump(), resume)


def test_a_study_goes_on_only_with_what_it_was_asked(tmp_path):
    asked = ASKED.model_copy(update={"seeds": [0], "settings": ["train.epochs=9"]})
    with pytest.raises(BertkitError) as caught:
        begun(tmp_path / "a").refuse(asked.model_dump(), resume=True)
    assert caught.value.message == (
        f"{tmp_path / 'a'} was asked something else: seeds: [0, 1] -> [0]; settings: [] -> ['train.epochs=9']"
    )


def test_rows_are_read_once_and_kept(tmp_path):
    said: list[str] = []
    first = study.prepare(tmp_path, "rte", str(path_of("bundled:glue")), 0.1, said.append)
    rows = (tmp_path / "data" / "rte" / "train.jsonl").read_text().splitlines()
    assert len(rows) == first["splits"]["train"]["rows"] > 10
    assert set(json.loads(rows[0])) == {"id", "text", "second", "label"}
    assert study.prepare(tmp_path, "rte", "/no/such/folder", 0.1, said.append) == first


def test_rows_of_the_diagnostic_set_that_are_left_out_are_said(tmp_path):
    data = Path(shutil.copytree(path_of("bundled:glue"), tmp_path / "data"))
    with (data / "diagnostic" / "diagnostic.tsv").open("a") as file:
        file.write("a line without columns\n")
    said: list[str] = []
    study.prepare(tmp_path, "ax", str(data), 0.1, said.append)
    assert said[0].startswith(f"AX: 1 row is left out: {data / 'diagnostic' / 'diagnostic.tsv'}:")


def test_what_failed_points_to_a_log_that_there_is(tmp_path, monkeypatch):
    class Failing(Runner):
        def run(self) -> None:
            for job in self.jobs:
                job.state, job.note, job.attempts = "failed", "oh", 0 if job.needs else 2

    monkeypatch.setattr(study, "Runner", Failing)
    settings = [SCRATCH, "glue.from_mnli=true"]
    with pytest.raises(BertkitError) as caught:
        study.run(
            "bundled:tiny", tmp_path, data="bundled:glue", tasks=["mrpc", "mnli"], assignments=settings, quiet=True
        )
    assert caught.value.message.startswith("2 of 2 jobs failed: MRPC, seed 0: oh; MNLI")
    assert caught.value.hint.startswith(f"see {tmp_path / 'logs' / 'mnli-0.log'}; --resume")


@pytest.fixture
def diagnostic(tmp_path) -> Path:
    """GLUE's tiny rows with a diagnostic set that has labels."""
    data = Path(shutil.copytree(path_of("bundled:glue"), tmp_path / "glue"))
    file = data / "diagnostic" / "diagnostic.tsv"
    head, *rows = file.read_text().splitlines()
    file.write_text("\n".join([f"{head}\tlabel", *(f"{row}\tneutral" for row in rows)]) + "\n")
    return data


def begin(folder: Path, data: Path, *settings: str) -> list:
    chosen, _ = plans.split_assignments(settings)
    folder.mkdir()
    asked = ASKED.model_copy(update={"tasks": ["mnli"]})
    return study.begin(Study(folder, "glue", "GLUE"), asked, chosen, str(data), is_part=True, say=[].append)


def test_the_diagnostic_set_is_answered_by_jobs_where_it_has_labels(tmp_path, diagnostic):
    names = ["MNLI, seed 0", "MNLI, seed 1"]
    jobs = begin(tmp_path / "a", Path(path_of("bundled:glue")))  # GLUE's own file has no labels
    assert [job.name for job in jobs] == names
    jobs = begin(tmp_path / "b", diagnostic)
    assert [job.name for job in jobs] == [*names, "AX (test) by mnli-0", "AX (test) by mnli-1"]
    assert [job.needs and job.needs.name for job in jobs] == [None, None, *names]
    assert jobs[2].command[2:5] == ["bertkit", "predict", str(tmp_path / "b" / "runs" / "mnli-0")]


def test_the_diagnostic_set_is_answered_where_its_model_was_trained(tmp_path, diagnostic):
    jobs = begin(tmp_path / "a", diagnostic, "hardware.device=cuda", "mnli.hardware.device=cpu")
    assert recipe(tmp_path / "a", "mnli-0")["hardware"]["device"] == "cpu"
    assert not [part for part in jobs[-1].command if part.startswith("hardware.")]  # the run's own count


def test_a_diagnostic_set_without_answers_is_said_on_the_page(tmp_path, diagnostic, monkeypatch):
    class OnlyTrains(Runner):
        def run(self) -> None:
            for job in self.jobs:
                job.state, job.note, job.attempts = ("failed", "killed", 2) if job.needs else ("done", "", 1)

    monkeypatch.setattr(study, "Runner", OnlyTrains)
    with pytest.raises(BertkitError, match="1 of 2 jobs failed: AX"):
        study.run(
            "bundled:tiny", tmp_path / "a", data=str(diagnostic), tasks=["mnli"], assignments=[SCRATCH], quiet=True
        )
    listed = RunDir(tmp_path / "a").read_json("study.json")["runs"]
    assert [run["name"] for run in listed] == ["MNLI, seed 0", "AX (test) by mnli-0"]
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert "AX (test) by mnli-0: killed" in page


def test_of_two_settings_of_one_key_the_last_counts_and_a_study_keeps_which(tmp_path, monkeypatch):
    def refuse(given: Study, asked: dict, resume: bool) -> None:
        kept.append(asked["settings"])
        raise BertkitError("enough")

    monkeypatch.setattr(Study, "refuse", refuse)
    kept: list[list[str]] = []
    for settings in (["train.epochs=2", "seed=1", "train.epochs=1"], ["seed=1", "train.epochs=2", "train.epochs=1"]):
        with pytest.raises(BertkitError, match="enough"):
            study.run("bundled:tiny", tmp_path, data="bundled:glue", assignments=settings)
    assert kept == [["seed=1", "train.epochs=2", "train.epochs=1"]] * 2

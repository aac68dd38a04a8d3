"""GLUE: one checkpoint fine-tuned on nine tasks, and one number, beside people.

A study's folder: `study.json` (what was asked, and the state of its jobs), `data/TASK/SPLIT.jsonl` (the rows as they
were read, with their `sources.json`), `recipes/JOB.yaml`, `runs/JOB/` (run directories), `logs/JOB.log`,
`results.json`, `findings.json`, `report.html`. A job is one (task, seed): `bertkit train recipes/JOB.yaml --out
runs/JOB`.

Source: Wang et al. 2018.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from bertkit.config import Section, Tree, dump_yaml, override, put, validate
from bertkit.data.glue import LAYOUTS, GlueTask, find_tasks, read_glue
from bertkit.errors import BertkitError
from bertkit.launch import check_gpus
from bertkit.metrics.glue import TASKS, TITLES
from bertkit.pages.html import write_report
from bertkit.recipe import Recipe, load_recipe
from bertkit.rundir import LOCK, TEMPORARY, RunDir, held, write_atomically
from bertkit.splits import path_of
from bertkit.studies import cluster
from bertkit.studies.board import make_board
from bertkit.studies.jobs import Job, Runner, make_slots
from bertkit.studies.results import (
    DIAGNOSTICS,
    SCHEMA,
    Results,
    RowShape,
    SourcesShape,
    conclude,
    describe_run,
    gather,
    named_tasks,
    open_study,
    run_name,
    run_of,
)

STARTS_FROM_MNLI = ("mrpc", "stsb", "rte")  # with glue.from_mnli, as published since Liu et al. 2019 (RoBERTa)


class Setting(NamedTuple):
    """How a task is trained, unless asked otherwise: the grid of Devlin et al. 2019, more epochs where rows are few.

    Attributes:
        metric: picks the best checkpoint: the task's score; for MNLI accuracy on the matched dev set.
    """

    batch_size: int
    learning_rate: float
    epochs: int
    metric: str = "accuracy"


SETTINGS = {
    "cola": Setting(16, 2e-5, 5, "matthews"),
    "sst2": Setting(32, 2e-5, 3),
    "mrpc": Setting(16, 3e-5, 5, "accuracy_f1"),
    "stsb": Setting(16, 3e-5, 5, "pearson_spearman"),
    "qqp": Setting(32, 3e-5, 3, "accuracy_f1"),
    "mnli": Setting(32, 3e-5, 3),
    "qnli": Setting(32, 3e-5, 3),
    "rte": Setting(16, 3e-5, 5),
    "wnli": Setting(16, 2e-5, 5),
}
OURS = (
    "task",
    "data.source",
    "data.config",
    "data.train",
    "data.validation",
    "data.test",
    "data.columns",
)


class GlueConfig(Section):
    """What is asked of the study as a whole: `glue.KEY=VALUE`."""

    from_mnli: bool = Field(False, description="MRPC, STS-B and RTE start from the model of MNLI with the same seed")
    held_back: float = Field(
        0.1, gt=0, lt=1, description="last share of train that stands in for a dev file that is not there"
    )
    published: bool = Field(True, description="draw published rows (test) beside ours (dev)")


class Asked(NamedTuple):
    """What a study was asked to do; a study goes on only with the same."""

    model: str
    data: str | None
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: tuple[str, ...]
    glue: Mapping[str, object]


def run(
    model: str,
    out: str | Path,
    *,
    data: str | None = None,
    tasks: Sequence[str] = (),
    seeds: int = 1,
    jobs: int = 1,
    gpus: int | None = None,
    resume: bool = False,
    assignments: Sequence[str] = (),
    quiet: bool = False,
    say: Callable[[str], None] = lambda text: None,
    executor: Literal["local", "ray"] = "local",
    address: str = "auto",
) -> Results:
    """Fine-tune on the tasks, and score them.

    Args:
        model: Hub id or folder of the checkpoint.
        out: folder of the study.
        data: folder in GLUE's own layout; None: the Hub (nyu-mll/glue).
        tasks: which of the nine; none: all that the folder has.
        seeds: how many runs a task, with the seeds `seed`, `seed` + 1, ...
        jobs: how many at a time on each device.
        gpus: how many of the GPUs there are; None: all.
        resume: go on with what `out` holds; what is done is not run again.
        assignments: settings for all tasks (`train.epochs=1`), for one (`rte.train.epochs=10`), or of the study
            (`glue.from_mnli=true`).
        executor: where the jobs run: in processes of this machine, or on the nodes of a Ray cluster, whose disk holds
            `out`. It changes no result; a study can go on with the other one.
        address: of the Ray cluster: `HOST:PORT`, `ray://HOST:PORT`, or the one that this machine is part of.
    Raises:
        BertkitError: anything the user can mend, found before the first job begins; or jobs failed, after all others
            are done and the results written.
        Interrupted: stopped; finished jobs stay, the others have saved a checkpoint.
    """
    folder = Path(out)
    if seeds < 1 or jobs < 1:
        raise BertkitError("--seeds and --jobs are at least 1", hint="leave them out for one")
    if gpus is not None:
        check_gpus(gpus)
    common, single, glue = split_assignments(assignments)
    first_seed = check_settings(model, common, single)
    source = None if data is None else path_of(data)
    chosen = choose_tasks(tasks, source)
    if glue.from_mnli and "mnli" not in chosen:
        raise BertkitError("glue.from_mnli: MNLI is not among the tasks", hint="add mnli to --tasks, or leave it out")
    asked = Asked(
        model, data, chosen, tuple(range(first_seed, first_seed + seeds)), tuple(sorted(assignments)), glue.model_dump()
    )
    with held(folder), cluster.connected(address) if executor == "ray" else nullcontext():
        refuse(folder, asked, resume)
        check_model(model, chosen, common, single)
        is_new = not (folder / "study.json").exists()
        if is_new:
            RunDir(folder).write_json("study.json", describe(asked, []))
        try:
            found = {task: prepare(folder, task, source, glue.held_back, say) for task in chosen}
            for task in TASKS:
                if task not in chosen:
                    say(f"{TITLES[task]}: left out" if tasks else f"{TITLES[task]}: not in {data}")
            if "mnli" in chosen and (source is None or "ax" in find_tasks(source)):
                prepare(folder, "ax", source, glue.held_back, say)
            planned = plan_jobs(folder, asked, found, common, single, glue)
            is_here = executor == "local"
            places = make_slots(jobs, assignments, gpus) if is_here else cluster.make_places(folder, jobs, assignments)
        except BertkitError:
            if is_new:
                take_back(folder)
            raise

        def bring_up_to_date() -> None:
            conclude(folder, describe(asked, planned))

        board = make_board(lambda job: describe_run(job.run), quiet)
        runner = Runner(planned, places, board, bring_up_to_date)
        try:
            runner.run()
            score_diagnostics(folder, asked.seeds, common, say)
        finally:
            bring_up_to_date()
    write_report(folder)
    failed = [job for job in planned if job.state == "failed"]
    if failed:
        log = next(job.log for job in failed if job.attempts)  # what waited in vain for another model has none
        raise BertkitError(
            f"{len(failed)} of {len(planned)} jobs failed: " + "; ".join(f"{job.name}: {job.note}" for job in failed),
            hint=f"see {log}; --resume tries the failed ones again, and only those",
        )
    return gather(folder)


def split_assignments(assignments: Sequence[str]) -> tuple[list[str], dict[str, list[str]], GlueConfig]:
    """Settings for all tasks, for single tasks, and of the study."""
    common, single, tree = [], {task: [] for task in TASKS}, {}
    for assignment in assignments:
        head, _, rest = assignment.partition(".")
        if head in single and "=" in rest:
            single[head].append(rest)
        elif head == "glue" and "=" in rest:
            tree = override(tree, [rest])
        else:
            common.append(assignment)
    return common, single, validate(GlueConfig, tree, where="glue")


def check_settings(model: str, common: Sequence[str], single: Mapping[str, Sequence[str]]) -> int:
    """Refuse settings that no job could run with, and those that the study decides; returns the first seed."""
    for assignment in [*common, *(setting for settings in single.values() for setting in settings)]:
        key = assignment.partition("=")[0]
        if key in ("data", "model"):  # it would take the place of what the study sets there
            raise BertkitError(f"{key}: give its settings one by one", hint=f"such as {key}.KEY=VALUE")
        for ours in OURS:
            if key == ours or key.startswith(f"{ours}."):
                raise BertkitError(
                    f"{key}: `glue run` decides this itself", hint="the rows come from --data, the tasks from --tasks"
                )
        if key == "model.checkpoint":
            raise BertkitError("model.checkpoint: the checkpoint of a study is --model", hint="leave it out")
    for task in TASKS:
        if any(setting.startswith("seed=") for setting in single[task]):
            raise BertkitError(f"{task}.seed: the seeds are the same for all tasks", hint="--seeds N, or seed=FIRST")
        recipe = load_recipe(recipe_tree(task, model, {}, 0), [*common, *single[task]])
    return recipe.seed


def choose_tasks(asked: Sequence[str], source: str | None) -> tuple[str, ...]:
    """The tasks to run, in GLUE's order."""
    chosen = named_tasks(asked, TASKS)
    there = TASKS if source is None else find_tasks(source)
    if there == ("ax",):
        raise BertkitError(f"{source}: it has the diagnostic set only", hint="it should hold CoLA, SST-2 and so on")
    if missing := [task for task in TASKS if task in chosen and task not in there]:
        has = ", ".join(TITLES[task] for task in there)
        raise BertkitError(f"{source}: there is no folder for {TITLES[missing[0]]}", hint=f"it has {has}")
    return tuple(task for task in TASKS if task in (chosen or there))


def check_model(model: str, tasks: Sequence[str], common: Sequence[str], single: Mapping[str, Sequence[str]]) -> None:
    """Refuse a checkpoint that cannot be read, or whose head does not fit, before every job does."""
    from bertkit.models.load import load_config, load_tokenizer

    asked = {
        task: load_recipe(recipe_tree(task, path_of(model), {}, 0), [*common, *single[task]]).model for task in tasks
    }
    config = load_config(asked[tasks[0]])
    load_tokenizer(asked[tasks[0]], words=False)
    has_head = any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
    for task in tasks:
        wanted = len(LAYOUTS[task].labels) or 1
        is_kept = asked[task].init == "pretrained" and not asked[task].replace_head
        if has_head and is_kept and config.num_labels != wanted:
            raise BertkitError(
                f"--model: {model} has a head for {config.num_labels} labels, and {TITLES[task]} needs {wanted}",
                hint="allow new heads with model.replace_head=true",
            )


def refuse(folder: Path, asked: Asked, resume: bool) -> None:
    """Refuse a folder that holds something else, or a study that was asked something else."""
    # a study that was killed as it began left at most these
    if {entry.name for entry in folder.iterdir()} <= {LOCK, f"{TEMPORARY}study.json"}:
        return
    if not (folder / "study.json").exists():
        raise BertkitError(f"{folder} is not empty and holds no study", hint="give --out a new name")
    if not resume:
        raise BertkitError(
            f"{folder} holds a study already, which is never overwritten",
            hint="go on with it with --resume, or give --out a new name",
        )
    before, now = open_study(folder)["asked"], json.loads(json.dumps(asked._asdict()))
    if differing := [f"{key}: {before.get(key)} -> {now[key]}" for key in now if before.get(key) != now[key]]:
        raise BertkitError(
            f"{folder} was asked something else: {'; '.join(differing)}",
            hint="resume it with the same options, or give --out a new name",
        )


def take_back(folder: Path) -> None:
    """Remove what a study wrote before its first job: a mistake leaves nothing behind."""
    for name in ("data", "recipes", "logs", "runs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "study.json").unlink(missing_ok=True)


def prepare(folder: Path, task: str, source: str | None, held_back: float, say: Callable[[str], None]) -> Tree:
    """Read a task's rows once and keep them as JSON lines; returns what sources.json says of them."""
    place = RunDir(folder / "data" / task)
    if place["sources.json"].exists():
        return place.read_json("sources.json", SourcesShape)
    found = read_glue(task, source, held_back)
    for split, content in found.splits.items():
        place.write_jsonl(f"{split}.jsonl", content.rows)
        if content.skipped:
            count = len(content.skipped)
            more = f" and {count - 5} more" if count > 5 else ""
            is_left_out = "1 row is left out" if count == 1 else f"{count:,} rows are left out"
            say(f"{TITLES[task]}: {is_left_out}: {'; '.join(content.skipped[:5])}{more}")
    for sentence in found.missing:
        say(sentence)
    place.write_json("sources.json", sources_of(found))
    return place.read_json("sources.json")


def sources_of(found: GlueTask) -> Tree:
    """Where the rows of a task came from, how many there are, and what is missing."""
    train = found.splits["train"].rows if "train" in found.splits else ()  # AX has none
    return {
        "missing": list(found.missing),
        "characters": sum(len(row["text"]) + len(row.get("second", "")) for row in train),
        "splits": {
            split: {
                "source": content.source,
                "sha256": content.sha256,
                "rows": len(content.rows),
                "skipped": list(content.skipped),
                "held_back": content.held_back,
            }
            for split, content in found.splits.items()
        },
    }


def score_diagnostics(folder: Path, seeds: Sequence[int], common: Sequence[str], say: Callable[[str], None]) -> None:
    """Score the MNLI models on the diagnostic set, where its labels are there: GLUE's own file has none."""
    path = folder / "data" / "ax" / "test.jsonl"
    if not path.exists() or any(row["label"] is None for row in RunDir(path.parent).read_jsonl(path.name, RowShape)):
        return
    from bertkit.run import evaluate

    hardware = [setting for setting in common if setting.startswith("hardware.")]
    for seed in seeds:
        run = run_of(folder, "mnli", seed)
        if run["metrics.json"].exists() and not run[DIAGNOSTICS].exists():
            say(f"AX: scored by MNLI, seed {seed}")
            run.write_json(DIAGNOSTICS, evaluate(run.path, str(path), assignments=hardware, quiet=True))


def recipe_tree(task: str, model: str, files: Mapping[str, str], seed: int) -> Tree:
    """The recipe of one job, before the settings that were asked for."""
    layout, setting = LAYOUTS[task], SETTINGS[task]
    section: Tree = {"name": "classification", "pair": len(layout.texts) == 2}
    if layout.labels:
        section |= {"labels": list(layout.labels), "metric": setting.metric}
    else:
        section |= {"kind": "number"}
    if setting.metric == "accuracy_f1":
        section["positive"] = layout.labels[1]
    return {
        "task": section,
        "model": {"checkpoint": model},
        "data": dict(files),
        "train": {"batch_size": setting.batch_size, "learning_rate": setting.learning_rate, "epochs": setting.epochs},
        "seed": seed,
    }


def plan_jobs(
    folder: Path,
    asked: Asked,
    found: Mapping[str, Tree],
    common: Sequence[str],
    single: Mapping[str, Sequence[str]],
    glue: GlueConfig,
) -> list[Job]:
    """A job for each task and seed, with its recipe written."""
    jobs: dict[tuple[str, int], Job] = {}
    for folder_name in ("recipes", "logs", "runs"):
        (folder / folder_name).mkdir(exist_ok=True)
    order = sorted(asked.tasks, key=lambda task: task != "mnli")  # first, for others may start from it
    for task in order:
        for seed in asked.seeds:
            name = run_name(task, seed)
            splits = found[task]["splits"]
            there = {"train": "train", "validation": "validation"}
            if "validation_mismatched" in splits:
                there["test"] = "validation_mismatched"
            files = {key: str(folder / "data" / task / f"{split}.jsonl") for key, split in there.items()}
            needs = jobs.get(("mnli", seed)) if glue.from_mnli and task in STARTS_FROM_MNLI else None
            tree = override(recipe_tree(task, asked.model, files, seed), [*common, *single[task]])
            tree["seed"] = seed
            if needs:
                start = {
                    "checkpoint": str(needs.run.model),
                    "replace_head": True,
                    "init": "pretrained",
                    "revision": None,
                }
                for key, value in start.items():
                    tree = put(tree, f"model.{key}", value)
            recipe = load_recipe(tree)
            path = folder / "recipes" / f"{name}.yaml"
            write_atomically(path, f"# {TITLES[task]}, seed {seed}\n{dump_yaml(tree)}")
            rows = splits["train"]["rows"]
            share = min(1.0, (recipe.data.train_rows or rows) / rows)
            run = run_of(folder, task, seed)
            command = [sys.executable, "-m", "bertkit", "train", str(path), "--out", str(run.path), "--resume"]
            jobs[task, seed] = Job(
                f"{TITLES[task]}, seed {seed}", command, run, folder / "logs" / f"{name}.log",
                cost=cost_of(recipe, found[task]["characters"] * share, rows * share),
                length=recipe.train.steps or recipe.train.epochs, by_steps=recipe.train.steps is not None, needs=needs,
            )  # fmt: skip
    return [jobs[task, seed] for task in asked.tasks for seed in asked.seeds]


def cost_of(recipe: Recipe, characters: float, rows: float) -> float:
    """Characters that a run reads in training: what its time is in proportion to."""
    passes = recipe.train.epochs
    if recipe.train.steps is not None:
        passes = min(passes, recipe.train.steps * recipe.train.batch_size / max(rows, 1))
    return characters * passes


def describe(asked: Asked, jobs: Sequence[Job]) -> Tree:
    """What study.json holds: what was asked, and how far each job is."""
    return {
        "schema": SCHEMA,
        "study": "glue",
        "title": "GLUE",
        "asked": asked._asdict(),
        "runs": [
            {"name": job.name, "path": f"runs/{job.run.path.name}", "state": job.state, "note": job.note}
            for job in jobs
        ],
    }

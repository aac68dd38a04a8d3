"""What a GLUE study is asked to do, checked, and the recipe of each of its jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator

from bertkit.config import Section, Tree, override, validate
from bertkit.data.glue import LAYOUTS, find_tasks
from bertkit.errors import BertkitError, did_you_mean
from bertkit.metrics.glue import TASKS, TITLES
from bertkit.recipe import load_recipe
from bertkit.splits import path_of

STARTS_FROM_MNLI = ("mrpc", "stsb", "rte")  # with glue.from_mnli, as published since Liu et al. 2019 (RoBERTa)
HARDWARE = "hardware."  # how settings begin that change no result, and hold for every job


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
OURS = ("task", "data.source", "data.config", "data.train", "data.validation", "data.test", "data.columns")


class GlueConfig(Section):
    """What is asked of the study as a whole: `glue.KEY=VALUE`."""

    from_mnli: bool = Field(False, description="MRPC, STS-B and RTE start from the model of MNLI with the same seed")
    held_back: float = Field(
        0.1, gt=0, lt=1, description="last share of train that stands in for a dev file that is not there"
    )
    published: bool = Field(True, description="draw published rows (test) beside ours (dev)")


class Asked(BaseModel):
    """What a study was asked to do, as study.json keeps it; a study goes on only with the same."""

    model_config = ConfigDict(frozen=True)

    model: str
    data: str | None = None
    tasks: list[str]
    seeds: list[int] = Field(min_length=1)
    settings: list[str] = []
    glue: GlueConfig

    @field_validator("tasks")
    @classmethod
    def _are_known(cls, tasks: list[str]) -> list[str]:
        if unknown := set(tasks) - set(TASKS):
            raise ValueError(f"there is no task {min(unknown)!r}")
        return tasks


class Settings(NamedTuple):
    """The settings of a study's jobs: for all tasks, and for one, which come last."""

    common: Sequence[str] = ()
    single: Mapping[str, Sequence[str]] = {}

    def of(self, task: str) -> list[str]:
        """The settings of one task."""
        return [*self.common, *self.single.get(task, ())]

    @property
    def hardware(self) -> list[str]:
        """Those for all tasks that say where and how fast a job runs."""
        return [setting for setting in self.common if setting.startswith(HARDWARE)]


def split_assignments(assignments: Sequence[str]) -> tuple[Settings, GlueConfig]:
    """The settings of the jobs, and those of the study."""
    common, single, tree = [], {task: [] for task in TASKS}, {}
    for assignment in assignments:
        head, _, rest = assignment.partition(".")
        if head in single and "=" in rest:
            single[head].append(rest)
        elif head == "glue" and "=" in rest:
            tree = override(tree, [rest])
        else:
            common.append(assignment)
    return Settings(common, single), validate(GlueConfig, tree, where="glue")


def check_settings(model: str, settings: Settings) -> int:
    """Refuse settings that no job could run with, and those that the study decides; returns the first seed."""
    for assignment in [*settings.common, *(each for single in settings.single.values() for each in single)]:
        key = assignment.partition("=")[0]
        if key in ("data", "model"):  # the whole section would replace what the study sets in it
            raise BertkitError(f"{key}: give its settings one by one", hint=f"such as {key}.KEY=VALUE")
        if any(f"{key}.".startswith(f"{ours}.") for ours in OURS):
            hint = "the rows come from --data, the tasks from --tasks"
            raise BertkitError(f"{key}: `glue run` decides this itself", hint=hint)
        if key == "model.checkpoint":
            raise BertkitError("model.checkpoint: the checkpoint of a study is --model", hint="leave it out")
    for task in TASKS:
        if any(setting.startswith("seed=") for setting in settings.single.get(task, ())):
            raise BertkitError(f"{task}.seed: the seeds are the same for all tasks", hint="--seeds N, or seed=FIRST")
        recipe = load_recipe(recipe_tree(task, model, {}, 0), settings.of(task))
    return recipe.seed


def choose_tasks(asked: Sequence[str], source: str | None) -> list[str]:
    """The tasks to run, in GLUE's order."""
    chosen = named_tasks(asked, TASKS)
    there = TASKS if source is None else find_tasks(source)
    if there == ("ax",):
        raise BertkitError(
            f"{source}: it has the diagnostic set only", hint="give a folder that holds CoLA, SST-2 and so on"
        )
    if missing := [task for task in TASKS if task in chosen and task not in there]:
        has = ", ".join(TITLES[task] for task in there)
        raise BertkitError(f"{source}: there is no folder for {TITLES[missing[0]]}", hint=f"it has {has}")
    return [task for task in TASKS if task in (chosen or there)]


def named_tasks(asked: Sequence[str], known: Sequence[str]) -> set[str]:
    """The tasks that `--tasks` names, by their titles or short names, in upper or lower case."""
    names = {**{LAYOUTS[task].title.lower(): task for task in known}, **{task: task for task in known}}
    for name in asked:
        if name.lower() not in names:
            raise BertkitError(f"--tasks: there is no task {name!r}", hint=did_you_mean(name, known))
    return {names[name.lower()] for name in asked}


def check_model(model: str, tasks: Sequence[str], settings: Settings) -> None:
    """Refuse a checkpoint that cannot be read or whose head does not fit, once instead of in every job."""
    from bertkit.models.load import load_config, load_tokenizer

    asked = {task: load_recipe(recipe_tree(task, path_of(model), {}, 0), settings.of(task)).model for task in tasks}
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

"""A recipe is every knob, typed: what is accepted, what enters the fingerprint, what windows a model can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertkit.config import dump_yaml, flatten
from bertkit.errors import BertkitError
from bertkit.recipe import Recipe, WindowsConfig, check_windows, differing_keys, digest, fingerprint, load_recipe
from bertkit.tasks.base import task_class


def recipe_of(*assignments: str, **sections: object) -> Recipe:
    return load_recipe({"task": "sentiment", **sections}, assignments)


def error_of(*assignments: str, **sections: object) -> BertkitError:
    with pytest.raises(BertkitError) as caught:
        recipe_of(*assignments, **sections)
    return caught.value


def test_three_doors_give_the_same_recipe(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("task: {name: nli, labels: [yes, no]}\ntrain: {learning_rate: 2e-5}\nlog:\n")
    by_file = load_recipe(path)
    by_line = load_recipe({"task": "nli"}, ["task.labels=[yes, no]", "train.learning_rate=2e-5"])
    in_python = Recipe(task={"name": "nli", "labels": ["yes", "no"]}, train={"learning_rate": 2e-5})
    assert by_file == by_line == in_python
    assert by_file.train.learning_rate == 2e-5


def test_short_forms_stand_for_the_long_ones():
    assert recipe_of("task=qa", "task.n_best=3").task == {"name": "qa", "n_best": 3}
    assert recipe_of("log.trackers=wandb") == recipe_of("log.trackers=[wandb]")
    assert recipe_of("data.ignore_labels=-").data.ignore_labels == ("-",)
    assert recipe_of("data.train=123").data.train == "123"
    assert [
        recipe_of(f"hardware.padding_free={value}").hardware.padding_free for value in ("true", "false", "auto")
    ] == [
        True,
        False,
        "auto",
    ]
    assert recipe_of("train.steps=1e3", "train.epochs=2.0").train.steps == 1000
    assert recipe_of(task={"name": "nli", "labels": [0, 1]}).task["labels"] == [0, 1]  # the task makes them text


def test_a_section_left_empty_is_the_default():
    assert recipe_of(train=None, seed=None, model=None) == recipe_of()
    assert recipe_of("train.epochs=2", train=None).train.epochs == 2


def test_home_folders_are_written_with_a_tilde():
    assert recipe_of("model.checkpoint=~/bert").model.checkpoint == str(Path.home() / "bert")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.learning_rate=0", "train.learning_rate: Input should be greater than 0, not 0"),
        ("train.epochs=0", "train.epochs: Input should be greater than 0, not 0"),
        (
            "train.epochs=2.5",
            "train.epochs: Input should be a valid integer, got a number with a fractional part, not 2.5",
        ),
        ("train.epochs=true", "train.epochs: Input should be a number, not True"),
        ("train.learning_rate=true", "train.learning_rate: Input should be a number, not True"),
        ("train.adam_betas=[1.5, 0.9]", "train.adam_betas.0: Input should be less than 1, not 1.5"),
        ("train.label_smoothing=1", "train.label_smoothing: Input should be less than 1, not 1"),
        ("train.schedule=poly", "train.schedule: unknown value 'poly'"),
        ("data.validation_share=1", "data.validation_share: Input should be less than 1, not 1"),
        ("data.columns.text=true", "data.columns.text: Input should be a valid "),
        ("data.columns=text", "data.columns: Input should be a valid dictionary, not 'text'"),
        ("windows.max_length=4", "windows.max_length: Input should be greater than or equal to 5, not 4"),
        ("windows.stride=-1", "windows.stride: Input should be greater than or equal to 0, not -1"),
        ("hardware.precision=fp8", "hardware.precision: unknown value 'fp8'"),
        ("hardware.padding_free=maybe", "hardware.padding_free: unknown value 'maybe'"),
        ("model.dropout=1", "model.dropout: Input should be less than 1, not 1"),
        ("seed=-1", "seed: Input should be greater than or equal to 0, not -1"),
        ("seed=1e400", "seed: Input should be a finite number, not inf"),
        ("model=bert", "model is a section with keys, not 'bert'"),
        ("task=null", "task is required"),
        ("task={}", "task: has no name; `bertkit tasks` lists the tasks"),
        ("task.name=[qa]", "task: has no name; `bertkit tasks` lists the tasks"),
        ("train.learning_rte=1", "train: unknown key 'learning_rte'"),
    ],
)
def test_values_out_of_range_are_refused_by_name(assignment, message):
    error = error_of(assignment)
    assert error.message.startswith(message)
    assert error.hint


def test_recipes_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        recipe_of().train.epochs = 4


def test_the_resolved_tree_is_a_recipe_again(tmp_path):
    recipe = recipe_of("data.columns={text: 0, label: Quality}", "train.class_weights={a: 2}", "data.ignore_labels=-")
    (tmp_path / "recipe.yaml").write_text(dump_yaml(recipe.tree()))
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


# the fingerprint

SAME = (
    "hardware.device=cpu",
    "hardware.micro_batch_tokens=5",
    "hardware.padding_free=true",
    "log.every=3",
    "data.train=other.csv",
    "train.keep=3",
    "train.checkpoint_every=7",
    "model.checkpoint=moved",
    "data.columns.text=review",
)
OTHER = (
    "seed=1",
    "train.epochs=4",
    "train.batch_size=8",
    "train.learning_rate=1",
    "train.steps=5",
    "data.train_rows=9",
    "windows.stride=3",
    "task.labels=[a, b]",
    "model.dropout=0.2",
    "model.attention_dropout=0.2",
    "train.order=length",
    "train.evaluate_every=3",
)


@pytest.mark.parametrize("assignment", SAME)
def test_what_changes_speed_or_place_stays_out_of_the_fingerprint(assignment):
    assert fingerprint(recipe_of(assignment), {"precision": "fp32"}) == fingerprint(recipe_of(), {"precision": "fp32"})


@pytest.mark.parametrize("assignment", OTHER)
def test_what_changes_numbers_is_in_the_fingerprint_and_named(assignment):
    ours, theirs = fingerprint(recipe_of(assignment), {}), fingerprint(recipe_of(), {})
    key = assignment.split("=")[0]
    assert [line.split(":")[0] for line in differing_keys(ours, theirs)] == [key]
    assert digest(ours) != digest(theirs)


def test_what_was_chosen_on_the_machine_is_in_the_fingerprint():
    ours = fingerprint(recipe_of(), {"precision": "bf16"})
    assert differing_keys(ours, fingerprint(recipe_of(), {"precision": "fp32"})) == [
        "resolved.precision: 'fp32' -> 'bf16'"
    ]
    assert differing_keys(ours, ours) == []
    assert differing_keys({"a": (1, 2)}, {"a": [1, 2]}) == []  # as JSON keeps it


def test_every_knob_says_what_it_is():
    fields = [
        (name, field)
        for name, section in Recipe.model_fields.items()
        for field in getattr(section.annotation, "model_fields", {name: section}).items()
    ]
    assert len(fields) > 40
    assert [f"{section}.{name}" for section, (name, field) in fields if not field.description] == []
    assert len(flatten(recipe_of().tree())) > 40


# windows


@pytest.mark.parametrize(
    ("asked", "limit", "expected"),
    [
        ({}, 512, (384, 128)),
        ({}, 128, (128, 42)),
        ({"max_length": 64, "stride": 0}, 512, (64, 0)),
        ({"max_length": 64, "stride": 61}, 512, (64, 61)),
        ({"max_length": 5}, 512, (5, 1)),
    ],
)
def test_windows_are_clamped_to_what_the_model_reads(asked, limit, expected):
    windows = check_windows(WindowsConfig(**asked), limit)
    assert (windows.max_length, windows.stride) == expected


@pytest.mark.parametrize(("asked", "limit"), [({"max_length": 64, "stride": 62}, 512), ({"stride": 128}, 128)])
def test_a_stride_that_leaves_no_step_is_refused(asked, limit):
    with pytest.raises(BertkitError) as caught:
        check_windows(WindowsConfig(**asked), limit)
    length = min(asked.get("max_length", 384), limit)
    assert caught.value.message == (
        f"windows.stride: an overlap of {asked['stride']} tokens leaves no step in windows of {length}"
    )
    assert caught.value.hint == f"stride is the overlap, not the step; take at most {length // 2}, or leave it out"


def test_a_module_of_your_own_and_a_library_that_it_lacks_are_told_apart(tmp_path, monkeypatch):
    (tmp_path / "lacking_tasks").mkdir()
    (tmp_path / "lacking_tasks" / "mine.py").write_text("import lacking\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="'lacking'"):
        task_class("lacking_tasks.mine")
    for name in ("lacking_tasks.yours", "lacking.mine"):
        with pytest.raises(BertkitError, match=f"task.name: there is no module '{name}'"):
            task_class(name)
    with pytest.raises(BertkitError, match=r"task.name: unknown task '.mine'"):
        task_class(".mine")

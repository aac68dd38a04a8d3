"""Every recipe that comes with bertkit decodes, is short, and says only what differs from the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertkit.config import flatten, read_yaml
from bertkit.recipe import Recipe, load_recipe
from bertkit.tasks.base import make_task

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name != "launch")  # those are accelerate's
ASSETS = Path(__file__).parents[2] / "bertkit" / "assets"


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def test_there_are_recipes():
    names = set(map(name_of, RECIPES))
    assert len(names) >= 14
    assert {"sentiment/sst2", "nli/mnli", "nli/stance", "pos/ewt", "qa/squad", "qa/squad_v2", "qa/cmrc2018"} <= names
    assert {f"smoke/{task}" for task in ("sentiment", "nli", "pos", "ner", "qa")} <= names


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_a_recipe_decodes_and_its_columns_are_those_of_its_task(path):
    recipe = load_recipe(path)
    task = make_task(recipe.task)
    reads = task.reads
    assert set(recipe.data.columns) <= {"id", task.gold, *reads.text, *reads.words}
    assert recipe.data.train or recipe.data.source
    assert recipe.task["name"] == path.parent.name or path.parent.name == "smoke"


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_a_recipe_is_short_and_begins_with_what_it_is_and_how_to_run_it(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith("# ")
    assert len(lines[0]) > 30
    assert lines[1].startswith("# ")
    assert "bertkit train " in lines[1]
    assert f" {name_of(path)} " in lines[1]
    assert not lines[2].startswith("#")


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_a_recipe_says_only_what_differs_from_the_defaults(path):
    tree = read_yaml(path)
    defaults = flatten(Recipe(task={"name": "x"}).tree()) | {
        f"task.{name}": value
        for name, value in make_task({"name": tree["task"]["name"]}).model_dump(mode="json").items()
    }
    repeated = [f"{key}: {value}" for key, value in flatten(tree).items() if defaults.get(key) == value]
    assert repeated in ([], [f"task.name: {tree['task']['name']}"])


@pytest.mark.parametrize("path", [path for path in RECIPES if path.parent.name == "smoke"], ids=name_of)
def test_smoke_recipes_need_nothing_but_the_package(path):
    recipe = load_recipe(path)
    for name in (recipe.model.checkpoint, recipe.data.train):
        assert name.startswith("bundled:")
        assert (ASSETS / name.removeprefix("bundled:")).exists()
    assert recipe.train.steps == 3

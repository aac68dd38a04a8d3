"""YAML and `key=value` become typed settings, or one line that says what is wrong."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from bertkit.config import FOREIGN_NAMES, Section, dump_yaml, flatten, override, parse_yaml, put, read_yaml, validate
from bertkit.errors import BertkitError
from bertkit.recipe import Recipe, load_recipe


class Colour(Section):
    name: Literal["red", "green"] = Field("red", description="the colour")
    share: float = Field(0.5, ge=0, le=1, description="how much of it")
    weights: Literal["even"] | dict[str, Annotated[float, Field(gt=0)]] | None = None
    places: dict[str, str | int] = Field(default_factory=dict)


class Picture(Section):
    title: str = Field(description="what to call it")
    colour: Colour = Colour()
    size: tuple[int, int] = (1, 1)


def error_of(call, *arguments, **options) -> BertkitError:
    with pytest.raises(BertkitError) as caught:
        call(*arguments, **options)
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


def recipe_error(*assignments: str) -> BertkitError:
    return error_of(load_recipe, {"task": "sentiment"}, assignments)


# YAML


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5),
        ("1e3", 1000.0),
        ("[en, no, off, y]", ["en", "no", "off", "y"]),
        ("true", True),
        ("12:30:00", "12:30:00"),
        ("0o17", 15),
        ("null", None),
        ("'#1 String'", "#1 String"),
    ],
)
def test_yaml_is_read_as_its_version_1_2_says(text, value):
    assert parse_yaml(text, "here") == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1", "here:1: not YAML (expected ',' or ']', but got '<stream end>')"),
        ("a:\n\tb: 1", "here:2: not YAML (found character '\\t' that cannot start any token)"),
        ("a: 1\na: 2", 'here:2: not YAML (found duplicate key "a" with value "2" (original value: "1"))'),
        ("a: !!python/object:os.system x", "here:1: not YAML (could not determine a constructor for the tag"),
        ("a: " + "9" * 5000, "here: not YAML (Exceeds the limit (4300 digits)"),
        ("a: &x {b: *x}", "here: not YAML (it has more than 100,000 values, or an anchor within itself)"),
        ("? [a, b]\n: c", "here: not YAML (keys must be"),
        ("[" * 1000, "here: not YAML (maximum recursion depth exceeded"),
    ],
)
def test_what_is_no_yaml_is_one_error_with_its_line(text, problem):
    error = error_of(parse_yaml, text, "here")
    assert error.message.startswith(problem)
    assert error.hint == "a setting reads `key: value`"


def test_a_recipe_file_is_a_mapping_in_utf_8(tmp_path):
    (tmp_path / "mine.yaml").write_text("- a\n")
    error = error_of(read_yaml, tmp_path / "mine.yaml")
    assert error.message == f"{tmp_path}/mine.yaml: not a mapping of sections"
    error = error_of(read_yaml, tmp_path / "mime.yaml")
    assert error.message == f"{tmp_path}/mime.yaml: there is no such recipe"
    assert error.hint == "did you mean 'mine.yaml'? one of: mine.yaml"
    (tmp_path / "mine.yaml").write_bytes(b"a: \xff")
    assert "cannot be read ('utf-8' codec" in error_of(read_yaml, tmp_path / "mine.yaml").message
    assert "cannot be read" in error_of(read_yaml, tmp_path).message


def test_what_is_dumped_as_yaml_reads_back():
    tree = {"b": {"x": "#1 String", "y": "no", "z": 2e-5}, "a": [None, True, "1", "a: b", "", " x", "é\n我"], "c": {}}
    assert parse_yaml(dump_yaml(tree), "here") == tree
    assert list(parse_yaml(dump_yaml(tree), "here")) == ["b", "a", "c"]


# key=value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5),
        ("3", 3),
        ("-1", -1),
        ("true", True),
        ("null", None),
        ("no", "no"),
        ("[a, b]", ["a", "b"]),
        ("{a: 1}", {"a": 1}),
        ("'3'", "3"),
        ('"#1"', "#1"),
        (" spaced ", "spaced"),
        ("", ""),
        *(
            (text, text)
            for text in ("#1 String", "a #b", "a: b", "a:", "-", "- x", "---", "...", "*", "&a b", "!x", "|")
        ),
        *(
            (text, text)
            for text in ("%", "@x", "`x`", "> x", "?", "!!str 5", "2024-01-01", "a=b", "C:\\x", "é 我", "a, b")
        ),
    ],
)
def test_values_on_the_command_line_are_yaml_where_they_are_plain(text, value):
    assert override({}, [f"a.b={text}"]) == {"a": {"b": value}}


def test_assignments_change_a_copy_and_the_last_wins():
    tree = {"a": {"b": 1, "c": {"d": 2}}}
    assert override(tree, ["a.b=3", "a.c.d=4", "e=5", "a.b=6"]) == {"a": {"b": 6, "c": {"d": 4}}, "e": 5}
    assert tree == {"a": {"b": 1, "c": {"d": 2}}}
    assert put({"a": None}, "a.b", "1") == {"a": {"b": "1"}}


@pytest.mark.parametrize("text", ["a", "", "=1", "--a"])
def test_an_assignment_has_a_key_and_a_value(text):
    error = error_of(override, {}, [text])
    assert error.message == f"{text!r} is not a setting"
    assert error.hint == "write key=value, such as train.epochs=2"


def test_there_is_nothing_below_a_value():
    error = error_of(override, {"model": "bert"}, ["model.checkpoint=x"])
    assert error.message == "model.checkpoint: 'model' is a value, not a section with keys"


def test_a_list_that_does_not_close_is_named_with_its_key():
    assert error_of(override, {}, ["task.labels=[a, b"]).message.startswith("task.labels:1: not YAML (expected ','")


def test_flat_keys_are_dotted():
    assert flatten({"a": {"b": {"c": 1}, "d": {}}, "e": [1]}) == {"a.b.c": 1, "a.d": {}, "e": [1]}


# what is said of a wrong tree


@pytest.mark.parametrize(
    ("tree", "message", "hint"),
    [
        ({}, "title is required", "title: what to call it"),
        ({"title": "x", "colour": {"nam": "red"}}, "colour: unknown key 'nam'", "did you mean 'name'? one of: name,"),
        ({"title": "x", "share": 1}, "recipe: unknown key 'share'", "in bertkit it is colour.share"),
        ({"title": "x", "colour": {"name": "gren"}}, "colour.name: unknown value 'gren'", "did you mean 'green'?"),
        (
            {"title": "x", "colour": {"share": 2}},
            "colour.share: Input should be less than or equal to 1, not 2",
            "share: how",
        ),
        (
            {"title": "x", "colour": {"share": "nan"}},
            "colour.share: Input should be a finite number, not 'nan'",
            "share: ",
        ),
        (
            {"title": "x", "colour": "red"},
            "colour is a section with keys, not 'red'",
            "its keys: name, share, weights, ",
        ),
        ({"title": "x", "colour": {"weights": "evn"}}, "colour.weights: unknown value 'evn'", "did you mean 'even'?"),
        (
            {"title": "x", "colour": {"weights": {"a": 0}}},
            "colour.weights.a: Input should be greater than 0, not 0",
            "",
        ),
        (
            {"title": "x", "colour": {"places": {"a": [1]}}},
            "colour.places.a: Input should be a valid string, not [1]",
            "",
        ),
        ({"title": "x", "size": [1]}, "size.1 is required", ""),
        ({"title": "x", "size": [1, "b"]}, "size.1: Input should be a valid integer, unable to parse string as", ""),
        ({"title": ["x" * 99]}, "title: Input should be a valid string, not ['xxxxxxxxx", "title: what"),
        ({"title": "x", 1: 2}, "1: Keys should be strings, not 1", ""),
        ({"title": "x", None: 2}, "recipe: Keys should be strings, not None", ""),
    ],
)
def test_the_first_mistake_is_named_with_its_place_and_value(tree, message, hint):
    error = error_of(validate, Picture, tree)
    assert error.message.startswith(message)
    assert len(error.message) < 200
    assert error.hint.startswith(hint)


def test_the_place_within_the_recipe_leads_the_message():
    assert error_of(validate, Colour, {"share": -1}, where="a.b").message.startswith("a.b.share: ")
    assert error_of(validate, Colour, {"shar": -1}, where="a.b").message == "a.b: unknown key 'shar'"


@pytest.mark.parametrize("section", ["", "train.", "data.", "hardware.", "windows.", "model."])
def test_foreign_names_are_answered_with_ours(section):
    foreign = {name: ours for ours, names in FOREIGN_NAMES.items() for name in names.split()}
    assert len(foreign) > 40
    for name, ours in foreign.items():
        if f"{section}{name}" != ours:
            error = recipe_error(f"{section}{name}=1")
            assert error.message == f"{section[:-1] or 'recipe'}: unknown key {name!r}"
            assert error.hint == f"in bertkit it is {ours}"


def test_our_answer_to_a_foreign_name_is_a_setting_of_ours():
    known = flatten(Recipe(task={"name": "qa"}).tree())
    for ours in FOREIGN_NAMES:
        name = ours.split("=")[0].split(" ")[0]
        assert name in known or name.startswith(("task.", "--")), ours


@pytest.mark.parametrize(
    ("assignment", "ours"),
    [
        ("warmup_ratio=0.1", "train.warmup"),
        ("train.warmup_ratio=0.1", "train.warmup"),
        ("evaluation_strategy=epoch", "train.evaluate_every"),
        ("overwrite_output_dir=true", "--out with a new name, or --resume"),
        ("train.eval_steps=5", "train.evaluate_every"),
        ("train.max_length=5", "windows.max_length"),
        ("weight_decay=0", "train.weight_decay"),
        ("stride=5", "windows.stride"),
    ],
)
def test_names_that_belong_elsewhere_are_answered_with_their_place(assignment, ours):
    assert recipe_error(assignment).hint.startswith(f"in bertkit it is {ours}")

"""Recipe -> YAML -> recipe is identity, by each of its doors; and any text is a recipe or one error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertkit.config import dump_yaml, flatten, override, parse_yaml
from bertkit.errors import BertkitError
from bertkit.recipe import Recipe, fingerprint, load_recipe

quick = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "a\x85b",
        "a\u2028b",
        "\ufeff",
        "a\nb",
        "#1 String",
        "no",
        "yes",
        "null",
        "~",
        "2e-5",
        "1",
        "01",
        "1_000",
        "0x1f",
        "true",
        "- a",
        "a: b",
        "a #b",
        " x ",
        "'",
        '"',
        "[a",
        "{",
        "*a",
    ]
)
share = st.floats(0, 1, exclude_max=True, allow_subnormal=False)
positive = st.floats(1e-12, 1e12)
count = st.integers(1, 10**9)


def section(**fields: st.SearchStrategy) -> st.SearchStrategy:
    return st.fixed_dictionaries({}, optional=fields)


recipes = st.fixed_dictionaries(
    {"task": st.fixed_dictionaries({"name": st.just("nli")}, optional={"labels": st.lists(text, max_size=3)})},
    optional={
        "model": section(
            checkpoint=text.filter(lambda name: not name.startswith("~")),
            revision=text | st.none(),
            dropout=share | st.none(),
            lowercase=st.booleans() | st.none(),
            replace_head=st.booleans(),
        ),
        "data": section(
            train=text | st.none(),
            columns=st.dictionaries(text, text | st.integers(0, 9), max_size=3),
            ignore_labels=st.lists(text, max_size=3),
            train_rows=count | st.none(),
            skip_bad_rows=st.booleans(),
        ),
        "windows": section(max_length=st.integers(5, 9999), stride=st.integers(0, 99) | st.none()),
        "train": section(
            batch_size=count,
            learning_rate=positive,
            warmup=st.floats(0, 1e6),
            label_smoothing=share,
            schedule=st.sampled_from(["linear", "cosine", "constant"]),
            best_by=text | st.none(),
            class_weights=st.none() | st.just("balanced") | st.dictionaries(text, positive, min_size=1, max_size=3),
            adam_betas=st.tuples(share, share),
            steps=count | st.none(),
        ),
        "log": section(trackers=st.lists(text, max_size=2), project=text),
        "seed": st.integers(0, 2**63 - 1),
    },
)


@quick
@given(tree=recipes)
def test_a_recipe_comes_back_from_yaml(tmp_path, tree):
    recipe = load_recipe(tree)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(recipe.tree()), encoding="utf-8")
    again = load_recipe(path)
    assert again == recipe
    assert again.tree() == recipe.tree()
    assert fingerprint(again, {"x": 1}) == fingerprint(recipe, {"x": 1})
    assert Recipe(**recipe.tree()) == recipe


@quick
@given(tree=recipes.filter(lambda tree: json.dumps(tree, ensure_ascii=False).isprintable()))
def test_settings_on_the_command_line_make_the_same_recipe(tree):
    flat = flatten({name: part for name, part in tree.items() if name != "task"})
    # lists, mappings and text that could be taken for YAML, as a careful user would quote them
    assignments = [
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in flat.items() if key.count(".") < 2
    ]
    whole = {name: part for name, part in tree.get("data", {}).items() if name == "columns"}
    assignments += [f"data.{name}={json.dumps(value, ensure_ascii=False)}" for name, value in whole.items()]
    if isinstance(weights := tree.get("train", {}).get("class_weights"), dict):
        assignments.append(f"train.class_weights={json.dumps(weights, ensure_ascii=False)}")
    assert load_recipe({"task": tree["task"]}, assignments) == load_recipe(tree)


@quick
@given(value=text)
def test_text_on_the_command_line_is_itself_or_what_yaml_says_of_it(value):
    try:
        found = override({}, [f"key={value}"])["key"]
    except BertkitError:
        assert value.strip()[:1] in ("[", "{", "'", '"')
        return
    if isinstance(found, str) and value.strip()[:1] not in ("'", '"'):
        assert found == value.strip()
    elif not isinstance(found, str):
        assert found == parse_yaml(value, "here")


pieces = st.sampled_from(
    [
        *("task", "train", "model", "data", "epochs", "name", "labels", "qa", "nli", "1", "2e-5", "null", "é"),
        *(
            ": ",
            ":",
            "\n",
            "\n  ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "#",
            "'",
            '"',
            "&a ",
            "*a",
            "!!str ",
            "!x",
            "? ",
            "| ",
        ),
        *("> ", "%", "\t", "...", "---", "<<"),
    ]
)


@quick
@given(content=st.lists(pieces, max_size=20).map("".join) | st.text(max_size=60).map(str))
def test_any_text_is_a_recipe_or_one_error(tmp_path, content):
    path: Path = tmp_path / "recipe.yaml"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    try:
        recipe = load_recipe(path)
    except BertkitError as error:
        assert error.message  # noqa: PT017
        assert "\n" not in error.message  # noqa: PT017
    else:
        assert load_recipe(recipe.tree()) == recipe


@pytest.mark.parametrize("name", ["2e-5", "no", "#1 String", "01", "- a", "null"])
def test_quoted_names_stay_names(tmp_path, name):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"task: nli\ndata: {{columns: {{premise: '{name}'}}, train: '{name}'}}\n")
    assert load_recipe(path).data.columns == {"premise": name}
    assert load_recipe(path).data.train == name

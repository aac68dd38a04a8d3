"""Every notebook runs to its end offline, keeps to the public names, and is short, stripped and reachable."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import bertkit
from bertkit.cli import app
from bertkit.cli.recipes import shipped_recipes

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "recipes"))
from run_notebooks import PARAMETERS, execute, names, read, tagged  # noqa: E402

NOTEBOOKS = names()
PICTURES = {
    "sentiment": "svg mark",
    "tagging": "svg mark",
    "nli": "svg",
    "qa": "svg mark",
    "glue": "svg",
    "share": "svg",
}


def code(notebook) -> Iterator[str]:
    """The Python of each cell, without lines for the shell."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield re.sub(r"^\s*[!%].*$", "pass", cell.source, flags=re.M)


def nodes(notebook) -> Iterator[ast.AST]:
    for source in code(notebook):
        yield from ast.walk(ast.parse(source))


def test_there_is_a_notebook_for_every_task_and_each_has_a_twin():
    assert set(NOTEBOOKS) == set(PARAMETERS) == set(PICTURES)
    trained = {node.value for name in NOTEBOOKS for node in nodes(read(name)) if isinstance(node, ast.Constant)}
    assert {"sentiment", "nli", "pos", "ner", "qa"} <= trained


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_to_its_end_and_shows_its_pictures(name, tmp_path):
    done = execute(name, tmp_path)
    drawn, said = "", ""
    for cell in done.cells:
        outputs = cell.get("outputs", ())
        assert not [output for output in outputs if output.output_type == "error"]
        shown = [output.data.get("text/html", "") for output in outputs if "data" in output]
        said += "".join(output.text for output in outputs if output.output_type == "stream")
        # however long a run is, it is one element that was written over
        assert sum('class="bars live"' in one for one in shown) == len(
            re.findall(r"bertkit\.(?:finetune|glue)", cell.source)
        )
        for titles in re.findall(r'\)\["(.*?)"\]$', cell.source, re.M):
            for title in titles.split('", "'):
                assert title in "".join(shown), title
        drawn += "".join(shown)
    assert not re.search(r"^(error|hint|Traceback|warning)\b|Warning:", said, re.M), said
    for tag in PICTURES[name].split():
        assert re.search(f"<(iframe[^>]*&lt;)?{tag}", drawn), tag


def test_an_error_is_two_lines_in_a_notebook_too(tmp_path):
    source = "import bertkit; bertkit.load('nowhere')"
    command = [sys.executable, "-m", "IPython", "--colors=NoColor", f"--ipython-dir={tmp_path}", "-c", source]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.fullmatch("error: nowhere [^\n]*\nhint: [^\n]*\n", done.stdout), done.stdout + done.stderr


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_short_and_holds_no_outputs(name):
    notebook = read(name)
    assert len(notebook.cells) <= 12
    assert len(tagged(notebook, "parameters")) == len(tagged(notebook, "install")) == 1
    for cell in notebook.cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
        assert set(cell.metadata) <= {"tags"}
        assert cell.cell_type == "markdown" or max(map(len, cell.source.splitlines())) <= 120


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_defines_nothing_and_uses_public_names_only(name):
    for node in nodes(read(name)):
        assert not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda)
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.startswith("bertkit.")]
        if isinstance(node, ast.ImportFrom):
            assert not node.module.startswith("bertkit")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bertkit":
            assert node.attr in bertkit.__all__


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_badge_and_the_installation_lead_to_this_repository(name):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = settings["urls"]["Repository"]
    path = address.removeprefix("https://github.com/")
    notebook = read(name)
    (badge,) = re.findall(r"\]\((https://colab[^)]*\.ipynb)\)", notebook.cells[0].source)
    assert badge == f"https://colab.research.google.com/github/{path}/blob/main/recipes/notebooks/{name}.ipynb"
    (install,) = tagged(notebook, "install")
    extras, source = re.fullmatch(
        r'%pip install --quiet "bertkit(?:\[([\w,]+)\])? @ git\+(.*)"', install.source
    ).groups()
    assert source == address
    assert set((extras or "").split(",")) <= {"", *settings["optional-dependencies"]}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_verb_option_and_recipe_that_a_notebook_names_exists(name):
    sources = [cell.source for cell in read(name).cells]
    commands = [words for source in sources for words in re.findall(r"(?:^!|`)bertkit ([^`\n]*)", source, re.M)]
    for words in map(shlex.split, commands):
        command = typer.main.get_command(app)
        while words and hasattr(command, "commands"):
            assert words[0] in command.commands, words
            command, words = command.commands[words[0]], words[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options
    named = {found for source in sources for found in re.findall(r"`(\w+/[\w-]+)`", source)}
    assert named <= set(shipped_recipes())

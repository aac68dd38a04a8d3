"""Help reads well in 80 columns, its examples work, and a shell completes what there is."""

from __future__ import annotations

import io
import shlex
from contextlib import redirect_stdout

import pytest
import typer

from bertkit.cli import GREETING, _guarded, app


def commands(group: object = None, name: str = "bertkit") -> dict[str, object]:
    """`bertkit glue run` and so on -> its command."""
    group = group or typer.main.get_command(app)
    found = {}
    for part, command in group.commands.items():
        found |= commands(command, f"{name} {part}") if hasattr(command, "commands") else {f"{name} {part}": command}
    return found


COMMANDS = commands()


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")


@pytest.mark.parametrize("name", ["bertkit", "bertkit glue", "bertkit recipe", *COMMANDS])
def test_help_fits_80_columns_and_cuts_nothing(bertkit, narrow, name):
    done = bertkit(*name.split()[1:], "--help")
    assert done.code == 0
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\u2026" not in done.out, "rich cuts what is too long"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_calls_its_own_verb_with_options_that_it_has(name):
    command = COMMANDS[name]
    if command.epilog is None:
        assert not [entry for entry in command.params if entry.required and entry.name != "what"], "an example is due"
        return
    example = command.epilog.removeprefix("Example: ").replace("\\[", "[")
    words = shlex.split(example)
    assert " ".join(words).startswith(f"{name} ")
    rest = words[len(name.split()) :]
    command.make_context(name, rest, resilient_parsing=False)  # an unknown option is an error


def test_bertkit_alone_says_how_to_begin(bertkit):
    assert bertkit() == (0, f"{GREETING}\n", "")
    shown = [shlex.split(line)[1:] for line in GREETING.splitlines() if line.startswith("  bertkit ")]
    assert len(shown) == 3
    for verb, *rest in shown:
        COMMANDS[f"bertkit {verb}"].make_context(verb, list(rest))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bertkit tra", {"train"}),
        ("bertkit glue s", {"submit"}),
        ("bertkit train sentiment/rev", {"sentiment/reviews", "sentiment/reviews-zh"}),
        ("bertkit train cla", {"classification", "classification/mrpc", "classification/stsb"}),
        ("bertkit train qa train.ep", {"train.epochs="}),
        ("bertkit train qa task.unan", {"task.unanswerable="}),
        ("bertkit train sentiment task.unan", set()),
        ("bertkit train qa train.schedule=c", {"train.schedule=cosine", "train.schedule=constant"}),
        ("bertkit train qa hardware.compile=", {"hardware.compile=true", "hardware.compile=false"}),
        ("bertkit train qa se", {"seed="}),
        ("bertkit predict ", {"runs/mine", "runs/more/"}),
        ("bertkit report runs/", {"runs/mine", "runs/more/"}),
        ("bertkit report runs/more/", {"runs/more/study"}),
        ("bertkit report {here}/runs/mi", {"{here}/runs/mine"}),
        ("bertkit report ../[", set()),
    ],
)
def test_a_shell_completes(monkeypatch, tmp_path, line, expected):
    for path in ("runs/mine/recipe.yaml", "runs/more/study/study.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_BERTKIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line.format(here=tmp_path))
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(SystemExit):
        _guarded([])
    assert set(out.getvalue().split()) == {word.format(here=tmp_path) for word in expected}

"""What a run says by itself: one line of what it is, every loss, and what to do next."""

from __future__ import annotations

import shlex

import pytest

from bertkit import Findings
from tests.cli.conftest import SMALL
from tests.rows import BUNDLED

DETAILS = ("device: ", "model: ")


@pytest.fixture
def trained(bertkit, tmp_path):
    """`trained("qa", "-v")`: the folder of a run of one step, and what it said."""

    def train(task: str, *settings: str):
        rows = ("data.train_rows=8", "data.validation_rows=4", "train.steps=1", "--out", tmp_path / "a run")
        done = bertkit("train", task, *SMALL, "--train", f"bundled:{BUNDLED[task]}", *rows, *settings)
        assert done.code == 0, done.err
        return tmp_path / "a run", done.err.splitlines()

    return train


@pytest.mark.parametrize("task", BUNDLED)
def test_a_run_says_in_one_line_what_it_is_and_ends_with_commands_that_work(bertkit, trained, task):
    run, said = trained(task)
    assert [line for line in said if line.startswith(f"{task}: 8 train rows, 4 validation rows; bundled:tiny on CPU")]
    assert not [line for line in said if line.startswith(DETAILS)]
    commands = [shlex.split(line) for line in said[-2:]]
    assert [words[:3] for words in commands] == [["next:", "bertkit", "predict"], ["next:", "bertkit", "report"]]
    for words in commands:
        done = bertkit(*words[2:])
        assert (done.code, str(run) in " ".join(words)) == (0, True), done.err


def test_details_are_said_when_asked_for(trained):
    _, said = trained("sentiment", "-v")
    for detail in DETAILS:
        assert [line for line in said if line.startswith(detail)], detail


def test_what_is_cut_is_said_without_being_asked_for(trained):
    _, said = trained("qa", "windows.max_short_length=4")
    for split in ("train", "validation"):
        assert [line for line in said if line.startswith(f"{split}: ") and "with the short side cut to fit" in line]


def test_every_caveat_of_the_findings_is_said(trained):
    run, said = trained("sentiment")
    notes = [finding for finding in Findings.read(run) if finding.kind == "note"]
    assert notes
    for note in notes:
        assert f"{note.title}: {note.text}" in said

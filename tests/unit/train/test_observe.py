"""How far a run is, as people see it."""

from __future__ import annotations

from bertkit.train.loop import Step
from bertkit.train.observe import make_progress


def test_a_notebook_sees_one_line_that_is_written_over(capsys, monkeypatch):
    monkeypatch.setenv("BERTKIT_SPAWNED", "1")
    progress = make_progress(2)
    progress.seconds_between = 0.0
    step = Step(step=1, epoch=0.5, loss=1.0, learning_rate=0.1, gradient_norm=1.0, windows=1, tokens=9, padded=9)
    progress.steps([step])
    progress.steps([step._replace(step=2)])
    progress.say("scored")
    progress.close()
    first, second, said = capsys.readouterr().err.split("\r")
    assert first.startswith("step 1/2 ")
    assert second.startswith("step 2/2 ")
    assert said.rstrip(" \n") == "scored"
    assert said.endswith("\n")
    assert len(said) > len(second.rstrip())  # nothing is left of the line below it

"""Runs that answer together answer as the mean of what each of them says."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from bertkit.errors import BertkitError
from bertkit.models.load import load_tokenizer
from bertkit.recipe import ModelConfig, WindowsConfig
from bertkit.reopen import together
from tests.unit.conftest import TASKS, rows_of

SHORT = "who rises in the oven at night"


def another(ours, seed):
    """The same with other weights, as of another seed."""
    model = copy.deepcopy(ours.model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.5 * torch.randn_like(parameter))
    return replace(ours, model=model)


def ensemble(predictor, name, count=3):
    ours = predictor(TASKS[name])
    alone = [ours, *(another(ours, seed) for seed in range(1, count))]
    return alone, together({f"runs/{number}": one for number, one in enumerate(alone)})


@pytest.mark.parametrize("name", ["sentiment", "several labels", "nli", "pos", "number", "qa", "unanswerable qa"])
def test_outputs_are_the_mean_of_what_each_gives(predictor, name):
    alone, all_ = ensemble(predictor, name)
    (part,) = all_.parts(rows_of(all_.task))

    def logits(one):
        rows = one.outputs(part.store)
        return [output.logits for outputs in rows for output in outputs]

    shares = {"several labels": expit, "sentiment": softmax, "nli": softmax, "pos": softmax}.get(name, np.asarray)
    for *each, averaged in zip(*map(logits, alone), logits(all_), strict=True):
        for number, found in enumerate(averaged):
            wanted = np.mean([shares(one[number]) for one in each], axis=0)
            np.testing.assert_allclose(shares(found), wanted, atol=1e-5)
            assert found.size == 0 or np.abs(np.subtract(each[0][number], each[1][number])).max() > 1e-3, "no test"


def test_a_text_of_one_window_gets_the_mean_probabilities(predictor):
    alone, all_ = ensemble(predictor, "sentiment")
    (found,) = all_.predict([SHORT])
    each = [next(one.predict([SHORT]))["probabilities"] for one in alone]
    assert found["probabilities"] == pytest.approx({label: np.mean([one[label] for one in each]) for label in each[0]})


def test_what_was_tuned_is_averaged(predictor):
    ours = predictor(TASKS["unanswerable qa"])
    theirs = replace(ours, task=ours.task.model_copy(update={"no_answer_threshold": 3.0}))
    assert together({"a": ours, "b": theirs}).task.no_answer_threshold == 1.5


def test_runs_that_read_or_answer_otherwise_are_refused(predictor, tiny):
    ours = predictor(TASKS["qa"])
    theirs = {
        "task": predictor(TASKS["pos"]),
        "task.language": replace(ours, task=ours.task.model_copy(update={"language": "zh"})),
        "tokenizer": replace(ours, tokenizer=load_tokenizer(ModelConfig(checkpoint=str(tiny("albert"))))),
        "windows": replace(ours, maker=copy.copy(ours.maker)),
    }
    theirs["windows"].maker.config = WindowsConfig(max_length=16, stride=8)
    for what, one in theirs.items():
        with pytest.raises(BertkitError, match=f"{what} "):
            together({"a": ours, "b": one})


def test_an_ensemble_is_not_explained(predictor):
    with pytest.raises(BertkitError, match="explain one model"):
        next(ensemble(predictor, "sentiment")[1].explain([SHORT], steps=2))


def expit(logits):
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    return powers / powers.sum(-1, keepdims=True)

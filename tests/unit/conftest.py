"""Predictors of every task, with a random model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bertkit.data.plan import Budget
from bertkit.data.windows import WindowMaker
from bertkit.inference import Predictor
from bertkit.models.load import load_model
from bertkit.recipe import HardwareConfig, ModelConfig, WindowsConfig
from bertkit.tasks.base import Task
from bertkit.tasks.classification import Classification
from bertkit.tasks.nli import NLI
from bertkit.tasks.pos import Pos
from bertkit.tasks.qa import QA
from bertkit.tasks.sentiment import Sentiment
from bertkit.train.device_setup import set_up_device
from tests.families import FAMILIES, tokenizer_of

SIZES = (3, 60, 0, 17, 1, 90, 8)  # in words: one window or many, in no order
TEXTS = ["the old bread rises in the oven at night 北京 cafe\u0301 🙂. " * 9][0].split()
TASKS: dict[str, Task] = {
    "sentiment": Sentiment(labels=("a", "b", "c")),
    "nli": NLI(labels=("a", "b", "c")),
    "several labels": Classification(kind="labels", labels=("a", "b")),
    "number": Classification(kind="number"),
    "pos": Pos(labels=("A", "B", "C")),
    "qa": QA(),
    "unanswerable qa": QA(unanswerable=True),
}


def text_of(size: int) -> str:
    return " ".join(TEXTS[place % len(TEXTS)] for place in range(size))


def rows_of(task: Task) -> list[dict[str, object]]:
    """Rows of all sizes, without gold answers."""
    rows = []
    for id, size in enumerate(SIZES):
        long = {task.reads.text[-1]: text_of(size)} if task.reads.text else {"words": text_of(size).split()}
        rows.append({"id": str(id), **dict.fromkeys(task.reads.text, "who rises"), **long})
    return rows


@pytest.fixture(scope="module")
def predictor(tiny):
    """`predictor(task)`: with a random model that has opinions."""
    made: dict[tuple[Task, str], Predictor] = {}

    def of(task: Task, family: str = "wordpiece", **changes: object) -> Predictor:
        if (task, family) not in made:
            config = ModelConfig(checkpoint=str(tiny(FAMILIES.get(family, family))))
            model = load_model(config, task.head, task.labels, seed=0).model.eval()
            with torch.no_grad():
                # a new head gives all rows about the same
                for name, parameter in model.named_parameters():
                    if not name.startswith(model.base_model_prefix):
                        parameter.mul_(10)
            tokenizer = tokenizer_of(tiny, family, words=bool(task.reads.words))
            maker = WindowMaker(tokenizer.backend_tokenizer, WindowsConfig(max_length=32, stride=8))
            # a new Accelerator would keep the precision of whatever ran before in this process
            accelerator = set_up_device(HardwareConfig(device="cpu", precision="fp32")).accelerator
            made[task, family] = Predictor(task, model, maker, tokenizer, accelerator, Budget(4096, 48))
        return replace(made[task, family], **changes)

    return of

"""Our loop against transformers' Trainer: the same batches, without accumulation and dropout, give the same losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch.utils.data import Dataset, Sampler

from bertkit.data.plan import Plan
from bertkit.run import finetune
from bertkit.rundir import RunDir
from tests.tiny import save_tiny

STEPS, BATCH = 12, 8


class Rows(Dataset):
    """Tokenised rows of the bundled sentiment file, in the order that our run read them."""

    def __init__(self, folder: Path) -> None:
        import csv

        from tests.tiny import ASSETS

        with (ASSETS / "sentiment.csv").open(encoding="utf-8", newline="") as file:
            self.rows = list(csv.DictReader(file))
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict:
        row = self.rows[index]
        encoded = self.tokenizer(row["text"])
        return {**encoded, "labels": ["negative", "positive"].index(row["label"])}


class OurOrder(Sampler):
    """The order of our plan, for Trainer's sampler."""

    def __init__(self, plan: Plan) -> None:
        self.order = np.concatenate([plan.batch(step) for step in range(STEPS)]).tolist()

    def __iter__(self):
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_losses_equal_trainers_without_accumulation(decay: float, tmp_path: Path) -> None:
    checkpoint = save_tiny("bert", tmp_path / "tiny", length=128)
    validation = tmp_path / "one.csv"
    validation.write_text("text,label\nfine,positive\n", encoding="utf-8")
    settings = {
        "batch_size": BATCH,
        "steps": STEPS,
        "epochs": 1,
        "learning_rate": 1e-3,
        "warmup": 0,
        "weight_decay": decay,
    }
    finetune(
        {
            "task": "sentiment", "model": {"checkpoint": str(checkpoint), "dropout": 0.0},
            "data": {"train": "bundled:sentiment.csv", "validation": str(validation)},
            "train": settings, "windows": {"max_length": 128}, "hardware": {"precision": "fp32", "threads": 1},
        },
        tmp_path / "run", quiet=True,
    )  # fmt: skip
    ours = [record["loss"] for record in RunDir(tmp_path / "run").read_history() if "loss" in record]

    rows = Rows(checkpoint)
    plan = Plan(np.ones(len(rows)), BATCH, 1, STEPS, "random", 0)
    # as our run starts: the head is drawn from the seed when the model is loaded
    config = transformers.AutoConfig.from_pretrained(
        checkpoint, num_labels=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        checkpoint, config=config, dtype=torch.float32
    )
    losses: list[float] = []

    class Recorder(transformers.TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in logs:
                losses.append(logs["loss"])

    class Trainer(transformers.Trainer):
        def _get_train_sampler(self, *args):
            return OurOrder(plan)

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "trainer"), per_device_train_batch_size=BATCH, max_steps=STEPS, learning_rate=1e-3,
        weight_decay=decay, lr_scheduler_type="linear", warmup_steps=0, max_grad_norm=1.0, logging_steps=1,
        save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, dataloader_num_workers=0, seed=0,
    )  # fmt: skip
    # Trainer's linear schedule reaches zero one step after its last, as ours does
    Trainer(
        model=model, args=arguments, train_dataset=rows, processing_class=rows.tokenizer, callbacks=[Recorder()]
    ).train()
    assert len(losses) == STEPS
    assert ours == pytest.approx(losses, abs=1e-4)  # Trainer rounds its log to four digits

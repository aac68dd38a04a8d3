"""What the processes of the distributed tests do; run as `python tests/distributed/work.py OUT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.rows import BUNDLED, TASKS

sys.path.insert(0, str(Path(__file__).parents[2]))

ROWS = (7, 8, 9)
WORLDS = (1, 2, 3)  # first in this process itself, as in a notebook that has trained before


def recipe(task: str, **train: object) -> dict:
    """A small run from scratch, in float32, without dropout, whose steps end with uneven shares."""
    return {
        "task": task,
        "model": {"checkpoint": "bundled:tiny", "init": "scratch", "dropout": 0.0},
        "data": {"train": "bundled:" + BUNDLED.get(task, "sentiment.csv"), "train_rows": 25, "validation_rows": 7},
        "windows": {"max_length": 64},
        "train": {
            "batch_size": 8, "steps": 20, "epochs": 20, "learning_rate": 1e-3, "evaluate_every": 9,
            # Adam divides by the size of the gradient; where that is nothing but rounding, so would the step be
            "adam_epsilon": 1e-5, **train,
        },
        "hardware": {"precision": "fp32", "threads": 1, "micro_batch_tokens": 200},
    }  # fmt: skip


def train_and_ask(out: Path, asked: Path, trained: Path) -> None:
    """Train every task; then ask the runs in `trained`, the same for all worlds, about seven, eight and nine rows."""
    from bertkit.launch import is_first
    from bertkit.recipe import load_recipe
    from bertkit.run import finetune, load
    from bertkit.run.pretrain import pretrain
    from bertkit.splits import read_split

    for task in TASKS:
        finetune(recipe(task), out / task, quiet=True)
    sections = {
        name: section for name, section in recipe("sentiment").items() if name in ("model", "train", "hardware")
    }
    text = {"train": [str(asked / "text.txt")], "max_length": 32, "held_out_share": 0.2}
    pretrain({**sections, "corpus": text}, out / "pretrain", quiet=True)
    # two rows a step for three ranks; and a step whose one long row is dealt as windows to all
    finetune(recipe("sentiment", batch_size=2, steps=6), out / "few", quiet=True)
    long = recipe("sentiment", batch_size=1, steps=4)
    long["data"] = {"train": str(asked / "long.jsonl"), "validation": str(asked / "long.jsonl")}
    finetune(long, out / "long", quiet=True)
    for task in TASKS:
        predictor = load(trained / task)
        for rows in ROWS:
            name = next(asked.glob(f"{task}-{rows}.*"))
            found = read_split(load_recipe(recipe(task)), predictor.task, str(name), "test").rows
            scores, _ = predictor.evaluate(list(predictor.parts(found)))
            answers = [{"id": row["id"], **answer} for row, answer in zip(found, predictor.predict(found), strict=True)]
            if is_first():
                (out / f"{task}-{rows}.json").write_text(json.dumps([scores, answers]))


if __name__ == "__main__":
    from bertkit import spawn

    folder = Path(sys.argv[1])
    for world in WORLDS:
        spawn(train_and_ask, world, folder / str(world), folder / "asked", folder / str(WORLDS[0]), cpu=True)

"""What everyday options do on real data: short runs on 2,000 rows of SST-2, and the table of recipes/README.md.

    BERTKIT_DATA=FOLDER python recipes/options.py --model CHECKPOINT --out runs/options [NAME ...]

A run that is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from safetensors.numpy import load_file

from bertkit.rundir import RunDir, latest

DATA = Path(os.environ.get("BERTKIT_DATA", "data")) / "glue" / "SST-2"
COMMON = (
    "data.columns.text=sentence", "data.train_rows=2000", "train.learning_rate=1e-4", "train.epochs=2",
    "hardware.threads=1", "hardware.precision=fp32",
)  # fmt: skip


class Option(NamedTuple):
    """One run: what differs from a plain one. `{NAME}` in a setting is the folder of the run of that name."""

    name: str
    settings: tuple[str, ...]


OPTIONS = (
    Option("plain", ()),
    *(Option(f"seed-{seed}", (f"seed={seed}",)) for seed in range(1, 5)),
    Option("freeze-embeddings", ("model.freeze=embeddings",)),
    Option("freeze-3", ("model.freeze=3",)),
    Option("freeze-encoder", ("model.freeze=encoder", "train.learning_rate=1e-3")),
    Option("layer-decay", ("train.layer_decay=0.8",)),
    Option("head-rate", ("train.head_learning_rate=1e-3",)),
    Option("lora", ("model.adapter=lora", "train.learning_rate=1e-3")),
    Option("dora", ("model.adapter=dora", "train.learning_rate=1e-3")),
    Option("ia3", ("model.adapter=ia3", "train.learning_rate=5e-3")),
    Option("more-rows", ("data.train_rows=10000", "train.epochs=1")),
    Option("teacher", ("train.teacher={more-rows}",)),
    Option(
        "other-rows",
        (
            "data.columns.text=text",
            "data.train=bundled:reviews.csv",
            "data.train_rows=null",
            "data.validation=null",
            "data.labels={negative: 0, positive: 1}",
        ),
    ),
    Option("continued", ("model.checkpoint={other-rows}",)),
)


def filled(setting: str, out: Path) -> str:
    """A setting with the folders of the runs that it names."""
    for other in OPTIONS:
        setting = setting.replace(f"{{{other.name}}}", str(out / other.name))
    return setting


def train(option: Option, model: str, out: Path, more: list[str]) -> tuple[RunDir, float]:
    """One run, in a process of its own, and the processor seconds of that."""
    folder = out / option.name
    files = [f"model.checkpoint={model}", f"data.train={DATA / 'train.tsv'}", f"data.validation={DATA / 'dev.tsv'}"]
    settings = [filled(one, out) for one in option.settings]
    arguments = ["train", "sentiment", "--out", str(folder), "--quiet", *files, *COMMON, *settings, *more]
    run, noted = RunDir(folder), out / f"{option.name}.json"
    if not run["metrics.json"].exists():
        process = subprocess.Popen([sys.executable, "-m", "bertkit", *arguments], stdout=sys.stderr)  # noqa: S603
        _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"bertkit {' '.join(arguments)} failed")
        noted.write_text(json.dumps(used.ru_utime + used.ru_stime))
    return run, json.loads(noted.read_text())


def trained_weights(run: RunDir) -> int:
    """Weights that have a moment in the last checkpoint."""
    moments = load_file(latest(run.checkpoints) / "optimizer.safetensors")
    return sum(moment.size for name, moment in moments.items() if name.endswith("/exp_avg"))


def main() -> None:
    """Run what was asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="runs to do; all when none is named")
    parser.add_argument("--model", required=True, help="folder of the checkpoint")
    parser.add_argument("--out", type=Path, default=Path("runs/options"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of every run")
    asked = parser.parse_args()
    print("| run | settings | rows | accuracy | trained weights | `model/`, MB | processor s |")
    print("|---|---|---|---|---|---|---|")
    for option in OPTIONS:
        if not asked.names or option.name in asked.names:
            run, seconds = train(option, asked.model, asked.out, asked.set)
            metrics = run.read_json("metrics.json")
            size = sum(file.stat().st_size for file in run.model.iterdir()) / 1e6
            print(f"| {option.name} | {' '.join(f'`{one}`' for one in option.settings)} | {metrics['rows']:,} | "
                  f"{100 * metrics['accuracy']:.2f} | {trained_weights(run):,} | {size:.1f} | "
                  f"{seconds:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

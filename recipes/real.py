"""Fine-tune the 6-layer checkpoint on real data and write the table of recipes/README.md.

    BERTKIT_DATA=FOLDER python recipes/real.py --model CHECKPOINT --out runs/real [NAME ...]

A run that is there already is not run again. The folder's layout is described in recipes/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

DATA = Path(os.environ.get("BERTKIT_DATA", "data"))


class Real(NamedTuple):
    """One run: a task, its files and the settings that differ from the defaults."""

    name: str
    task: str
    train: str
    validation: str | None
    settings: tuple[str, ...]
    test: str | None = None
    more: tuple[str, ...] = ()  # files that the finished run is scored on


PAIRS = ("data.columns.premise=sentence1", "data.columns.hypothesis=sentence2")
RUNS = (
    Real("sst2", "sentiment", "glue/SST-2/train.tsv", "glue/SST-2/dev.tsv",
         ("data.columns.text=sentence", "data.train_rows=20000", "train.epochs=1", "train.learning_rate=1e-4")),
    Real("mrpc", "classification", "glue/MRPC/train.tsv", "glue/MRPC/dev.tsv",
         ("task.pair=true", "task.positive=1", "data.columns.text=#1 String", "data.columns.second=#2 String",
          "data.columns.label=Quality", "train.epochs=3", "train.learning_rate=1e-4")),
    Real("rte", "nli", "glue/RTE/train.tsv", "glue/RTE/dev.tsv", (*PAIRS, "train.epochs=3", "train.learning_rate=1e-4")),
    Real("wnli", "nli", "glue/WNLI/train.tsv", "glue/WNLI/dev.tsv", (*PAIRS, "train.epochs=3", "train.learning_rate=2e-5")),
    Real("ewt", "pos", "ud/en_ewt/en_ewt-ud-train.conllu", "ud/en_ewt/en_ewt-ud-dev.conllu",
         ("train.epochs=2", "train.learning_rate=2e-4"), test="ud/en_ewt/en_ewt-ud-test.conllu"),
    Real("mnli", "nli", "derived/mnli-train.tsv", "derived/mnli-dev.tsv",
         (*PAIRS, "data.columns.label=gold_label", "train.epochs=2", "train.learning_rate=1e-4")),
    Real("squad", "qa", "squad/train_v1.1-style_15articles.json", "squad/dev-v1.1.json",
         ("train.epochs=1", "train.learning_rate=1e-4", "model.dropout=0"), more=("xquad/xquad.de.json", "xquad/xquad.ar.json")),
    Real("cmrc", "qa", "cmrc2018/cmrc2018_trial.json", None,
         ("task.language=zh", "data.skip_bad_rows=true", "train.epochs=1", "train.learning_rate=1e-4", "model.dropout=0")),
)  # fmt: skip


def derive(folder: Path) -> None:
    """The MNLI subset cut in two: its first 18,000 rows to train on, its last 2,000 to score."""
    lines = (DATA / "glue/MNLI/train_subset.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mnli-train.tsv").write_text("".join(lines[:18001]), encoding="utf-8")
    (folder / "mnli-dev.tsv").write_text("".join([lines[0], *lines[-2000:]]), encoding="utf-8")


def bertkit(*arguments: str) -> dict:
    """Run one command and return what it says with --json."""
    print("bertkit", *arguments, file=sys.stderr, flush=True)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "bertkit", *arguments, "--json"], stdout=subprocess.PIPE, check=True, text=True
    )
    return json.loads(done.stdout)


def run(real: Real, model: str, out: Path, settings: list[str]) -> list[dict]:
    """One run and its further files, each as one row of the table."""

    def path(name: str) -> str:
        return str(out / name if name.startswith("derived/") else DATA / name)

    arguments = ["train", real.task, "--model", model, "--train", path(real.train), "--out", str(out / real.name)]
    for flag, name in (("--validation", real.validation), ("--test", real.test)):
        if name:
            arguments += [flag, path(name)]
    resume = ["--resume"] if (out / real.name).exists() else []
    metrics = bertkit(*arguments, *resume, *real.settings, *settings)
    rows = [{"run": real.name, "split": split, "seconds": metrics["train"]["seconds"], **scores}
            for split, scores in metrics["splits"].items()]  # fmt: skip
    for name in real.more:
        rows.append({"run": real.name, "split": name, **bertkit("evaluate", str(out / real.name), "--data", path(name), *settings)})
    return rows


def main() -> None:
    """Run what was asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="runs to do; all when none is named")
    parser.add_argument("--model", required=True, help="folder of the checkpoint")
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a further setting of every run")
    options = parser.parse_args()
    derive(options.out / "derived")
    rows = []
    for real in RUNS:
        if not options.names or real.name in options.names:
            rows += run(real, options.model, options.out, options.set)
    shown = ("accuracy", "f1_macro", "matthews", "f1", "exact_match")
    print(f"| run | split | rows | {' | '.join(shown)} | training, s |\n|{'---|' * (len(shown) + 4)}")
    for row in rows:
        scores = [f"{100 * row[name]:.2f}" if row.get(name) is not None else "undefined" if name in row else "" for name in shown]
        print(f"| {row['run']} | {row['split']} | {row['rows']:,} | {' | '.join(scores)} | {row.get('seconds', '')} |")


if __name__ == "__main__":
    main()

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
    Real(
        "sst2",
        "sentiment",
        "glue/SST-2/train.tsv",
        "glue/SST-2/dev.tsv",
        ("data.columns.text=sentence", "data.train_rows=20000", "train.epochs=1", "train.learning_rate=1e-4"),
    ),
    Real(
        "mrpc",
        "classification",
        "glue/MRPC/train.tsv",
        "glue/MRPC/dev.tsv",
        (
            "task.pair=true",
            "task.positive=1",
            "data.columns.text=#1 String",
            "data.columns.second=#2 String",
            "data.columns.label=Quality",
            "train.epochs=3",
            "train.learning_rate=1e-4",
        ),
    ),
    Real(
        "rte", "nli", "glue/RTE/train.tsv", "glue/RTE/dev.tsv", (*PAIRS, "train.epochs=3", "train.learning_rate=1e-4")
    ),
    Real(
        "wnli",
        "nli",
        "glue/WNLI/train.tsv",
        "glue/WNLI/dev.tsv",
        (*PAIRS, "train.epochs=3", "train.learning_rate=2e-5"),
    ),
    Real(
        "ewt",
        "pos",
        "ud/en_ewt/en_ewt-ud-train.conllu",
        "ud/en_ewt/en_ewt-ud-dev.conllu",
        ("train.epochs=2", "train.learning_rate=2e-4"),
        test="ud/en_ewt/en_ewt-ud-test.conllu",
    ),
    Real(
        "mnli",
        "nli",
        "derived/mnli-train.tsv",
        "derived/mnli-dev.tsv",
        (*PAIRS, "data.columns.label=gold_label", "train.epochs=2", "train.learning_rate=1e-4"),
    ),
    Real(
        "squad",
        "qa",
        "squad/train_v1.1-style_15articles.json",
        "squad/dev-v1.1.json",
        ("train.epochs=1", "train.learning_rate=1e-4", "model.dropout=0"),
        more=("xquad/xquad.de.json", "xquad/xquad.ar.json"),
    ),
    Real(
        "cmrc",
        "qa",
        "cmrc2018/cmrc2018_trial.json",
        None,
        (
            "task.language=zh",
            "data.skip_bad_rows=true",
            "train.epochs=1",
            "train.learning_rate=1e-4",
            "model.dropout=0",
        ),
    ),
)


COVERED = (
    (
        "qa",
        (
            "squad/dev-v1.1.json",
            "squad/train_v1.1-style_15articles.json",
            "squad_v2/dev-v2.0_cs224n_half.json",
            "squad_v2/train-v2.0_first11articles.json",
            "xquad/xquad.en.json",
            "xquad/xquad.de.json",
            "xquad/xquad.ar.json",
            "tydiqa/tydiqa.goldp.en.train.json",
            "cmrc2018/cmrc2018_trial.json",
        ),
    ),
    (
        "pos",
        (
            "ud/en_ewt/en_ewt-ud-train.conllu",
            "ud/en_ewt/en_ewt-ud-dev.conllu",
            "ud/en_ewt/en_ewt-ud-test.conllu",
            "ud/de_gsd/de_gsd-ud-dev.conllu",
        ),
    ),
)


def coverage(model: str) -> None:
    """Print what an oracle reaches on every file with spans or words, in windows of 384 tokens, 128 shared."""
    from bertkit.data.labels import resolve_labels
    from bertkit.data.sources import read_rows
    from bertkit.data.windows import WindowMaker
    from bertkit.encode import cover, cut_rows
    from bertkit.models.load import load_tokenizer
    from bertkit.recipe import ModelConfig, WindowsConfig, check_windows
    from bertkit.tasks.base import make_task

    maker = WindowMaker(
        load_tokenizer(ModelConfig(checkpoint=model)).backend_tokenizer, check_windows(WindowsConfig(), 512)
    )
    print("| file | rows | bad rows | windows | reached | at any length | not reached, such as |")
    print("|---|---|---|---|---|---|---|")
    for name, files in COVERED:
        for file in files:
            task = make_task({"name": name} | ({"unanswerable": True} if "v2" in file else {}))
            found = read_rows(
                str(DATA / file), task.reads, skip_bad_rows=True, unanswerable=getattr(task, "unanswerable", False)
            )
            if name == "pos":
                seen = {tag for row in found.rows for tag in row["tags"]}
                task = task.model_copy(update={"labels": resolve_labels(seen, inventory=task.inventory)})
            parts = [cut_rows(task, found.rows, maker)]
            reach = cover(task, parts)
            # answers of more than 30 tokens are out of reach by task.max_answer_length alone
            longer = task.model_copy(update={"max_answer_length": 384}) if name == "qa" else task
            any_length = cover(longer, parts).reached / reach.rows
            missed = f"{len(reach.unreached)}: {', '.join(reach.unreached[:3])}" if reach.unreached else "none"
            share = reach.reached / reach.rows
            counts = f"{reach.rows:,} | {len(found.skipped)} | {reach.windows:,}"
            print(f"| {file} | {counts} | {share:.4f} | {any_length:.4f} | {missed} |", flush=True)


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
    rows = [
        {"run": real.name, "split": split, "seconds": metrics["train"]["seconds"], **scores}
        for split, scores in metrics["splits"].items()
    ]
    for name in real.more:
        rows.append(
            {
                "run": real.name,
                "split": name,
                **bertkit("evaluate", str(out / real.name), "--data", path(name), *settings),
            }
        )
    return rows


def main() -> None:
    """Run what was asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="runs to do; all when none is named")
    parser.add_argument("--model", required=True, help="folder of the checkpoint")
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a further setting of every run"
    )
    parser.add_argument("--coverage", action="store_true", help="only print what an oracle reaches on each file")
    options = parser.parse_args()
    if options.coverage:
        coverage(options.model)
        return
    derive(options.out / "derived")
    rows = []
    for real in RUNS:
        if not options.names or real.name in options.names:
            rows += run(real, options.model, options.out, options.set)
    shown = ("accuracy", "f1_macro", "matthews", "f1", "exact_match")
    print(f"| run | split | rows | {' | '.join(shown)} | training, s |\n|{'---|' * (len(shown) + 4)}")
    for row in rows:
        scores = [
            f"{100 * row[name]:.2f}" if row.get(name) is not None else "undefined" if name in row else ""
            for name in shown
        ]
        print(f"| {row['run']} | {row['split']} | {row['rows']:,} | {' | '.join(scores)} | {row.get('seconds', '')} |")


def _percent(row: dict, name: str) -> str:
    if name not in row:
        return ""
    return "undefined" if row[name] is None else f"{100 * row[name]:.2f}"


if __name__ == "__main__":
    main()

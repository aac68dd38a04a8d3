"""bertkit beside plain transformers code, on the same rows, batches and threads: `make bench-peers`.

    BERTKIT_DATA=FOLDER python tests/peers/bench_official.py --model CHECKPOINT [--only sst2] [--accuracy] [--out FILE]

Sides: `a` pads every text to the full length, as the example scripts of transformers do by default; `b` pads to the
longest of a batch; `c` is Trainer at its best: batches of similar length, bf16 where it is faster, evaluation in
batches of 64. `d` and `e` are bertkit, with train.order=random and length. All train with fused AdamW.

Within a work load the sides take turns in one process; ratios are of the same round, medians over rounds. Of the order
of batches that each side has, a few stand for all; speeds are normalised by their tokens. Then whole processes take
turns, from import to saved model; each says its score.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
SIDES = {
    "a": "Trainer, padded to full length",
    "b": "Trainer, padded to the longest of a batch",
    "c": "Trainer at its best",
    "d": "bertkit",
    "e": "bertkit, train.order=length",
}
SCORED = 1000  # rows that whole processes are scored on, at most
ORDERS = {"d": "random", "e": "length"}
RATE = 1e-4


class Load(NamedTuple):
    """A kind of work: where its rows are, and how both sides read them."""

    name: str
    train: str
    evaluation: str
    batch: int
    length: int
    steps: int  # of a turn
    rows: int  # of an evaluation
    bertkit: tuple[str, ...]  # task and settings


LOADS = (
    Load("sst2", "glue/SST-2/train.tsv", "glue/SST-2/dev.tsv", 32, 128, 6, 256,
         ("sentiment", "data.columns.text=sentence")),
    Load("mrpc", "glue/MRPC/train.tsv", "glue/MRPC/dev.tsv", 32, 128, 4, 128,
         ("classification", "task.pair=true", "task.positive=1", "data.columns.text=#1 String",
          "data.columns.second=#2 String", "data.columns.label=Quality")),
    Load("squad", "squad/train_v1.1-style_15articles.json", "squad/dev-v1.1.json", 8, 384, 4, 48, ("qa",)),
    Load("ewt", "ud/en_ewt/en_ewt-ud-train.conllu", "ud/en_ewt/en_ewt-ud-dev.conllu", 32, 128, 6, 256, ("pos",)),
)  # fmt: skip


def cut(source: Path, rows: int, target: Path) -> None:
    """The first rows of a file, in a file of their own that both sides read."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".json":
        left, kept = rows, []
        for document in json.loads(text)["data"]:
            for paragraph in document["paragraphs"]:
                questions = paragraph["qas"][:left]
                left -= len(questions)
                if questions:
                    kept.append({"title": "", "paragraphs": [{**paragraph, "qas": questions}]})
        text = json.dumps({"version": "1.1", "data": kept})
    elif source.suffix == ".conllu":
        text = "\n\n".join(text.strip().split("\n\n")[:rows]) + "\n\n"
    else:
        text = "".join(text.splitlines(keepends=True)[: rows + 1])
    target.write_text(text, encoding="utf-8")


def sides_of(load: Load) -> list[str]:
    """The token-classification script pads to the longest of a batch by itself, so there is no `a`."""
    return [side for side in SIDES if not (side == "a" and load.name == "ewt")]


# ---------------------------------------------------------------- plain transformers


def read_plain(file: Path) -> list[dict]:
    """Rows as dicts, with nothing of bertkit."""
    if file.suffix == ".json":
        return [
            {"id": question["id"], "question": question["question"].strip(), "context": paragraph["context"],
             "answers": question["answers"]}
            for document in json.loads(file.read_text(encoding="utf-8"))["data"]
            for paragraph in document["paragraphs"] for question in paragraph["qas"]
        ]  # fmt: skip
    if file.suffix == ".conllu":
        rows = []
        for block in file.read_text(encoding="utf-8").strip().split("\n\n"):
            cells = [line.split("\t") for line in block.split("\n") if not line.startswith("#")]
            words = [cell for cell in cells if cell[0].isdigit()]
            rows.append({"words": [cell[1] for cell in words], "tags": [cell[3] for cell in words]})
        return rows
    with file.open(encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    if "Quality" in rows[0]:
        return [{"text": r["#1 String"], "second": r["#2 String"], "label": int(r["Quality"])} for r in rows]
    return [{"text": row["sentence"], "label": int(row["label"])} for row in rows]


class Plain:
    """One Trainer, its rows and its way to score."""

    def __init__(self, load: Load, side: str, files: Sequence[Path], model: str, seed: int, folder: Path) -> None:
        import datasets
        import transformers
        from transformers import AutoTokenizer

        datasets.disable_progress_bars()
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        self.load, self.side = load, side
        self.rows = [read_plain(file) for file in files]
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.tags = sorted({tag for row in self.rows[0] for tag in row.get("tags", ())})
        self.sets = [
            datasets.Dataset.from_list(rows).map(self._encode, batched=True, remove_columns=list(rows[0]))
            for rows in self.rows
        ]
        self.lengths = [sum(mask) for mask in self.sets[0]["attention_mask"]]
        self.trainer = self._trainer(model, seed, folder)

    def _encode(self, batch: dict) -> dict:
        options = {"max_length": self.load.length, "padding": "max_length" if self.side == "a" else False}
        if "context" in batch:
            return self._encode_questions(batch, options)
        if "words" not in batch:
            texts = [batch[name] for name in ("text", "second") if name in batch]
            return {**self.tokenizer(*texts, truncation=True, **options), "labels": batch["label"]}
        encoded = self.tokenizer(batch["words"], is_split_into_words=True, truncation=True, **options)
        encoded["labels"] = []
        for place, tags in enumerate(batch["tags"]):
            words = encoded.word_ids(place)
            firsts = [word is not None and word != before for before, word in zip([None, *words], words, strict=False)]
            known = {tag: number for number, tag in enumerate(self.tags)}
            encoded["labels"].append(
                [known.get(tags[word], -100) if first else -100 for word, first in zip(words, firsts, strict=True)]
            )
        return encoded

    def _encode_questions(self, batch: dict, options: dict) -> dict:
        encoded = self.tokenizer(
            batch["question"], batch["context"], truncation="only_second", stride=128, return_overflowing_tokens=True,
            return_offsets_mapping=True, **options,
        )  # fmt: skip
        of = encoded.pop("overflow_to_sample_mapping")
        encoded |= {"start_positions": [], "end_positions": [], "row": [batch["id"][row] for row in of]}
        for place, row in enumerate(of):
            sides = encoded.sequence_ids(place)
            spans = [
                span if side == 1 else None for span, side in zip(encoded["offset_mapping"][place], sides, strict=True)
            ]
            answer = batch["answers"][row][0]
            begin = answer.get("answer_start")
            end = begin + len(answer["text"])
            inside = [number for number, span in enumerate(spans) if span and span[0] < end and span[1] > begin]
            is_whole = inside and spans[inside[0]][0] <= begin and spans[inside[-1]][1] >= end
            encoded["start_positions"].append(inside[0] if is_whole else 0)
            encoded["end_positions"].append(inside[-1] if is_whole else 0)
            encoded["offset_mapping"][place] = [span or (-1, -1) for span in spans]
        return encoded

    def _trainer(self, model: str, seed: int, folder: Path):
        import torch
        import transformers

        from bertkit.train.device_setup import WORTHWHILE_GAIN, bf16_gain

        best, device = self.side == "c", "cuda" if torch.cuda.is_available() else "cpu"
        classes = {"squad": "QuestionAnswering", "ewt": "TokenClassification"}
        auto = getattr(transformers, f"AutoModelFor{classes.get(self.load.name, 'SequenceClassification')}")
        transformers.set_seed(seed)
        labels = {} if self.load.name == "squad" else {"num_labels": len(self.tags) or 2}
        network = auto.from_pretrained(model, dtype=torch.float32, **labels)
        arguments = transformers.TrainingArguments(
            output_dir=str(folder), per_device_train_batch_size=self.load.batch, num_train_epochs=1,
            per_device_eval_batch_size=64 if best else self.load.batch, learning_rate=RATE, weight_decay=0.01,
            warmup_steps=len(self.sets[0]) // self.load.batch // 10, optim="adamw_torch_fused", seed=seed,
            train_sampling_strategy="group_by_length" if best else "random",
            bf16=best and bf16_gain(device) > WORTHWHILE_GAIN, use_cpu=device == "cpu", report_to="none",
            save_strategy="no", disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        collator = transformers.DataCollatorWithPadding(self.tokenizer)
        if self.load.name == "ewt":
            collator = transformers.DataCollatorForTokenClassification(self.tokenizer)
        self.ends: list[tuple[float, float]] = []
        ends = self.ends

        class Clock(transformers.TrainerCallback):
            def on_step_end(self, args, state, control, **kwargs):
                ends.append((time.perf_counter(), time.process_time()))

        trainer = transformers.Trainer(
            model=network, args=arguments, train_dataset=self.sets[0], eval_dataset=self.sets[1],
            processing_class=self.tokenizer, data_collator=collator, callbacks=[Clock()],
        )  # fmt: skip
        trainer.remove_callback(transformers.PrinterCallback)
        return trainer

    def score(self) -> dict[str, float]:
        """Predict for the evaluation rows, decode and score."""
        import numpy as np

        found = self.trainer.predict(self.sets[1])
        order = list(range(len(self.sets[1])))
        if self.side == "c":  # answers come in the order of Trainer's own sampler
            order = list(self.trainer._get_eval_sampler(self.sets[1]))
        if self.load.name == "squad":
            return self._score_questions(found.predictions, order)
        right = found.label_ids != -100
        return {"accuracy": float(np.mean((found.predictions.argmax(-1) == found.label_ids)[right]))}

    def _score_questions(self, logits: Sequence, order: Sequence[int]) -> dict[str, float]:
        import numpy as np

        from bertkit.metrics.squad import squad

        best: dict[str, tuple[float, tuple[int, int]]] = {}
        for place, number in enumerate(order):
            feature = self.sets[1][number]
            spans = feature["offset_mapping"]
            start, end = (side[place][: len(spans)] for side in logits)
            for first in np.argsort(-start)[:20].tolist():
                for last in np.argsort(-end)[:20].tolist():
                    if spans[first][0] < 0 or spans[last][0] < 0 or not first <= last < first + 30:
                        continue
                    found = (float(start[first] + end[last]), (spans[first][0], spans[last][1]))
                    best[feature["row"]] = max(best.get(feature["row"], found), found)
        answers = [row["context"][slice(*best.get(row["id"], (0, (0, 0)))[1])] for row in self.rows[1]]
        return squad(answers, [[answer["text"] for answer in row["answers"]] for row in self.rows[1]], "en")


def plain_turns(plain: Plain) -> tuple[Callable, Callable]:
    """(train, evaluate) of a Trainer, for turns within one process."""
    import numpy as np
    import torch

    from bertkit.studies.bench.counting import Sample, timed
    from bertkit.train.device_setup import way_back

    enter, trainer, batch, count = way_back(), plain.trainer, plain.load.batch, plain.load.steps
    torch.manual_seed(0)
    order = list(trainer._get_train_sampler(plain.sets[0]))
    batches = [order[start : start + batch] for start in range(0, len(order) - batch + 1, batch)]
    batches.sort(key=lambda rows: sum(plain.lengths[row] for row in rows))
    chosen = [batches[int((place + 0.5) / count * len(batches))] for place in range(count)]
    tokens = sum(plain.lengths[row] for rows in chosen for row in rows)
    longest = [plain.load.length if plain.side == "a" else max(plain.lengths[row] for row in rows) for rows in chosen]

    class Order(torch.utils.data.Sampler):
        def __iter__(self) -> Iterator[int]:
            return iter([row for rows in [chosen[0], *chosen] for row in rows])

        def __len__(self) -> int:
            return (count + 1) * batch

    trainer._get_train_sampler = lambda *given: Order()
    trainer.args.max_steps = count + 1
    evaluated = [sum(mask) for mask in plain.sets[1]["attention_mask"]]

    def train() -> Sample:
        enter()
        plain.ends.clear()
        trainer.train()
        # Trainer wraps the forward pass each time it is asked to train
        trainer.model.__dict__.pop("forward", None)
        assert len(plain.ends) == count + 1
        wall, cpu = np.subtract(plain.ends[-1], plain.ends[0]).tolist()
        return Sample(wall, cpu, count * batch, tokens, batch * sum(longest))

    def evaluate() -> Sample:
        enter()
        return Sample(*timed(plain.score), len(plain.rows[1]), sum(evaluated))

    return train, evaluate


# ---------------------------------------------------------------- bertkit


def settings_of(load: Load, side: str, files: Sequence[Path], model: str, seed: int, threads: int) -> list[str]:
    """Arguments of `bertkit train` that do the same work."""
    return [
        *load.bertkit, f"model.checkpoint={model}", f"data.train={files[0]}", f"data.validation={files[1]}",
        f"windows.max_length={load.length}", f"train.batch_size={load.batch}", f"train.learning_rate={RATE}",
        "train.epochs=1", f"train.order={ORDERS[side]}", f"hardware.threads={threads}", f"seed={seed}",
        *(("windows.stride=128",) if load.name == "squad" else ()),
    ]  # fmt: skip


def our_turns(
    load: Load, side: str, files: Sequence[Path], model: str, threads: int
) -> tuple[Callable, Callable, float]:
    """(train, evaluate, mean tokens of a window) of bertkit, for turns within one process."""
    from bertkit.recipe import load_recipe
    from bertkit.studies.bench.lanes import open_bench, open_lane

    task, *settings = settings_of(load, side, files, model, 0, threads)
    bench = open_bench(load_recipe({"task": task}, settings), say=lambda text: None)
    lane = open_lane(bench, (), load.steps)
    parts = list(lane.answerer.parts(bench.material.splits.validation))

    def train():
        lane.train(1)
        return lane.train(load.steps)

    return train, lambda: lane.evaluate(parts), float(bench.material.train.store.lengths.mean())


# ---------------------------------------------------------------- turns and tables


def in_turns(load: Load, files: Sequence[Path], model: str, rounds: int, threads: int, folder: Path) -> dict:
    """Training steps and evaluation of all sides, in turns within this process."""
    from bertkit.studies.bench.switches import interleave

    turns, means = {}, {}
    for side in sides_of(load):
        if side in ORDERS:
            train, evaluate, means[side] = our_turns(load, side, files, model, threads)
        else:
            plain = Plain(load, side, files, model, 0, folder)
            train, evaluate = plain_turns(plain)
            means[side] = sum(plain.lengths) / len(plain.lengths)
        turns["train", side], turns["evaluate", side] = train, evaluate
    keys = sorted(turns, key=lambda key: (key[0] != "train", key[1]))
    found = interleave([turns[key] for key in keys], rounds, lambda number: say(f"{load.name}: round {number} is done"))
    measured: dict = {"mean tokens": means}
    for (work, side), samples in zip(keys, found, strict=True):
        measured.setdefault(work, {})[side] = [sample._asdict() for sample in samples]
    return measured


def process(load: Load, side: str, files: Sequence[Path], model: str, seed: int, threads: int, folder: Path) -> dict:
    """One whole process: seconds, and the score that it says."""
    out = folder / f"{load.name}-{side}-{seed}"
    if side in ORDERS:
        task, *settings = settings_of(load, side, files, model, seed, threads)
        command = ["-m", "bertkit", "train", task, *settings, "--out", str(out), "--quiet", "--json"]
    else:
        command = [
            __file__, "--process", side, "--only", load.name, "--model", model, "--seed", str(seed), "--threads",
            str(threads), "--files", *map(str, files), "--out", str(out),
        ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *command], check=True, text=True, stdout=subprocess.PIPE, env=environment)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = json.loads(done.stdout.splitlines()[-1])
    score = {name: said[name] for name in ("accuracy", "exact_match", "f1") if name in said}
    say(f"{load.name}, whole process {side}, seed {seed}: {wall:.1f} s, {score}")
    return {"wall": wall, "cpu": cpu, "seed": seed, "score": score}


def run_process(options: argparse.Namespace) -> None:
    """What a whole process of a Trainer does."""
    import torch

    torch.set_num_threads(options.threads)
    (load,) = [load for load in LOADS if load.name == options.only]
    files = [Path(file) for file in options.files]
    plain = Plain(load, options.process, files, options.model, options.seed, Path(options.out))
    plain.trainer.train()
    score = plain.score()
    plain.trainer.save_model(options.out)
    print(json.dumps(score))


def table(results: dict) -> list[str]:
    """A markdown table: speeds as medians, ratios of the same round to `a` (or `b`) and to `c`."""
    lines = [
        "| work | measure | side | samples/s | least | most | per CPU s | x first | x c | x c, CPU | padding |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, measured in results["loads"].items():
        for work in ("train", "evaluate"):
            sides = measured.get(work)
            if not sides:
                continue
            first = next(iter(sides))
            for side, samples in sides.items():
                per = measured["mean tokens"][side] if work == "train" else None
                wall, cpu = ([speed(sample, clock, per) for sample in samples] for clock in ("wall", "cpu"))
                ratios = [
                    ratio(samples, sides[other], clock)
                    for other, clock in ((first, "wall"), ("c", "wall"), ("c", "cpu"))
                ]
                padded = sum(sample["padded"] for sample in samples)
                padding = f"{1 - sum(sample['tokens'] for sample in samples) / padded:.0%}" if padded else ""
                shown = " | ".join(f"{value:.1f}" for value in (median(wall), min(wall), max(wall), median(cpu)))
                shares = " | ".join(f"{value:.2f}" for value in ratios)
                lines.append(f"| {name} | {work} | {side} | {shown} | {shares} | {padding} |")
        if measured.get("process"):
            lines += process_lines(name, measured["process"])
    return lines


def process_lines(name: str, sides: dict) -> list[str]:
    """Whole processes: runs an hour stand where samples a second do, so that more is better everywhere."""
    lines, first = [], next(iter(sides))
    for side, runs in sides.items():
        wall, cpu = ([3600 / run[clock] for run in runs] for clock in ("wall", "cpu"))
        pairs = [(first, "wall"), ("c", "wall"), ("c", "cpu")]
        shares = [
            median(base[clock] / run[clock] for run, base in zip(runs, sides[other], strict=True))
            for other, clock in pairs
        ]
        shown = " | ".join(f"{value:.1f}" for value in (median(wall), min(wall), max(wall), median(cpu)))
        lines.append(f"| {name} | runs an hour | {side} | {shown} | {' | '.join(f'{x:.2f}' for x in shares)} | |")
    for side, runs in sides.items():
        scores = "; ".join(
            ", ".join(f"{name} {100 * value:.2f}" for name, value in run["score"].items()) for run in runs
        )
        lines.append(f"| {name} | scores by seed | {side} | {scores} | | | | | | | |")
    return lines


def speed(sample: dict, clock: str, tokens_each: float | None) -> float:
    """Samples a second; of average length where `tokens_each` is given."""
    return (sample["tokens"] / tokens_each if tokens_each else sample["count"]) / sample[clock]


def ratio(samples: Sequence[dict], others: Sequence[dict], clock: str) -> float:
    """How many times as many tokens a second as another side in the same round."""
    return median(
        (one["tokens"] / one[clock]) / (base["tokens"] / base[clock]) for one, base in zip(samples, others, strict=True)
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure what was asked for, print the table and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the checkpoint")
    parser.add_argument("--rows", type=int, default=2000, help="training rows")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side, after a warm-up")
    parser.add_argument("--process-rounds", type=int, default=1, help="whole processes of each side; 0: none")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", help=f"one work load: {', '.join(load.name for load in LOADS)}")
    parser.add_argument("--accuracy", action="store_true", help="whole processes of all work loads, three seeds each")
    parser.add_argument("--out", default="bench-peers.json", help="the JSON file")
    for name in ("--process", "--seed", "--files"):  # of the processes that this one starts
        parser.add_argument(name, help=argparse.SUPPRESS, **({"nargs": "*"} if name == "--files" else {}))
    options = parser.parse_args()
    options.seed = int(options.seed or 0)
    if options.process:
        run_process(options)
        return
    if options.only and options.only not in {load.name for load in LOADS}:
        parser.error(f"--only: there is no work load {options.only}")
    if not os.environ.get("BERTKIT_DATA"):
        parser.error("needs real data: set BERTKIT_DATA to its folder")
    os.environ["HF_HUB_OFFLINE"] = "1"
    # bound threads for both sides, as bertkit binds its own
    os.environ |= {"OMP_NUM_THREADS": str(options.threads), "OMP_PROC_BIND": "true"}
    import torch

    torch.set_num_threads(options.threads)
    results: dict = {"sides": SIDES, "options": vars(options), "torch": torch.__version__, "loads": {}}
    with tempfile.TemporaryDirectory() as folder:
        for load in LOADS:
            if not options.only or options.only == load.name:
                measure(load, options, Path(folder), results)
    print("\n".join([*(f"- {side}: {text}" for side, text in SIDES.items()), "", *table(results)]))


def measure(load: Load, options: argparse.Namespace, folder: Path, results: dict) -> None:
    """One work load; the JSON file is written after each, so that an interruption costs little."""
    data = Path(os.environ["BERTKIT_DATA"])
    sources = [data / load.train, data / load.evaluation]
    if missing := [str(source) for source in sources if not source.exists()]:
        say(f"{load.name}: left out, for there is no {' and no '.join(missing)}")
        return
    files = [
        folder / f"{load.name}-{split}{source.suffix}" for split, source in zip(("train", "dev"), sources, strict=True)
    ]
    cut(sources[0], options.rows, files[0])
    cut(sources[1], min(load.rows, options.rows), files[1])
    found = in_turns(load, files, options.model, options.rounds, options.threads, folder) if options.rounds else {}
    seeds = range(3) if options.accuracy else range(options.process_rounds if load.name == "sst2" else 0)
    cut(sources[1], SCORED if options.accuracy else load.rows, files[1])
    for seed in seeds:
        for side in sides_of(load):
            one = process(load, side, files, options.model, seed, options.threads, folder)
            found.setdefault("process", {}).setdefault(side, []).append(one)
    results["loads"][load.name] = found
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    Path(options.out).write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

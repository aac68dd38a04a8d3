"""Size, latency and throughput of a run on the CPU: torch in fp32 and bf16, and its ONNX files in fp32 and int8.

    python recipes/export_bench.py RUN --rows 256 --threads 1     # RUN: a finished run

All four answer the rows that the run was scored on, in turns; times are medians over the rounds, windows
included; the ratio is of rows a second to torch in fp32, round by round.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

import bertkit
from bertkit.inference import Predictor
from bertkit.models.exported import Session
from bertkit.rundir import RunDir
from bertkit.studies.bench.switches import interleave

SINGLE = 32  # rows that are answered one by one


def turn(predictor: Predictor, rows: Sequence[dict]) -> tuple[float, float]:
    """Milliseconds of one row by itself, the median of some; and rows a second of all together."""
    each = []
    for row in rows[:SINGLE]:
        began = time.perf_counter()
        list(predictor.predict([row]))
        each.append(time.perf_counter() - began)
    began = time.perf_counter()
    list(predictor.predict(rows))
    return 1000 * median(each), len(rows) / (time.perf_counter() - began)


def engines(run: Path, threads: int) -> dict[str, tuple[Predictor, int]]:
    """What answers, and the bytes of its weights."""
    common = ["hardware.device=cpu", f"hardware.threads={threads}"]
    found = {}
    for precision in ("fp32", "bf16"):
        predictor = bertkit.load(run, [*common, f"hardware.precision={precision}"])
        found[f"torch {precision}"] = predictor, sum(p.numel() * p.element_size() for p in predictor.model.parameters())
    for name, is_int8 in {"onnx fp32": False, "onnx int8": True}.items():
        folder = run.with_name(f"{run.name}-{name.replace(' ', '-')}")
        if not folder.exists():
            bertkit.export(run, folder, int8=is_int8)
        session = Session(folder / "model.onnx", found["torch fp32"][0].model.config)
        size = sum(file.stat().st_size for file in folder.glob("model.onnx*"))
        found[name] = replace(found["torch fp32"][0], model=session), size
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    rows = list(RunDir(asked.run).read_jsonl("predictions.jsonl"))[: asked.rows]
    found = engines(asked.run, asked.threads)
    answers = {
        name: [prediction[one.task.answer] for prediction in one.predict(rows)] for name, (one, _) in found.items()
    }
    turns: list[Callable] = [partial(turn, one, rows) for one, _ in found.values()]
    measured = interleave(turns, asked.rounds, lambda number: None)
    print(f"{len(rows)} rows, {asked.rounds} rounds, {asked.threads} threads")
    print("| engine | MB | one row, ms | rows/s | ratio | same answers, % |\n|---|---|---|---|---|---|")
    for (name, (_, size)), some in zip(found.items(), measured, strict=True):
        ratio = median(one[1] / first[1] for one, first in zip(some, measured[0], strict=True))
        same = 100 * np.mean([one == other for one, other in zip(answers[name], answers["torch fp32"], strict=True)])
        print(f"| {name} | {size / 1e6:.1f} | {median(one[0] for one in some):.1f} | "
              f"{median(one[1] for one in some):.1f} | {ratio:.2f} | {same:.1f} |")  # fmt: skip


if __name__ == "__main__":
    main()

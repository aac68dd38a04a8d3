"""Train the smoke recipes on an XLA device and on the CPU, compare them, and count what was compiled.

make xla                       # builds an environment of its own, with torch_xla; no TPU is needed
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import bertkit
from bertkit.errors import Interrupted
from bertkit.launch import settle_xla
from bertkit.recipe import load_recipe

settle_xla("xla")
# graphs are compiled in half the time, and run for a moment only
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
import torch_xla.debug.metrics as xla_metrics  # noqa: E402

SMOKE = Path(__file__).parent / "smoke"
TASKS = ("sentiment", "nli", "pos", "qa")
# steps that move the weights, several micro-batches of several shapes in each, over the end of an epoch
SETTINGS = (
    "train.steps=18", "train.batch_size=10", "train.learning_rate=1e-3", "train.evaluate_every=6",
    "train.checkpoint_every=9", "train.keep=2", "hardware.micro_batch_tokens=256", "hardware.evaluation_tokens=1024",
    "hardware.precision=fp32",
)  # fmt: skip
NO_DROPOUT = ("model.dropout=0",)  # the devices draw other masks
MEETINGS = 2  # of processes, before and after training: all that waits for the device beside losses and answers
CLOSE = 1e-4  # of losses and gradient norms, relative, and of probabilities and logits


def main(out: Path, names: list[str]) -> int:
    shutil.rmtree(out, ignore_errors=True)
    print("| recipe | steps | graphs | at most | loss | norm | predictions | seconds on XLA | on the CPU |")
    print("|---|---|---|---|---|---|---|---|---|")
    wrong = [f"{name}: {fault}" for name in names for fault in compare(name, out)]
    wrong += again(names[0], out)
    for fault in wrong:
        print(f"differs: {fault}")
    return bool(wrong)


def compare(name: str, out: Path) -> list[str]:
    """Train on both; prints one line, and returns what is not as it should be."""
    on_xla, on_cpu = out / f"{name}-xla", out / f"{name}-cpu"
    seconds, graphs, most = train(name, on_xla, NO_DROPOUT)
    waits = xla_metrics.counter_value("aten::_local_scalar_dense") or 0
    began = time.perf_counter()
    command = [sys.executable, "-m", "bertkit", "train", str(SMOKE / f"{name}.yaml"), "--out", str(on_cpu), "--quiet"]
    subprocess.run([*command, *SETTINGS, *NO_DROPOUT, "hardware.device=cpu"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    cpu_seconds = time.perf_counter() - began
    ours, theirs = (read(folder / "history.jsonl") for folder in (on_xla, on_cpu))
    apart = {
        key: max(
            (abs(a[key] - b[key]) / max(abs(b[key]), 1.0) for a, b in zip(ours, theirs, strict=True) if key in b),
            default=math.inf,
        )
        for key in ("loss", "gradient_norm")
    }
    answers = distance(read(on_xla / "predictions.jsonl"), read(on_cpu / "predictions.jsonl"))
    steps = sum("loss" in entry for entry in ours)
    print(
        f"| {name} | {steps} | {graphs} | {most} | {apart['loss']:.0e} | {apart['gradient_norm']:.0e} | {answers:.0e} "
        f"| {seconds:.0f} | {cpu_seconds:.0f} |",
        flush=True,
    )
    faults = [f"{key}: {value:.1e} apart" for key, value in apart.items() if not value <= CLOSE]
    faults += [f"predictions: {answers:.1e} apart"] * (not answers <= CLOSE)
    faults += [f"{graphs} graphs, and {most} are the most"] * (graphs > most)
    return faults + [f"{waits} waits for the device, and {MEETINGS} are due"] * (waits > MEETINGS)


def again(name: str, out: Path) -> list[str]:
    """With dropout: a run that was stopped goes on to the same bytes, and its files can be loaded."""
    whole, cut = out / f"{name}-whole", out / f"{name}-resumed"
    _, graphs, most = train(name, whole, ())
    threading.Thread(target=stop_after, args=[cut / "checkpoints" / "step-000009"], daemon=True).start()
    try:
        train(name, cut, ())
        return [f"{name}: it was not stopped"]
    except Interrupted as error:
        stopped = error.message
    train(name, cut, (), resume=True)
    alike = [
        file for file in ("history.jsonl", "predictions.jsonl", "model/model.safetensors")
        if (whole / file).read_bytes() == (cut / file).read_bytes()
    ]  # fmt: skip
    rows = [json.loads(line) for line in (whole / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [row["text"] for row in rows]
    predictor = bertkit.load(whole, ["hardware.device=xla"])
    answers = distance(
        list(predictor.predict(texts)), [{key: row[key] for key in ("label", "probabilities")} for row in rows]
    )
    print(
        f"{name} with dropout: {graphs} graphs of at most {most}; {stopped}; resumed to the same bytes: "
        f"{', '.join(alike)}; loaded, it answers {len(texts)} texts {answers:.0e} apart"
    )
    return [f"{name}, resumed: {3 - len(alike)} files differ"] * (len(alike) < 3) + [
        f"{name}, loaded: {answers:.1e} apart"
    ] * (not answers <= CLOSE)


def stop_after(path: Path) -> None:
    """Tell this process to stop as soon as there is such a folder."""
    while not path.exists():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)


def train(name: str, folder: Path, settings: tuple[str, ...], resume: bool = False) -> tuple[float, int, int]:
    """Train on XLA; returns seconds, graphs compiled, and how many there may be at most."""
    recipe = load_recipe(SMOKE / f"{name}.yaml", [*SETTINGS, *settings, "hardware.device=xla"])
    xla_metrics.clear_all()
    began = time.perf_counter()
    bertkit.finetune(recipe, folder, resume=resume, quiet=True)
    seconds = time.perf_counter() - began
    from bertkit.train.device import graphs_at_most
    from bertkit.train.device_setup import set_up_device, with_shapes

    setup = with_shapes(set_up_device(recipe.hardware), recipe)
    compiled = (xla_metrics.metric_data("CompileTime") or (0,))[0]
    return seconds, compiled, graphs_at_most(setup.training, setup.evaluation)


def distance(one: object, other: object) -> float:
    """The largest difference of two numbers at one place; infinite where anything else differs."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other)
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return max((distance(value, other[key]) for key, value in one.items()), default=0.0)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return max(map(distance, one, other), default=0.0)
    return 0.0 if one == other else math.inf


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/xla"))
    parser.add_argument("names", nargs="*", default=TASKS)
    told = parser.parse_args()
    sys.exit(main(told.out, list(told.names)))

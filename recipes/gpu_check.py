"""Laws of training, tried on a GPU: one that breaks there breaks in silence.

make gpu                       # a minute or two; no Hub is needed
"""

import argparse
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

import bertkit
from bertkit.errors import Interrupted
from bertkit.recipe import load_recipe
from bertkit.rundir import PACE, RunDir
from bertkit.splits import path_of
from bertkit.train.memory import release

SMOKE = Path(__file__).parent / "smoke"
TASKS = ("sentiment", "nli", "pos", "qa")
SIZES = {  # fields of the configuration
    "tiny": {},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
STEPS = (
    "train.steps=12", "train.batch_size=10", "train.learning_rate=1e-4", "train.evaluate_every=6", "log.every=1",
    "train.checkpoint_every=4", "train.keep=9",
)  # fmt: skip
PLAIN = ("model.dropout=0", "hardware.padding_free=false")
CLOSE = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 2e-2}  # of losses and gradient norms, relative: sums in another order


def main(out: Path, size: str) -> int:
    shutil.rmtree(out, ignore_errors=True)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {size} size")
    print("| law | largest difference | at most | holds |\n|---|---|---|---|")
    broken, checkpoint = 0, sized(out / "checkpoint", size)
    for law, apart, most in laws(out, checkpoint):
        broken += not apart <= most
        print(f"| {law} | {apart:.1e} | {most:.0e} | {'yes' if apart <= most else 'NO'} |", flush=True)
    return bool(broken)


def sized(folder: Path, size: str) -> str:
    """A checkpoint of random weights in this size, with the bundled tokenizer."""
    tiny = path_of("bundled:tiny")
    config = AutoConfig.from_pretrained(tiny)
    config.update({**SIZES[size], "max_position_embeddings": 512})
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    return str(folder)


def laws(out: Path, checkpoint: str) -> Iterator[tuple[str, float, float]]:
    """What holds, how far it is from holding exactly, and how far it may be."""

    def losses(name: str, task: str, *settings: str) -> list[float]:
        recipe = load_recipe(SMOKE / f"{task}.yaml", [*STEPS, f"model.checkpoint={checkpoint}", *PLAIN, *settings])
        bertkit.finetune(recipe, out / name, quiet=True)
        steps = [line for line in RunDir(out / name).read_history() if "loss" in line]
        return [line[key] for key in ("loss", "gradient_norm") for line in steps]

    for task in TASKS:
        for precision in ("fp32", "bf16"):
            # rounding in bf16 is amplified by what is learned from it, so that little is learned there
            name, asked = f"{task}-{precision}", [f"hardware.precision={precision}"]
            asked += ["train.learning_rate=1e-6"] * (precision == "bf16")
            padded = losses(name, task, *asked)
            unpadded = losses(f"{name}-unpadded", task, *asked, "hardware.padding_free=true")
            yield f"{task}, {precision}: without padding as with it", apart(padded, unpadded), CLOSE[precision]
            if task == "sentiment":  # each shape takes seconds to compile
                compiled = losses(f"{name}-compiled", task, *asked, "hardware.compile=true")
                yield f"{task}, {precision}: compiled as not", apart(padded, compiled), CLOSE[precision]
    exact = losses("exact", "sentiment", "hardware.precision=fp32", "train.learning_rate=1e-6")
    for precision in ("bf16", "fp16"):
        found = losses(f"close-{precision}", "sentiment", f"hardware.precision={precision}", "train.learning_rate=1e-6")
        yield f"{precision} as fp32", apart(exact, found), CLOSE[precision]
    for precision in ("fp32", "bf16", "fp16"):
        yield f"{precision}: resumed to the same bytes (files that differ)", resumed(out, checkpoint, precision), 0.0
    yield "out of memory: halved to the same losses", halved(out, losses), CLOSE["fp32"]


def apart(one: list[float], other: list[float]) -> float:
    return max((abs(a - b) / max(abs(a), 1e-6) for a, b in zip(one, other, strict=True)), default=float("inf"))


def resumed(out: Path, checkpoint: str, precision: str) -> float:
    """How many files differ between a run, with dropout, and one that was stopped after its first checkpoint."""
    settings = [*STEPS, f"model.checkpoint={checkpoint}", f"hardware.precision={precision}"]
    recipe = load_recipe(SMOKE / "sentiment.yaml", settings)
    whole, cut = out / f"whole-{precision}", out / f"cut-{precision}"
    bertkit.finetune(recipe, whole, quiet=True)
    threading.Thread(target=stop_after, args=[cut / "checkpoints" / "step-000004"], daemon=True).start()
    try:
        bertkit.finetune(recipe, cut, quiet=True)
        return float("inf")  # it was not stopped
    except Interrupted:
        bertkit.finetune(recipe, cut, resume=True, quiet=True)
    files = ("history.jsonl", "predictions.jsonl", "model/model.safetensors")
    return float(sum((whole / file).read_bytes() != (cut / file).read_bytes() for file in files))


def stop_after(path: Path) -> None:
    """Tell this process to stop as soon as there is such a folder."""
    while not path.exists():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)


def halved(out: Path, losses: Callable[..., list[float]]) -> float:
    """How far losses and norms move where memory ends in the midst of a step; infinite where it never did."""
    settings = ("hardware.precision=fp32", "train.batch_size=48")
    release()
    torch.cuda.reset_peak_memory_stats()
    plenty = losses("plenty", "qa", *settings, "hardware.micro_batch_tokens=1024")
    enough, total = 1.1 * torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(0).total_memory
    release()
    torch.cuda.set_per_process_memory_fraction(enough / total)
    little = losses("little", "qa", *settings, "hardware.micro_batch_tokens=65536")
    torch.cuda.set_per_process_memory_fraction(1.0)
    told = [line["reason"] for line in RunDir(out / "little").read_history(PACE) if "reason" in line]
    return apart(plenty, little) if told else float("inf")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"))
    parser.add_argument("--size", choices=SIZES, default="base")
    chosen = parser.parse_args()
    raise SystemExit(main(chosen.out, chosen.size))

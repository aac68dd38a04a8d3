"""A finished run as a folder that answers without torch: written, and compared with the run itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bertkit.data.windows import Pair
from bertkit.heads import HEADS
from bertkit.tasks.base import Row

if TYPE_CHECKING:
    from bertkit.inference import Predictor

NEAR = 0.1  # of their standard deviation: numbers that are nearer count as equal answers


class Compared(NamedTuple):
    """How far the outputs and the answers of two models are from each other."""

    rows: int
    windows: int
    largest_difference: float  # of an output
    equal_answers: float  # share; of words, where each has an answer


def compare(ours: Predictor, theirs: Predictor, rows: Sequence[Row]) -> Compared:
    """Let two models that have all but their numbers in common answer the same rows."""
    task, windows, differences = ours.task, 0, [0.0]
    answers: tuple[list, list] = [], []
    for part in ours.parts(rows):
        windows += len(part.store)
        for row, *both in zip(part.rows, ours.outputs(part.store), theirs.outputs(part.store), strict=True):
            for one, other in zip(*both, strict=True):
                pairs = zip(one.logits, other.logits, strict=True)
                differences += [np.abs(a - b).max(initial=0.0) for a, b in pairs]
            for kept, outputs in zip(answers, both, strict=True):
                answer = task.decode(row, outputs)[task.answer]
                kept += answer if isinstance(answer, list) else [answer]
    if isinstance(answers[0][0], float):
        is_equal = np.abs(np.subtract(*answers)) <= NEAR * np.std(answers[0])
    else:
        is_equal = [one == other for one, other in zip(*answers, strict=True)]
    return Compared(len(rows), windows, float(np.max(differences)), float(np.mean(is_equal)))  # NaN stays NaN


def write(predictor: Predictor, folder: Path, row: Row, int8: bool) -> Predictor:
    """Write model, tokenizer, task and a script that answers; gives a predictor that has the file as its model.

    Args:
        predictor: with float32 weights on the CPU, padded.
        folder: is made.
        row: any row of the task, which shows what it reads.
    """
    from bertkit.models.exported import Session, write_int8, write_onnx

    task, maker, entry = predictor.task, predictor.maker, predictor.task.inputs(row)
    inputs, file, whole = predictor.collator(maker([entry]), {}).inputs, folder / "model.onnx", folder / "whole"
    whole.mkdir(parents=True)
    write_onnx(predictor.model, ["input_ids", *sorted(inputs)], HEADS[task.head].outputs, whole / file.name)
    if int8:
        write_int8(whole / file.name, file)
    else:
        for part in whole.iterdir():
            part.rename(folder / part.name)
    shutil.rmtree(whole)
    predictor.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    is_pair, columns = isinstance(entry, Pair), [*task.reads.text, *task.reads.words]
    windows = {"head": task.head, "columns": columns, "long": entry.long if is_pair else None,
               "frame": maker.frames[1 + is_pair], **maker.config.model_dump()}  # fmt: skip
    for name, value in {"task": task.model_dump(mode="json"), "windows": windows}.items():
        (folder / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    if "." not in task.name:  # a task of one's own may read and answer in another way than its head says
        shutil.copy(Path(__file__).with_name("answer.py"), folder)
    return replace(predictor, model=Session(file, predictor.model.config))

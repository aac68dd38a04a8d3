"""The verbs that write a finished run for others: export, push, merge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from bertkit.cli.shared import Json, Quiet, RunFolder, Settings


def push(
    run: RunFolder,
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository of the Hub; made if there is none.",
                                        show_default=False)],
    private: Annotated[bool, typer.Option("--private/--public", help="Who sees a repository that is made.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be uploaded.")] = False,
) -> None:  # fmt: skip
    """Upload a run's model and its card to the Hub: bertkit push runs/reviews OWNER/NAME"""
    from bertkit.run.push import files_to_push, push

    if not dry_run:
        print(push(run, repo, private))
        return
    for name, size in files_to_push(run).items():
        print(f"{size:>12,}  {name}")
    print(f"\n{(run / 'model' / 'README.md').read_text(encoding='utf-8')}", end="")


def export(
    run: RunFolder,
    settings: Settings = (),
    kind: Annotated[Literal["onnx"], typer.Option("--format", help="What to write.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Weights of 8 bits: a quarter of the size.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write; default: RUN/onnx.")] = None,
    data: Annotated[str | None, typer.Option("--data", "-d", help="Rows to compare on; default: the run's.")] = None,
    split: Annotated[str, typer.Option(help="Split to read, if --data is a folder or a Hub id.")] = "test",
    largest_difference: Annotated[float | None, typer.Option(min=0, help="Of an output from torch's; default: 0.001, "
                                                             "and any with --int8.", show_default=False)] = None,
    agreement: Annotated[float, typer.Option(min=0, max=1, help="Least share of equal answers.")] = 0.95,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write a run as an ONNX file that answers without torch: bertkit export runs/reviews --int8

    The folder has the model, its tokenizer, and a script, answer.py, which needs onnxruntime, tokenizers and numpy.
    It is written if it answers rows of the run as torch does. `bertkit predict RUN --engine onnx` reads it.
    """
    from bertkit.run import export

    found = export(run, out, int8=int8, data=data, split=split, largest_difference=largest_difference,
                   agreement=agreement, assignments=settings, quiet=quiet)  # fmt: skip
    if as_json:
        print(json.dumps(found))
        return
    print(
        f"{found['folder']}: {found['bytes'] / 1e6:.1f} MB; {found['equal_answers']:.1%} of the answers to "
        f"{found['rows']:,} rows are torch's, outputs differ by up to {found['largest_difference']:.2g}"
    )


def merge(
    run: RunFolder, out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.", show_default=False)] = ...
) -> None:
    """Write a run's whole model, its adapter put into the base: bertkit merge runs/lora --out whole"""
    from bertkit.run import merge

    merge(run, out)
    print(out)

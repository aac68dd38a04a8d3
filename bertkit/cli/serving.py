"""The verb that answers over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from bertkit.cli.runs import Engine
from bertkit.cli.shared import More, Quiet, RunFolder, split_more
from bertkit.launch import sayer

LIMITS = "Limits"  # panel of options


def serve(
    run: RunFolder,
    more: More = (),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets others in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    explain: Annotated[bool, typer.Option("--explain", help="Also say why, if asked; computes in float32.")] = False,
    engine: Engine = "torch",
    rows: Annotated[int, typer.Option(min=1, help="Of a request, at most.", rich_help_panel=LIMITS)] = 64,
    characters: Annotated[int, typer.Option(min=1, help="Of a request.", rich_help_panel=LIMITS)] = 200_000,
    seconds: Annotated[float, typer.Option(min=0.1, help="For an answer.", rich_help_panel=LIMITS)] = 60.0,
    waiting: Annotated[int, typer.Option(min=1, help="Rows that wait in all.", rich_help_panel=LIMITS)] = 2048,
    quiet: Quiet = False,
) -> None:
    """Answer over HTTP, with a page to try it: bertkit serve runs/reviews

    Needs bertkit[serve]. Two runs are shown side by side. POST /predict takes {"rows": ["a text", ...]}.
    """
    from bertkit.serve.server import serve as answer

    runs, settings = split_more(run, more)
    answer(
        runs if isinstance(runs, list) else [runs], host=host, port=port, explain=explain, engine=engine,
        limits={"rows": rows, "characters": characters, "seconds": seconds, "waiting": waiting},
        assignments=settings, say=sayer(quiet),
    )  # fmt: skip

"""Serve finished runs until the process is told to stop."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from bertkit.errors import BertkitError
from bertkit.launch import Say
from bertkit.named import library
from bertkit.rundir import RunDir

SHORT = 2000  # characters of a row to try
EXAMPLES = 6


def serve(
    runs: Sequence[str | Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    explain: bool = False,
    limits: Mapping[str, int | float] | None = None,
    engine: str = "torch",
    assignments: Sequence[str] = (),
    say: Say = lambda text: None,
) -> None:
    """Answer over HTTP, with a page for people at /, until SIGINT or SIGTERM.

    Args:
        runs: their folders; several are shown side by side.
        host: the address to listen on; one that others can reach is said.
        port: 0 takes a free one.
        explain: also say why; in float32.
        limits: those of `app.Limits` that differ.
        engine: `torch`, or `onnx` for what `bertkit export` wrote into the run.
        assignments: settings that differ from the runs', such as `hardware.threads=4`.
    Raises:
        BertkitError: a run cannot be opened, the address is taken, or a package is not installed.
    """
    uvicorn = library("uvicorn", "serve", "bertkit serve")
    for name in ("fastapi", "prometheus_client"):
        library(name, "serve", "bertkit serve")
    from bertkit.run import FINELY, load
    from bertkit.serve.app import LOOPBACK, Limits, Served, make_app

    if explain and engine == "onnx":
        raise BertkitError("an ONNX file gives no reasons", hint="leave out --explain or --engine onnx")
    if explain:
        library("captum.attr", "explain", "bertkit serve --explain")
    with listening(host, port) as taken:
        served = []
        for run in runs:
            predictor = load(run, [*assignments, *(FINELY if explain else ())], engine=engine)
            served.append(Served(str(run), predictor, list(islice(examples(Path(run), predictor.task), EXAMPLES))))
        is_local = host in (*LOOPBACK, "::1")
        bounds = Limits(**limits or {})
        app = make_app(served, bounds, explains=explain, hosts=LOOPBACK if is_local else ["*"])
        at = f"http://{f'[{host}]' if ':' in host else host}:{taken.getsockname()[1]}"
        if not is_local:
            say(f"warning: whoever reaches {host} can ask these runs; there is no password")
        # what has been taken has its answer by then, or a refusal
        patience = math.ceil(bounds.seconds) + 1
        config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=patience)
        say(f"serving {', '.join(map(str, runs))} at {at}/ (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):  # uvicorn gives the signal on when all is answered
            uvicorn.Server(config).run(sockets=[taken])
    say("stopped")


def listening(host: str, port: int) -> socket.socket:
    """A socket on an address that is free."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, socket.SOCK_STREAM)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
        taken.listen(128)
    except OSError as error:
        message = f"{host}:{port} cannot be listened on ({error.strerror or error})"
        raise BertkitError(message, hint="take another --port; 0 takes a free one") from None
    return taken


def examples(run: Path, task: object) -> Iterator[dict[str, object]]:
    """Short rows that the run was scored on, of different answers first."""
    rows, seen = [], set()
    with suppress(BertkitError):  # older runs, or runs without rows to score
        for record in islice(RunDir(run).read_jsonl("predictions.jsonl"), 1000):
            row = {name: record[name] for name in (*task.reads.text, *task.reads.words) if name in record}
            row |= {name: " ".join(row[name]) for name in task.reads.words if name in row}
            if row and sum(map(len, row.values())) <= SHORT:
                rows.append((str(record.get("gold")) in seen, row))
                seen.add(str(record.get("gold")))
    yield from (row for _, row in sorted(rows, key=lambda pair: pair[0]))

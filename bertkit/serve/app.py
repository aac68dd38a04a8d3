"""The application: what is asked over HTTP, its limits, and the page."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Annotated, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from bertkit import __version__
from bertkit.config import validate
from bertkit.data.writing import as_json
from bertkit.disk import parse
from bertkit.errors import BertkitError
from bertkit.inference import Predictor
from bertkit.metrics.shown import counted
from bertkit.outcome.reasons import passage
from bertkit.pages.answers import answer_html, script, serve_html
from bertkit.serve.batching import Batcher, Full
from bertkit.tasks.base import Prediction, Row

# nothing from outside, and no script but ours; bars and marks have their lengths and strengths as styles
POLICY = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:"
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Limits(NamedTuple):
    """What a request may ask at most."""

    rows: int = 64
    characters: int = 200_000  # of all texts of a request
    seconds: float = 60.0  # from the head of a request to its answer
    waiting: int = 2048  # rows of all requests
    explained: int = 4  # rows of a request that asks for reasons
    explained_characters: int = 4000  # of its texts: reasons take 100 times as long, and others wait
    batch: int = 64  # rows that are answered together

    @property
    def bytes(self) -> int:
        """Of a body: JSON may write a character as \\ud83d\\ude42."""
        return 12 * self.characters + 64 * self.rows + 4096


@dataclass(frozen=True)
class Served:
    """A run that answers."""

    name: str
    predictor: Predictor
    examples: Sequence[Mapping[str, object]] = ()  # rows to try

    def rows(self, given: Sequence[object]) -> list[Row]:
        """Rows as the task reads them; refuses what is none."""
        return [self.predictor.as_row(row) for row in given]

    def answer(self, rows: Sequence[Row]) -> list[Prediction]:
        return list(self.predictor.predict(rows))

    def explain(self, rows: Sequence[Row]) -> list[Prediction]:
        return list(self.predictor.explain(rows))

    def described(self) -> dict[str, object]:
        """What a page must know to ask."""
        task = self.predictor.task
        return {"name": self.name, "task": task.name, "columns": [*task.reads.text, *task.reads.words],
                "labels": list(task.labels), "examples": list(self.examples)}  # fmt: skip


class Body(BaseModel):
    """The body of POST /predict."""

    model_config = ConfigDict(extra="forbid")

    # the first mistake is enough: to note a million of them takes a minute and gigabytes
    rows: list[str | Annotated[list[str], Field(fail_fast=True)] | dict[str, object]] = Field(
        min_length=1,
        fail_fast=True,
        description="texts; lists of two texts, or of words; or objects with the task's columns",
    )
    run: int = Field(0, ge=0, description="which of the served runs is asked")
    explain: bool = Field(False, description="add what each word adds to the answer")
    html: bool = Field(False, description="add each answer as it is drawn on the page")


class Meters:
    """What GET /metrics says, in the text format of Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        of = {"registry": self.registry}
        self.requests = Counter("bertkit_requests", "Requests to /predict, by status", ["status"], **of)
        self.rows = Counter("bertkit_rows", "Rows that were answered", **of)
        self.batches = Histogram("bertkit_batch_rows", "Rows of a batch", buckets=[2**n for n in range(11)], **of)
        self.seconds = Histogram("bertkit_request_seconds", "Seconds from request to answer", **of)
        self.waiting = Gauge("bertkit_waiting_rows", "Rows that wait or are being answered", **of)


class Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: int, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.hint = status, message, hint

    def response(self) -> Response:
        said = {"error": self.message} | ({"hint": self.hint} if self.hint else {})
        headers = {503: {"Retry-After": "1"}, 408: {"Connection": "close"}}.get(self.status)
        return Response(as_json(said), self.status, headers, "application/json")


def make_app(
    runs: Sequence[Served], limits: Limits, *, explains: bool = False, hosts: Sequence[str] = LOOPBACK
) -> FastAPI:
    """The application that serves some runs.

    Args:
        explains: whether requests may ask for reasons; the predictors then compute in float32.
        hosts: names that a browser may call this server by; others are refused, so that no page from elsewhere can
            reach it under a name of its own. `*`: any.
    Raises:
        BertkitError: the runs do not read the same columns.
    """
    first = runs[0].predictor.task
    for other in runs[1:]:
        if other.predictor.task.reads != first.reads:
            raise BertkitError(
                f"{other.name} and {runs[0].name} do not read the same columns", hint="serve runs of one task"
            )
    return Application(runs, limits, explains, hosts).app


class Application:
    """Routes, and what they share."""

    def __init__(self, runs: Sequence[Served], limits: Limits, explains: bool, hosts: Sequence[str]) -> None:
        self.runs, self.limits, self.explains, self.meters = runs, limits, explains, Meters()
        self.batcher = Batcher(limits.batch, limits.waiting, self.meters.batches.observe)
        self.meters.waiting.set_function(lambda: self.batcher.waiting)
        # FastAPI's own pages load their scripts from elsewhere
        self.app = FastAPI(title="bertkit", version=__version__, docs_url=None, redoc_url=None, lifespan=self._live)
        self.app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
        self.app.middleware("http")(self._guard)
        self.app.add_exception_handler(HTTPException, self._refuse)
        schema = {
            "requestBody": {"required": True, "content": {"application/json": {"schema": Body.model_json_schema()}}}
        }
        self.app.post("/predict", openapi_extra=schema, summary="Answer some rows")(self.predict)
        self.app.get("/runs", summary="What is served")(self.described)
        self.app.get("/health", summary="Whether rows are answered")(self.health)
        self.app.get("/metrics", summary="Counts and times for Prometheus")(self.metrics)
        self.app.get("/", include_in_schema=False)(self.page)
        self.app.get("/page.js", include_in_schema=False)(self.script)

    @asynccontextmanager
    async def _live(self, app: FastAPI) -> AsyncIterator[None]:
        for run in self.runs:  # the first batch takes longer than others
            warm = [
                dict.fromkeys(run.predictor.task.reads.text, "a") | dict.fromkeys(run.predictor.task.reads.words, "a")
            ]
            await asyncio.to_thread(run.answer, run.rows(warm))
        yield
        await asyncio.to_thread(self.batcher.close)

    async def _guard(self, request: Request, call: object) -> Response:
        response = await call(request)
        response.headers.update(HEADERS)
        return response

    async def _refuse(self, request: Request, error: HTTPException) -> Response:
        return Refused(error.status_code, f"{request.method} {request.url.path}: {error.detail}").response()

    async def predict(self, request: Request) -> Response:
        began = time.perf_counter()
        try:
            response = Response(await self._predict(request), media_type="application/json")
        except Refused as refused:
            response = refused.response()
        except Exception:
            logging.getLogger("uvicorn.error").exception("a request was not answered")
            response = Refused(500, "this is a fault of the server, whose log has more").response()
        self.meters.requests.labels(str(response.status_code)).inc()
        self.meters.seconds.observe(time.perf_counter() - began)
        return response

    async def _predict(self, request: Request) -> str:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # a form of another site cannot send this type
            raise Refused(415, "the body is not said to be JSON", "send the header Content-Type: application/json")
        until = asyncio.get_running_loop().time() + self.limits.seconds
        try:
            async with asyncio.timeout_at(until):
                read = await self._read(request)
        except TimeoutError:
            raise Refused(408, f"the body did not come within {self.limits.seconds:g} seconds") from None
        except ClientDisconnect:
            raise Refused(400, "the body ended before its end") from None
        body = self._checked(read)
        run = self.runs[body.run]
        try:
            rows = run.rows(body.rows)
        except BertkitError as error:
            raise Refused(422, error.message, error.hint) from None
        try:
            # reasons are equal to no others: together they would be no faster, and could not be given up one by one
            future = self.batcher.ask(rows, partial(run.explain) if body.explain else run.answer)
            async with asyncio.timeout_at(until):
                answers = await asyncio.wrap_future(future)
        except Full:
            raise Refused(
                503, f"{counted(self.batcher.waiting, 'row')} wait already", "try again in a moment"
            ) from None
        except TimeoutError:
            raise Refused(504, f"no answer within {self.limits.seconds:g} seconds", "ask fewer rows at once") from None
        except BertkitError as error:
            raise Refused(422, error.message, error.hint) from None
        self.meters.rows.inc(len(rows))
        return await asyncio.to_thread(self._written, run, rows, answers, body)

    def _written(self, run: Served, rows: Sequence[Row], answers: Sequence[Prediction], body: Body) -> str:
        said: dict[str, object] = {"run": run.name, "answers": answers}
        if body.html:
            task = run.predictor.task
            read = (*task.reads.text, *task.reads.words)  # a row may have other columns, named as an answer's
            said["html"] = [
                answer_html(
                    {**{name: row[name] for name in read}, **answer},
                    passage(task, {**answer, "id": ""}) if body.explain else None,
                )
                for row, answer in zip(rows, answers, strict=True)
            ]
        return as_json(said)

    async def _read(self, request: Request) -> bytes:
        """The body, refused as soon as it is too long."""
        read, limit = bytearray(), self.limits.bytes
        async for part in request.stream():
            read += part
            if len(read) > limit:
                raise Refused(413, f"the body has more than {limit:,} bytes", "send fewer rows at once")
        return bytes(read)

    def _checked(self, read: bytes) -> Body:
        """The body as it may be asked."""
        limits = self.limits
        try:
            body = validate(Body, parse(read.decode()), where="the body")
        except BertkitError as error:
            raise Refused(422, error.message, error.hint) from None
        except ValueError as error:
            raise Refused(400, f"the body is no JSON: {error}") from None
        most, longest = limits.rows, limits.characters
        if body.explain:
            most, longest = min(most, limits.explained), min(longest, limits.explained_characters)
        if body.run >= len(self.runs):
            raise Refused(422, f"run: there is no run {body.run}", f"the last one is {len(self.runs) - 1}")
        if body.explain and not self.explains:
            raise Refused(422, "explain: this server gives no reasons", "start it with `bertkit serve --explain`")
        if len(body.rows) > most:
            raise Refused(422, f"rows: {len(body.rows):,} are more than {most:,}", "send them in several requests")
        if (characters := sum(map(_size, body.rows))) > longest:
            hint = "send fewer at once" if longest == limits.characters else "ask without reasons"
            raise Refused(422, f"rows: {characters:,} characters are more than {longest:,}", hint)
        return body

    async def described(self) -> Response:
        said = {"runs": [run.described() for run in self.runs], "explains": self.explains}
        return Response(as_json(said), media_type="application/json")

    async def health(self) -> dict[str, str]:
        return {"status": "ready"}  # nothing is served before a row was answered

    async def metrics(self) -> Response:
        return Response(generate_latest(self.meters.registry), media_type="text/plain; version=0.0.4")

    async def page(self) -> HTMLResponse:
        return HTMLResponse(self._page)

    async def script(self) -> Response:
        return Response(script(), media_type="text/javascript")

    @cached_property
    def _page(self) -> str:
        task = self.runs[0].predictor.task
        return serve_html(task.name, task.reads, [run.name for run in self.runs], self.explains)


def _size(row: object) -> int:
    """Characters of a row; an empty word is one as well."""
    if isinstance(row, str):
        return max(1, len(row))
    if isinstance(row, Mapping):
        return sum(map(_size, row.values()))
    return sum(map(_size, row)) if isinstance(row, Sequence) else 1

"""Served runs answer as `predict` does, refuse what is wrong in a sentence, and lose nothing."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from bertkit.serve.batching import Batcher, Full
from tests.cli.conftest import check

pytestmark = pytest.mark.xdist_group("serve")  # one worker trains the runs that these look at
LIMITS = ("--rows", "8", "--characters", "2000")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def serving(*arguments: object):
    """The address of a server, and its process; ended as Ctrl-C ends it."""
    command = [sys.executable, "-m", "bertkit", "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"at (http://\S+/) ", line):
                break
        else:
            pytest.fail("".join(said))
        with httpx.Client(base_url=found[1], transport=httpx.HTTPTransport(retries=20), timeout=60) as client:
            client.get("/health")  # once it answers, so do all others
            yield client, process
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        code = process.wait(timeout=60)
    assert code == 0, rest
    assert "Traceback" not in rest


@pytest.fixture(scope="module")
def server(finished):
    with serving(finished("sentiment"), "--explain", *LIMITS) as (client, _):
        yield client


def test_answers_are_those_of_predict(bertkit, finished, server, tmp_path):
    texts = ["A fine day", "Cold, and dull", "long " * 200]
    asked = server.post("/predict", json={"rows": [texts[0], {"text": texts[1]}, [texts[2]]]})
    assert asked.status_code == 200
    (tmp_path / "new.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    done = bertkit("predict", finished("sentiment"), "--input", tmp_path / "new.jsonl", "hardware.precision=fp32", "-q")
    for ours, line in zip(asked.json()["answers"], done.out.splitlines(), strict=True):
        theirs = json.loads(line)
        assert ours["label"] == theirs["label"]
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-6)


def test_many_clients_get_their_own_answers_and_a_bad_one_spoils_none(server):
    texts = [f"number {number} " * (1 + number % 40) for number in range(120)]
    alone = [server.post("/predict", json={"rows": [text]}).json()["answers"] for text in texts[:20]]

    def ask(text):
        return server.post("/predict", json={"rows": [text if text else 7]})

    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(ask, [*texts, "", *texts, ""]))
    assert [response.status_code for response in found] == [*[200] * 120, 422] * 2
    for response, answers in zip(found, alone, strict=False):
        assert response.json()["answers"][0]["probabilities"] == pytest.approx(answers[0]["probabilities"], abs=1e-5)
    counted = server.get("/metrics").text
    assert float(re.search(r'bertkit_requests_total\{status="200"\} (\S+)', counted)[1]) >= 260
    assert "bertkit_batch_rows_bucket" in counted


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body is no JSON"),
        (b"\xff", 400, "the body is no JSON"),
        (b"[" * 100_000, 413, "the body has more than"),
        (b"[" * 20_000, 400, "nested too deeply"),
        (b"[]", 422, "the body"),
        (b"{}", 422, "rows"),
        (b'{"rows": []}', 422, "rows"),
        (b'{"rows": [null]}', 422, "rows"),
        (b'{"rows": [["a", "b"]]}', 422, "sentiment reads text, and was given 2 texts"),
        (b'{"rows": [{"txt": "a"}]}', 422, "a row has no 'text'"),
        (b'{"rows": [{"text": 7}]}', 422, "a row's 'text' is 7, not text"),
        (b'{"rows": ["\\ud800"]}', 422, "not text"),
        (b'{"rows": ["a"], "run": 1}', 422, "there is no run 1"),
        (b'{"rows": ["a"], "rwos": 1}', 422, "rwos"),
        (json.dumps({"rows": ["a"] * 9}).encode(), 422, "rows: 9 are more than 8"),
        (json.dumps({"rows": ["a"] * 5, "explain": True}).encode(), 422, "rows: 5 are more than 4"),
        (b'{"rows": [' + b"1," * 8_000 + b"1]}", 422, "rows.0: Input should be a valid string"),
        (json.dumps({"rows": [[""] * 2001]}).encode(), 422, "2,001 characters are more than 2,000"),
        (json.dumps({"rows": ["a" * 2001]}).encode(), 422, "2,001 characters are more than 2,000"),
    ],
)
def test_a_body_that_is_wrong_is_refused_in_a_sentence(server, body, status, message):
    response = server.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    assert message in response.json()["error"]
    assert "\n" not in response.json()["error"]
    assert server.post("/predict", json={"rows": ["still there"]}).status_code == 200


def test_other_sites_other_methods_and_other_pages_are_refused(server):
    form = server.post("/predict", content=b'{"rows": ["a"]}', headers={"Content-Type": "text/plain"})
    assert form.status_code == 415
    assert server.get("/", headers={"Host": "evil.example"}).status_code == 400
    assert server.get("/predict").json()["error"] == "GET /predict: Method Not Allowed"
    assert server.get("/nothing").status_code == 404
    page = server.get("/")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "//" not in re.sub(r"http://www\.w3\.org", "", page.text)
    assert server.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]


def test_reasons_and_what_is_drawn_come_along_escaped(server):
    text = "<script>alert(1)</script> & a fine day"
    found = server.post("/predict", json={"rows": [text], "explain": True, "html": True}).json()
    assert found["answers"][0]["attributions"]["text"]
    assert "<script" not in found["html"][0]
    assert "&lt;script&gt;" in re.sub("<[^>]*>", "", found["html"][0])


def test_columns_that_are_not_read_are_not_drawn(server):
    row = {"text": "a fine day", "n_best": 1, "tags": 2, "label": 3}
    found = server.post("/predict", json={"rows": [row], "html": True})
    assert found.status_code == 200
    assert "a fine day" in found.json()["html"][0]


def test_reasons_of_a_long_text_are_refused(finished):
    from bertkit.run import load
    from bertkit.serve.app import Application, Body, Limits, Refused, Served

    run = Served("a run", load(finished("sentiment")))
    app = Application([run], Limits(), explains=True, hosts=["*"])
    body = Body(rows=["a" * 4001]).model_dump()
    assert app._checked(json.dumps(body).encode())
    with pytest.raises(Refused, match="4,001 characters are more than 4,000"):
        app._checked(json.dumps({**body, "explain": True}).encode())
    app.batcher.close()


def test_an_onnx_file_is_not_asked_for_reasons(bertkit, finished):
    check(
        bertkit("serve", finished("sentiment"), "--explain", "--engine", "onnx"),
        "gives no reasons",
        "leave out --explain",
    )


def test_a_second_server_on_the_same_port_and_runs_of_two_tasks_are_refused(bertkit, finished):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        check(
            bertkit("serve", finished("sentiment"), "--port", port), f"127.0.0.1:{port} cannot be listened on", "--port"
        )
    runs = finished("sentiment"), finished("qa")
    check(bertkit("serve", *runs, "--port", 0), "do not read the same columns", "runs of one task")


def test_what_is_not_read_to_its_end_is_refused_and_is_no_fault_of_the_server(finished):
    with serving(finished("sentiment"), "--seconds", "1") as (client, _):
        at = client.base_url.host, client.base_url.port
        head = (
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        with socket.create_connection(at, timeout=20) as slow, socket.create_connection(at) as gone:
            slow.sendall(head)
            gone.sendall(head)
            gone.close()
            said = b"".join(iter(lambda: slow.recv(4096), b""))  # until the server hangs up
            assert b"the body did not come within 1 seconds" in said
        assert 'status="500"' not in client.get("/metrics").text


# The batcher by itself.


def test_a_row_that_breaks_the_model_spoils_no_other_request():
    go = threading.Event()

    def answer(rows):
        go.wait(10)
        return [1 / row for row in rows]

    batcher = Batcher(most_rows=4, most_waiting=9)
    futures = [batcher.ask([row], answer) for row in (1, 2, 0, 4)]
    go.set()
    assert isinstance(futures.pop(2).exception(10), ZeroDivisionError)
    assert [future.result(10) for future in futures] == [[1], [0.5], [0.25]]
    batcher.close()


def test_what_waits_together_is_answered_together_and_within_its_limits():
    begun, go, sizes = threading.Event(), threading.Event(), []

    def answer(rows):
        begun.set()
        go.wait(10)
        sizes.append(len(rows))
        return [row * 2 for row in rows]

    batcher = Batcher(most_rows=4, most_waiting=9)
    futures = [batcher.ask([0], answer)]
    begun.wait(10)
    futures += [batcher.ask([number], answer) for number in range(1, 7)]
    given_up = batcher.ask([7], answer)
    assert given_up.cancel()
    with pytest.raises(Full):
        batcher.ask([8, 9], answer)
    go.set()
    assert [future.result(10) for future in futures] == [[2 * number] for number in range(7)]
    batcher.close()
    assert sizes == [1, 4, 2]
    assert batcher.waiting == 0


def test_what_was_taken_is_answered_before_the_end():
    batcher = Batcher(most_rows=2, most_waiting=100)
    futures = [batcher.ask([number], list) for number in range(20)]
    batcher.close()
    assert [future.result(0) for future in futures] == [[number] for number in range(20)]


# The page in a browser.


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (1200, "dark")])
@pytest.mark.parametrize("task", ["sentiment", "qa"])
def test_a_browser_shows_an_answer(browser, finished, server, task, width, scheme):
    wrong = []
    with serving(finished("qa"), finished("qa")) if task == "qa" else noop(server) as (client, _):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda request: wrong.extend([request.url] * (not request.url.startswith(str(client.base_url))))
        )
        page.goto(str(client.base_url))
        page.locator("#examples button").first.click()
        page.locator("#answers article").last.wait_for(timeout=30_000)
        fields = page.locator("textarea")
        for number in range(fields.count()):
            fields.nth(number).fill("<b>Who</b> rises? The bread rises. " * (30 if number else 1))
        if task == "sentiment":
            page.get_by_label("say why").check()
        with page.expect_response("**/predict"):
            page.keyboard.press("Control+Enter")
        shown = page.locator("#answers article", has_text="<b>Who</b>").first
        shown.wait_for(timeout=30_000)
        assert page.locator("#answers b").count() == 0
        if task == "sentiment":
            assert shown.locator(".bars li").count() == 2
            page.locator("#answers mark.for, #answers mark.against").first.wait_for(timeout=30_000)
        else:
            assert page.locator("#answers section").count() == 2
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.close()
    assert wrong == []


@contextmanager
def noop(client):
    yield client, None

"""A run's model goes to a server with a card that says what it is."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import ModelCard

from bertkit.config import parse_yaml
from tests.cli.conftest import check
from tests.rows import BUNDLED


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as takes a commit; files come inline."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.seen.append((self.path, self.headers.get("Authorization"), body))
        if self.headers.get("Authorization") != "Bearer hf_right":
            return self.answer(401, {"error": "who are you?"})
        if self.path == "/api/repos/create":
            return self.answer(200, {"url": f"{self.server.address}/me/mine"})
        if self.path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if self.path.endswith("/preupload/main"):
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        assert self.path == "/api/models/me/mine/commit/main"
        return self.answer(
            200, {"commitUrl": f"{self.server.address}/me/mine/commit/1", "commitOid": "1", "success": True}
        )

    def answer(self, code, value):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.seen, server.address = [], f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def push(hub, run, token):
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": token}
    command = [sys.executable, "-m", "bertkit", "push", str(run), "me/mine"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_server_gets_all_files_of_the_model_in_one_commit(hub, finished):
    run = finished("sentiment")
    done = push(hub, run, "hf_right")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{hub.address}/me/mine/commit/1\n", "")
    assert json.loads(hub.seen[0][2])["visibility"] == "private"
    lines = [json.loads(line) for line in hub.seen[-1][2].splitlines()]
    sent = {
        line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
    }
    there = {path.name: path.read_bytes() for path in (run / "model").iterdir()}
    assert sent.keys() == there.keys()
    card = sent.pop("README.md").decode()
    assert "THIS_MODEL" not in card
    assert 'model="me/mine"' in card
    assert all(sent[name] == there[name] for name in sent)


def test_a_server_that_refuses_is_one_error(hub, finished):
    done = push(hub, finished("sentiment"), "hf_wrong")
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("error: me/mine: the model was not pushed: ")
    assert "hf auth login" in second


def test_a_dry_run_shows_what_would_go(bertkit, finished):
    done = bertkit("push", finished("qa"), "me/mine", "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert f"{(finished('qa') / 'model' / 'model.safetensors').stat().st_size:,}  model.safetensors" in done.out
    assert "# qa, bundled:tiny" in done.out


def test_what_is_no_finished_run_is_not_pushed(bertkit, tmp_path):
    check(bertkit("push", tmp_path, "me/mine"), "is not a run", "train --out")


@pytest.mark.parametrize("task", BUNDLED)
def test_a_card_says_what_was_learned_and_how_well(finished, task):
    run = finished(task)
    text = (run / "model" / "README.md").read_text(encoding="utf-8")
    metrics = json.loads((run / "metrics.json").read_text())
    card = ModelCard(text)
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    scores = metrics["splits"]["validation"]
    assert found == {name: value for name, value in scores.items() if isinstance(value, float)}
    assert card.data.library_name == "transformers"
    assert f"| validation | {scores['rows']:,} |" in text
    assert json.loads((run / "environment.json").read_text())["data"]["train"] in text
    assert f"seed {metrics['seed']}" in text
    recipe = parse_yaml(text.partition("```yaml\n")[2].partition("```")[0], "the card")
    assert recipe["task"]["name"] == task
    assert recipe["train"]["steps"] == 3


def test_a_card_says_which_rows_were_held_back_from_a_folder_too(bertkit, tmp_path, tiny):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.csv").write_text(
        "text,label\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(20))
    )
    small = "train.steps=1", "train.batch_size=4", "hardware.precision=fp32"
    source = f"data.source={tmp_path / 'rows'}"
    assert bertkit("train", "sentiment", "-m", tiny("bert"), source, "-o", tmp_path / "run", "-q", *small).code == 0
    text = (tmp_path / "run" / "model" / "README.md").read_text(encoding="utf-8")
    assert "| train | rows (train) | 18 |" in text
    assert "| validation | held back from train | 2 |" in text


def test_a_card_names_no_folder_of_the_machine(bertkit, tmp_path, tiny):
    rows = tmp_path / "secret place" / "rows.csv"
    rows.parent.mkdir()
    rows.write_text("text,label\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(20)))
    out = tmp_path / "run"
    small = "train.steps=1", "train.batch_size=4", "hardware.precision=fp32"
    assert bertkit("train", "sentiment", "-m", tiny("bert"), "--train", rows, "-o", out, "-q", *small).code == 0
    text = (out / "model" / "README.md").read_text(encoding="utf-8")
    assert "secret place" not in text
    assert str(tmp_path) not in text
    assert "| train | rows.csv | 18 |" in text

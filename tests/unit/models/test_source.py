"""A checkpoint is read quietly, and a Hub that does not answer is not waited for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import transformers

from bertkit.models.load import load_config, load_model, load_tokenizer
from bertkit.recipe import ModelConfig

CODE = """
import json, time
from bertkit.errors import BertkitError
from bertkit.models.load import load_config
from bertkit.recipe import ModelConfig
began = time.monotonic()
try:
    load_config(ModelConfig(checkpoint="nobody/nothing"))
except BertkitError as error:
    print(json.dumps([time.monotonic() - began, error.message, error.hint]))
"""


def test_a_hub_that_does_not_answer_is_said_at_once(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        environment = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
        environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{closed.getsockname()[1]}", "HF_HOME": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment)
    seconds, message, hint = json.loads(done.stdout)
    assert seconds < 10  # the Hub's client alone tries for 23 seconds
    assert message.startswith("model.checkpoint: nobody/nothing cannot be loaded (")
    assert hint == "without the network, give a folder: --model FOLDER (see `bertkit doctor`)"
    assert "Retrying" not in done.stderr


def test_what_others_hear_of_transformers_is_as_they_set_it(tiny):
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    config = ModelConfig(checkpoint=str(tiny("bert")))
    try:
        for verbosity, switch in (
            (logging.INFO, logging.enable_progress_bar),
            (logging.ERROR, logging.disable_progress_bar),
        ):
            logging.set_verbosity(verbosity)
            switch()
            wanted = verbosity, switch is logging.enable_progress_bar
            load_config(config), load_tokenizer(config), load_model(config, "class", ("a", "b"), 0)
            assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == wanted
    finally:
        logging.set_verbosity(before[0])
        (logging.enable_progress_bar if before[1] else logging.disable_progress_bar)()

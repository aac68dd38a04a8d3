"""What decides on a cluster, without one: room for jobs, addresses, and the worker of a node."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import ExitStack

import pytest

from bertkit.disk import held
from bertkit.errors import BertkitError
from bertkit.studies.runner import cluster
from bertkit.studies.runner.cluster import Worker, need_of


def test_a_cluster_has_room_for_as_many_jobs_as_its_devices_take():
    assert need_of([{"CPU": 8.0}, {"CPU": 4.0}], 1) == (0, 4, 3)  # the larger node takes two
    assert need_of([{"CPU": 8.0}, {"CPU": 4.0}], 2) == (0, 2, 6)
    assert need_of([{"CPU": 1.0}], 3) == (0, 1, 1)  # never more jobs than cores
    assert need_of([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0}], 2) == (0.5, 1, 4)
    assert need_of([], 1)[-1] == 0


@pytest.mark.parametrize("address", ["nonsense", "http://a:1", "a:b", "user:secret@host:1", "host:123456"])
def test_what_is_no_address_is_refused(monkeypatch, address):
    monkeypatch.setattr(cluster, "ray", object())
    with pytest.raises(BertkitError, match="is no address of a Ray cluster"), cluster.connected(address):
        pass


def test_an_address_where_nothing_answers_is_refused_soon(monkeypatch):
    monkeypatch.setattr(cluster, "ray", object())
    with pytest.raises(BertkitError, match=r"nothing answers at 127\.0\.0\.1:1"), cluster.connected("127.0.0.1:1"):
        pass


def test_without_ray_its_extra_is_named(monkeypatch):
    monkeypatch.setattr(cluster, "ray", None)
    with pytest.raises(BertkitError) as caught, cluster.connected("auto"):
        pass
    assert caught.value.hint == "pip install 'bertkit[ray]'"


def test_a_node_that_could_take_the_lock_of_the_study_is_of_no_use(tmp_path):
    assert "does not see that" in Worker().look(str(tmp_path), str(tmp_path))
    with held(tmp_path):
        assert Worker().look(str(tmp_path), str(tmp_path)) == ""
    assert Worker().look(str(tmp_path), "/nowhere") == "does not see /nowhere"


def test_a_job_begins_when_its_earlier_process_is_gone(tmp_path):
    earlier = ExitStack()
    earlier.enter_context(held(tmp_path / "run"))
    threading.Timer(0.6, earlier.close).start()
    began = time.monotonic()
    code = Worker().run(
        ["python", "-c", "import sys; print('here'); sys.exit(3)"],
        str(tmp_path / "log"), str(tmp_path / "run"), str(tmp_path),
    )  # fmt: skip
    assert code == 3
    assert time.monotonic() - began > 0.5
    assert (tmp_path / "log").read_text() == "waits for an earlier process of this job to end\nhere\n"


@pytest.mark.parametrize("is_held", [True, False])
def test_a_worker_passes_signals_on(tmp_path, is_held):
    worker, codes = Worker(), []
    earlier = ExitStack()
    if is_held:
        earlier.enter_context(held(tmp_path / "run"))
    body = "import time; open('ready', 'w').close(); time.sleep(60)"
    run = (["python", "-c", body], str(tmp_path / "log"), str(tmp_path / "run"), str(tmp_path))
    thread = threading.Thread(target=lambda: codes.append(worker.run(*run)))
    thread.start()
    while not ((tmp_path / "ready").exists() or (is_held and (tmp_path / "log").exists())):
        time.sleep(0.01)
    worker.tell(signal.SIGTERM)
    thread.join(10)
    assert codes == [-signal.SIGTERM]
    assert (tmp_path / "ready").exists() != is_held
    earlier.close()

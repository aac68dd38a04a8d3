"""The runner: longest first, none lost, none done twice, none left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from bertkit.errors import BertkitError, Interrupted
from bertkit.rundir import RunDir
from bertkit.studies.runner.board import Board, Lines
from bertkit.studies.runner.jobs import Job, Process, Runner, Slot, why_it_died
from bertkit.studies.runner.room import Room, make_slots

FINISH = "(run / 'metrics.json').write_text('{}')"


class Heard(Board):
    """A board that remembers."""

    def __init__(self) -> None:
        super().__init__(lambda job: "fine")
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def job(folder: Path, name: str, body: str = FINISH, cost: float = 1.0, needs: Job | None = None) -> Job:
    """A job whose process runs `body`, which finds its folder as `run` and how often it was begun as `attempt`."""
    run = folder / "runs" / name
    run.mkdir(parents=True)
    script = folder / f"{name}.py"
    head = f"""
        import os, signal, sys, time
        from pathlib import Path
        run = Path({str(run)!r})
        with (run / 'begun').open('a') as file:
            file.write('.')
        attempt = len((run / 'begun').read_text())
        with open({str(folder / "order")!r}, 'a') as file:
            file.write({name!r} + '\\n')
    """
    script.write_text(textwrap.dedent(head) + textwrap.dedent(body))
    return Job(
        name=name, command=[sys.executable, str(script)], run=RunDir(run), log=folder / f"{name}.log", cost=cost,
        result=run / "metrics.json", length=1.0, needs=needs,
    )  # fmt: skip


def run_all(jobs: list[Job], slots: int = 1) -> Heard:
    board = Heard()
    Runner(jobs, [Slot({}) for _ in range(slots)], board).run()
    return board


def order(folder: Path) -> list[str]:
    return (folder / "order").read_text().split()


def test_jobs_run_longest_first(tmp_path):
    run_all([job(tmp_path, name, cost=cost) for name, cost in (("short", 1), ("long", 9), ("middle", 5))])
    assert order(tmp_path) == ["long", "middle", "short"]


def test_a_job_that_others_wait_for_counts_with_the_longest_of_them(tmp_path):
    first = job(tmp_path, "first", cost=2)
    run_all([job(tmp_path, "alone", cost=8), first, job(tmp_path, "after", cost=7, needs=first)])
    assert order(tmp_path) == ["first", "alone", "after"]


def test_a_job_that_is_done_is_not_run_again(tmp_path):
    done, other = job(tmp_path, "done"), job(tmp_path, "other")
    done.run["metrics.json"].write_text("{}")
    run_all([done, other])
    assert order(tmp_path) == ["other"]
    assert done.state == "done"


def test_a_job_that_dies_is_tried_once_more(tmp_path):
    dies = job(tmp_path, "dies", f"if attempt == 1: os.kill(os.getpid(), signal.SIGKILL)\n{FINISH}")
    board = run_all([dies])
    assert (dies.state, dies.attempts, order(tmp_path)) == ("done", 2, ["dies", "dies"])
    assert "dies: died: killed by SIGKILL" in board.lines


def test_a_job_that_dies_twice_is_reported_while_the_others_go_on(tmp_path):
    body = (
        "print('error: data.train: no such file', file=sys.stderr)\nprint('hint: look', file=sys.stderr)\nsys.exit(2)"
    )
    dies = job(tmp_path, "dies", body, cost=9)
    heir, other = job(tmp_path, "heir", needs=dies), job(tmp_path, "other")
    run_all([dies, heir, other])
    assert (dies.state, dies.note, dies.attempts) == ("failed", "data.train: no such file", 2)
    assert (heir.state, heir.note) == ("failed", "it needs the model of dies, which failed")
    assert other.state == "done"
    assert sorted(order(tmp_path)) == ["dies", "dies", "other"]


def test_a_death_is_not_told_by_what_an_earlier_attempt_said(tmp_path):
    body = "if attempt == 1: print('error: stopped at step 5'), sys.exit(130)\nraise ValueError('something else')"
    dies = job(tmp_path, "dies", body)
    run_all([dies])
    assert dies.note == "ValueError: something else"


def test_a_log_that_is_gone_costs_no_job(tmp_path):
    dies = job(tmp_path, "dies", f"os.unlink({str(tmp_path / 'dies.log')!r})\nsys.exit(7)", cost=9)
    other = job(tmp_path, "other")
    run_all([dies, other])
    assert (dies.state, dies.note, other.state) == ("failed", "exit code 7", "done")


def test_exit_code_zero_without_results_is_a_death(tmp_path):
    empty = job(tmp_path, "empty", "print('nothing came of it')")
    run_all([empty])
    assert (empty.state, empty.note) == ("failed", "nothing came of it")


def test_as_many_jobs_run_at_once_as_there_are_slots(tmp_path):
    body = f"""
        (run.parent / 'now').mkdir(exist_ok=True)
        (run.parent / 'now' / str(os.getpid())).touch()
        while len(list((run.parent / 'now').iterdir())) < 2: time.sleep(0.01)
        {FINISH}
    """
    jobs = [job(tmp_path, "one", body), job(tmp_path, "two", body)]
    run_all(jobs, slots=2)  # each waits for the other: one at a time would never end
    assert [entry.state for entry in jobs] == ["done", "done"]


def test_a_stop_tells_the_jobs_and_says_how_to_go_on(tmp_path):
    body = """
        signal.signal(signal.SIGTERM, lambda *_: ((run / 'saved').touch(), sys.exit(130)))
        (run / 'ready').touch()
        time.sleep(60)
    """
    slow, waits = job(tmp_path, "slow", body, cost=9), job(tmp_path, "waits")
    runner = Runner([slow, waits], [Slot({})], Heard())

    def stop() -> None:
        while not slow.run["ready"].exists():
            time.sleep(0.01)
        runner.stop.set()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Interrupted) as caught:
        runner.run()
    thread.join()
    assert caught.value.message == "stopped; 0 of 2 jobs are done, and those that ran have saved a checkpoint"
    assert caught.value.hint == "go on with the same command and --resume"
    assert slow.run["saved"].exists()
    assert [slow.state, waits.state, order(tmp_path)] == ["waiting", "waiting", ["slow"]]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_second_control_c_waits_for_no_job(tmp_path, monkeypatch):
    monkeypatch.setattr("bertkit.studies.runner.jobs.PATIENCE", 20.0)
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(run / 'ready').touch()\ntime.sleep(60)"
    jobs = [job(tmp_path, name, body) for name in ("one", "two")]
    board = Heard()

    def interrupt() -> None:
        while not all(entry.run["ready"].exists() for entry in jobs):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        Runner(jobs, [Slot({}), Slot({})], board).run()
    thread.join()
    assert time.monotonic() - began < 15
    assert [entry.state for entry in jobs] == ["waiting", "waiting"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_second_control_c_waits_for_no_job_whatever_the_runner_is_at(tmp_path, monkeypatch):
    monkeypatch.setattr("bertkit.studies.runner.jobs.PATIENCE", 20.0)
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(run / 'ready').touch()\ntime.sleep(60)"
    slow = job(tmp_path, "slow", body)

    def write_results() -> None:
        while not slow.run["ready"].exists():
            time.sleep(0.01)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    began = time.monotonic()
    with pytest.raises(Interrupted, match="0 of 1 jobs are done"):
        Runner([slow], [Slot({})], Heard(), write_results).run()
    assert time.monotonic() - began < 15


def test_a_job_does_not_begin_while_its_earlier_process_lives(tmp_path):
    late = job(tmp_path, "late")
    body = f"""
        import sys, time
        from bertkit.rundir import RunDir
        with RunDir({str(late.run.path)!r}).claim(resume=False):
            print("up", flush=True)
            time.sleep(1.0)
    """
    earlier = subprocess.Popen([sys.executable, "-c", textwrap.dedent(body)], stdout=subprocess.PIPE, text=True)
    assert earlier.stdout.readline() == "up\n"
    board = run_all([late])
    assert earlier.poll() == 0
    assert board.lines[0] == "late: waits for its earlier process to end"
    assert late.state == "done"


def test_a_job_that_waits_for_its_earlier_process_holds_up_no_other(tmp_path):
    late, other, third = job(tmp_path, "late", cost=9), job(tmp_path, "other", cost=5), job(tmp_path, "third")
    earlier = ExitStack()
    earlier.enter_context(late.run.claim(resume=False))
    too_late = threading.Timer(20.0, earlier.close)
    too_late.start()

    class Ending(Heard):
        def say(self, text: str) -> None:
            super().say(text)
            if text.startswith("third: done"):
                earlier.close()

    board = Ending()
    Runner([third, late, other], [Slot({})], board).run()
    too_late.cancel()
    assert board.lines[:2] == ["late: waits for its earlier process to end", "other: begins"]
    assert order(tmp_path) == ["other", "third", "late"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_job_ends_when_its_runner_is_killed(tmp_path):
    child = """
        import time
        from bertkit.launch import follow_parent
        follow_parent()
        print('up', flush=True)
        time.sleep(60)
    """
    (tmp_path / "child.py").write_text(textwrap.dedent(child))
    parent = f"""
        import os, subprocess, sys, time
        child = subprocess.Popen(
            [sys.executable, {str(tmp_path / "child.py")!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={{**os.environ, "BERTKIT_FOLLOW": "1"}}, start_new_session=True,
        )
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(60)
    """
    runner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(parent)], stdout=subprocess.PIPE, text=True)
    pid = int(runner.stdout.readline())
    os.kill(pid, 0)  # it lives
    runner.kill()
    runner.wait()
    ends = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # an orphan that ended may wait for init to notice


def test_jobs_on_a_cpu_share_its_cores(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [slot.environment for slot in make_slots(1)] == [{}]
    assert [slot.environment for slot in make_slots(3)] == [{"OMP_NUM_THREADS": "2"}] * 3


def test_each_gpu_gets_its_jobs(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in make_slots(2)] == ["0", "0", "1", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in make_slots(1)] == ["3", "5"]


def test_a_study_on_no_gpu_at_all_is_refused():
    with pytest.raises(BertkitError, match="--gpus is at least 1"):
        Room(gpus=0).check()


def test_the_reason_of_a_death_is_the_last_error_line(tmp_path):
    log = tmp_path / "log"
    log.write_text("error: old\n" + "x" * 30_000 + "\nerror: new one\nhint: do\n")
    assert why_it_died(log, 2) == "new one"
    log.write_text("Traceback\n  File\nValueError: oh\n")
    assert why_it_died(log, 1) == "ValueError: oh"
    log.write_text("")
    assert why_it_died(log, 7) == "exit code 7"
    assert why_it_died(log, -9) == "killed by SIGKILL"


def test_progress_is_read_from_the_history(tmp_path):
    entry = job(tmp_path, "entry", cost=10.0)
    entry.look()
    assert entry.share == 0.0
    entry.run["history.jsonl"].write_text(json.dumps({"step": 3, "epoch": 0.25, "loss": 1.0}) + '\n{"step": 4, "ep')
    entry.look()
    assert (entry.share, entry.loss) == (0.25, 1.0)
    entry.by_steps, entry.length = True, 6
    entry.look()
    assert entry.share == 0.5


class Counted(RunDir):
    """A run that counts how often its history is read."""

    reads = 0

    def last_record(self) -> dict | None:
        self.reads += 1
        return super().last_record()


def test_plain_lines_read_the_histories_once_for_each_line_they_print(tmp_path, monkeypatch, capsys):
    now = [1000.0]
    monkeypatch.setattr("bertkit.studies.runner.board.time.monotonic", lambda: now[0])
    jobs = [job(tmp_path, name) for name in ("one", "other")]
    for entry in jobs:
        entry.run, entry.state = Counted(entry.run.path), "running"
        entry.run["history.jsonl"].write_text(json.dumps({"step": 1, "epoch": 0.5}) + "\n")
    board = Lines()
    for _ in range(5 * 150):  # two and a half minutes, five times a second
        board.show(jobs)
        now[0] += 0.2
    printed = capsys.readouterr().err.splitlines()
    assert printed == ["0 of 2 jobs are over; running: one 50%, other 50%; time left: not known yet"] * 2
    assert [entry.run.reads for entry in jobs] == [3, 3]  # the first look is what the pace is measured from


def test_the_time_left_is_the_work_left_at_the_pace_so_far(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("bertkit.studies.runner.board.time.monotonic", lambda: now[0])
    one, other = job(tmp_path, "one", cost=10.0), job(tmp_path, "other", cost=30.0)
    one.state = "running"

    def left_at(seconds: float, epoch: float) -> str:
        now[0] = 1000.0 + seconds
        one.run["history.jsonl"].write_text(json.dumps({"step": 1, "epoch": epoch}) + "\n")
        return board.left([one, other], is_urgent=True)

    board = Board()
    assert left_at(0, 0.5) == "time left: not known yet"  # half of it was done by an earlier process
    assert left_at(10, 0.6) == "time left: not known yet"
    assert left_at(20, 0.7) == "about 6 min left"  # 2 of cost in 20 s; 33 are left
    assert left_at(40, 0.9) == "about 5 min left"
    one.state = other.state = "done"
    assert left_at(50, 1.0) == "nothing is left"


def test_the_signals_of_the_process_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run_all([job(tmp_path, "one")])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_job_that_cannot_be_started_costs_no_other(tmp_path):
    stuck, other = job(tmp_path, "stuck", cost=9), job(tmp_path, "other")
    stuck.log = tmp_path / "gone" / "stuck.log"
    board = run_all([stuck, other])
    assert (stuck.state, stuck.attempts, other.state) == ("failed", 2, "done")
    assert stuck.note == f"cannot be started ([Errno 2] No such file or directory: '{stuck.log}')"
    assert f"stuck: died: {stuck.note}" in board.lines


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_second_control_c_while_jobs_are_told_to_stop_leaves_none_behind(tmp_path, monkeypatch):
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(run / 'ready').touch()\ntime.sleep(60)"
    jobs = [job(tmp_path, name, body) for name in ("one", "two")]
    told = []

    class Interrupting(Process):
        def terminate(self) -> None:
            super().terminate()
            told.append(self)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("bertkit.studies.runner.jobs.Process", Interrupting)

    def stop() -> None:
        while not all(entry.run["ready"].exists() for entry in jobs):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop).start()
    with pytest.raises(Interrupted) as caught:
        Runner(jobs, [Slot({}), Slot({})], Heard()).run()
    assert [process.returncode for process in told] == [-signal.SIGKILL] * 2
    assert caught.value.message == "stopped; 0 of 2 jobs are done, and those that ran were killed"


def test_work_on_a_job_that_failed_since_is_part_of_the_pace(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("bertkit.studies.runner.board.time.monotonic", lambda: now[0])
    one, other = job(tmp_path, "one", cost=10.0), job(tmp_path, "other", cost=30.0)
    one.run["history.jsonl"].write_text(json.dumps({"step": 1, "epoch": 0.5}) + "\n")
    one.state = other.state = "running"
    board = Board()
    board.left([one, other], is_urgent=True)  # half of one was done by an earlier process
    one.state, now[0] = "failed", 1020.0
    other.run["history.jsonl"].write_text(json.dumps({"step": 1, "epoch": 0.1}) + "\n")
    assert board.left([one, other], is_urgent=True) == "about 3 min left"  # 3 of cost in 20 s; 27 are left


def test_only_gpus_that_are_seen_get_jobs(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,7,-1,3")  # CUDA reads up to the first that is none
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in make_slots(1)] == ["2", "7"]


def test_gpus_of_this_machine_are_no_matter_of_a_cluster():
    with pytest.raises(BertkitError, match="--gpus 1: a Ray cluster knows its own GPUs"):
        Room(gpus=1, executor="ray").check()


def test_more_gpus_than_there_are_are_refused_with_a_hint_that_holds(monkeypatch):
    monkeypatch.setattr("bertkit.machine.gpu_count", lambda: 1)
    with pytest.raises(BertkitError) as caught:
        Room(gpus=2).check()
    assert caught.value.hint == "see `bertkit doctor`; leave it out for all"

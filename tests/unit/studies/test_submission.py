"""The zip for the GLUE server: names, lines, words, and what is refused before anything is predicted."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from bertkit.data.glue import LAYOUTS
from bertkit.errors import BertkitError
from bertkit.metrics.glue import OFFICIAL, TASKS
from bertkit.studies.glue import submission
from bertkit.studies.glue.submission import FILES, submit
from bertkit.studies.runner.jobs import Job, Slot
from bertkit.studies.runner.room import Room
from tests.unit.studies.studies import write_study

LINES = {  # with the header, as the server counts
    "CoLA.tsv": 1064, "SST-2.tsv": 1822, "MRPC.tsv": 1726, "STS-B.tsv": 1380, "QQP.tsv": 390_966, "MNLI-m.tsv": 9797,
    "MNLI-mm.tsv": 9848, "QNLI.tsv": 5464, "RTE.tsv": 3001, "WNLI.tsv": 147, "AX.tsv": 1105,
}  # fmt: skip


class Over:
    """A process that has ended well."""

    returncode, lost = 0, ""

    def poll(self) -> int:
        return 0

    def release(self) -> None:
        return None


class Fake(Slot):
    """Where `bertkit predict` answers at once, with its labels in turn or with numbers beyond the scale."""

    asked: ClassVar[list[str]] = []
    commands: ClassVar[list[Sequence[str]]] = []

    def start(self, job: Job) -> Over:
        run, rows, out = (Path(job.command[job.command.index(name) + 1]) for name in ("predict", "--input", "--out"))
        self.asked.append(run.name)
        self.commands.append(job.command)
        labels = LAYOUTS[run.name.partition("-")[0]].labels or (-0.5, 2.34567, 7.0)
        lines = (
            json.dumps({"id": json.loads(line)["id"], "label": labels[number % len(labels)]})
            for number, line in enumerate(rows.read_text().splitlines())
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("".join(f"{line}\n" for line in lines))
        return Over()


@pytest.fixture
def asked(monkeypatch):
    """The runs that were asked."""

    @contextmanager
    def slots(self: Room, folder: Path) -> Iterator[list[Slot]]:
        yield [Fake({}) for _ in range(11)]

    monkeypatch.setattr(Room, "slots", slots)
    Fake.asked.clear()
    return Fake.asked


def study(folder: Path, seeds: int = 1) -> Path:
    scores = {task: [dict.fromkeys(OFFICIAL[task], 0.1 * (seed + 1)) for seed in range(seeds)] for task in TASKS}
    return write_study(folder, scores)


def write_tests(folder: Path, sizes: dict[str, int] | None = None) -> None:
    """The test sets of all tasks, with three rows where `sizes` does not say how many."""
    for file in FILES:
        path = folder / "data" / file.task / f"{file.split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        count = (sizes or {}).get(file.name, 3)
        lines = (json.dumps({"id": str(row), "text": "x", "second": "y", "label": None}) for row in range(count))
        path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def small(monkeypatch):
    """GLUE's test sets with a hundredth of their rows and one more: name -> rows."""
    files = tuple(file._replace(rows=1 + file.rows // 100) for file in FILES)
    monkeypatch.setattr(submission, "FILES", files)
    return {file.name: file.rows for file in files}


def test_test_sets_have_the_servers_numbers_of_lines():
    assert {file.name: file.rows + 1 for file in FILES} == LINES


def test_a_test_set_of_glues_size_is_taken(tmp_path, asked):
    write_tests(study(tmp_path), {"RTE.tsv": LINES["RTE.tsv"] - 1})
    with zipfile.ZipFile(submit(tmp_path, tasks=["rte"])) as archive:
        assert archive.read("RTE.tsv").count(b"\n") == LINES["RTE.tsv"]


def test_the_server_gets_eleven_flat_files_with_a_line_for_each_row(tmp_path, asked, small):
    write_tests(study(tmp_path), small)
    with zipfile.ZipFile(submit(tmp_path)) as archive:
        assert {name: archive.read(name).count(b"\n") - 1 for name in archive.namelist()} == small
        assert small.keys() == LINES.keys()
        for name in LINES:
            assert archive.read(name).startswith(b"index\tprediction\n0\t")
    assert "mnli-0" in asked
    assert not [name for name in asked if name.startswith("ax")]  # AX is answered by the MNLI model


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("CoLA.tsv", ["0\t0", "1\t1", "2\t0"]),
        ("RTE.tsv", ["0\tentailment", "1\tnot_entailment", "2\tentailment"]),
        ("QNLI.tsv", ["0\tentailment", "1\tnot_entailment", "2\tentailment"]),
        ("WNLI.tsv", ["0\t0", "1\t1", "2\t0"]),
        ("MNLI-mm.tsv", ["0\tentailment", "1\tneutral", "2\tcontradiction"]),
        ("AX.tsv", ["0\tentailment", "1\tneutral", "2\tcontradiction"]),
        ("STS-B.tsv", ["0\t0.000", "1\t2.346", "2\t5.000"]),
    ],
)
def test_predictions_are_in_the_words_of_the_server(tmp_path, asked, name, lines):
    write_tests(study(tmp_path))
    with zipfile.ZipFile(submit(tmp_path, any_size=True)) as archive:
        assert archive.read(name).decode().splitlines()[1:] == lines


def test_the_index_is_the_files_own(tmp_path, asked):
    write_tests(study(tmp_path))
    path = tmp_path / "data" / "rte" / "test.jsonl"
    path.write_text(path.read_text().replace('"id": "1"', '"id": "77"'))
    with zipfile.ZipFile(submit(tmp_path, any_size=True)) as archive:
        assert archive.read("RTE.tsv").decode().splitlines()[2] == "77\tnot_entailment"


def test_the_best_seed_on_dev_answers(tmp_path, asked):
    write_tests(study(tmp_path, seeds=3))
    submit(tmp_path, any_size=True)
    assert {name.partition("-")[2] for name in asked} == {"2"}


def test_missing_test_files_are_all_named_before_anything_is_predicted(tmp_path, asked):
    write_tests(study(tmp_path))
    (tmp_path / "data" / "wnli" / "test.jsonl").unlink()
    (tmp_path / "data" / "ax" / "test.jsonl").unlink()
    (tmp_path / "runs" / "rte-0" / "metrics.json").unlink()
    with pytest.raises(BertkitError) as caught:
        submit(tmp_path)
    assert caught.value.message == (
        f"{tmp_path}: 3 of 11 files cannot be written: "
        "RTE.tsv (no finished run of RTE), WNLI.tsv (no test file of WNLI), AX.tsv (no test file of AX)"
    )
    assert "--tasks cola,mnli,mrpc,qnli,qqp,sst2,stsb" in caught.value.hint
    assert asked == []
    assert not (tmp_path / "submission.zip").exists()


def test_what_the_hint_offers_can_be_had(tmp_path, asked):
    write_tests(study(tmp_path))
    (tmp_path / "data" / "mnli" / "test_mismatched.jsonl").unlink()
    with pytest.raises(BertkitError) as caught:
        submit(tmp_path, tasks=["rte", "mnli"])
    assert caught.value.hint.endswith("--tasks rte")


def test_part_of_it_can_be_had_and_is_called_that(tmp_path, asked, small):
    write_tests(study(tmp_path), small)
    (tmp_path / "data" / "wnli" / "test.jsonl").unlink()
    said: list[str] = []
    target = submit(tmp_path, tmp_path / "part.zip", tasks=["rte", "MNLI"], say=said.append)
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == ["MNLI-m.tsv", "MNLI-mm.tsv", "RTE.tsv"]
    assert said[-1] == f"{target}: 3 of 11 files; the server takes all of them only"


def test_test_sets_of_another_size_are_refused(tmp_path, asked, small):
    write_tests(study(tmp_path), {**small, "RTE.tsv": 3, "QQP.tsv": 3911})
    with pytest.raises(BertkitError) as caught:
        submit(tmp_path)
    assert caught.value.message == (
        f"{tmp_path}: these are not GLUE's test sets: "
        "QQP.tsv: 3,911 rows instead of 3,910; RTE.tsv: 3 rows instead of 31"
    )
    assert caught.value.hint == "the server would refuse them; for a trial, add --any-size"
    assert asked == []
    with pytest.raises(BertkitError, match=r"test sets: RTE\.tsv: 3 rows instead of 31$"):
        submit(tmp_path, tasks=["rte"])


def test_a_folder_is_never_replaced_by_the_zip(tmp_path, asked):
    write_tests(study(tmp_path / "study"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(BertkitError) as caught:
        submit(tmp_path / "study", tmp_path / "mine", any_size=True)
    assert caught.value.message == f"--out: {tmp_path / 'mine'} is a folder"
    assert (tmp_path / "mine" / "notes.txt").exists()
    assert asked == []


def test_an_unknown_task_is_an_error(tmp_path, asked):
    write_tests(study(tmp_path))
    with pytest.raises(BertkitError) as caught:
        submit(tmp_path, tasks=["ret"])
    assert caught.value.message == "--tasks: there is no task 'ret'"
    assert "did you mean 'rte'?" in caught.value.hint


def test_files_that_are_there_are_not_predicted_again(tmp_path, asked):
    write_tests(study(tmp_path))
    submit(tmp_path, any_size=True)
    asked.clear()
    (tmp_path / "answers" / "rte-0" / "rte.test.jsonl").unlink()
    submit(tmp_path, any_size=True)
    assert asked == ["rte-0"]


def test_what_another_run_or_other_rows_gave_is_predicted_again(tmp_path, asked):
    write_tests(study(tmp_path, seeds=2))
    submit(tmp_path, tasks=["rte"], any_size=True)
    (tmp_path / "runs" / "rte-1" / "metrics.json").unlink()
    submit(tmp_path, tasks=["rte"], any_size=True)
    assert asked == ["rte-1", "rte-0"]
    write_tests(tmp_path, {"RTE.tsv": 2})
    with zipfile.ZipFile(submit(tmp_path, tasks=["rte"], any_size=True)) as archive:
        assert archive.read("RTE.tsv").count(b"\n") == 3


def test_settings_of_the_hardware_reach_the_jobs_and_no_others_are_taken(tmp_path, asked):
    write_tests(study(tmp_path))
    submit(tmp_path, tasks=["rte"], any_size=True, assignments=["hardware.device=cpu"])
    assert Fake.commands[-1][-1] == "hardware.device=cpu"
    for setting, message in (
        ("train.epochs=2", "the models are trained, so that `glue submit` takes hardware settings only"),
        ("hardware.devce=cpu", "hardware: unknown key 'devce'"),
    ):
        with pytest.raises(BertkitError, match=message):
            submit(tmp_path, tasks=["rte"], any_size=True, assignments=[setting])

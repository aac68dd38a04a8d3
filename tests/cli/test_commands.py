"""Every verb, on every task, as a user types it; and what a run leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import SMALL, check
from tests.rows import BUNDLED

ASSETS = Path(__file__).parents[2] / "bertkit" / "assets"
TASKS = tuple(BUNDLED)
HEADLINES = {
    "sentiment": ("accuracy", {"accuracy", "f1_macro", "matthews"}),
    "nli": ("accuracy", {"accuracy", "f1_macro", "matthews"}),
    "pos": ("accuracy", {"accuracy", "f1_macro"}),
    "ner": ("f1", {"f1", "precision", "recall", "accuracy"}),
    "qa": ("f1", {"f1", "exact_match"}),
}
FILES = {
    "recipe.yaml",
    "task.json",
    "environment.json",
    "history.jsonl",
    "pace.jsonl",
    "metrics.json",
    "predictions.jsonl",
    "findings.json",
    "checkpoints",
    "model",
}


def shell(*arguments: object, **options) -> subprocess.CompletedProcess:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bertkit", *map(str, arguments)], capture_output=True, text=True, timeout=120, **options
    )


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# what needs no model


def test_help_imports_nothing_heavy():
    code = """
import sys
from bertkit.cli import _guarded
codes = {_guarded([*words, "--help"]) for words in ([], ["train"], ["evaluate"], ["predict"], ["recipe"], ["doctor"])}
heavy = {"torch", "transformers", "datasets", "numpy", "evaluate", "accelerate"} & set(sys.modules)
light = [_guarded(words) for words in (["tasks"], ["recipe", "list"], ["recipe", "show", "qa"], ["train", "nope"])]
later = {"torch", "transformers", "datasets", "evaluate", "accelerate"} & set(sys.modules)
print(codes, sorted(heavy), light, sorted(later), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "{0} [] [0, 0, 0, 2] []"
    assert "Fine-tune a checkpoint" in done.stdout


def test_commands_without_their_rest_are_helped(bertkit):
    done = bertkit("recipe")
    assert (done.code, done.err) == (2, "")
    assert "Usage: bertkit recipe" in done.out
    for words, problem in ((["nope"], "No such command 'nope'."), (["train"], "Missing argument 'TASK|RECIPE'.")):
        done = bertkit(*words)
        assert done.code == 2
        assert done.err == f"error: {problem}\nhint: see `bertkit --help`, and `bertkit COMMAND --help`\n"


def test_tasks_are_listed_with_what_they_do(bertkit):
    done = bertkit("tasks")
    listed = dict(line.split(maxsplit=1) for line in done.out.splitlines())
    assert set(TASKS) <= set(listed)
    assert all(len(what) > 20 for what in listed.values())


def test_doctor_says_what_is_there_and_what_is_missing(bertkit):
    done = bertkit("doctor", "--json")
    report = json.loads(done.out)
    assert done.code == 0
    assert set(report) == {"devices", "versions", "places", "extras"}
    assert "cores" in report["devices"]["cpu"]
    assert report["devices"]["chosen"]
    assert {"bertkit", "python", "torch", "transformers"} <= set(report["versions"])
    assert report["places"]["hub"] == "offline (HF_HUB_OFFLINE is set)"  # as conftest sets it
    assert {use.split(",")[0] for use in report["extras"].values()} <= {"installed", "missing"}
    assert bertkit("doctor").out.startswith("devices\n  cpu ")


def test_recipes_are_listed_shown_checked_and_copied(bertkit, tmp_path):
    listed = dict(line.split(maxsplit=1) for line in bertkit("recipe", "list").out.splitlines())
    assert len(listed) >= 12
    assert all(len(what) > 20 for what in listed.values())
    done = bertkit("recipe", "check", *listed)
    assert done.code == 0
    assert done.out.splitlines() == [f"{name}: fine" for name in listed]
    copy = tmp_path / "mine.yaml"
    assert bertkit("recipe", "copy", "smoke/qa", copy).out == f"{copy}\n"
    assert copy.read_text().startswith("# ")
    again = bertkit("recipe", "copy", "smoke/qa", copy)
    assert (again.code, again.err) == (2, f"error: {copy} already exists\nhint: give another name\n")
    shown = bertkit("recipe", "show", copy)
    assert shown == bertkit("recipe", "show", "smoke/qa")
    assert "max_answer_length: 30" in shown.out
    assert "adam_epsilon: 1e-08" in shown.out
    (tmp_path / "full.yaml").write_text(shown.out)
    assert bertkit("recipe", "show", tmp_path / "full.yaml") == shown


def test_unknown_recipes_are_answered_with_the_nearest(bertkit):
    for words in (["recipe", "show", "smoke/qaa"], ["recipe", "copy", "smoke/qaa", "x"], ["train", "smoke/qaa"]):
        done = bertkit(*words)
        assert done.code == 2
        assert done.err.startswith("error: there is no recipe 'smoke/qaa'\nhint: did you mean 'smoke/qa'?")


def test_the_schema_knows_every_task_and_section(bertkit):
    schema = json.loads(bertkit("recipe", "schema").out)
    assert {"task", "model", "data", "windows", "train", "hardware", "log", "seed"} == set(schema["properties"])
    assert set(TASKS) <= set(schema["properties"]["task"]["anyOf"][-1]["enum"])
    assert all(task["additionalProperties"] is False for task in schema["properties"]["task"]["anyOf"][:-1])


def test_a_reader_that_goes_away_is_no_error():
    for words in (["recipe", "schema"], ["tasks"]):  # more than a buffer holds, and less
        process = subprocess.Popen(
            [sys.executable, "-m", "bertkit", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process.stdout.close()  # as `| head` does
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_a_bug_keeps_its_traceback(bertkit, monkeypatch):
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("bertkit.run.finetune", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        bertkit("train", "qa")


# the thread through every room


def test_the_thread_in_processes_of_its_own(tmp_path):
    run, rows = tmp_path / "run", tmp_path / "rows.csv"
    rows.write_text("text,label\nGood food,positive\nNever again,negative\n")
    done = shell(
        "train",
        "sentiment",
        *SMALL,
        "--train",
        "bundled:sentiment.csv",
        "--test",
        rows,
        "train.steps=3",
        "--json",
        "--out",
        run,
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert metrics == json.loads((run / "metrics.json").read_text())
    assert metrics["split"] == "test"
    for line in ("sentiment: 144 train rows", "validation: 16 of 160 training rows are held back", f"run: {run}"):
        assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    done = shell("evaluate", run, "--data", rows, "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["rows"] == 2
    done = shell("predict", run, "--text", "Très bien 我", "-q", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["label"] in ("positive", "negative")


@pytest.mark.parametrize("task", TASKS)
def test_smoke_recipes_run_to_the_end(bertkit, tmp_path, task):
    done = bertkit("train", f"smoke/{task}", "--out", tmp_path / "run", "data.train_rows=16", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["train"]["steps"] == 3


@pytest.mark.parametrize("task", TASKS)
def test_train_evaluate_predict(bertkit, finished, tmp_path, task):
    run, data = finished(task), f"bundled:{BUNDLED[task]}"
    headline, names = HEADLINES[task]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["headline"] == headline
    assert names <= set(metrics)
    assert metrics["train"]["steps"] == 3

    done = bertkit("evaluate", run, "--data", data, "--json")
    scores = json.loads(done.out)
    assert done.out.count("\n") == 1
    assert scores["headline"] == headline
    assert names <= set(scores)
    assert bertkit("evaluate", run, "--data", data, "-q").out.startswith(f"{data}: {headline} ")

    out = tmp_path / "new" / "predictions.jsonl"
    done = bertkit("predict", run, "--input", data, "--out", out)
    assert (done.code, done.out) == (0, "")
    assert done.err.endswith(f"predictions: {out}\n")
    predictions = lines_of(out)
    assert len(predictions) == scores["rows"]
    assert len({prediction["id"] for prediction in predictions}) == len(predictions)
    assert bertkit("predict", run, "-i", data, "-q").out == out.read_text(encoding="utf-8")


def test_predictions_of_a_class_come_with_probabilities(bertkit, finished):
    for task, flags in (("sentiment", ["--text", "Good"]), ("nli", ["--text", "A man sleeps", "--second", "He rests"])):
        prediction = json.loads(bertkit("predict", finished(task), *flags).out)
        assert prediction["label"] in prediction["probabilities"]
        assert sum(prediction["probabilities"].values()) == pytest.approx(1)


def test_words_of_a_text_get_a_tag_each(bertkit, finished):
    prediction = json.loads(bertkit("predict", finished("pos"), "--text", "It doesn't rain. 我爱你").out)
    assert prediction["words"] == ["It", "doesn't", "rain", ".", "我", "爱", "你"]
    assert len(prediction["tags"]) == len(prediction["probabilities"]) == 7


def test_answers_stand_in_the_document_at_their_place(bertkit, finished, tmp_path):
    document = "Anna lives in Rome.\r\n" * 40 + "Ben é 我 lives in Oslo."
    (tmp_path / "document.txt").write_bytes(document.encode())
    in_file = bertkit("predict", finished("qa"), "--question", "Where?", "--context-file", tmp_path / "document.txt")
    answer = json.loads(in_file.out)
    assert document[answer["start"] : answer["end"]] == answer["answer"] != ""
    assert sum(entry["probability"] for entry in answer["n_best"]) == pytest.approx(1)
    assert bertkit("predict", finished("qa"), "--question", "Where?", "--context", document).out == in_file.out


def test_rows_for_prediction_need_no_gold(bertkit, finished, tmp_path):
    files = {
        "sentiment": ("rows.txt", "A fine day\n\nA bad day\n"),
        "nli": ("rows.tsv", 'premise\thypothesis\n"A\tb\nc\td\n'),
        "pos": ("rows.txt", "It's fine.\nSo it goes\n"),
        "qa": ("rows.jsonl", '{"id": 7, "question": "Who?", "context": "Ann."}\n{"question": "a", "context": "b"}\n'),
    }
    for task, (name, content) in files.items():
        (tmp_path / name).write_text(content)
        done = bertkit("predict", finished(task), "--input", tmp_path / name)
        assert done.code == 0, done.err
        assert len(done.out.splitlines()) == 2


def test_settings_of_data_and_hardware_may_differ_from_the_runs(bertkit, finished, tmp_path):
    (tmp_path / "rows.csv").write_text("review,mood\nfine,positive\nbad,negative\nso so,-\n,negative\n")
    done = bertkit(
        "evaluate",
        finished("sentiment"),
        "data.columns={text: review, label: mood}",
        "data.ignore_labels=-",
        "hardware.evaluation_tokens=64",
        "--data",
        tmp_path / "rows.csv",
        "--json",
    )
    assert done.code == 0, done.err
    assert json.loads(done.out)["rows"] == 2  # a row without text is left out, too, and said
    assert "1 row with an ignored label is left out" in done.err


def test_a_task_of_ones_own_lies_in_the_folder_where_one_works(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "stances.py").write_text(
        "from bertkit.tasks.classification import Classification\n\n\n"
        "class Stance(Classification):\n    name: str = 'own.stances'\n    side: int = 3\n"
    )
    code = "import sys; from bertkit.cli import main; sys.argv[1:] = ['recipe', 'show', 'own.stances']; main()"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, (
        done.stderr
    )  # -P: as the installed command, which does not search this folder by itself
    assert "side: 3" in done.stdout


def test_warnings_are_one_line():
    code = "import warnings; from bertkit import cli; cli._guarded = lambda _: warnings.warn('beware'); cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "warning: beware\n")


def test_trackers_write_into_the_run(bertkit, tmp_path):
    pytest.importorskip("tensorboard")
    done = bertkit(*LONG, "train.steps=1", "log.trackers=tensorboard", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert list((tmp_path / "run" / "bertkit").glob("events.out.tfevents.*"))
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES | {"bertkit"}


# what a run leaves behind


@pytest.mark.parametrize("task", TASKS)
def test_a_run_directory_holds_its_contract(finished, task):
    run = finished(task)
    assert {path.name for path in run.iterdir()} == FILES
    assert len(lines_of(run / "history.jsonl")) >= 3
    assert lines_of(run / "predictions.jsonl")
    tables = [found for found in json.loads((run / "findings.json").read_text()) if "count" in found.get("columns", ())]
    answered = lines_of(run / "predictions.jsonl")
    sizes = {len(answered)}
    if task in ("pos", "ner"):
        sizes = {sum(len(record["words"]) for record in answered)}
    if task == "ner":
        sizes.add(sum(tag.startswith("B-") for record in answered for tag in record["gold"]))
    assert {sum(row[table["columns"].index("count")] for row in table["rows"]) for table in tables} == sizes
    environment = json.loads((run / "environment.json").read_text())
    assert environment["schema"] == 1
    assert environment["data"]["train"].startswith("sha256:")
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-000003"]
    assert {path.name for path in (run / "model").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_every_scored_split_keeps_its_predictions_and_what_was_left_out_is_said(bertkit, tmp_path):
    lines = (ASSETS / "sentiment.csv").read_text(encoding="utf-8").splitlines()
    train, validation, test = (tmp_path / f"{name}.csv" for name in ("train", "validation", "test"))
    train.write_text("\n".join([*lines[:17], "no opinion,-", "no label,"]) + "\n", encoding="utf-8")
    validation.write_text("\n".join([lines[0], *lines[17:21]]) + "\n", encoding="utf-8")
    test.write_text("\n".join([lines[0], *lines[21:27]]) + "\n", encoding="utf-8")
    files = ("--train", train, "--validation", validation, "--test", test, "--out", tmp_path / "run")
    done = bertkit(
        "train", "sentiment", *SMALL, *files, "train.steps=1", "data.ignore_labels=-", "data.skip_bad_rows=true"
    )
    assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES | {"predictions.validation.jsonl"}
    kept = {name: lines_of(tmp_path / "run" / f"{name}.jsonl") for name in ("predictions", "predictions.validation")}
    assert [len(records) for records in kept.values()] == [6, 4]
    assert len({tuple(record) for records in kept.values() for record in records}) == 1
    assert [f"{record['text']},{record['gold']}" for record in kept["predictions"]] == [
        line.replace('"', "") for line in lines[21:27]
    ]
    notes = {entry["title"]: entry for entry in json.loads((tmp_path / "run/findings.json").read_text())}
    assert notes["Rows left out"]["text"].endswith("train: 1 bad row, 1 row with an ignored label.")


@pytest.mark.parametrize("task", TASKS)
def test_the_recipe_of_a_run_makes_the_same_run(bertkit, finished, tmp_path, task):
    run = finished(task)
    done = bertkit("train", run / "recipe.yaml", "--out", tmp_path / "again", "-q")
    assert done.code == 0, done.err
    for name in ("recipe.yaml", "task.json", "history.jsonl", "predictions.jsonl", "model/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes(), name


def test_other_programs_load_the_model_with_its_labels(finished):
    import transformers

    for task, pipeline in (("sentiment", "text-classification"), ("pos", "token-classification")):
        folder = str(finished(task) / "model")
        labels = set(json.loads((finished(task) / "task.json").read_text())["labels"])
        found = transformers.pipeline(pipeline, model=folder, tokenizer=folder)("A fine day")
        assert {entry.get("label", entry.get("entity")) for entry in found} <= labels
        assert len(found) >= 1
    model = transformers.AutoModelForSequenceClassification.from_pretrained(finished("nli") / "model")
    assert model.config.label2id == {"contradiction": 0, "entailment": 1, "neutral": 2}
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(finished("qa") / "model")
    assert model.qa_outputs.weight.shape[0] == 2


def test_only_the_last_checkpoint_and_the_best_weights_are_kept(bertkit, tmp_path, monkeypatch):
    from bertkit.train.keep import Keeper

    run, seen = tmp_path / "run", []
    save = Keeper.save

    def save_and_look(self: Keeper, step: int) -> str:
        name = save(self, step)
        seen.append(sorted(str(path.relative_to(run)) for path in (run / "checkpoints").rglob("*") if path.is_file()))
        return name

    monkeypatch.setattr(Keeper, "save", save_and_look)
    done = bertkit(
        "train",
        "sentiment",
        *SMALL,
        "--train",
        "bundled:sentiment.csv",
        "train.steps=4",
        "train.checkpoint_every=1",
        "train.evaluate_every=1",
        "data.train_rows=16",
        "data.validation_rows=4",
        "train.batch_size=4",
        "--out",
        run,
    )
    assert done.code == 0, done.err
    assert len(seen) == 4
    for step, files in enumerate(seen, start=1):
        last = [
            f"checkpoints/step-{step:06d}/{name}"
            for name in ("model.safetensors", "optimizer.safetensors", "state.json")
        ]
        assert {path.rsplit("/", 1)[-1] for path in files[:2]} == {"model.safetensors", "state.json"}
        assert len({path.split("/")[1] for path in files[:2]}) == 1
        assert files[0].startswith("checkpoints/best-")
        assert files[2:] == last
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000004"]
    weights = (run / "model" / "model.safetensors").stat().st_size
    total = sum(path.stat().st_size for path in run.rglob("*.safetensors"))
    # the model; and the last weights with AdamW's two moments, which rows of unused words have none of
    assert 2.5 * weights < total < 4 * weights


# stopping and going on

LONG = (
    "train",
    "sentiment",
    *SMALL,
    "--train",
    "bundled:sentiment.csv",
    "train.batch_size=8",
    "train.epochs=1",
    "train.checkpoint_every=2",
    "train.steps=8",
    "data.train_rows=64",
    "data.validation_rows=8",
    "-q",
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_to_the_same_digits(bertkit, tmp_path, monkeypatch, number):
    from bertkit.train.keep import Keeper

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert bertkit(*LONG, "--out", whole).code == 0
    save = Keeper.save

    def save_and_stop(self: Keeper, step: int) -> str:
        name = save(self, step)
        if step == 4:
            os.kill(os.getpid(), number)
        return name

    monkeypatch.setattr(Keeper, "save", save_and_stop)
    done = bertkit(*LONG, "--out", cut)
    monkeypatch.undo()
    assert (done.code, done.out) == (130, "")
    assert done.err == (
        # told as step 4 was saved, it stops after the next one
        "error: stopped at step 5 of 8; checkpoint step-000005 is saved\n"
        "hint: go on with the same command and --resume\n"
    )
    assert not (cut / "metrics.json").exists()
    assert bertkit(*LONG, "--out", cut).code == 2  # never overwritten
    done = bertkit(*LONG, "--out", cut, "--resume", "--json")
    assert done.code == 0, done.err
    for name in ("history.jsonl", "predictions.jsonl", "model/model.safetensors", "task.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    files = sorted(path.stat().st_mtime_ns for path in cut.rglob("*"))
    again = bertkit(*LONG[:-1], "--out", cut, "--resume", "--json")
    assert (again.code, again.out) == (0, done.out)
    assert again.err == f"{cut} is finished already; these are its results\n"
    assert sorted(path.stat().st_mtime_ns for path in cut.rglob("*")) == files


def test_a_finished_run_is_not_passed_off_as_one_of_other_settings(bertkit, tmp_path):
    few = (*LONG, "train.steps=1", "--out", tmp_path / "run", "--resume")
    first = bertkit(*few)
    assert first.code == 0
    other = ("train.learning_rate=1e-3", "model.dropout=0.5", "data.train_rows=32", "seed=7")
    done = bertkit(*few, *other, "log.every=3", "windows.max_length=32", "train.keep=3")
    check(done, f"{tmp_path / 'run'} is finished, and was trained with other settings: ", "give --out a new name")
    assert done.err.splitlines()[0].split("settings: ")[1] == (
        "data.train_rows: 64 -> 32; model.dropout: None -> 0.5; seed: 0 -> 7; train.learning_rate: 3e-05 -> 0.001"
    )
    assert bertkit(*few, "log.every=3", "hardware.threads=1", "train.checkpoint_every=5").out == first.out


def test_a_process_that_is_interrupted_ends_with_130(tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "bertkit",
            *LONG,
            "train.steps=null",
            "train.epochs=500",
            "--out",
            str(tmp_path / "run"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    began = time.monotonic()
    while not list(tmp_path.glob("run/checkpoints/step-*")) and time.monotonic() - began < 60:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.startswith("error: stopped at step ")
    assert err.count("\n") == 2
    assert len(list(tmp_path.glob("run/checkpoints/step-*"))) == 1


def test_an_interrupt_outside_the_loop_ends_with_130_as_well(bertkit, monkeypatch):
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bertkit.run.finetune", interrupted)
    assert bertkit("train", "qa") == (130, "", "error: interrupted\n")


def test_told_to_end_outside_the_loop_a_command_ends_with_130(monkeypatch, capfd):
    from bertkit.cli import main

    def told(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr("bertkit.run.finetune", told)
    monkeypatch.setattr(sys, "argv", ["bertkit", "train", "qa"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 130
    assert capfd.readouterr().err == "error: interrupted\n"


def test_resume_without_a_run_starts_one(bertkit, tmp_path):
    done = bertkit(*LONG[:-1], "train.steps=1", "--out", tmp_path / "run", "--resume")
    assert done.code == 0
    assert "resume: there is no checkpoint yet, starting from the first step\n" in done.err


def test_resume_needs_the_name_of_the_run(bertkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(bertkit(*LONG, "--resume"), "--resume: which run is to go on?", "give --out")  # not a new one from step 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_name_takes_the_next_free_one(bertkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert bertkit(*LONG, "train.steps=1").code == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["sentiment-001", "sentiment-002"]

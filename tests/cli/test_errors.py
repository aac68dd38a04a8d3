"""Every bad input ends with 2, one line that names it, at most one hint, no traceback, and nothing left behind."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.cli.conftest import SMALL, Done, check
from tests.rows import BUNDLED

CSV = "text,label\ngood,positive\nbad,negative\nfine,positive\npoor,negative\n"
FIRST = "1\tI\tI\tPRON\t_\t_\t0\troot\t_\t_\n"
QUESTION = {"id": "q1", "question": "Where?", "answers": [{"text": "Rome", "answer_start": 14}]}
WRONG = {"id": "q2", "question": "Who?", "answers": [{"text": "Anna", "answer_start": 3}]}


def squad(*questions: dict) -> str:
    return json.dumps({"data": [{"paragraphs": [{"context": "Anna lives in Rome.", "qas": list(questions)}]}]})


# rows

ROWS = {  # name: task, file, content, what is said of it behind the file's name, hint
    "empty file": ("sentiment", "a.csv", "", ": there are no rows", "is it the right file"),
    "header only": ("sentiment", "a.csv", "text,label\n", ": there are no rows", "is it the right file"),
    "other column": (
        "sentiment",
        "a.csv",
        CSV.replace("text", "sentence"),
        ": no column 'text' for the task's 'text'; it has: sentence, label",
        "add data.columns.text=sentence",
    ),
    "missing column": ("nli", "a.csv", "premise,label\na,b\n", ": no column 'hypothesis'", "no column is left for it"),
    "null text": (
        "sentiment",
        "a.jsonl",
        '{"text": "a", "label": "x"}\n{"text": null, "label": "y"}\n',
        ":2: column 'text' is missing",
        "mend it, or leave such rows out with data.skip_bad_rows=true",
    ),
    "null label": (
        "sentiment",
        "a.csv",
        CSV + "so so,\n",
        ":6: column 'label' has no label",
        "data.skip_bad_rows=true",
    ),
    "broken JSON line": ("sentiment", "a.jsonl", '{"text": "a"\n', ":1: not JSON: Expecting ',' delimiter", "mend it"),
    "broken JSON": ("qa", "a.json", '{"data": [', ":1: not JSON", "SQuAD's layout"),
    "not UTF-8": (
        "sentiment",
        "a.csv",
        b"text,label\n\xe9t\xe9,a\n",
        ":2: byte 0xe9 is not UTF-8",
        "save the file as UTF-8",
    ),
    "too many fields": ("sentiment", "a.csv", CSV + "a,b,c\n", ":6: has 3 fields, but the first line has 2", "mend it"),
    "other ending": ("sentiment", "a.xlsx", "x", ": files that end in '.xlsx' are not read", "name it .csv"),
    "nine columns": ("pos", "a.conllu", FIRST + "2\tgo" + "\t_" * 7 + "\n", ":2: 9 columns instead of 10", "written _"),
    "spaces for tabs": ("pos", "a.conllu", FIRST.replace("\t", " "), ":1: 1 columns instead of 10", "put tabs"),
    "mixed tags": (
        "pos",
        "a.conllu",
        FIRST + "2\tgo" + "\t_" * 8 + "\n",
        ":2: 'go' has no UPOS, but other words of the sentence have one",
        "tag every word of a sentence, or none",
    ),
    "untagged": ("pos", "a.conllu", FIRST.replace("PRON", "_"), ":1: has no tags", "mend it"),
    "words and tags": (
        "pos",
        "a.jsonl",
        '{"words": ["a"], "tags": ["X", "Y"]}\n',
        ":1: has 1 words but 2 tags",
        "mend it",
    ),
    "answers off their place": (
        "qa",
        "a.json",
        squad(QUESTION, WRONG, {**WRONG, "id": "q3"}),
        ": question q2: answer 'Anna' does not stand at character 3 (and 1 more)",
        "data.skip_bad_rows=true",
    ),
    "no answer": (
        "qa",
        "a.json",
        squad({**QUESTION, "answers": []}),
        ": question q1: has no answer",
        "task.unanswerable=true",
    ),
    "ids twice": (
        "qa",
        "a.json",
        squad(QUESTION, QUESTION),
        ": 1 ids belong to more than one row: q1",
        "make the ids unique",
    ),
    "texts for words": (
        "pos",
        "a.csv",
        CSV,
        ": no column 'tags' for the task's 'tags'; it has: text, label",
        "data.columns.",
    ),
    "tags for texts": (
        "sentiment",
        "a.conllu",
        FIRST,
        ": no column 'label' for the task's 'label'; it has: id, form, upos, xpos",
        ".conllu files hold words and their tags, for tasks such as pos",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_wrong_rows_are_named_with_their_place(refused, write, name):
    task, file, content, message, hint = ROWS[name]
    path = write(file, content)
    refused(task, *SMALL, "--train", path, message=f"error: {path}{message}", hint=hint)
    if content:  # as it is in validation and test
        for flag in ("--validation", "--test"):
            refused(
                task,
                *SMALL,
                "--train",
                f"bundled:{BUNDLED[task]}",
                flag,
                path,
                message=f"error: {path}{message}",
                hint=hint,
            )


def test_missing_files_are_answered_with_the_nearest(refused, write, tmp_path):
    write("train.csv", CSV)
    path = tmp_path / "trian.csv"
    refused("sentiment", *SMALL, "--train", path, message=f"{path}: there is no such file", hint="did you mean ")
    refused("sentiment", *SMALL, message="data.train: no training rows are given", hint="add --train FILE")
    refused(
        "qa",
        *SMALL,
        "--train",
        "bundled:aq.json",
        message="bundled:aq.json: nothing of this name comes with bertkit",
        hint="did you mean 'qa.json'?",
    )


def test_labels_that_train_does_not_have_are_named_with_their_file_and_row(refused, write):
    train, other = write("train.csv", CSV), write("other.csv", CSV + "so so,neutral\n")
    for split in ("validation", "test"):
        refused(
            "sentiment",
            *SMALL,
            "--train",
            train,
            f"--{split}",
            other,
            message=f"{split} ({other}): unknown label 'neutral' (row 4); the labels are negative, positive",
            hint="leave such rows out with data.ignore_labels",
        )
    refused(
        "sentiment",
        *SMALL,
        "--train",
        other,
        "task.labels=[positive, negative]",
        message="train: unknown label 'neutral' (row 4); the labels are positive, negative",
        hint="data.ignore_labels",
    )
    refused(
        "sentiment",
        *SMALL,
        "--train",
        train,
        "task.labels=[positive, positive]",
        message="task.labels: 'positive' stands twice",
        hint="name each label once",
    )


def test_rows_that_cannot_teach_are_refused(refused, write):
    one = write("one.csv", "text,label\na,x\nb,x\nc,x\n")
    refused("sentiment", *SMALL, "--train", one, message="a classifier needs two labels or more", hint="data.columns")
    refused(
        "sentiment",
        *SMALL,
        "--train",
        write("row.csv", "text,label\na,x\n"),
        message="1 row is too few to hold some back",
        hint="give --validation FILE",
    )
    text = write("number.csv", "text,label\na,3.5\nb,high\n")
    refused(
        "classification",
        "task.kind=number",
        *SMALL,
        "--train",
        text,
        message=f"{text}:3: column 'label' holds 'high', not a finite number",
        hint="data.skip_bad_rows=true",
    )


def test_bad_rows_are_left_out_on_demand_and_reported(bertkit, write, tmp_path):
    questions = [{**QUESTION, "id": f"a{number}"} for number in range(6)]
    path = write("a.json", squad(*questions, WRONG, {**WRONG, "id": "q3"}))
    done = bertkit(
        "train",
        "qa",
        *SMALL,
        "--train",
        path,
        "data.skip_bad_rows=true",
        "train.steps=1",
        "--out",
        tmp_path / "run",
        "--json",
    )
    assert done.code == 0, done.err
    assert f"{path}: 2 bad rows are left out: {path}: question q2: answer 'Anna' does not stand" in done.err
    assert json.loads(done.out)["train"]["rows"] == 5
    done = bertkit("evaluate", tmp_path / "run", "--data", path, "--json", "data.skip_bad_rows=false")
    check(Done(done.code, done.out, done.err[done.err.index("error") :]), f"{path}: question q2: ", "skip_bad_rows")
    done = bertkit("evaluate", tmp_path / "run", "--data", path, "--json")
    assert (json.loads(done.out)["rows"], json.loads(done.out)["skipped"]) == (6, 2)


# settings

SETTINGS = [
    ("train.learning_rte=1", "train: unknown key 'learning_rte'", "did you mean 'learning_rate'?"),
    ("trian.epochs=1", "recipe: unknown key 'trian'", "did you mean 'train'?"),
    ("train.schedule=linaer", "train.schedule: unknown value 'linaer'", "did you mean 'linear'?"),
    ("train.epochs=two", "train.epochs: Input should be a valid integer", "epochs: passes over"),
    ("task.lables=[a]", "task: unknown key 'lables'", "did you mean 'labels'?"),
    ("data.columns.txt=text", "data.columns: the task has no column 'txt'", "did you mean 'text'?"),
    (
        "data.columns.text=txt",
        "no column 'txt' for the task's 'text'; it has: text, label",
        "add data.columns.text=text",
    ),
    ("warmup_ratio=0.1", "recipe: unknown key 'warmup_ratio'", "in bertkit it is train.warmup"),
    (
        "train.evaluation_strategy=epoch",
        "train: unknown key 'evaluation_strategy'",
        "in bertkit it is train.evaluate_every",
    ),
    (
        "overwrite_output_dir=true",
        "recipe: unknown key 'overwrite_output_dir'",
        "in bertkit it is --out",
    ),
    (
        "per_device_train_batch_size=8",
        "recipe: unknown key 'per_device_train_batch_size'",
        "in bertkit it is train.batch_size",
    ),
    ("group_by_length=true", "recipe: unknown key 'group_by_length'", "in bertkit it is train.order"),
    ("no_cuda=true", "recipe: unknown key 'no_cuda'", "in bertkit it is hardware.device=cpu"),
    ("windows.stride=70", "windows.stride: an overlap of 70 tokens leaves no step in windows of 64", "take at most 32"),
    ("log.trackers=tensorbord", "log.trackers: unknown tracker 'tensorbord'", "did you mean 'tensorboard'?"),
    ("train.best_by=acuracy", "train.best_by: sentiment has no metric 'acuracy'", "did you mean 'accuracy'?"),
    ("hardware.precision=fp16", "hardware.precision: fp16 needs a GPU", "use bf16 or fp32"),
    ("hardware.device=mps", "hardware.device: there is no mps device here", "see `bertkit doctor`"),
    ("train.class_weights={good: 2}", "train.class_weights: no label 'good'", "one of: negative, positive"),
    ("task.name=sentimnt", "task.name: unknown task 'sentimnt'", "did you mean 'sentiment'?"),
    ("task.name=nowhere.task", "task.name: there is no module 'nowhere.task'", "one of: "),
    ("epochs", "'epochs' is not a setting", "write key=value"),
]


@pytest.mark.parametrize(("setting", "message", "hint"), SETTINGS, ids=[setting for setting, *_ in SETTINGS])
def test_wrong_settings_are_named_with_what_was_meant(refused, write, setting, message, hint):
    refused(
        "sentiment",
        *SMALL,
        setting,
        "--train",
        write("a.csv", CSV),
        message=f"error: {message}" if not setting.startswith("data.columns.text") else message,
        hint=hint,
    )


def test_wrong_settings_in_a_recipe_file_are_said_alike(refused, write):
    path = write("mine.yaml", "task: sentiment\ntrain: {learning_rte: 1}\n")
    refused(path, message="train: unknown key 'learning_rte'", hint="did you mean 'learning_rate'?")
    path = write("mine.yaml", "task: sentiment\ntrain: [\n")
    refused(path, message=f"{path}:3: not YAML", hint="a setting reads `key: value`")
    refused(path.with_name("mime.yaml"), message="there is no such recipe", hint="did you mean 'mine.yaml'?")
    path = write("mine.yaml", "task: sentiment\nmodel: bert\n")
    refused(path, message="model is a section with keys, not 'bert'", hint="its keys: checkpoint")
    refused(path, "--model", "x", message="model.checkpoint: 'model' is a value, not a section with keys")


def test_a_metric_may_be_named_as_trainer_does(bertkit, write, tmp_path):
    done = bertkit(
        "train",
        "sentiment",
        *SMALL,
        "--train",
        write("a.csv", CSV),
        "train.best_by=eval_f1_macro",
        "train.epochs=1",
        "--out",
        tmp_path / "run",
        "--json",
    )
    assert done.code == 0, done.err
    assert json.loads(done.out)["best"]["metric"] == "f1_macro"


# folders and runs


def test_out_folders_that_hold_something_are_left_alone(bertkit, finished, write, tmp_path):
    run = finished("sentiment")
    arguments = ("train", "sentiment", *SMALL, "--train", "bundled:sentiment.csv", "-q", "--out")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    check(bertkit(*arguments, run), f"{run} holds a run already, which is never overwritten", "--resume")
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    file = write("folder/notes.txt", "mine")
    check(bertkit(*arguments, file.parent), f"{file.parent} is not empty and holds no run", "give --out a new name")
    check(bertkit(*arguments, file), f"{file} is a file, not a folder", "give --out a new name")
    check(bertkit(*arguments, file / "run"), f"{file}/run cannot be written", "check the path and its permissions")
    assert [path.name for path in file.parent.iterdir()] == ["notes.txt"]


def test_only_runs_are_evaluated(bertkit, finished, write, tmp_path):
    rows = write("a.csv", CSV)
    check(
        bertkit("evaluate", tmp_path / "none", "--data", rows), f"{tmp_path}/none does not exist", "bertkit train --out"
    )
    check(
        bertkit("evaluate", tmp_path, "--data", rows), f"{tmp_path} is not a run (it has no recipe.yaml)", "train --out"
    )
    run = tmp_path / "run"
    shutil.copytree(finished("sentiment"), run)
    (run / "model").rename(run / "moved")
    check(bertkit("predict", run, "--text", "a"), f"{run} has no model yet", "--resume")
    (run / "moved").rename(run / "model")
    (run / "environment.json").write_text('{"schema": 0}')
    check(bertkit("predict", run, "--text", "a"), f"{run} has schema 0, this version reads 1", "train it again")
    check(bertkit("predict", finished("sentiment"), "train.x=1", "--text", "a"), "train: unknown key 'x'", "one of: ")


@pytest.mark.parametrize(
    "setting",
    ["data.group_by=text", "data.validation_share=0.3", "data.train_rows=1", "train.epochs=9", "task.labels=[a, b]",
     "seed=3", "model.dropout=0.3", "log.every=3"],
)  # fmt: skip
def test_a_setting_that_changes_nothing_of_a_finished_run_is_refused(bertkit, finished, write, setting):
    key, run = setting.partition("=")[0], finished("sentiment")
    for command in (("predict", run, "--text", "a"), ("evaluate", run, "-d", write("a.csv", CSV)), ("export", run)):
        check(bertkit(*command, setting), f"{key}: changes nothing of a finished run", "data.columns")


def test_rows_of_another_task_than_the_runs_are_refused(bertkit, finished, write):
    run = finished("sentiment")
    for verb, flag in (("evaluate", "--data"), ("predict", "--input")):
        for data in ("bundled:pos.conllu", "bundled:qa.json", "bundled:nli.jsonl"):
            check(bertkit(verb, run, flag, data, "-q"), f"{data.removeprefix('bundled:')}: no column '", "")
        check(bertkit(verb, finished("qa"), flag, write("a.csv", CSV), "-q"), "a.csv: no column '", "")
        check(bertkit(verb, finished("pos"), flag, "bundled:nli.jsonl", "-q"), "nli.jsonl: no column '", "")
    other = write("other.csv", CSV + "so so,neutral\n")
    check(bertkit("evaluate", run, "--data", other, "-q"), f"{other}: unknown label 'neutral'", "data.ignore_labels")


TEXTS = [
    (
        "sentiment",
        ["--question", "Who?", "--context", "Ann"],
        "this is a run of sentiment, which reads text",
        "give --text",
    ),
    (
        "nli",
        ["--question", "Who?", "--context", "Ann"],
        "this is a run of nli, which reads premise and hypothesis",
        "--second",
    ),
    (
        "nli",
        ["--text", "a"],
        "--text: this is a run of nli, which reads premise and hypothesis",
        "give --text and --second",
    ),
    (
        "pos",
        ["--text", "a", "--second", "b"],
        "--text and --second: this is a run of pos, which reads text",
        "give --text",
    ),
    ("qa", ["--text", "a"], "this is a run of qa, which reads question and context", "give --question and --context"),
    ("qa", ["--text", "a", "--second", "b"], "this is a run of qa, which reads", "give --question and --context"),
    ("qa", ["--question", "Who?"], "--question: this is a run of qa, which reads question and context", "--context"),
    ("qa", ["--context", "Ann"], "--context: this is a run of qa, which reads question and context", "--question"),
    ("qa", ["--question", "Who?", "--context-file", "/no/file"], "--context-file: /no/file cannot be read", ""),
    (
        "qa",
        ["--question", "a", "--context", "b", "--context-file", "c"],
        "--context and --context-file both",
        "give one of the two",
    ),
    ("qa", ["--question", " ", "--context", "Ann"], "--question and --context must hold some text", "is empty"),
    ("sentiment", ["--second", "b"], "--second: this is a run of sentiment, which reads text", "give --text"),
    (
        "sentiment",
        ["--text", "a", "--question", "b", "--context", "c"],
        "--text and --question and --context: this is a run of sentiment, which reads text",
        "give --text",
    ),
    ("sentiment", ["--text", "\udcff"], "--text: the text is not UTF-8", "terminal"),
    ("sentiment", [], "give one kind of input: --input FILE, --text, or --question", "bertkit predict RUN --input"),
    ("sentiment", ["--text", "a", "--input", "b.csv"], "give one kind of input", "bertkit predict RUN --input"),
    (
        "sentiment",
        ["--text", "a", "--split", "train"],
        "--split train: there is one text",
        "give a source with --input",
    ),
    ("sentiment", ["--input", "/no/rows.csv", "-q"], "/no/rows.csv: there is no such file", "there is no folder '/no'"),
]


@pytest.mark.parametrize(("task", "flags", "message", "hint"), TEXTS)
def test_texts_that_the_run_does_not_read_are_refused(bertkit, finished, task, flags, message, hint):
    check(bertkit("predict", finished(task), *flags), message, hint)


def test_predictions_are_written_whole_or_not_at_all(bertkit, finished, write, tmp_path):
    run, file = finished("sentiment"), write("file", "mine")
    check(
        bertkit("predict", run, "--text", "a", "--out", file / "p.jsonl"), f"{file}/p.jsonl cannot be written", "check"
    )
    check(bertkit("predict", run, "--text", "a", "--out", tmp_path), f"--out: {tmp_path} is a folder", "a .jsonl file")
    rows = write("rows.jsonl", '{"text": "a"}\n{"text": 5}\n')
    out = tmp_path / "new" / "p.jsonl"
    check(
        bertkit("predict", run, "--input", rows, "--out", out, "-q"),
        f"{rows}:2: column 'text' holds 5",
        "skip_bad_rows",
    )
    check(bertkit("predict", tmp_path / "none", "--text", "a", "--out", out), "does not exist", "train --out")
    assert not out.parent.exists()
    out.parent.mkdir()
    out.write_text("old")
    check(bertkit("predict", run, "--input", rows, "--out", out, "-q"), "column 'text' holds 5", "")
    assert out.read_text() == "old"

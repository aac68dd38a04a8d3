"""GLUE's tasks come out as rows of one shape, whatever layout they were handed on in."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertkit.data.glue import LAYOUTS, GlueTask, find_tasks, read_glue
from bertkit.errors import BertkitError
from bertkit.splits import path_of

ODD = [
    'A "lone quote',
    '"',
    "NA",
    "null",
    "None",
    "nan",
    "01",
    "-1",
    "",
    " two  spaces ",
    "Zoë 中文 a\u00a0b",
    "a\u2028b",
]
MSR = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"
MNLI = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
STSB = "index genre filename year old_index source1 source2 sentence1 sentence2"


def tabs(names: str) -> str:
    return "\t".join(names.split())


@pytest.fixture
def write(tmp_path):
    """Write a file below the folder of all tasks, from its lines; returns that folder."""

    def write(name: str, *lines: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes("".join(line + "\n" for line in lines).encode())
        return tmp_path

    return write


def rows(found: GlueTask, split: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in found.splits[split].rows]


def error_of(task: str, source: Path | str | None, **options) -> BertkitError:
    with pytest.raises(BertkitError) as caught:
        read_glue(task, source, **options)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    return caught.value


# Each task as GLUE's own files hold it.


def test_cola_has_a_header_in_test_only(write):
    write("CoLA/train.tsv", 'gj04\t1\t\tHe said "no.', "gj04\t0\t*\tNA", "gj04\t1\t\tsentence")
    write("CoLA/dev.tsv", "c13\t0\t*\tHe slept the bed.")
    found = read_glue("cola", write("CoLA/test.tsv", "index\tsentence", "7\tnull"))
    assert found.splits["train"].rows == [
        {"id": "0", "text": 'He said "no.', "label": "acceptable"},
        {"id": "1", "text": "NA", "label": "unacceptable"},
        {"id": "2", "text": "sentence", "label": "acceptable"},
    ]
    assert rows(found, "validation") == [("0", "He slept the bed.", "unacceptable")]
    assert rows(found, "test") == [("7", "null", None)]
    assert found.missing == ()


def test_sst2(write):
    write("SST-2/train.tsv", "sentence\tlabel", "fine \t1", "awful\t0")
    write("SST-2/dev.tsv", "sentence\tlabel", "NA\t0")
    found = read_glue("sst2", write("SST-2/test.tsv", "index\tsentence", "0\tgood", "1\tbad"))
    assert rows(found, "train") == [("0", "fine ", "positive"), ("1", "awful", "negative")]
    assert rows(found, "validation") == [("0", "NA", "negative")]
    assert rows(found, "test") == [("0", "good", None), ("1", "bad", None)]


def test_a_labelled_test_keeps_its_labels(write):
    write("SST-2/train.tsv", "sentence\tlabel", "fine\t1", "awful\t0")
    found = read_glue("sst2", write("SST-2/test.tsv", "label\tcontent", "0\tbad", "1\tgood"))
    assert rows(found, "test") == [("0", "bad", "negative"), ("1", "good", "positive")]


def test_mrpc_cut_by_the_script(write):
    header = MSR.removeprefix("\ufeff")
    write("MRPC/train.tsv", MSR, '1\t11\t12\tA "b.\tB a.', "0\t13\t14\tC.\tD.")
    write("MRPC/dev.tsv", header, "1\t21\t22\tE.\tF.")
    found = read_glue("mrpc", write("MRPC/test.tsv", header.replace("Quality", "index"), "0\t31\t32\tG.\tH."))
    assert found.splits["train"].rows[0] == {"id": "0", "text": 'A "b.', "second": "B a.", "label": "equivalent"}
    assert rows(found, "train")[1] == ("1", "C.", "D.", "not_equivalent")
    assert rows(found, "validation") == [("0", "E.", "F.", "equivalent")]
    assert rows(found, "test") == [("0", "G.", "H.", None)]


def test_mrpc_as_microsoft_hands_it_out_is_cut_by_dev_ids(write):
    train = ("1\t11\t12\tA.\tB.", "0\t21\t22\tC.\tD.", "1\t12\t11\tE.\tF.", "1\t31\t32\tG.", '0\t41\t42\t"H.\tI.')
    write("mrpc/msr_paraphrase_train.txt", MSR, *train)
    write("mrpc/msr_paraphrase_test.txt", MSR, "1\t51\t52\tJ.\tK.", "0\t53\t54\tL.\tM.")
    folder = write("mrpc/dev_ids.tsv", "11\t12", "41\t42")
    found = read_glue("mrpc", folder)
    assert rows(found, "train") == [("0", "C.", "D.", "not_equivalent"), ("1", "E.", "F.", "equivalent")]
    assert rows(found, "validation") == [("0", "A.", "B.", "equivalent"), ("1", '"H.', "I.", "not_equivalent")]
    assert rows(found, "test") == [("0", "J.", "K.", None), ("1", "L.", "M.", None)]
    path = folder / "mrpc" / "msr_paraphrase_train.txt"
    assert found.splits["train"].skipped == (f"{path}:5: has 4 fields, but the first line has 5",)
    assert not found.splits["validation"].held_back
    assert found.missing == ()


@pytest.mark.parametrize("ids", [(), ("1\t1",)])
def test_mrpc_as_microsoft_hands_it_out_without_its_dev_pairs(write, ids):
    folder = write("MRPC/msr_paraphrase_train.txt", MSR, *(f"{n % 2}\t{n}\t{n + 50}\tA{n}.\tB." for n in range(8)))
    if ids:
        write("MRPC/dev_ids.tsv", *ids)
    found = read_glue("mrpc", folder)
    assert [row["id"] for row in found.splits["validation"].rows] == ["4", "5", "6", "7"]
    assert found.splits["validation"].held_back
    assert found.missing == (
        "MRPC: no pair of a dev_ids.tsv; the last 4 of 8 training rows are held back instead",
        "MRPC: no test.tsv",
    )


def test_stsb_has_scores(write):
    row = "\tmain\tM\t2012\t1\tnone\tnone\t"
    header = tabs(STSB)
    write("STS-B/train.tsv", header + "\tscore", f"0{row}A.\tB.\t5.000", f"1{row}C.\tD.\t0", f"2{row}C.\tD.\t5.1")
    write("STS-B/dev.tsv", header + "\tscore", f"0{row}E.\tF.\t2.5")
    found = read_glue("stsb", write("STS-B/test.tsv", header, f"3{row}NA\t\u00a0"))
    assert rows(found, "train") == [("0", "A.", "B.", 5.0), ("1", "C.", "D.", 0.0)]
    assert rows(found, "validation") == [("0", "E.", "F.", 2.5)]
    assert rows(found, "test") == [("3", "NA", "\u00a0", None)]
    (reason,) = found.splits["train"].skipped
    assert reason.endswith("train.tsv:4: column 'score' holds '5.1', not a score from 0 to 5")


def test_qqp_names_its_short_lines_and_its_ids_are_not_used_in_train(write):
    header = tabs("id qid1 qid2 question1 question2 is_duplicate")
    write("QQP/train.tsv", header, "9\t1\t2\tA?\tB?\t1", "9\t1\t2\tA?\tB?", "8\t1\t2\tC?\t\t0", "9\t3\t4\tE?\tF?\t0")
    write("QQP/dev.tsv", header, "5\t1\t2\tG?\tH?\t0")
    folder = write("QQP/test.tsv", tabs("id question1 question2"), "4\tnull\tJ?", "2\tK?\tL?")
    found = read_glue("qqp", folder)
    assert rows(found, "train") == [
        ("0", "A?", "B?", "duplicate"), ("2", "C?", "", "not_duplicate"), ("3", "E?", "F?", "not_duplicate"),
    ]  # fmt: skip
    path = folder / "QQP" / "train.tsv"
    assert found.splits["train"].skipped == (f"{path}:3: has 5 fields, but the first line has 6",)
    assert rows(found, "test") == [("4", "null", "J?", None), ("2", "K?", "L?", None)]


def test_mnli_has_two_devs_and_two_tests_and_no_label_where_people_disagree(write):
    header, row = tabs(MNLI + " sentence1 sentence2"), "\t1\t1e\tfiction\t\t\t\t\t"
    train = f"{header}\tlabel1\tgold_label"
    five = f"{header}\t{tabs('label1 label2 label3 label4 label5')}\tgold_label"
    write("MNLI/train.tsv", train, f"0{row}A.\tB.\tneutral\tneutral", f"1{row}C.\tD.\tneutral\t-")
    votes = "\tneutral" * 4
    write("MNLI/dev_matched.tsv", five, f"0{row}E.\tF.\tentailment{votes}\tneutral")
    write("MNLI/dev_mismatched.tsv", five, f"0{row}G.\tH.\tneutral{votes}\tcontradiction")
    write("MNLI/test_matched.tsv", header, f"12{row}I.\tJ.")
    found = read_glue("mnli", write("MNLI/test_mismatched.tsv", header, f"5{row}K.\tNone"))
    assert list(found.splits) == ["train", "validation", "validation_mismatched", "test", "test_mismatched"]
    assert rows(found, "train") == [("0", "A.", "B.", "neutral")]
    (reason,) = found.splits["train"].skipped
    assert reason.endswith("train.tsv:3: column 'gold_label' holds '-', not one of entailment, neutral, contradiction")
    assert rows(found, "validation") == [("0", "E.", "F.", "neutral")]
    assert rows(found, "validation_mismatched") == [("0", "G.", "H.", "contradiction")]
    assert rows(found, "test") == [("12", "I.", "J.", None)]
    assert rows(found, "test_mismatched") == [("5", "K.", "None", None)]


@pytest.mark.parametrize(
    ("task", "folder", "texts", "codes", "labels"),
    [
        ("qnli", "QNLI", "question sentence", ("entailment", "not_entailment"), ("entailment", "not_entailment")),
        ("rte", "RTE", "sentence1 sentence2", ("entailment", "not_entailment"), ("entailment", "not_entailment")),
        ("wnli", "WNLI", "sentence1 sentence2", ("0", "1"), ("not_entailment", "entailment")),
        ("wnli", "wnli", "sentence1 sentence2", ("not_entailment", "entailment"), ("not_entailment", "entailment")),
    ],
)
def test_pairs_with_an_index(write, task, folder, texts, codes, labels):
    header = tabs(f"index {texts} label")
    write(f"{folder}/train.tsv", header, f"5\tA?\tB.\t{codes[0]}", f"5\tC?\tD.\t{codes[1]}")
    write(f"{folder}/dev.tsv", header, f"0\tE?\tF.\t{codes[1]}")
    found = read_glue(task, write(f"{folder}/test.tsv", tabs(f"index {texts}"), "3\tG?\tH."))
    assert rows(found, "train") == [("0", "A?", "B.", labels[0]), ("1", "C?", "D.", labels[1])]
    assert rows(found, "validation") == [("0", "E?", "F.", labels[1])]
    assert rows(found, "test") == [("3", "G?", "H.", None)]


@pytest.mark.parametrize("name", ["diagnostic/diagnostic.tsv", "AX/AX.tsv", "ax/test.tsv"])
def test_the_diagnostic_set_is_a_test_and_nothing_else(write, name):
    found = read_glue("ax", write(name, tabs("index sentence1 sentence2"), "0\tA.\tB."))
    assert rows(found, "test") == [("0", "A.", "B.", None)]
    assert list(found.splits) == ["test"]
    assert found.missing == ()


def test_a_split_says_its_file_and_checksum(write):
    folder = write("SST-2/train.tsv", "sentence\tlabel", "fine\t1", "awful\t0")
    splits = read_glue("sst2", str(folder)).splits
    assert list(splits) == ["train", "validation"]  # held back
    for split in splits.values():
        assert split.source == str(folder / "SST-2" / "train.tsv")
        assert split.sha256 == hashlib.sha256(b"sentence\tlabel\nfine\t1\nawful\t0\n").hexdigest()


texts = st.sampled_from(ODD) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r\0"), max_size=12
)


def lines_of(task: str, split: str, found: list[tuple[str, str, str]]) -> tuple[str, list[str]]:
    """A file of a task, name and lines, as GLUE's own files are laid out, from (text, second, label or score)."""
    test = split == "test"
    if task == "cola" and not test:
        return f"CoLA/{split}.tsv", [f"s\t{label}\t\t{text}" for text, _, label in found]
    before, names, label_name = {
        "cola": ("index", "sentence", ""),
        "sst2": ("index" if test else "", "sentence", "label"),
        "mrpc": ("index #1ID #2ID" if test else "Quality #1ID #2ID", "#1_String #2_String", ""),
        "stsb": (STSB.removesuffix(" sentence1 sentence2"), "sentence1 sentence2", "score"),
        "qqp": ("id" if test else "id qid1 qid2", "question1 question2", "is_duplicate"),
        "mnli": (MNLI, "sentence1 sentence2", "gold_label"),
        "qnli": ("index", "question sentence", "label"),
        "rte": ("index", "sentence1 sentence2", "label"),
        "wnli": ("index", "sentence1 sentence2", "label"),
    }[task]
    header = [name.replace("#1_", "#1 ").replace("#2_", "#2 ") for name in (before + " " + names).split()]
    lines = []
    for number, (text, second, label) in enumerate(found):
        first = label if task == "mrpc" and not test else str(number)
        fields = [first, *["x"] * (len(before.split()) - 1)] if before else []
        fields += [text, second][: len(names.split())]
        lines.append("\t".join([*fields, label] if label_name and not test else fields))
    part = f"{split}_matched" if task == "mnli" and split != "train" else split
    columns = [*header, label_name] if label_name and not test else header
    return f"{LAYOUTS[task].title}/{part}.tsv", ["\t".join(columns), *lines]


@pytest.mark.parametrize("task", [task for task in LAYOUTS if task != "ax"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_is_written_in_a_layout_comes_back(task, data):
    layout = LAYOUTS[task]
    labels = st.sampled_from(layout.codes or ["0.000", "2.5", "5"])
    with tempfile.TemporaryDirectory() as folder:
        wrote = {}
        for split in ("train", "dev", "test"):
            wrote[split] = data.draw(st.lists(st.tuples(texts, texts, labels), min_size=1, max_size=4))
            name, lines = lines_of(task, split, wrote[split])
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes("".join(line + "\n" for line in lines).encode())
        found = read_glue(task, folder)
    names = dict(zip(layout.codes, layout.labels, strict=True))
    for split, name in (("train", "train"), ("dev", "validation"), ("test", "test")):
        expected = []
        for number, (text, second, code) in enumerate(wrote[split]):
            label = None if split == "test" else names.get(code) if layout.labels else float(code)
            second_text = {"second": second} if len(layout.texts) == 2 else {}
            expected.append({"id": str(number), "text": text, **second_text, "label": label})
        assert found.splits[name].rows == expected
        assert found.splits[name].skipped == ()


@settings(max_examples=25, deadline=None)
@given(pairs=st.lists(st.tuples(texts, texts, st.sampled_from("01"), st.booleans()), min_size=2, max_size=6))
def test_what_stands_in_microsofts_files_comes_back(pairs):
    with tempfile.TemporaryDirectory() as folder:
        lines = [f"{code}\t{n}\t{n + 9}\t{text}\t{second}" for n, (text, second, code, _) in enumerate(pairs)]
        ids = [f"{n}\t{n + 9}" for n, (*_, is_dev) in enumerate(pairs) if is_dev]
        Path(folder, "MRPC").mkdir()
        for name, content in (("msr_paraphrase_train.txt", [MSR, *lines]), ("dev_ids.tsv", ["0\t0", *ids])):
            Path(folder, "MRPC", name).write_bytes("".join(line + "\n" for line in content).encode())
        found = read_glue("mrpc", folder)
    both = [row for split in ("train", "validation") for row in rows(found, split)]
    labels = LAYOUTS["mrpc"].labels
    in_order = sorted(pairs, key=lambda pair: pair[3]) if 0 < len(ids) < len(pairs) else pairs
    assert [row[1:] for row in both] == [(text, second, labels[int(code)]) for text, second, code, _ in in_order]


# Parts of a folder.


def test_folders_are_found_in_any_spelling_and_in_glues_order(tmp_path):
    spelled = ("WNLI", "sst2", "stsb", "MRPC", "diagnostic", "qnli", "RTE", "mnli", "QQP", "cola", "other", "SQuAD")
    for name in spelled:
        (tmp_path / name).mkdir()
    (tmp_path / "SST-2").write_text("a file", encoding="utf-8")
    assert tuple(find_tasks(tmp_path)) == tuple(LAYOUTS)
    assert tuple(find_tasks(str(tmp_path))) == tuple(LAYOUTS)


@pytest.mark.parametrize(
    ("count", "share", "held"),
    [
        (2, 0.1, 1),
        (3, 0.1, 1),
        (20, 0.1, 10),
        (40, 0.1, 16),
        (160, 0.1, 16),
        (170, 0.1, 17),
        (40, 0.5, 20),
        (5, 0.95, 4),
    ],
)
@pytest.mark.parametrize("name", ["train.tsv", "train_subset.tsv", "Train_head64.tsv"])
def test_the_last_rows_are_held_back_where_there_is_no_dev(write, count, share, held, name):
    lines = [f"text {number}\t{number % 2}" for number in range(count)]
    found = read_glue("sst2", write(f"SST-2/{name}", "sentence\tlabel", *lines), held_back=share)
    assert [row["id"] for row in found.splits["train"].rows] == [str(number) for number in range(count - held)]
    assert [row["id"] for row in found.splits["validation"].rows] == [str(n) for n in range(count - held, count)]
    assert (found.splits["train"].held_back, found.splits["validation"].held_back) == (False, True)
    assert found.missing == (
        f"SST-2: no dev.tsv; the last {held} of {count} training rows are held back instead",
        "SST-2: no test.tsv",
    )


def test_counts_of_thousands_are_said_with_a_comma(write):
    lines = [f"text {number}\t{number % 2}" for number in range(23497)]
    found = read_glue("sst2", write("SST-2/train.tsv", "sentence\tlabel", *lines))
    assert found.missing[0] == "SST-2: no dev.tsv; the last 2,350 of 23,497 training rows are held back instead"


def test_a_missing_mismatched_dev_is_said(write):
    header, row = tabs(f"{MNLI} sentence1 sentence2 gold_label"), "0\t\t\t\t\t\t\t\tA.\tB.\tneutral"
    write("MNLI/train.tsv", header, row, row)
    found = read_glue("mnli", write("MNLI/dev_matched.tsv", header, row))
    assert found.missing == ("MNLI: no dev_mismatched.tsv", "MNLI: no test_matched.tsv", "MNLI: no test_mismatched.tsv")
    assert not found.splits["validation"].held_back


def test_other_endings_are_read_too(write):
    write("RTE/train.jsonl", '{"sentence1": "A.", "sentence2": "B.", "label": "entailment"}')
    write("RTE/dev.csv", "sentence1,sentence2,label", '"C, c.",D.,not_entailment')
    found = read_glue("rte", write("RTE/readme.txt", "not data"))
    assert rows(found, "train") == [("0", "A.", "B.", "entailment")]
    assert rows(found, "validation") == [("0", "C, c.", "D.", "not_entailment")]


# The Hub's layout.

HUB_LABELS = {
    "cola": ["unacceptable", "acceptable"],
    "mrpc": ["not_equivalent", "equivalent"],
    "mnli": ["entailment", "neutral", "contradiction"],
    "wnli": ["not_entailment", "entailment"],
}


def hub_task(task: str, columns: tuple[str, ...], splits: tuple[str, ...]):
    """A task as `nyu-mll/glue` has it: numbers for labels, -1 in a test, and an `idx`."""
    import datasets

    names = HUB_LABELS.get(task)
    label = datasets.ClassLabel(names=names) if names else datasets.Value("float32")
    features = dict.fromkeys(columns, datasets.Value("string")) | {"label": label, "idx": datasets.Value("int32")}
    made = {}
    for split in splits:
        labels = [-1, -1] if split.startswith("test") else [1, 0]
        values = {column: [f"{split} {column}", "NA"] for column in columns}
        made[split] = datasets.Dataset.from_dict(
            {**values, "label": labels, "idx": [11, 10]}, features=datasets.Features(features)
        )
    return datasets.DatasetDict(made)


HUB_TASKS = [
    ("cola", ("sentence",), ("train", "validation", "test")),
    ("mrpc", ("sentence1", "sentence2"), ("train", "validation", "test")),
    ("stsb", ("sentence1", "sentence2"), ("train", "validation", "test")),
    (
        "mnli",
        ("premise", "hypothesis"),
        ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"),
    ),
    ("ax", ("premise", "hypothesis"), ("test",)),
]


def check_hub_task(task: str, found: GlueTask, columns: tuple[str, ...], splits: tuple[str, ...]) -> None:
    labels = LAYOUTS[task].labels
    first, second = (labels[1], labels[0]) if labels else (1.0, 0.0)
    assert len(found.splits) == len(splits)
    for split, name in zip(found.splits, splits, strict=True):
        assert split == name.replace("_matched", "")
        test = split.startswith("test")
        assert rows(found, split) == [
            ("11" if test else "0", *(f"{name} {column}" for column in columns), None if test else first),
            ("10" if test else "1", *("NA" for _ in columns), None if test else second),
        ]
        assert found.splits[split].skipped == ()
    assert found.missing == ()


@pytest.mark.parametrize(("task", "columns", "splits"), HUB_TASKS)
def test_a_folder_with_the_hubs_parquet_files(tmp_path, task, columns, splits):
    (tmp_path / task).mkdir()
    for split, dataset in hub_task(task, columns, splits).items():
        dataset.to_parquet(tmp_path / task / f"{split}-00000-of-00001.parquet")
    found = read_glue(task, tmp_path)
    check_hub_task(task, found, columns, splits)
    assert all(split.sha256 for split in found.splits.values())


@pytest.mark.parametrize(("task", "columns", "splits"), HUB_TASKS)
def test_a_folder_that_datasets_saved(tmp_path, task, columns, splits):
    hub_task(task, columns, splits).save_to_disk(tmp_path / task)
    found = read_glue(task, tmp_path)
    check_hub_task(task, found, columns, splits)
    assert found.splits["test"].source == f"{tmp_path / task}, {splits[-2 if task == 'mnli' else -1]}"
    assert found.splits["test"].sha256 is None


@pytest.mark.parametrize(("task", "columns", "splits"), HUB_TASKS)
def test_the_hub_is_asked_for_each_split(monkeypatch, task, columns, splits):
    import datasets

    asked = []

    def load(name, config, *, split):
        asked.append((name, config, split))
        return hub_task(task, columns, splits)[split]

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = read_glue(task, None)
    check_hub_task(task, found, columns, splits)
    assert asked == [("nyu-mll/glue", task, split) for split in splits]
    assert found.splits["test"].source.startswith(f"nyu-mll/glue, {task}, test")


def test_without_a_network_the_hub_is_an_error_with_a_hint(no_network):
    assert "nyu-mll/glue" in error_of("cola", None).message
    assert no_network == []


# What is wrong is named with its file, line and column.


def test_folders_that_are_not_there_or_hold_nothing(tmp_path):
    with pytest.raises(BertkitError, match="there is no such folder"):
        find_tasks(tmp_path / "none")
    with pytest.raises(BertkitError, match="no folder of a GLUE task is in it"):
        find_tasks(tmp_path)
    (tmp_path / "CoLA").mkdir()
    assert error_of("cola", tmp_path / "CoLA").hint == "name the folder above it"
    error = error_of("rte", tmp_path)
    assert error.message == f"{tmp_path}: there is no folder of RTE"
    assert error.hint == "it has: CoLA"
    error = error_of("cola", tmp_path)
    assert error.message == f"{tmp_path / 'CoLA'}: CoLA has no train.tsv"
    assert error.hint == "the folder has: nothing"
    (tmp_path / "cola_").mkdir()
    assert error_of("cola", tmp_path).message == f"{tmp_path}: CoLA and cola_ are both CoLA"


def test_several_files_that_may_be_train(write):
    write("QQP/train_a.tsv", "x")
    folder = write("QQP/train_b.tsv", "x")
    assert error_of("qqp", folder).message == f"{folder / 'QQP'}: several files may be train: train_a.tsv, train_b.tsv"


@pytest.mark.parametrize(
    ("task", "name", "lines", "message"),
    [
        ("rte", "RTE/train.tsv", ["index\tpremise\tlabel", "0\tA.\tentailment"],
         ":1: RTE needs a column 'sentence1'; it has: index, premise, label"),
        ("rte", "RTE/train.tsv", [tabs("index sentence1 sentence2"), "0\tA.\tB."],
         ":1: RTE needs a column 'label'; it has: index, sentence1, sentence2"),
        ("cola", "CoLA/train.tsv", ["one sentence a line"], ":1: CoLA needs a column 'sentence'; it has: 0"),
        ("sst2", "SST-2/train.tsv", [tabs("sentence sentence label"), "A.\tB.\t0"],
         ":1: two columns are named 'sentence'"),
        ("sst2", "SST-2/train.tsv", ["sentence\tlabel"], ": there are no rows"),
        ("sst2", "SST-2/train.tsv", [], ": there are no rows"),
        ("sst2", "SST-2/train.tsv", ["sentence\tlabel", "fine\t1"], ": 1 row is too few to hold some back"),
        ("sst2", "SST-2/train.tsv", ["sentence\tlabel", "fine\t2", "fine\t"],
         ": none of its 2 rows is right; the first: {path}:2: column 'label' holds '2', not one of negative, positive,"
         " 0, 1"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_with_line_and_column(write, task, name, lines, message):
    folder = write(name, *lines)
    path = str(folder / name)
    assert error_of(task, folder).message == path + message.format(path=path)


def test_an_empty_test_file_is_an_error(write):
    write("SST-2/train.tsv", "sentence\tlabel", "fine\t1", "awful\t0")
    folder = write("SST-2/test.tsv", "index\tsentence")
    assert error_of("sst2", folder).message == f"{folder / 'SST-2' / 'test.tsv'}: there are no rows"


def test_a_test_index_stands_once(write):
    write("SST-2/train.tsv", "sentence\tlabel", "fine\t1", "awful\t0")
    folder = write("SST-2/test.tsv", "index\tsentence", "3\tA", "3\tB")
    assert error_of("sst2", folder).message.endswith("test.tsv: column 'index' holds '3' more than once")


def test_a_saved_folder_that_is_broken(write):
    assert "cannot be read" in error_of("cola", write("cola/dataset_dict.json", "{}")).message


# The bundled miniatures.


@pytest.mark.parametrize("task", LAYOUTS)
def test_the_bundled_tasks_are_whole(task):
    found = read_glue(task, path_of("bundled:glue"))
    assert found.missing == ()
    expected = {"train": 32, "validation": 12, "test": 6}
    if task == "mnli":
        expected |= {"validation_mismatched": 12, "test_mismatched": 6}
    assert {split: len(part.rows) for split, part in found.splits.items()} == (
        {"test": 6} if task == "ax" else expected
    )
    skipped = [reason for part in found.splits.values() for reason in part.skipped]
    assert len(skipped) == (task in ("qqp", "mnli"))
    for split, part in found.splits.items():
        labels = {row["label"] for row in part.rows}
        if split.startswith("test"):
            assert labels == {None}
        else:
            assert labels == set(LAYOUTS[task].labels) if LAYOUTS[task].labels else len(labels) > 5
        assert all(len(row["text"]) < 200 for row in part.rows)


def test_the_bundled_tasks_hold_what_readers_stumble_over():
    everything = [
        text
        for task in find_tasks(path_of("bundled:glue"))
        for part in read_glue(task, path_of("bundled:glue")).splits.values()
        for row in part.rows
        for text in (row["text"], row.get("second"))
        if text is not None
    ]
    assert {"NA", "null", "None"} <= set(everything)
    assert sum(text.count('"') % 2 for text in everything) > 5
    assert any("\u00a0" in text for text in everything)
    assert any("é" in text for text in everything)


# Real data, where there is some.


@pytest.mark.parametrize(
    ("task", "counts"),
    [
        ("sst2", {"train": 67349, "validation": 872, "test": 1821}),
        ("mrpc", {"train": 3668, "validation": 408, "test": 1725}),
        ("rte", {"train": 2490, "validation": 277, "test": 3000}),
        ("wnli", {"train": 635, "validation": 71}),
        ("qqp", {"train": 21147, "validation": 2350}),
        ("mnli", {"train": 18000, "validation": 2000}),
    ],
)
def test_real_tasks_are_read_to_the_last_row(real_data, task, counts):
    found = read_glue(task, real_data / "glue")
    assert {split: len(part.rows) for split, part in found.splits.items()} == counts
    assert [part.skipped for part in found.splits.values()] == [()] * len(counts)


def test_real_mrpc_is_the_same_by_both_ways(real_data, tmp_path):
    (tmp_path / "MRPC").mkdir()
    for name in ("msr_paraphrase_train.txt", "msr_paraphrase_test.txt", "dev_ids.tsv"):
        (tmp_path / "MRPC" / name).symlink_to(real_data / "glue" / "MRPC" / name)
    ours, cut = read_glue("mrpc", tmp_path), read_glue("mrpc", real_data / "glue")
    for split in ("train", "validation", "test"):
        assert ours.splits[split].rows == cut.splits[split].rows


@pytest.mark.parametrize("task", ["cola", "stsb", "qnli"])
def test_real_samples_of_the_other_layouts(real_data, task):
    found = read_glue(task, real_data / "glue_format_samples")
    assert {split: len(part.rows) for split, part in found.splits.items()} == {"train": 48, "validation": 16}
    assert found.splits["train"].skipped == ()


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied", folder)

    (tmp_path / "RTE").mkdir()
    monkeypatch.setattr("os.listdir", refuse)
    with pytest.raises(BertkitError) as caught:
        find_tasks(tmp_path)
    assert caught.value.message == f"{tmp_path}: cannot be read (Permission denied)"

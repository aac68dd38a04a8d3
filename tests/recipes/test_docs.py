"""Every command on the pages is run, and the site says all that it must and asks nothing of other hosts."""

from __future__ import annotations

import ast
import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ASSETS
from tests.tiny import save_tiny

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "recipes" / "docs"
PAGES = {"README": ROOT / "README.md", **{path.stem: path for path in sorted((DOCS / "pages").glob("*.md"))}}
BLOCK = re.compile(r"(?:^<!-- needs: ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)
NEEDS = {"gpu", "hub", "make", "a terminal of its own", "two whole studies"}  # what a block may need that is not here
# what makes the commands of a page short: settings and options that are added at their ends
SMALL = {
    ("train",): ("train.steps=2", "train.batch_size=8", "hardware.threads=1"),
    ("study", "folds"): ("train.steps=2", "train.batch_size=8", "hardware.threads=1", "--folds", "2"),
    ("study", "search"): ("train.steps=2", "hardware.threads=1", "--trials", "1", "--space", "train.batch_size=4,8"),
    ("glue", "run"): ("train.steps=2", "hardware.threads=1", "--tasks", "rte"),
}


def blocks(name: str) -> list[tuple[str, str, str]]:
    return BLOCK.findall(PAGES[name].read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with all files that pages speak of, and a tiny checkpoint in the place of BERT."""
    monkeypatch.chdir(tmp_path)
    save_tiny("bert", tmp_path / "google-bert" / "bert-base-uncased", length=512)
    with (ASSETS / "sentiment.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["text"].isascii()][:40]
    table = {
        "reviews.csv": ("text,label", [(row["text"], row["label"]) for row in rows]),
        "stars.csv": ("review,stars", [(row["text"], row["label"]) for row in rows]),
        "numbers.csv": ("text,label", [(row["text"], number / 10) for number, row in enumerate(rows)]),
        "topics.csv": (
            "text,label",
            [(row["text"], ("price", "price|looks", "")[n % 3]) for n, row in enumerate(rows)],
        ),
        "new.csv": ("id,text", [(number, row["text"]) for number, row in enumerate(rows[:5])]),
    }
    table["more-reviews.csv"] = table["reviews.csv"]
    for name, (header, content) in table.items():
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header.split(","), *content])
    for name, source in {"pairs.jsonl": "nli.jsonl", "entities.jsonl": "ner.jsonl", "squad.json": "qa.json"}.items():
        shutil.copy(ASSETS / source, tmp_path / name)
    for name in ("train.conllu", "dev.conllu"):
        shutil.copy(ASSETS / "pos.conllu", tmp_path / name)
    shutil.copytree(ASSETS / "glue", tmp_path / "glue_data")
    (tmp_path / "story.txt").write_text("The dog sleeps in the kitchen. " * 60)
    return tmp_path


def commands_of(text: str) -> list[list[str]]:
    lines = text.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def shortened(words: list[str]) -> list[str]:
    assert words[0] == "bertkit", f"{shlex.join(words)}: mark its block with what it needs"
    assert not {"|", "&", ">", "<"} & set(words), f"{shlex.join(words)}: only plain commands are run"
    more = next((more for verbs, more in SMALL.items() if tuple(words[1 : 1 + len(verbs)]) == verbs), ())
    return [*words[1:], *more]


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_a_page_runs(name, folder, bertkit):
    if name == "answers":  # what other pages make
        for number, out in enumerate(("runs/reviews", "runs/other")):
            train = ["bertkit", "train", "sentiment", "--train", "reviews.csv", f"seed={number}", "--out", out]
            assert bertkit(*shortened(train)).code == 0
    for needs, language, text in blocks(name):
        assert needs in NEEDS | {""}, needs
        if language == "yaml":
            (file,) = re.findall(r"# bertkit train (\S+\.yaml)", text)
            (folder / file).write_text(text)
            assert bertkit("recipe", "check", file).code == 0
        elif needs:
            continue
        elif language == "python":
            exec(compile(text, name, "exec"), {"__name__": "page"})
        else:
            assert language == "sh", f"{name}: a block of {language or 'no language'}"
            for words in commands_of(text):
                done = bertkit(*shortened(words))
                assert done.code == 0, f"{shlex.join(words)}\n{done.err}"


def test_pages_have_blocks_to_run():
    assert sum(not needs for name in PAGES for needs, _, _ in blocks(name)) > 12


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-q",
        "-f",
        str(DOCS / "mkdocs.yml"),
        "-d",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_site_loads_nothing_from_another_host(site):
    pages = [*site.rglob("*.html")]
    assert len(pages) > 15
    loads = [r"<(?:script|img|iframe|source)[^>]*\ssrc", r"<link[^>]*rel=\"(?:stylesheet|preconnect)[^>]*href"]
    for page in pages:
        for load in loads:
            assert not re.search(rf'{load}="(?:https?:)?//', page.read_text(encoding="utf-8")), page.name


def test_the_first_page_has_its_pictures(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert '<mark class="predicted">' in page
    assert "| side |" not in page
    assert "x a</th>" in page


def test_the_reference_has_every_setting_and_the_commands_every_verb(site):
    from bertkit.recipe import Recipe

    page = (site / "reference.html").read_text(encoding="utf-8")
    for name, field in Recipe.model_fields.items():
        for key in getattr(field.annotation, "model_fields", {}):
            assert f"<code>{name}.{key}</code>" in page
    listed = (site / "commands.html").read_text(encoding="utf-8")
    for verb in ("train", "predict", "serve", "study folds", "study search", "glue run", "export"):
        assert f"bertkit {verb}" in listed


def test_the_index_of_errors_has_every_place_where_one_is_made(site):
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "bertkit").rglob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    made = sum(getattr(call.func, "id", "") == "BertkitError" for call in calls)
    page = (site / "errors.html").read_text(encoding="utf-8")
    assert page.count("<tr>") - page.count("<thead>") == made > 200
    assert "there is no task or recipe &lt;what&gt;" in page


def test_what_was_recorded_is_an_answer_of_the_bundled_document():
    record = json.loads((DOCS / "answer.json").read_text(encoding="utf-8"))
    assert record["context"][record["start"] : record["end"]] == record["answer"]
    bundled = json.loads((ASSETS / "qa.json").read_text(encoding="utf-8"))["data"]
    assert record["context"] in [paragraph["context"] for document in bundled for paragraph in document["paragraphs"]]

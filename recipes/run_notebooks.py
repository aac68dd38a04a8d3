"""Run the notebooks of this folder offline on bundled rows, and write what a reader would see: make notebooks."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent / "notebooks"
TINY = '{"checkpoint": "bundled:tiny", "init": "scratch"}'
TRAIN = '{"steps": 24, "batch_size": 8, "learning_rate": 3e-3, "evaluate_every": 8}'
# what takes the place of each notebook's cell of parameters
PARAMETERS = {
    "sentiment": f"""
data = {{"train": "bundled:reviews.csv", "columns": {{"text": "text", "label": "label"}}}}
model = {TINY}
train = {TRAIN}
out = "runs/sentiment"
""",
    "tagging": f"""
pos_data = {{"train": "bundled:pos.conllu"}}
ner_data = {{"train": "bundled:ner.jsonl"}}
model = {TINY}
train = {TRAIN}
windows = {{"max_length": 64}}
out = "runs"
""",
    "nli": f"""
data = {{"train": "bundled:nli.jsonl"}}
model = {TINY}
train = {TRAIN}
windows = {{"max_length": 64}}
out = "runs/nli"
""",
    "qa": f"""
english = {{"train": "bundled:qa.json", "train_rows": 16, "validation_rows": 8}}
chinese = {{"train": "bundled:qa.json", "train_rows": 8, "validation_rows": 4}}
models = dict.fromkeys(("en", "zh"), {TINY})
train = {{"steps": 6, "batch_size": 8, "learning_rate": 3e-3}}
windows = {{"max_length": 128, "stride": 32}}
story = "bundled:qa.json"
out = "runs"
""",
    "glue": """
model = other = "bundled:tiny"
data = "bundled:glue"
tasks = ("rte",)
settings = ["model.init=scratch", "train.steps=8", "train.batch_size=8", "train.evaluate_every=4"]
out = "runs"
""",
    "share": f"""
rows = "bundled:reviews.csv"
new_rows = "bundled:sentiment.csv"
model = {TINY}
train = {TRAIN}
repository = ""
out = "runs/share"
""",
}


def names() -> list[str]:
    """The notebooks that there are."""
    return sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def read(name: str) -> nbformat.NotebookNode:
    """A notebook as it stands."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def tagged(notebook: nbformat.NotebookNode, tag: str) -> list[nbformat.NotebookNode]:
    """The cells with a tag."""
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]


def execute(name: str, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook in a folder, all but the cell that installs bertkit, with parameters of its twin.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = read(name)
    (parameters,), (install,) = tagged(notebook, "parameters"), tagged(notebook, "install")
    parameters.source = PARAMETERS[name].strip()
    notebook.cells.remove(install)
    # commands of a notebook are those of this environment
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    offline = {"HF_HUB_OFFLINE": "1", "PATH": path, "PYTHONPATH": str(FOLDER.parents[1])}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    return client.execute(env={**os.environ, **offline}, cwd=str(folder))


def main() -> None:
    """Run all, or those that are named, and write a page of each."""
    from nbconvert import HTMLExporter

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=names(), help="notebooks; default: all")
    parser.add_argument("--out", type=Path, default=Path("runs/notebooks"), help="folder of the pages")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.names:
        with tempfile.TemporaryDirectory() as folder:
            page, _ = HTMLExporter().from_notebook_node(execute(name, Path(folder)))
        (asked.out / f"{name}.html").write_text(page, encoding="utf-8")
        print(asked.out / f"{name}.html")


if __name__ == "__main__":
    main()

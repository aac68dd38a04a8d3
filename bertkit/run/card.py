"""The model card of a run: what was learned from what, how well, within which limits, and how to load it.

Source: Mitchell et al. 2019; the header is that of huggingface_hub's model cards.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from bertkit import __version__
from bertkit.config import dump_yaml
from bertkit.findings import Note
from bertkit.metrics.shown import counted, short_name, show_score
from bertkit.pages.html import read_findings
from bertkit.recipe import Recipe, load_recipe
from bertkit.rundir import RunDir
from bertkit.tasks.base import Task, task_class

PIPELINES = {"token": "token-classification", "span": "question-answering"}  # by head; the others classify texts
MODEL = "THIS_MODEL"  # what the card calls the model, until it has an address
CITATION = """@inproceedings{devlin-etal-2019-bert,
  title = {{BERT}: Pre-training of Deep Bidirectional Transformers for Language Understanding},
  author = {Devlin, Jacob and Chang, Ming-Wei and Lee, Kenton and Toutanova, Kristina},
  booktitle = {Proceedings of NAACL-HLT 2019}, year = {2019}, doi = {10.18653/v1/N19-1423}
}"""


def model_card(run: RunDir, metrics: Mapping[str, object]) -> str:
    """The README.md of a run's `model/`; the same run gives the same characters, whatever machine it ran on.

    Args:
        metrics: what metrics.json holds, or will.
    """
    from huggingface_hub import EvalResult, ModelCardData

    recipe = load_recipe(run["recipe.yaml"])
    task = task_class(str(recipe.task["name"])).model_validate(run.read_json("task.json"))
    kind = PIPELINES.get(task.head, "text-classification")
    base, name = recipe.model.checkpoint, f"{task.name}, {short_name(recipe.model.checkpoint)}"
    results = [
        EvalResult(
            task_type=kind, dataset_type=task.name, dataset_name=source_of(recipe, split), dataset_split=split,
            metric_type=metric, metric_value=value,
        )
        for split, scores in metrics["splits"].items()
        for metric, value in scores.items()
        if isinstance(value, float)
    ]  # fmt: skip
    header = ModelCardData(
        base_model=None if is_local(base) else base, eval_results=results or None, library_name="transformers",
        license=license_of(base), model_name=name if results else None, pipeline_tag=kind, tags=["bertkit", task.name],
    )  # fmt: skip
    return f"---\n{header.to_yaml()}\n---\n\n# {name}\n\n" + "\n\n".join(sections(run, recipe, task, metrics)) + "\n"


def sections(run: RunDir, recipe: Recipe, task: Task, metrics: Mapping[str, object]) -> Iterator[str]:
    """The parts below the title."""
    trained, base = metrics["train"], recipe.model.checkpoint
    yield (
        f"{short_name(base)}, fine-tuned by bertkit {__version__} for the task `{task.name}` on "
        f"{counted(trained['rows'], 'row')} in {counted(trained['steps'], 'step')}, seed {metrics['seed']}; these are "
        f"the weights of step {metrics['step']}."
    )
    if task.labels:
        yield f"Labels: {', '.join(f'`{label}`' for label in task.labels)}."
    yield f"## How to load it\n\n{usage(task)}"
    sums = run.read_json("environment.json").get("data", {})
    rows = {"train": trained["rows"], **{split: scores["rows"] for split, scores in metrics["splits"].items()}}
    lines = [[split, source_of(recipe, split), f"{count:,}", sums.get(split, "")] for split, count in rows.items()]
    yield f"## Data\n\n{table(['split', 'source', 'rows', 'checksum'], lines)}"
    if splits := metrics["splits"]:
        names = [name for name in dict.fromkeys(chain.from_iterable(splits.values())) if name != "rows"]
        lines = [[split, *(show_score(name, splits[split].get(name)) for name in ("rows", *names))] for split in splits]
        yield f"## Scores\n\n{table(['split', 'rows', *names], lines)}\n\nTimes 100 where a score is a fraction."
    notes = [f"- {note.title}: {note.text}" for note in read_findings(run["findings.json"]) if isinstance(note, Note)]
    windows = (
        f"- It reads {recipe.windows.max_length} tokens at a time. bertkit reads longer texts in windows that overlap "
        f"by {recipe.windows.stride}; other programs cut them."
    )
    learned = "- It knows the kind of rows it learned from; on other texts its scores are not known."
    yield "\n".join(["## Limits\n", windows, learned, *notes])
    yield f"## Recipe\n\nWhat differs from bertkit's defaults:\n\n```yaml\n{dump_yaml(differing(recipe))}```"
    licence = f"The licence of {short_name(base)} holds for these weights, too."
    yield f"## Licence and citation\n\n{licence}\n\n```bibtex\n{CITATION}\n```"


def usage(task: Task) -> str:
    """Code that answers with the model."""
    lines = [f'pipeline("{PIPELINES.get(task.head, "text-classification")}", model="{MODEL}")("a text")']
    if task.head == "span":  # transformers 5 has no such pipeline
        auto = "AutoModelForQuestionAnswering"
        lines = [f'{auto}.from_pretrained("{MODEL}")', f'AutoTokenizer.from_pretrained("{MODEL}")']
    names = "pipeline" if task.head != "span" else "AutoModelForQuestionAnswering, AutoTokenizer"
    code = "\n".join([f"from transformers import {names}", "", *lines])
    return f"```python\n{code}\n```\n\n`bertkit train ... --model {MODEL}` goes on from it."


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; a bar within a cell is no border."""
    cells = [[cell.replace("|", "\\|") for cell in line] for line in (head, ["---"] * len(head), *lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def source_of(recipe: Recipe, split: str) -> str:
    """Where the rows of a split came from; a file is named without its folder, which says where somebody works."""
    data, named = recipe.data, getattr(recipe.data, split)
    if data.source and (named or split == "train"):
        return f"{shown(data.source)} ({named or split})"
    return shown(named) if named else "held back from train" if data.train or data.source else "rows in memory"


def shown(value: str) -> str:
    return short_name(value) if is_local(value) else value


def is_local(name: str) -> bool:
    """Whether a checkpoint or a source is a file or folder of this machine, or comes with bertkit."""
    return Path(name).expanduser().exists() or name.startswith((".", "/", "~", "bundled:"))


def differing(recipe: Recipe) -> dict[str, object]:
    """The recipe's settings that are no defaults; what may name folders of this machine is shortened."""
    tree, usual = recipe.tree(), Recipe(task="none").tree()
    found: dict[str, object] = {"task": tree["task"]}
    for section, values in tree.items():
        if isinstance(values, dict) and section not in ("task", "hardware", "log"):
            others = {name: value for name, value in values.items() if value != usual[section][name]}
            found |= {section: {n: shown(v) if isinstance(v, str) else v for n, v in others.items()}} if others else {}
    return {**found, "seed": recipe.seed}


def license_of(base: str) -> str | None:
    """What the README of a checkpoint's folder says of its licence; None where it says nothing."""
    from huggingface_hub import RepoCard

    readme = Path(base) / "README.md"
    if not readme.is_file():
        return None
    try:
        return RepoCard.load(readme, ignore_metadata_errors=True).data.to_dict().get("license")
    except (OSError, ValueError):
        return None

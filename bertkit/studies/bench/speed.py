"""How fast this machine trains, evaluates and predicts with a recipe, and what each switch does to that."""

from collections.abc import Sequence
from pathlib import Path

from bertkit import __version__
from bertkit.errors import BertkitError, Interrupted
from bertkit.findings import Note, to_json
from bertkit.launch import Say, settle_xla
from bertkit.metrics.shown import short_name
from bertkit.pages.html import write_report
from bertkit.recipe import Recipe, load_recipe
from bertkit.rundir import RunDir
from bertkit.studies.base import Study

BUNDLED = {"sentiment": "sentiment.csv", "nli": "nli.jsonl", "pos": "pos.conllu", "ner": "ner.jsonl", "qa": "qa.json"}


def run(
    recipe: Recipe, out: Path, *, rounds: int, steps: int, growth: bool, largest: int, notes: Sequence[str], say: Say
) -> dict[str, object]:
    """Measure, and write study.json, results.json, findings.json and report.html; nothing where it fails or is stopped.

    Args:
        rounds: turns of each variant, all variants one after the other, after one round of warm-up.
        steps: training steps of a turn; they are chosen to stand for all.
        growth: measure time and memory against the number of rows and the length of a document instead.
        largest: rows, and characters of a document, that growth goes up to.
        notes: what a reader must not miss.
    Returns:
        What results.json holds, and the findings.
    """
    with RunDir(out).claim(resume=False) as folder:
        settle_xla(recipe.hardware.device)
        from bertkit.studies.bench import growth as growing
        from bertkit.studies.bench import lanes, switches

        headline = None
        try:
            bench = lanes.open_bench(recipe, say)
            default = lanes.open_lane(bench, (), steps)
            facts = {"model": recipe.model.checkpoint, **lanes.facts(bench, default), "bertkit": __version__}
            if growth:
                results, found = growing.measure(default, largest, say)
            else:
                results, found = switches.measure(bench, default, rounds, steps, say)
                tokens = results["lines"]["train"][0]["tokens"]
                headline = {"label": "useful tokens a second in training, as given", "value": tokens, "plain": True}
        except Interrupted:
            raise Interrupted("stopped; nothing is written", hint="fewer --rounds and --steps take less time") from None
        facts["command"] = "bertkit bench --growth" if growth else f"bertkit bench --rounds {rounds} --steps {steps}"
        results = {"schema": 1, "facts": facts, **results}
        found = [*(Note(title="Caveat", text=text) for text in notes), *found]
        title = f"{'Growth' if growth else 'Speed'}: {bench.material.task.name}, {short_name(recipe.model.checkpoint)}"
        Study(folder.path, "speed", title).conclude(found, results, headline=headline, facts=facts)
        write_report(folder.path)
    return {**results, "findings": to_json(found)}


def complete(recipe: Recipe) -> tuple[Recipe, list[str]]:
    """The recipe with what comes along where it names no rows or no checkpoint; and what a reader must know of that."""
    tree, notes, task = recipe.tree(), [], str(recipe.task["name"])
    if recipe.data.train is None and recipe.data.source is None:
        if task not in BUNDLED:
            raise BertkitError("data.train: no rows are given", hint="add --train FILE")
        tree["data"]["train"] = f"bundled:{BUNDLED[task]}"
        notes.append(f"These are the few short rows of {tree['data']['train']}; with --train the figures are yours.")
    if "checkpoint" not in recipe.model.model_fields_set:
        tree["model"] |= {"checkpoint": "bundled:tiny", "init": "scratch"}
        notes.append("The model is a tiny one: most of its time is overhead. With --model the figures are yours.")
    return load_recipe(tree), notes

"""What a reader sees of a GLUE study: notes, tables and the figure beside people."""

from collections.abc import Mapping

from bertkit.findings import Dots, Finding, Note, Table, tabulate
from bertkit.metrics import glue
from bertkit.metrics.glue import TASKS, TITLES, glue_score, is_complete, task_score
from bertkit.metrics.shown import mean, short_name, show_score
from bertkit.studies.base import aligned, without
from bertkit.studies.glue.results import Results, spread

SPREAD = ("deviation", "best", "seeds")  # columns that tell nothing of one seed


def findings(results: Results, published: bool) -> list[Finding]:
    """The notes, tables and the figure of the page."""
    if not results.scores:
        return [*notes_of(results), Note(title="No results yet", text="No job is done yet.")]
    pairs = [(task, metric) for task, scores in results.scores.items() for metric in scores]
    rows = ((TITLES[task], metric, *results.spread(task, metric)) for task, metric in pairs)
    columns = ("task", "metric", "mean", "deviation", "best")
    metrics = tabulate("Official metrics", "On dev; the mean over the seeds.", columns, rows)
    caption = "Compare a number only with one of the same rule, on the same split."
    rows = (results.average, *glue.other_averages(results.scores))
    averages = tabulate("Averages in print", caption, ("name", "value", "rule"), rows)
    caption = "Rows as read; skipped rows are named in data/TASK/sources.json."
    columns = ("task", "split", "rows", "skipped", "held back", "source", "sha256")
    rows = (
        (TITLES[task], name, split["rows"], len(split["skipped"]), "yes" if split["held_back"] else "",
         split["source"], (split["sha256"] or "")[:12])
        for task, sources in results.sources.items()
        for name, split in sources["splits"].items()
    )  # fmt: skip
    data = tabulate("Data", caption, columns, rows)
    if len(results.asked.seeds) == 1:
        metrics = without(metrics, SPREAD)
    beside = [published_table()] if published else []
    return [*notes_of(results), tasks_table(results), dots(results, published), metrics, averages, *beside, data]


def notes_of(results: Results) -> list[Note]:
    """What a reader must not miss."""
    scores, notes = results.scores, {}
    if results.average.name != "GLUE" and scores:
        notes["Not the GLUE score"] = f"This is the {results.average.name}: {results.average.rule}."
    missing = [text for task in results.unofficial for text in results.sources[task]["missing"] if "test" not in text]
    if missing:
        notes["Data"] = f"{'. '.join(missing)}."
    if undefined := [TITLES[task] for task, found in scores.items() if None in found.values()]:
        text = f"{', '.join(undefined)}: a metric is undefined, because all predictions or all labels are the same."
        notes["Undefined"] = f"{text} The average is undefined with it."
    wnli, majority = task_score("wnli", scores.get("wnli", {})), glue.WNLI_MAJORITY
    if wnli is not None and wnli <= majority + 0.001 and "wnli" not in results.unofficial:
        text = f"WNLI at {100 * wnli:.1f} is not above the most frequent label ({100 * majority:.1f} on dev)."
        notes["WNLI"] = f"{text} Its dev set shares premises with train, with the other label."
    if results.asked.glue.from_mnli:
        notes["From MNLI"] = "MRPC, STS-B and RTE started from the MNLI model of the same seed."
    if results.diagnostics:
        value = show_score("", spread(list(results.diagnostics.values())).mean)
        text = f"The MNLI model reaches a Matthews correlation of {value}; no average includes it."
        notes["Diagnostic set (AX)"] = text
    if results.failed:
        notes["Failed jobs"] = "; ".join(results.failed)
    if results.waiting:
        notes["Unfinished"] = f"Not done yet: {'; '.join(results.waiting)}."
    if scores:
        notes["Dev and test"] = "Our scores are on dev; people and published rows were scored on test."
    return [Note(title=title, text=text) for title, text in notes.items()]


def tasks_table(results: Results) -> Table:
    """One row a task: its score, its spread over seeds, and the score of people."""
    relative = glue.beside_people(results.scores)
    people = {task: glue.human_score(task, scores) for task, scores in results.scores.items()}
    rows = []
    for task, scores in results.scores.items():
        name = TITLES[task] if is_complete(task, scores) else f"{TITLES[task]} ({', '.join(scores)} only)"
        rows.append((name, *results.spread(task), people[task], relative[task], " / ".join(scores),
                     results.rows[task], len(results.seeds[task])))  # fmt: skip
    average = results.average_spread._replace(mean=results.average.value)
    rows.append((results.average.name, *average, mean(list(people.values())), relative["average"],
                 "mean of the above", None, len(results.whole_seeds)))  # fmt: skip
    caption = (
        "Task score: the unweighted mean of the task's metrics, on dev. Human: on test, Nangia and Bowman 2019, by the "
        "same metrics; relative: human = 1."
    )
    columns = ("task", "score", "deviation", "best", "human", "relative", "metrics", "dev rows", "seeds")
    table = tabulate("Scores by task", caption, columns, rows, plain=("relative",))
    return table if len(results.asked.seeds) > 1 else without(table, SPREAD)


def dots(results: Results, published: bool) -> Dots:
    """Models along x, a dot a task, people at 1, the average as a curve."""
    ours = {f"{short_name(results.asked.model)} (dev)": glue.beside_people(results.scores)}
    caption = (
        "Task scores relative to people (human = 1). Hollow: published, scored on test; filled: this study, on dev. "
        "The average is of the tasks that are there, relative to people on the same tasks."
    )
    return _beside_people(published_relative() if published else {}, ours, caption)


def published_dots() -> Dots:
    """The same of models that others have scored, alone."""
    caption = "Task scores on test relative to people (human = 1), as printed; the average is that of the nine."
    return _beside_people(published_relative(), {}, caption)


def published_relative() -> dict[str, dict[str, float | None]]:
    """Scores relative to people of the models with a whole GLUE score on test, the lowest first."""
    whole = [row for row in glue.PUBLISHED if row.split == "test" and glue_score(row.scores).name == "GLUE"]
    rows = sorted(whole, key=lambda row: glue_score(row.scores).value)
    return {f"{row.name} (test)": glue.beside_people(row.scores) for row in rows}


def _beside_people(published: Mapping, ours: Mapping, caption: str) -> Dots:
    relative = {**published, **ours}
    return Dots(
        title="Beside people",
        caption=caption,
        y_label="score / human score",
        x=tuple(relative),
        groups={TITLES[task]: tuple(row.get(task) for row in relative.values()) for task in TASKS},
        curve_label="average",
        curve=tuple(row["average"] for row in relative.values()),
        reference=1.0,
        reference_label="human",
        published=tuple(published),
    )


def published_table() -> Table:
    """The rows that others have printed, for comparison."""
    rows = (
        (row.name, row.split, *(glue.whole_score(task, row.scores) for task in TASKS),
         found.value if (found := glue_score(row.scores)).name == "GLUE" else None, row.source)
        for row in (*glue.PUBLISHED, glue.HUMAN)
    )  # fmt: skip
    caption = "As printed; where two metrics are printed, the task score is their mean. Undefined: not printed."
    return tabulate("Published rows", caption, ("model", "split", *TITLES.values(), "GLUE", "source"), rows)


def lines(results: Results) -> list[str]:
    """The results as lines for a terminal."""
    return aligned(without(tasks_table(results), ("metrics", "dev rows", "seeds")))

"""What a reader sees of a GLUE study: notes, tables and the figure beside people."""

from __future__ import annotations

from bertkit.findings import Dots, Finding, Note, Table
from bertkit.metrics.glue import (
    HUMAN,
    PUBLISHED,
    TASKS,
    TITLES,
    WNLI_MAJORITY,
    beside_people,
    glue_score,
    human_score,
    is_complete,
    mean,
    other_averages,
    task_score,
)
from bertkit.metrics.shown import short_name, show_score
from bertkit.studies.base import aligned, without
from bertkit.studies.glue.results import Results, spread

SPREAD = ("deviation", "best", "seeds")  # columns that tell nothing of one seed


def findings(results: Results, published: bool) -> list[Finding]:
    """The notes, tables and the figure of the page."""
    notes = [Note(title=title, text=text) for title, text in notes_of(results)]
    if not results.scores:
        return [*notes, Note(title="No results yet", text="No job is done yet.")]
    return [*notes, tasks_table(results), dots(results, published), metrics_table(results), averages_table(results),
            *([published_table()] if published else []), data_table(results)]  # fmt: skip


def notes_of(results: Results) -> list[tuple[str, str]]:
    """(title, text) of what a reader must not miss."""
    scores, notes = results.scores, []
    if results.average.name != "GLUE" and scores:
        notes.append(("Not the GLUE score", f"This is the {results.average.name}: {results.average.rule}."))
    missing = [text for task in results.unofficial for text in results.sources[task]["missing"] if "test" not in text]
    if missing:
        notes.append(("Data", f"{'. '.join(missing)}."))
    if undefined := [TITLES[task] for task, found in scores.items() if None in found.values()]:
        text = f"{', '.join(undefined)}: a metric is undefined, because all predictions or all labels are the same."
        notes.append(("Undefined", f"{text} The average is undefined with it."))
    wnli = results.spread("wnli").mean if "wnli" in scores else None
    if wnli is not None and wnli <= WNLI_MAJORITY + 0.001:
        text = f"WNLI at {100 * wnli:.1f} is not above the most frequent label ({100 * WNLI_MAJORITY:.1f} on dev)."
        notes.append(("WNLI", f"{text} Its dev set shares premises with train, with the other label."))
    if results.asked.glue.from_mnli:
        notes.append(("From MNLI", "MRPC, STS-B and RTE started from the MNLI model of the same seed."))
    if results.diagnostics:
        value = spread(list(results.diagnostics.values())).mean
        text = f"The MNLI model reaches a Matthews correlation of {show_score('', value)}"
        notes.append(("Diagnostic set (AX)", f"{text}; no average includes it."))
    if results.failed:
        notes.append(("Failed jobs", "; ".join(results.failed)))
    if results.waiting:
        notes.append(("Unfinished", f"Not done yet: {'; '.join(results.waiting)}."))
    if scores:
        notes.append(("Dev and test", "Our scores are on dev; people and published rows were scored on test."))
    return notes


def tasks_table(results: Results) -> Table:
    """One row a task: its score, its spread over seeds, and the score of people."""
    relative = beside_people(results.scores)
    rows = []
    for task, scores in results.scores.items():
        found = results.spread(task)
        name = TITLES[task] if is_complete(task, scores) else f"{TITLES[task]} ({', '.join(scores)} only)"
        rows.append((name, *found, human_score(task, scores), fixed(relative[task]), " / ".join(scores),
                     results.rows[task], len(results.seeds[task])))  # fmt: skip
    average = results.average_spread
    rows.append((results.average.name, results.average.value, *average[1:],
                 mean([human_score(task, scores) for task, scores in results.scores.items()]),
                 fixed(relative["average"]), "mean of the above", None, len(results.asked.seeds)))  # fmt: skip
    table = Table(
        title="Scores by task",
        caption="Task score: the unweighted mean of the task's metrics, on dev. Human: on test, Nangia and Bowman "
        "2019, by the same metrics; relative: human = 1.",
        columns=("task", "score", "deviation", "best", "human", "relative", "metrics", "dev rows", "seeds"),
        rows=tuple(rows),
        plain=("relative",),
    )
    return table if len(results.asked.seeds) > 1 else without(table, SPREAD)


def fixed(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def metrics_table(results: Results) -> Table:
    """One row for each official metric."""
    table = Table(
        title="Official metrics",
        caption="On dev; the mean over the seeds.",
        columns=("task", "metric", "mean", "deviation", "best"),
        rows=tuple(
            (TITLES[task], metric, *results.spread(task, metric))
            for task, scores in results.scores.items()
            for metric in scores
        ),
    )
    return table if len(results.asked.seeds) > 1 else without(table, SPREAD)


def averages_table(results: Results) -> Table:
    """The other numbers that are printed as a GLUE average."""
    rows = [results.average, *other_averages(results.scores)]
    return Table(
        title="Averages in print",
        caption="Compare a number only with one of the same rule, on the same split.",
        columns=("name", "value", "rule"),
        rows=tuple((row.name, row.value, row.rule) for row in rows),
    )


def dots(results: Results, published: bool) -> Dots:
    """Models along x, a dot a task, people at 1, the average as a curve."""
    rows = {row.name: row.scores for row in PUBLISHED if row.split == "test" and glue_score(row.scores).name == "GLUE"}
    rows = dict(sorted(rows.items(), key=lambda row: glue_score(row[1]).value)) if published else {}
    names = {f"{name} (test)": beside_people(scores) for name, scores in rows.items()}
    ours = f"{short_name(results.asked.model)} (dev)"
    relative = {**names, ours: beside_people(results.scores)}
    return Dots(
        title="Beside people",
        caption="Task scores relative to people (human = 1). Hollow: published, scored on test; filled: this study, on "
        "dev. The average is of the tasks that are there, relative to people on the same tasks.",
        y_label="score / human score",
        x=tuple(relative),
        groups={TITLES[task]: tuple(row.get(task) for row in relative.values()) for task in TASKS},
        curve_label="average",
        curve=tuple(row["average"] for row in relative.values()),
        reference=1.0,
        reference_label="human",
        published=tuple(names),
    )


def published_table() -> Table:
    """The rows that others have printed, for comparison."""
    return Table(
        title="Published rows",
        caption="As printed; where two metrics are printed, the task score is their mean. Undefined: not printed.",
        columns=("model", "split", *(TITLES[task] for task in TASKS), "GLUE", "source"),
        rows=tuple(
            (row.name, row.split,
             *(task_score(task, row.scores[task]) if is_complete(task, row.scores.get(task, {})) else None
               for task in TASKS),
             found.value if (found := glue_score(row.scores)).name == "GLUE" else None, row.source)
            for row in (*PUBLISHED, HUMAN)
        ),
    )  # fmt: skip


def data_table(results: Results) -> Table:
    """Where the rows came from."""
    return Table(
        title="Data",
        caption="Rows as read; skipped rows are named in data/TASK/sources.json.",
        columns=("task", "split", "rows", "skipped", "held back", "source", "sha256"),
        rows=tuple(
            (TITLES[task], name, split["rows"], len(split["skipped"]), "yes" if split["held_back"] else "",
             split["source"], (split["sha256"] or "")[:12])
            for task, sources in results.sources.items()
            for name, split in sources["splits"].items()
        ),
    )  # fmt: skip


def lines(results: Results) -> list[str]:
    """The results as lines for a terminal."""
    return aligned(without(tasks_table(results), ("metrics", "dev rows", "seeds")))

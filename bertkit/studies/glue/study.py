"""GLUE: one checkpoint fine-tuned on nine tasks, and one number, beside people.

A job is one task with one seed: `bertkit train recipes/JOB.yaml --out runs/JOB`.

Source: Wang et al. 2018.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bertkit.config import Tree
from bertkit.data.glue import LAYOUTS, find_tasks, read_glue
from bertkit.disk import LOCK, held, remove
from bertkit.errors import BertkitError
from bertkit.launch import Say
from bertkit.metrics.glue import TASKS, TITLES
from bertkit.metrics.shown import counted
from bertkit.pages.html import write_report
from bertkit.rundir import RunDir
from bertkit.splits import path_of
from bertkit.studies.base import Study
from bertkit.studies.glue import plan
from bertkit.studies.glue.folder import Asked, SourcesShape, diagnostic_labels
from bertkit.studies.glue.plan import Settings, answering
from bertkit.studies.glue.results import DEV, Results, gather
from bertkit.studies.glue.tables import findings
from bertkit.studies.runner.board import make_board
from bertkit.studies.runner.commands import describe_training, listed
from bertkit.studies.runner.jobs import Job, Runner, check_done
from bertkit.studies.runner.room import Room


def run(
    model: str,
    out: str | Path,
    *,
    data: str | None = None,
    tasks: Sequence[str] = (),
    seeds: int = 1,
    room: Room | None = None,
    resume: bool = False,
    assignments: Sequence[str] = (),
    quiet: bool = False,
    say: Say = lambda text: None,
) -> Results:
    """Fine-tune on the tasks, and score them.

    Args:
        model: Hub id or folder of the checkpoint.
        out: folder of the study.
        data: folder in GLUE's own layout; None: the Hub (nyu-mll/glue).
        tasks: which of the nine; none: all that the folder has.
        seeds: how many runs a task, with the seeds `seed`, `seed` + 1, ...
        room: where the jobs run, and how many at a time. It changes no result, and a study may go on elsewhere.
        resume: go on with what `out` holds; what is done is not run again.
        assignments: settings for all tasks (`train.epochs=1`), for one (`rte.train.epochs=10`), or of the study
            (`glue.from_mnli=true`).
    Raises:
        BertkitError: anything the user can mend, found before the first job begins; or jobs failed, after all others
            are done and the results written.
        Interrupted: stopped; finished jobs stay, the others have saved a checkpoint.
    """
    if seeds < 1:
        raise BertkitError("--seeds is at least 1", hint="leave it out for one")
    room = room or Room()
    room.check()
    settings, config = plan.split_assignments(assignments)
    source = None if data is None else path_of(data)
    chosen = plan.choose_tasks(tasks, source)
    recipes = plan.read_recipes(model, chosen, settings)
    first = recipes[chosen[0]].seed
    if config.from_mnli and "mnli" not in chosen:
        raise BertkitError("glue.from_mnli: MNLI is not among the tasks", hint="add mnli to --tasks, or leave it out")
    asked = Asked(
        model=model, data=data, tasks=chosen, seeds=list(range(first, first + seeds)), glue=config,
        settings=sorted(assignments, key=lambda setting: setting.partition("=")[0]),  # of one key the last counts
    )  # fmt: skip
    study = Study(Path(out), "glue", "GLUE")
    with held(study.path):
        study.refuse(asked.model_dump(), resume)
        plan.check_model(model, recipes)
        with room.slots(study.path) as slots:
            jobs = begin(study, asked, settings, source, is_part=bool(tasks), say=say)
            update = partial(conclude, study, asked, jobs)
            try:
                Runner(jobs, slots, make_board(describe_job, quiet), update).run()
            finally:
                update()
        write_report(study.path)
        check_done(jobs, "--resume tries the failed ones again, and only those")
        return gather(study.path)


def begin(study: Study, asked: Asked, settings: Settings, source: str | None, is_part: bool, say: Say) -> list[Job]:
    """Read the rows and plan the jobs: trainings, and MNLI models that answer the diagnostic set where it has labels.

    A mistake leaves nothing behind in a new study. `is_part` says that tasks were chosen, and others left out.
    """
    folder, share = study.path, asked.glue.held_back
    is_new = not (folder / "study.json").exists()
    if is_new:
        study.begin(asked=asked.model_dump())
    try:
        found = {task: prepare(folder, task, source, share, say) for task in asked.tasks}
        for task in TASKS:
            if task not in found:
                say(f"{TITLES[task]}: left out" if is_part else f"{TITLES[task]}: not in {asked.data}")
        if "mnli" in found and (source is None or "ax" in find_tasks(source)):
            prepare(folder, "ax", source, share, say)
        trainings = plan.plan_jobs(folder, asked, found, settings)
        if "mnli" not in found or not diagnostic_labels(folder):
            return trainings
        models = [job for job in trainings if job.run.path.name.startswith("mnli-")]
        return [*trainings, *(answering(folder, job.run, "ax", "test", needs=job) for job in models)]
    except BertkitError:
        if is_new:
            for entry in folder.iterdir():
                if entry.name != LOCK:
                    remove(entry)
        raise


def conclude(study: Study, asked: Asked, jobs: Sequence[Job]) -> None:
    """Bring the files of the study up to date with its jobs; of answers it lists only those that are not there."""
    runs = listed(job for job in jobs if is_training(job) or job.state != "done")
    study.begin(runs, asked=asked.model_dump())
    results = gather(study.path)
    facts = {
        "model": asked.model,
        "data": asked.data or "nyu-mll/glue (Hub)",
        "seeds": ", ".join(map(str, asked.seeds)),
        "settings": " ".join(asked.settings) or "the recommended ones of each task",
        "split": f"{DEV}; the labels of GLUE's test sets are not public",
    }
    headline = {"label": results.headline, "value": results.average.value}
    found = findings(results, asked.glue.published)
    study.conclude(found, results.to_json(), runs, asked=asked.model_dump(), headline=headline, facts=facts)


def is_training(job: Job) -> bool:
    return job.result == job.run["metrics.json"]


def describe_job(job: Job) -> str:
    """What a job that is done came to, in a few words."""
    return describe_training(job) if is_training(job) else job.result.name


def prepare(folder: Path, task: str, source: str | None, held_back: float, say: Say) -> Tree:
    """Read a task's rows once and keep them as JSON lines; returns what sources.json says of them."""
    kept = RunDir(folder / "data" / task)
    if not kept["sources.json"].exists():
        found = read_glue(task, source, held_back)
        for split, content in found.splits.items():
            kept.write_jsonl(f"{split}.jsonl", content.rows)
            if count := len(content.skipped):
                left_out = f"{counted(count, 'row')} {'is' if count == 1 else 'are'} left out"
                more = f" and {count - 5} more" if count > 5 else ""
                say(f"{LAYOUTS[task].title}: {left_out}: {'; '.join(content.skipped[:5])}{more}")
        for sentence in found.missing:
            say(sentence)
        train = found.splits["train"].rows if "train" in found.splits else ()  # AX has none
        splits = {
            split: {**content._asdict(), "rows": len(content.rows), "skipped": list(content.skipped)}
            for split, content in found.splits.items()
        }
        characters = sum(len(row["text"]) + len(row.get("second", "")) for row in train)
        kept.write_json("sources.json", {"missing": list(found.missing), "characters": characters, "splits": splits})
    return kept.read_json("sources.json", SourcesShape)

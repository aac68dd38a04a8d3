"""GLUE: one checkpoint fine-tuned on nine tasks, and one number, beside people.

A job is one task with one seed: `bertkit train recipes/JOB.yaml --out runs/JOB`.

Source: Wang et al. 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertkit.config import Tree
from bertkit.data.glue import GlueTask, find_tasks, read_glue
from bertkit.disk import TEMPORARY, remove
from bertkit.errors import BertkitError
from bertkit.folders import LOCK, held
from bertkit.metrics.glue import TASKS, TITLES
from bertkit.metrics.shown import describe_scores
from bertkit.rundir import RunDir
from bertkit.splits import left_out, path_of
from bertkit.studies.base import Study
from bertkit.studies.glue.folder import SourcesShape, open_study, run_of
from bertkit.studies.glue.jobs import answering, plan_jobs
from bertkit.studies.glue.plan import (
    Asked,
    Settings,
    check_model,
    check_settings,
    choose_tasks,
    split_assignments,
)
from bertkit.studies.glue.results import DEV, Results, diagnostic_labels, gather
from bertkit.studies.glue.tables import findings
from bertkit.studies.runner.board import make_board
from bertkit.studies.runner.jobs import Job, Runner, check_done
from bertkit.studies.runner.room import Room

Say = Callable[[str], None]


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
    settings, config = split_assignments(assignments)
    first = check_settings(model, settings)
    source = None if data is None else path_of(data)
    chosen = choose_tasks(tasks, source)
    if config.from_mnli and "mnli" not in chosen:
        raise BertkitError("glue.from_mnli: MNLI is not among the tasks", hint="add mnli to --tasks, or leave it out")
    asked = Asked(
        model=model, data=data, tasks=chosen, seeds=list(range(first, first + seeds)), settings=sorted(assignments),
        glue=config,
    )  # fmt: skip
    work = Work(Path(out), asked, settings)
    with held(work.folder):
        work.refuse(resume)
        check_model(model, chosen, settings)
        with room.slots(work.folder) as slots:
            jobs = work.begin(source, is_part=bool(tasks), say=say)
            runner = Runner(jobs, slots, make_board(describe_job, quiet), work.conclude)
            try:
                runner.run()
            finally:
                work.conclude()
        work.study.report()
        check_done(jobs, "--resume tries the failed ones again, and only those")
        return gather(work.folder)


@dataclass
class Work:
    """A study that is at work."""

    folder: Path
    asked: Asked
    settings: Settings
    trainings: Sequence[Job] = ()

    @property
    def study(self) -> Study:
        """The files of the folder that every study has."""
        return Study(self.folder, "glue", "GLUE")

    def refuse(self, resume: bool) -> None:
        """Refuse a folder that holds something else, or a study that was asked something else."""
        # a study that was killed as it began left at most these
        if {entry.name for entry in self.folder.iterdir()} <= {LOCK, f"{TEMPORARY}study.json"}:
            return
        if not (self.folder / "study.json").exists():
            raise BertkitError(f"{self.folder} is not empty and holds no study", hint="give --out a new name")
        if not resume:
            raise BertkitError(
                f"{self.folder} holds a study already, which is never overwritten",
                hint="continue it with --resume, or give --out a new name",
            )
        before, now = open_study(self.folder).asked.model_dump(), self.asked.model_dump()
        if differing := [f"{key}: {before[key]} -> {now[key]}" for key in now if before[key] != now[key]]:
            raise BertkitError(
                f"{self.folder} was asked something else: {'; '.join(differing)}",
                hint="resume it with the same options, or give --out a new name",
            )

    def begin(self, source: str | None, is_part: bool, say: Say) -> list[Job]:
        """Read the rows and plan the jobs; a mistake leaves nothing behind in a new study.

        Args:
            source: folder of the rows; None: the Hub.
            is_part: the tasks were chosen, and others left out.
        """
        is_new = not (self.folder / "study.json").exists()
        if is_new:
            self.study.begin(asked=self.asked.model_dump())
        try:
            share = self.asked.glue.held_back
            found = {task: prepare(self.folder, task, source, share, say) for task in self.asked.tasks}
            for task in TASKS:
                if task not in found:
                    say(f"{TITLES[task]}: left out" if is_part else f"{TITLES[task]}: not in {self.asked.data}")
            if "mnli" in found and (source is None or "ax" in find_tasks(source)):
                prepare(self.folder, "ax", source, share, say)
            self.trainings = plan_jobs(self.folder, self.asked, found, self.settings)
            return [*self.trainings, *self.diagnostics()]
        except BertkitError:
            if is_new:
                for entry in self.folder.iterdir():
                    if entry.name != LOCK:
                        remove(entry)
            raise

    def diagnostics(self) -> list[Job]:
        """The jobs in which the MNLI models answer the diagnostic set, where it has labels."""
        if "mnli" not in self.asked.tasks or not diagnostic_labels(self.folder):
            return []
        trainings = {job.run.path: job for job in self.trainings}
        runs = [run_of(self.folder, "mnli", seed) for seed in self.asked.seeds]
        hardware = self.settings.hardware
        return [answering(self.folder, run, "ax", "test", settings=hardware, needs=trainings[run.path]) for run in runs]

    def conclude(self) -> None:
        """Bring the files of the study up to date with its runs."""
        runs = [
            {"name": job.name, "path": f"runs/{job.run.path.name}", "state": job.state, "note": job.note}
            for job in self.trainings
        ]
        asked = self.asked.model_dump()
        self.study.begin(runs, asked=asked)
        results = gather(self.folder)
        facts = {
            "model": self.asked.model,
            "data": self.asked.data or "nyu-mll/glue (Hub)",
            "seeds": ", ".join(map(str, self.asked.seeds)),
            "settings": " ".join(self.asked.settings) or "the recommended ones of each task",
            "split": f"{DEV}; the labels of GLUE's test sets are not public",
        }
        headline = {"label": results.headline, "value": results.average.value}
        found = findings(results, self.asked.glue.published)
        self.study.conclude(found, results.to_json(), runs, asked=asked, headline=headline, facts=facts)


def describe_job(job: Job) -> str:
    """What a job that is done came to, in a few words."""
    if job.result != job.run["metrics.json"]:
        return job.result.name
    metrics = job.run.read_json("metrics.json")
    headline = str(metrics["headline"])
    return describe_scores({headline: metrics["splits"]["validation"][headline]})


def prepare(folder: Path, task: str, source: str | None, held_back: float, say: Callable[[str], None]) -> Tree:
    """Read a task's rows once and keep them as JSON lines; returns what sources.json says of them."""
    kept = RunDir(folder / "data" / task)
    if kept["sources.json"].exists():
        return kept.read_json("sources.json", SourcesShape)
    found = read_glue(task, source, held_back)
    for split, content in found.splits.items():
        kept.write_jsonl(f"{split}.jsonl", content.rows)
        if content.skipped:
            count = len(content.skipped)
            more = f" and {count - 5} more" if count > 5 else ""
            say(f"{TITLES[task]}: {left_out(count, 'row')}: {'; '.join(content.skipped[:5])}{more}")
    for sentence in found.missing:
        say(sentence)
    kept.write_json("sources.json", sources_of(found))
    return kept.read_json("sources.json")


def sources_of(found: GlueTask) -> Tree:
    """Where the rows of a task came from, how many there are, and what is missing."""
    train = found.splits["train"].rows if "train" in found.splits else ()  # AX has none
    return {
        "missing": list(found.missing),
        "characters": sum(len(row["text"]) + len(row.get("second", "")) for row in train),
        "splits": {
            split: {**content._asdict(), "rows": len(content.rows), "skipped": list(content.skipped)}
            for split, content in found.splits.items()
        },
    }

"""What the GLUE server takes: one zip of eleven files of predictions.

Source: gluebenchmark.com (FAQ), and the file names of its baseline code (Wang et al. 2018).
"""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bertkit.data.glue import LAYOUTS
from bertkit.disk import disk_errors, held, written_atomically
from bertkit.errors import BertkitError, Interrupted
from bertkit.launch import Say
from bertkit.metrics.glue import task_score
from bertkit.recipe import load_recipe
from bertkit.rundir import RunDir
from bertkit.studies.glue.folder import answers_of, rows_of, rows_path, run_of
from bertkit.studies.glue.plan import answering, named_tasks
from bertkit.studies.glue.results import Results, gather
from bertkit.studies.runner.board import make_board
from bertkit.studies.runner.jobs import Runner, check_done
from bertkit.studies.runner.room import Room


class File(NamedTuple):
    """One file of the submission: whose run answers which rows."""

    name: str
    task: str
    split: str
    model: str  # the task whose run answers
    rows: int  # of GLUE's test set


NAMES = {("mnli", "test"): "MNLI-m", ("mnli", "test_mismatched"): "MNLI-mm"}  # others are called as their task
FILES = tuple(
    File(f"{NAMES.get((task, split), layout.title)}.tsv", task, split, "mnli" if task == "ax" else task, rows)
    for task, layout in LAYOUTS.items()
    for split, rows in layout.test_rows.items()
)


def submit(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    tasks: Sequence[str] = (),
    any_size: bool = False,
    assignments: Sequence[str] = (),
    room: Room | None = None,
    quiet: bool = False,
    say: Say = lambda text: None,
) -> Path:
    """Predict the test sets with each task's best seed, and zip the files that the server wants.

    Args:
        folder: of a GLUE study.
        out: the zip; None: `submission.zip` in the folder.
        tasks: only the files of these tasks (`ax` is one); the server takes all eleven only.
        any_size: accept test sets of other sizes than GLUE's, for trials.
        assignments: `hardware.*` settings that differ from those of the runs.
        room: where the predictions are made, and how many files at a time.
    Raises:
        BertkitError: a test file or a finished run is missing, or a test set has another size; before anything is
            predicted, and naming every one. Or predictions failed, after all others are done.
        Interrupted: stopped; the files that are predicted stay.
    """
    folder, room = Path(folder), room or Room()
    target = Path(out) if out is not None else folder / "submission.zip"
    if target.is_dir():
        raise BertkitError(f"--out: {target} is a folder", hint="give the name of a .zip file")
    room.check()
    check_hardware(assignments)
    results = gather(folder)
    chosen = named_tasks(tasks, LAYOUTS)
    wanted = [file for file in FILES if file.task in (chosen or LAYOUTS)]
    seeds = best_seeds(folder, results, wanted)
    check_sizes(folder, wanted, any_size)
    runs = {file: run_of(folder, file.model, seeds[file.model]) for file in wanted}
    with held(folder), room.slots(folder) as slots:
        jobs = [answering(folder, run, file.task, file.split, assignments) for file, run in runs.items()]
        try:
            Runner(jobs, slots, make_board(lambda job: job.result.name, quiet)).run()
        except Interrupted:
            count = sum(job.state == "done" for job in jobs)
            raise Interrupted(
                f"stopped; {count} of {len(jobs)} files are predicted", hint="the same command predicts the others"
            ) from None
        check_done(jobs, "the same command tries the failed ones again, and only those")
        with (
            disk_errors(target),
            written_atomically(target) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for file, run in runs.items():
                archive.writestr(file.name, "".join(lines_of(folder, file, run)))
    if len(wanted) < len(FILES):
        say(f"{target}: {len(wanted)} of {len(FILES)} files; the server takes all of them only")
    return target


def check_hardware(assignments: Sequence[str]) -> None:
    """Refuse settings that would change what is answered."""
    for assignment in assignments:
        if not assignment.startswith("hardware."):
            raise BertkitError(
                f"{assignment}: the models are trained, so that `glue submit` takes hardware settings only",
                hint="such as hardware.device=cpu",
            )
    load_recipe({"task": {"name": "classification"}}, assignments)


def best_seeds(folder: Path, results: Results, wanted: Sequence[File]) -> dict[str, int]:
    """The seed that answers for each task; refuses files without a run or without rows, naming all of them."""
    seeds, missing = {}, {}
    for file in wanted:
        scores = {seed: task_score(file.model, found) for seed, found in results.seeds.get(file.model, {}).items()}
        if not scores:
            missing[file] = f"{file.name} (no finished run of {LAYOUTS[file.model].title})"
        elif not rows_path(folder, file.task, file.split).exists():
            missing[file] = f"{file.name} (no {file.split} file of {LAYOUTS[file.task].title})"
        else:
            seeds[file.model] = max(scores, key=lambda seed: (scores[seed] is not None, scores[seed] or 0.0, -seed))
    if missing:
        there = sorted({file.task for file in wanted} - {file.task for file in missing})
        raise BertkitError(
            f"{folder}: {len(missing)} of {len(wanted)} files cannot be written: {', '.join(missing.values())}",
            hint=f"add the test files and run the study again; or take part of it: --tasks {','.join(there)}"
            if there else "run the study on a folder that has GLUE's test files",
        )  # fmt: skip
    return seeds


def check_sizes(folder: Path, wanted: Sequence[File], any_size: bool) -> None:
    """Refuse test sets that are not GLUE's."""
    sizes = [(file, sum(1 for _ in rows_of(folder, file.task, file.split))) for file in wanted]
    wrong = [f"{file.name}: {size:,} rows instead of {file.rows:,}" for file, size in sizes if size != file.rows]
    if wrong and not any_size:
        raise BertkitError(
            f"{folder}: these are not GLUE's test sets: {'; '.join(wrong)}",
            hint="the server would refuse them; for a trial, add --any-size",
        )


def lines_of(folder: Path, file: File, run: RunDir) -> Iterator[str]:
    """The file, line by line: the header, then each row's own index and what is predicted, in the server's words."""
    layout = LAYOUTS[file.model]
    codes = dict(zip(layout.labels, layout.codes, strict=True))
    yield "index\tprediction\n"
    for answer in answers_of(folder, run, file.task, file.split):
        label = answer["label"]
        shown = codes[label] if layout.labels else f"{min(max(label, 0.0), 5.0):.3f}"  # STS-B's scale
        yield f"{answer['id']}\t{shown}\n"

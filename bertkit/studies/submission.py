"""What the GLUE server takes: one zip of eleven files of predictions.

Source: gluebenchmark.com (FAQ), and the file names of its baseline code (Wang et al. 2018).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bertkit.data.glue import LAYOUTS
from bertkit.errors import BertkitError
from bertkit.metrics.glue import TASKS, TITLES, task_score
from bertkit.rundir import RunDir, disk_errors, write_atomically, written_atomically
from bertkit.studies.results import Results, RowShape, gather, named_tasks, run_of

SCORES = (0.0, 5.0)  # of STS-B


class File(NamedTuple):
    """One file of the submission: which run answers which rows, and how many the server wants."""

    name: str
    task: str
    split: str
    model: str  # the task whose run answers

    @property
    def rows(self) -> int:
        """How many rows GLUE's test set has."""
        return LAYOUTS[self.task].test_rows[self.split]


FILES = (
    File("CoLA.tsv", "cola", "test", "cola"),
    File("SST-2.tsv", "sst2", "test", "sst2"),
    File("MRPC.tsv", "mrpc", "test", "mrpc"),
    File("STS-B.tsv", "stsb", "test", "stsb"),
    File("QQP.tsv", "qqp", "test", "qqp"),
    File("MNLI-m.tsv", "mnli", "test", "mnli"),
    File("MNLI-mm.tsv", "mnli", "test_mismatched", "mnli"),
    File("QNLI.tsv", "qnli", "test", "qnli"),
    File("RTE.tsv", "rte", "test", "rte"),
    File("WNLI.tsv", "wnli", "test", "wnli"),
    File("AX.tsv", "ax", "test", "mnli"),
)
ANSWERED = (*TASKS, "ax")


def submit(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    tasks: Sequence[str] = (),
    any_size: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Predict the test sets with each task's best seed, and zip the files that the server wants.

    Args:
        folder: of a GLUE study.
        out: the zip; None: `submission.zip` in the folder.
        tasks: only the files of these tasks (`ax` is one); the server takes all eleven only.
        any_size: accept test sets of other sizes than GLUE's, for trials.
    Raises:
        BertkitError: a test file or a finished run is missing, or a test set has another size; before anything is
            predicted, and naming every one.
    """
    folder = Path(folder)
    target = Path(out) if out is not None else folder / "submission.zip"
    if target.is_dir():
        raise BertkitError(f"--out: {target} is a folder", hint="give the name of a .zip file")
    results = gather(folder)
    chosen = named_tasks(tasks, ANSWERED)
    wanted = [file for file in FILES if file.task in (chosen or ANSWERED)]
    seeds = best_seeds(folder, results, wanted)
    sizes = check_sizes(folder, wanted, any_size)
    paths = {}
    for file in wanted:
        run = run_of(folder, file.model, seeds[file.model])
        paths[file] = path = folder / "submission" / run.path.name / file.name
        if path.exists() and is_newer(path, run["metrics.json"], rows_path(folder, file)):
            say(f"{file.name}: is there already")
            continue
        say(f"{file.name}: {sizes[file]:,} rows, by {TITLES[file.model]} with seed {seeds[file.model]}")
        write_atomically(path, "".join(lines_of(file, run, rows_of(folder, file))))
    with (
        disk_errors(target),
        written_atomically(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for file in wanted:
            archive.write(paths[file], file.name)
    if len(wanted) < len(FILES):
        say(f"{target}: {len(wanted)} of {len(FILES)} files; the server takes all of them only")
    return target


def is_newer(path: Path, *others: Path) -> bool:
    return all(path.stat().st_mtime > other.stat().st_mtime for other in others)


def best_seeds(folder: Path, results: Results, wanted: Sequence[File]) -> dict[str, int]:
    """The seed that answers for each task; refuses files without a run or without rows, naming all of them."""
    seeds, missing = {}, {}
    for file in wanted:
        scores = {seed: task_score(file.model, found) for seed, found in results.seeds.get(file.model, {}).items()}
        known = {seed: value for seed, value in scores.items() if value is not None} or dict.fromkeys(scores, 0.0)
        if not known:
            missing[file] = f"{file.name} (no finished run of {TITLES[file.model]})"
        elif not rows_path(folder, file).exists():
            missing[file] = f"{file.name} (no {file.split} file of {LAYOUTS[file.task].title})"
        else:
            seeds[file.model] = max(known, key=lambda seed: (known[seed], -seed))
    if missing:
        there = sorted({file.task for file in wanted} - {file.task for file in missing})
        raise BertkitError(
            f"{folder}: {len(missing)} of {len(wanted)} files cannot be written: {', '.join(missing.values())}",
            hint=f"add the test files and run the study again; or take part of it: --tasks {','.join(there)}"
            if there else "run the study on a folder that has GLUE's test files",
        )  # fmt: skip
    return seeds


def check_sizes(folder: Path, wanted: Sequence[File], any_size: bool) -> dict[File, int]:
    """How many rows each file has; refuses test sets that are not GLUE's."""
    sizes = {file: sum(1 for _ in rows_of(folder, file)) for file in wanted}
    wrong = [
        f"{file.name}: {size:,} rows instead of {file.rows:,}" for file, size in sizes.items() if size != file.rows
    ]
    if wrong and not any_size:
        raise BertkitError(
            f"{folder}: these are not GLUE's test sets: {'; '.join(wrong)}",
            hint="the server would refuse them; for a trial, add --any-size",
        )
    return sizes


def rows_path(folder: Path, file: File) -> Path:
    return folder / "data" / file.task / f"{file.split}.jsonl"


def rows_of(folder: Path, file: File) -> Iterator[dict]:
    path = rows_path(folder, file)
    return RunDir(path.parent).read_jsonl(path.name, RowShape)


def lines_of(file: File, run: RunDir, rows: Iterator[Mapping]) -> Iterator[str]:
    """The file, line by line: the header, then each row's own index and what is predicted, in the server's words."""
    from bertkit.run import load

    layout = LAYOUTS[file.model]
    codes = dict(zip(layout.labels, layout.codes, strict=True))
    indices = []

    def remembered() -> Iterator[Mapping]:
        for row in rows:
            indices.append(row["id"])
            yield row

    yield "index\tprediction\n"
    for number, prediction in enumerate(load(run.path).predict(remembered())):
        label = prediction["label"]
        if layout.labels:
            yield f"{indices[number]}\t{codes[label]}\n"
        else:
            yield f"{indices[number]}\t{min(max(label, SCORES[0]), SCORES[1]):.3f}\n"

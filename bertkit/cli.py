"""The command line: lazy bodies, and the only place that prints errors and exits."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from inspect import Parameter, signature
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from bertkit.errors import BertkitError, Interrupted, did_you_mean, one_line

if TYPE_CHECKING:
    from bertkit.inference import Predictor
    from bertkit.launch import Asked

app = typer.Typer(
    name="bertkit",
    help="Fine-tune a pretrained BERT on your own rows: sentiment, NLI, part-of-speech tags, question answering.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
recipes = typer.Typer(help="List, show, check and copy the recipes that come with bertkit.", no_args_is_help=True)
app.add_typer(recipes, name="recipe", rich_help_panel=None)
glue = typer.Typer(
    help="Fine-tune on the nine GLUE tasks, score them as GLUE does beside people, submit, and compare.",
    no_args_is_help=True,
)
app.add_typer(glue, name="glue", rich_help_panel=None)

What = Annotated[
    str, typer.Argument(metavar="TASK|RECIPE", help="A task, a recipe's name, or a YAML file.", show_default=False)
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings, such as train.epochs=2.", show_default=False),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on stdout, and nothing else there.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Executor = Literal["local", "ray"]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="Folder that `bertkit train --out` wrote.", show_default=False)
]


class Launcher(NamedTuple):
    """The launch options of a command, and the command line that they were on."""

    asked: Asked
    arguments: Sequence[str]

    def runs(self, quiet: bool, takes_all: bool = False, extra: Sequence[str] = ()) -> bool:
        """Run the command in the processes that were asked for; false where this one is to do the work.

        Args:
            takes_all: all GPUs are used when nothing is asked for.
            extra: arguments that the processes need beside those of the command line.
        """
        from bertkit.launch import is_rank, plan_launch, run_launch, without_options

        if is_rank():
            return False
        command = [*without_options(self.arguments), *extra]
        launch = plan_launch(self.asked, takes_all)
        if self.asked.dry_run:
            print(launch.line(command))
            return True
        if not launch.options:
            os.environ.update(launch.environment)
            return False
        if not quiet:
            _say(launch.summary)
        if code := run_launch(launch, command):
            raise typer.Exit(code)
        return True


def launchable(command: Callable) -> Callable:
    """Give a command the options that start it in several processes; it gets them as `launcher`."""

    def options(
        gpus: Annotated[int | None, typer.Option(min=1, help="Processes, one a GPU.")] = None,
        cpus: Annotated[int | None, typer.Option(min=1, help="Processes on the CPU, which share its cores.")] = None,
        hosts: Annotated[int | None, typer.Option(min=1, help="Hosts on which the same command is started.")] = None,
        host_rank: Annotated[int | None, typer.Option(min=0, help="Number of this host, from 0.")] = None,
        main_address: Annotated[str | None, typer.Option(metavar="A:P", help="Where host 0 is reached.")] = None,
        tpu: Annotated[bool, typer.Option("--tpu", help="Run on the TPU of this host.")] = False,
        launch: Annotated[Path | None, typer.Option(metavar="FILE", help="accelerate's YAML file instead.")] = None,
        max_restarts: Annotated[int, typer.Option(min=0, help="Go on so often when a process dies.")] = 0,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run, and end.")] = False,
    ) -> None:  # fmt: skip
        """The options; never called."""

    known = signature(options, eval_str=True).parameters
    own = [entry for name, entry in signature(command, eval_str=True).parameters.items() if name != "launcher"]

    @wraps(command)
    def run(call: typer.Context, **given: object) -> None:
        from bertkit.launch import Asked, check_restart, follow_parent

        follow_parent()
        check_restart()
        asked = Asked(**{name: given.pop(name) for name in known})
        command(**given, launcher=Launcher(asked, call.find_root().obj))

    call = Parameter("call", Parameter.KEYWORD_ONLY, annotation=typer.Context)
    run.__signature__ = signature(command).replace(
        parameters=[entry.replace(kind=Parameter.KEYWORD_ONLY) for entry in (*own, *known.values())] + [call]
    )
    run.__annotations__ = {}  # typer reads the signature, and would look for those of the command here
    return run


@app.command()
@launchable
def train(
    what: What,
    settings: Settings = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Hub id or folder of the checkpoint.")] = None,
    train_file: Annotated[str | None, typer.Option("--train", help="Training rows.")] = None,
    validation: Annotated[str | None, typer.Option(help="Validation rows; else a share is held back.")] = None,
    test: Annotated[str | None, typer.Option(help="Test rows, scored once at the end.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the run; else the next in runs/.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    *,
    launcher: Launcher,
) -> None:  # fmt: skip
    """Fine-tune a checkpoint: bertkit train sentiment --train reviews.csv --out runs/reviews"""
    from contextlib import nullcontext

    from bertkit.config import put
    from bertkit.recipe import load_recipe
    from bertkit.run import finetune
    from bertkit.rundir import next_run

    flags = {"model.checkpoint": model, "data.train": train_file, "data.validation": validation, "data.test": test}
    tree = _recipe_tree(what)
    for dotted, value in flags.items():
        if value is not None:
            tree = put(tree, dotted, value)
    recipe = load_recipe(tree, _settings(settings))
    if out is None and (launcher.asked.hosts or 1) > 1:
        raise BertkitError("--hosts: all hosts must name the same --out", hint="give --out, on a disk that all share")
    with next_run(str(recipe.task["name"])) if out is None else nullcontext(out) as folder:
        # all processes are told, also those that are started again
        extra = ["--out", str(folder)] if out is None else []
        if launcher.runs(quiet, takes_all=recipe.hardware.device in ("auto", "cuda"), extra=extra):
            return
        _print(finetune(recipe, folder, resume=resume, quiet=quiet), as_json)


@app.command()
@launchable
def evaluate(
    run: RunFolder,
    settings: Settings = None,
    data: Annotated[str, typer.Option("--data", "-d", help="Rows with gold answers.", show_default=False)] = ...,
    split: Annotated[str, typer.Option(help="Split, when --data is a folder or a Hub id.")] = "test",
    as_json: Json = False,
    quiet: Quiet = False,
    *,
    launcher: Launcher,
) -> None:  # fmt: skip
    """Score a finished run on other rows: bertkit evaluate runs/reviews --data more.csv"""
    from bertkit.run import evaluate

    if launcher.runs(quiet):
        return
    _print(evaluate(run, data, assignments=_settings(settings), split=split, quiet=quiet), as_json)


@app.command()
@launchable
def predict(
    run: RunFolder,
    settings: Settings = None,
    source: Annotated[str | None, typer.Option("--input", "-i", help="Rows, as csv, jsonl, conllu, json, txt.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON-lines file to write; else stdout.")] = None,
    text: Annotated[str | None, typer.Option(help="One text.")] = None,
    second: Annotated[str | None, typer.Option(help="The second text, for tasks that read two.")] = None,
    question: Annotated[str | None, typer.Option(help="A question, with --context or --context-file.")] = None,
    context: Annotated[str | None, typer.Option(help="The document that answers it.")] = None,
    context_file: Annotated[Path | None, typer.Option(help="A text file that holds the document.")] = None,
    split: Annotated[str, typer.Option(help="Split, when --input is a folder or a Hub id.")] = "test",
    quiet: Quiet = False,
    *,
    launcher: Launcher,
) -> None:  # fmt: skip
    """Predict for new text: bertkit predict runs/reviews --text "I would go again" """
    from bertkit.launch import is_first
    from bertkit.run import load, predict
    from bertkit.rundir import RunDir

    texts = _texts(text, second, question, context, context_file)
    if (source is None) == (not texts):
        raise BertkitError(
            "give one kind of input: --input FILE, --text, or --question with --context",
            hint="bertkit predict RUN --input rows.csv --out predictions.jsonl",
        )
    if out is not None and out.is_dir():
        raise BertkitError(f"--out: {out} is a folder", hint="give the name of a .jsonl file")
    if launcher.runs(quiet):
        return
    if source is None:
        found = _ask(load(run, _settings(settings)), texts)
    else:
        found = predict(run, source, assignments=_settings(settings), split=split, quiet=quiet)
    # what can be wrong with the run or the rows shows with the first answer, before a file is begun
    found = chain(list(islice(found, 1)), found)
    if not is_first():
        for _ in found:  # our share of the work, which the first process writes
            pass
    elif out is None:
        for prediction in found:
            print(json.dumps(prediction, ensure_ascii=False))
    else:
        RunDir(out.parent).write_jsonl(out.name, found)
        if not quiet:
            _say(f"predictions: {out}")


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run or a study.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; else DIR/report.html.")] = None,
) -> None:
    """Write one page to read, scores and figures and rows: bertkit report runs/reviews"""
    from bertkit.report.html import write_report

    print(write_report(directory, out))


@app.command()
def watch(run: RunFolder, as_json: Json = False) -> None:
    """Look at a run while it trains: bertkit watch runs/reviews

    Waits for a run that is not there yet, and ends with it. Ctrl-C ends the looking, not the run.
    """
    from bertkit.watch import watch

    watch(run, as_json)


@app.command()
def bench(
    what: Annotated[str, typer.Argument(metavar="[TASK|RECIPE]", help="A task, a recipe's name, or a YAML file.",
                                        show_default=False)] = "sentiment",
    settings: Settings = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Hub id or folder; else a tiny one.")] = None,
    train_file: Annotated[str | None, typer.Option("--train", help="Training rows; else some that come along.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the study; else next in runs/.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each variant, one after the other.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of a turn.")] = 4,
    growth: Annotated[bool, typer.Option("--growth", help="Time and memory as data grow, instead.")] = False,
    largest: Annotated[int, typer.Option(min=1, help="With --growth: most rows, most characters.")] = 1_000_000,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Measure speed, each switch on and off, on your machine: bertkit bench sentiment --model M --train reviews.csv

    Settings hold for all variants; each variant then puts one switch the other way. With --growth: the time of a step
    against the number of rows, memory of evaluation, and the time of one document against its length.
    """
    from contextlib import nullcontext

    from bertkit.config import put
    from bertkit.findings import Note, Table, from_json
    from bertkit.recipe import load_recipe
    from bertkit.rundir import next_folder
    from bertkit.studies import speed
    from bertkit.studies.results import aligned

    settings = _settings(settings)
    if "=" in what:  # the task is left out, and this is the first setting
        what, settings = "sentiment", [what, *settings]
    tree = _recipe_tree(what)
    for dotted, value in {"model.checkpoint": model, "data.train": train_file}.items():
        if value is not None:
            tree = put(tree, dotted, value)
    recipe, notes = speed.complete(load_recipe(tree, settings))
    with next_folder("speed") if out is None else nullcontext(out) as folder:
        results = speed.run(
            recipe, folder, rounds=rounds, steps=steps, growth=growth, largest=largest, notes=notes,
            say=(lambda text: None) if quiet else _say,
        )  # fmt: skip
    if as_json:
        print(json.dumps(results))
        return
    for finding in from_json(results["findings"]):
        if isinstance(finding, Table):
            print("\n".join([finding.title, *aligned(finding), ""]))
        elif isinstance(finding, Note):
            print(f"{finding.title}: {finding.text}\n")
        else:
            print("\n".join([finding.title, *aligned(speed.as_table(finding)), ""]))
    if not quiet:
        _say(f"report: {folder / 'report.html'}")


@app.command()
def tasks() -> None:
    """List the tasks."""
    import ast

    from bertkit.tasks.base import task_names

    for name in task_names():
        source = (Path(__file__).parent / "tasks" / f"{name}.py").read_text(encoding="utf-8")
        print(f"{name:16}{(ast.get_docstring(ast.parse(source)) or '').splitlines()[0]}")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine has: devices, precision, versions, caches, and what is missing for what."""
    from bertkit.doctor import examine

    report = examine()
    if as_json:
        print(json.dumps(report, indent=2))
        return
    for section, lines in report.items():
        print(section)
        for name, value in lines.items():
            print(f"  {name:18}{value}")


@glue.command("run")
def run_glue(
    settings: Settings = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Hub id or folder of the checkpoint.",
                                       show_default=False)] = ...,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the study.", show_default=False)] = ...,
    data: Annotated[str | None, typer.Option("--data", "-d", help="Folder in GLUE's layout; else the Hub.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Some of the nine, such as cola,rte; else all there are.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each task: seed, seed + 1, ...")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time on each device.")] = 1,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs to spread the runs over; else all.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on; what is done is not run again.")] = False,
    executor: Annotated[Executor, typer.Option(help="Where jobs run: here, or on a Ray cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="HOST:PORT of the Ray cluster; else the one of this machine.",
                                                show_default=False)] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Run GLUE: bertkit glue run --model google-bert/bert-base-uncased --data glue_data --out runs/glue

    Settings hold for all tasks (train.epochs=1), for one (rte.train.epochs=10) or for the study: glue.from_mnli=true
    starts MRPC, STS-B and RTE from the MNLI model; glue.held_back=0.1 is the last share of train that stands in for a
    dev file that is not there; glue.published=false leaves published rows out of the report.
    """
    from bertkit.studies import glue
    from bertkit.studies.results import lines

    if address is not None and executor != "ray":
        raise BertkitError("--address is that of a Ray cluster", hint="add --executor ray")
    chosen = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    results = glue.run(
        model, out, data=data, tasks=chosen, seeds=seeds, jobs=jobs, gpus=gpus, resume=resume,
        assignments=_settings(settings), quiet=quiet, say=(lambda text: None) if quiet else _say, executor=executor,
        address=address or "auto",
    )  # fmt: skip
    print(json.dumps(results.to_json()) if as_json else "\n".join([*lines(results), "", results.headline]))
    if not quiet:
        _say(f"report: {out / 'report.html'}")


@glue.command("submit")
def submit_glue(
    study: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `bertkit glue run` wrote.",
                                          show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The zip; else DIR/submission.zip.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Only the files of these tasks, such as rte,mrpc,ax.")] = None,
    any_size: Annotated[bool, typer.Option("--any-size", help="Take test sets of other sizes, for trials.")] = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write the zip that the GLUE server takes: bertkit glue submit runs/glue"""
    from bertkit.studies.submission import submit

    chosen = [name.strip() for name in (tasks or "").split(",") if name.strip()]
    print(submit(study, out, tasks=chosen, any_size=any_size, say=(lambda text: None) if quiet else _say))


@glue.command("compare")
def compare_glue(
    first: Annotated[Path, typer.Argument(metavar="DIR_A", help="A study.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="DIR_B", help="Another one.", show_default=False)],
    draws: Annotated[int, typer.Option(min=100, help="Bootstrap draws.")] = 1000,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Say which of two studies is better, and how sure that is: bertkit glue compare runs/a runs/b"""
    from bertkit.studies.compare import compare, table
    from bertkit.studies.results import aligned

    found = compare(first, second, draws)
    if as_json:
        print(json.dumps([entry._asdict() for entry in found]))
        return
    shown = table(found, (str(first), str(second)))
    print("\n".join([*aligned(shown), "", shown.caption]))


@recipes.command("list")
def list_recipes() -> None:
    """List the recipes that come with bertkit."""
    for name, path in _shipped().items():
        first = path.read_text(encoding="utf-8").splitlines()[0]
        print(f"{name:24}{first.removeprefix('#').strip()}")


@recipes.command("show")
def show_recipe(
    what: Annotated[str, typer.Argument(metavar="TASK|RECIPE", show_default=False)], settings: Settings = None
) -> None:
    """Print a recipe with every default filled in."""
    from bertkit.config import dump_yaml
    from bertkit.recipe import load_recipe
    from bertkit.tasks.base import make_task

    recipe = load_recipe(_recipe_tree(what), _settings(settings))
    print(dump_yaml({**recipe.tree(), "task": make_task(recipe.task).model_dump(mode="json")}), end="")


@recipes.command("check")
def check_recipe(what: Annotated[list[str], typer.Argument(metavar="RECIPE...", show_default=False)]) -> None:
    """Check recipes without running them: keys, values, task."""
    from bertkit.recipe import load_recipe
    from bertkit.tasks.base import make_task

    for name in what:
        recipe = load_recipe(_recipe_tree(name))
        make_task(recipe.task)
        print(f"{name}: fine")


@recipes.command("copy")
def copy_recipe(
    what: Annotated[str, typer.Argument(metavar="RECIPE", show_default=False)],
    to: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
) -> None:
    """Copy a recipe to a file of your own, to change it."""
    if to.exists():
        raise BertkitError(f"{to} exists already", hint="give a new name")
    from bertkit.rundir import write_atomically

    write_atomically(to, _recipe_path(what).read_text(encoding="utf-8"))
    print(to)


@recipes.command("schema")
def recipe_schema() -> None:
    """Print the JSON schema of recipes, with which editors complete and check them."""
    from bertkit.recipe import Recipe
    from bertkit.tasks.base import task_class, task_names

    schema = Recipe.model_json_schema()
    tasks = {name: task_class(name).model_json_schema() for name in task_names()}
    for name, task in tasks.items():
        task["properties"]["name"] = {"const": name}
        task["required"] = ["name"]
    schema["properties"]["task"] = {"anyOf": [*tasks.values(), {"type": "string", "enum": list(tasks)}]}
    print(json.dumps(schema, indent=2))


def main() -> None:
    """Run the command line; exit 0 done, 1 a bug, 2 the user can mend it, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8")  # JSON lines are, whatever the terminal says
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    sys.path.append(os.getcwd())  # where a task of the user's own may lie; last, so that it shadows nothing
    from bertkit.launch import is_rank

    if not is_rank():
        # told to end outside the loop, which saves first, a command tidies up and exits as with Ctrl-C; one of several
        # processes just ends, for the launcher that told it to knows why
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit((_as_rank if is_rank() else _guarded)(sys.argv[1:]))


def _as_rank(arguments: list[str]) -> int:
    """As one of several processes: the first one speaks, and a failure is told by the launcher, once."""
    from bertkit.launch import is_first, leave_trace

    if not is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 for the life of this process
        warnings.simplefilter("ignore")
    try:
        code = _guarded(arguments)
    except Exception as error:
        if not leave_trace(error):
            raise
        code = 1
    if code == 0:
        return 0
    # not sys.exit: taking a broken process group apart may wait for processes that are gone
    sys.stdout.flush()
    os._exit(code)


def _guarded(arguments: list[str]) -> int:
    try:
        code = typer.main.get_command(app)(arguments, prog_name="bertkit", standalone_mode=False, obj=arguments) or 0
        sys.stdout.flush()
        return _fail("interrupted", "", code) if code == 130 else code  # so typer answers a KeyboardInterrupt
    except BertkitError as error:
        return _fail(error.message, error.hint, 2)
    except Interrupted as error:
        return _fail(error.message, error.hint, 130)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", "", 130)
    except (BrokenPipeError, SystemExit) as error:
        # the reader of our output has gone, as with `| head`; inside a command typer makes it a SystemExit
        if not isinstance(error.__context__ if isinstance(error, SystemExit) else error, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())  # for what is still buffered
        return 0
    except Exception as error:
        # click's usage errors, whose home differs between versions of typer
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        if message.startswith("Usage:"):  # a command without its subcommand: this is its help
            _say(message)
            return 2
        return _fail(one_line(message), "see `bertkit --help`, and `bertkit COMMAND --help`", 2)


def _fail(message: str, hint: str, code: int) -> int:
    from bertkit.launch import leave_word

    if leave_word(message, hint, code):
        return code
    _say(f"error: {message}")
    if hint:
        _say(f"hint: {hint}")
    return code


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print(metrics: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(metrics))
        return
    from bertkit.metrics.shown import describe_scores

    for split, scores in (metrics.get("splits") or {metrics["data"]: metrics}).items():
        shown = {name: value for name, value in scores.items() if value is None or isinstance(value, int | float)}
        print(f"{split}: {describe_scores(shown)}")


def _settings(settings: list[str] | None) -> list[str]:
    return settings or []


def _texts(
    text: str | None, second: str | None, question: str | None, context: str | None, context_file: Path | None
) -> dict[str, str]:
    """The options that hold a text, `--context-file` read; empty when there are none."""
    if context_file is not None:
        if context is not None:
            raise BertkitError("--context and --context-file both give the document", hint="give one of them")
        try:
            context = context_file.read_bytes().decode()  # line ends as they are, for answers come with their places
        except (OSError, UnicodeDecodeError) as error:
            raise BertkitError(f"--context-file: {context_file} cannot be read ({error})") from None
    if (question is None) != (context is None):
        raise BertkitError("--question goes with --context or --context-file", hint="give both")
    if second is not None and text is None:
        raise BertkitError("--second is the second of two texts", hint="give the first one with --text")
    if text is not None and question is not None:
        raise BertkitError("--text and --question are for different tasks", hint="give one of them")
    given = {"--text": text, "--second": second, "--question": question, "--context": context}
    for name, value in given.items():
        if value is not None and any("\ud800" <= character <= "\udfff" for character in value):
            raise BertkitError(f"{name}: the text is not UTF-8", hint="is the terminal set to UTF-8?")
    return {name: value for name, value in given.items() if value is not None}


def _ask(predictor: Predictor, texts: dict[str, str]) -> Iterator[dict[str, object]]:
    """Answer the texts of the options, after a look at whether the run reads such."""
    task = predictor.task
    columns = task.reads.text or ("text",)
    flags = (
        ("--question", "--context") if columns == ("question", "context") else ("--text", "--second")[: len(columns)]
    )
    if tuple(texts) != flags:
        raise BertkitError(
            f"{' and '.join(texts)}: this is a run of {task.name}, which reads {' and '.join(columns)}",
            hint=f"give {' and '.join(flags)}",
        )
    if flags[0] == "--question" and not (texts["--question"].strip() and texts["--context"].strip()):
        raise BertkitError(
            "--question and --context must hold some text", hint="there is nothing to ask, or no document"
        )
    given = tuple(texts.values())
    return predictor.predict([given if len(given) > 1 else given[0]])


def _shipped() -> dict[str, Path]:
    """Name -> file of the recipes: inside an installed package, or beside it in a checkout."""
    here = Path(__file__).parent
    folder = next((path for path in (here / "recipes", here.parent / "recipes") if path.is_dir()), here)
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
    return {name: path for name, path in found.items() if not name.startswith("launch/")}  # accelerate's files


def _recipe_path(what: str) -> Path:
    path = Path(what)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    shipped = _shipped()
    if what not in shipped:
        raise BertkitError(f"there is no recipe {what!r}", hint=did_you_mean(what, shipped))
    return shipped[what]


def _recipe_tree(what: str) -> dict:
    """The tree of a task name, a shipped recipe, or a file."""
    from bertkit.config import read_yaml
    from bertkit.tasks.base import task_names

    if what in (known := task_names()):
        return {"task": {"name": what}}
    if "/" not in what and not what.endswith((".yaml", ".yml")) and what not in _shipped():
        if "." in what and all(part.isidentifier() for part in what.split(".")):
            return {"task": {"name": what}}  # a dotted module of the user's own
        raise BertkitError(f"there is no task or recipe {what!r}", hint=did_you_mean(what, [*known, *_shipped()]))
    return read_yaml(_recipe_path(what))

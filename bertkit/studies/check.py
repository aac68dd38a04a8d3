"""Rows looked at before training: what is in them, what spoils learning, how they fit the model, what a run takes."""

import re
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np

from bertkit import __version__
from bertkit.data.draws import content
from bertkit.data.windows import WindowMaker, texts_of
from bertkit.data.words import words_of
from bertkit.encode import coverage_table, cut_rows
from bertkit.errors import BertkitError
from bertkit.findings import Finding, Heatmap, Note, Passage, Passages, Series, Table, tabulate, to_json, worst_first
from bertkit.launch import Say, settle_xla
from bertkit.metrics.shown import counted, percent, short_name
from bertkit.pages.html import write_report
from bertkit.prepare import Material, read_material
from bertkit.recipe import Recipe, load_recipe
from bertkit.rundir import RunDir
from bertkit.splits import SPLITS, Splits, count_labels, read_splits
from bertkit.studies.base import Study
from bertkit.studies.bench.growth import MEGABYTE, Memory
from bertkit.studies.bench.lanes import open_lane, settle
from bertkit.tasks.base import Row, Task, make_task
from bertkit.train.memory import held
from bertkit.watching import duration

SAMPLE = 2000  # rows of a split that the tokenizer is tried on
STEPS, SECONDS, ANSWERED = 8, 20.0, 100  # of training that is timed, until either is reached; rows of evaluation
RARE, SHOWN_LABELS, DRAWN_LABELS = 10, 50, 20
LONG, LONG_FROM = 10, 2000  # a text is very long from so many times the median and so many characters on
UNKNOWN, PIECES = 0.01, 2.5  # a tokenizer does not fit from this share of unknown pieces, or pieces a word, on
FAULTS = {
    "no letter": r"^[\W\d_]*$",
    "a placeholder": r"^\s*(nan|null|none|n/?a|\[?(deleted|removed)\]?)\s*$",
    "HTML": r"</?(p|br|div|span|a|b|i|li|ul|td|tr|img|font|script)\b[^<>]*>|&(amp|lt|gt|quot|nbsp|#\d+);",
    "broken encoding": "\ufffd|Ã[\u0080-\u00bf\u0152-\u2122]|â€|Â[\u00a0-\u00bf]",
    "control characters": "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]",
}
TORN, LONG_TEXT = "same text, another answer", "very long"
Rows = Mapping[str, Sequence[Row]]  # by split


def run(recipe: Recipe, out: Path | None, *, estimate: bool, say: Say) -> dict[str, object]:
    """Look at the rows of a recipe as training would read them; with `out`, write a study and its page there.

    Returns:
        What results.json holds (`refused`: what training stops at; `estimate`: what a run takes), and the findings.
    Raises:
        BertkitError: no row can be read; it is what training would say.
    """
    settle_xla(recipe.hardware.device)
    with RunDir(out).claim(resume=False) if out is not None else nullcontext() as folder:
        results, found = look(recipe, estimate, say)
        if folder is not None:
            count = sum(isinstance(finding, Note) for finding in found)
            headline = {"label": f"note{'s' * (count != 1)} to read before training", "value": count, "plain": True}
            title = f"Rows: {recipe.task['name']}, {short_name(str(recipe.data.source or recipe.data.train))}"
            Study(folder.path, "check", title).conclude(found, results, headline=headline, facts=results["facts"])
            write_report(folder.path)
    return {**results, "findings": to_json(found)}


def look(recipe: Recipe, estimate: bool, say: Say) -> tuple[dict[str, object], list[Finding]]:
    """What `run` gives back and writes."""
    task, refused, takes = make_task(recipe.task), [], None
    try:
        splits = read_splits(recipe, task, say)
    except BertkitError as error:
        refused.append(error)
        try:
            splits = read_splits(load_recipe(recipe.tree(), ["data.skip_bad_rows=true"]), task, say)
        except BertkitError:
            raise error from None
    rows: Rows = {split: some for split in SPLITS if (some := getattr(splits, split))}
    found = [*splits.notes, *look_at(task, splits, rows), *labels_of(task, rows)]
    try:
        material = read_material(recipe, task, splits, say)
        found += fit(material, rows)
        if estimate:
            takes, measured = time_steps(material, say)
            found.append(measured)
    except BertkitError as error:
        refused.append(error)
    found += [Note(title="Training stops", text=f"{one.message}. Hint: {one.hint}.") for one in refused]
    # rows to read come last on a page, and notes in a terminal
    found.sort(key=lambda finding: (isinstance(finding, Note), isinstance(finding, Passages)))
    facts = {split: counted(len(some), "row") for split, some in rows.items()}
    facts |= {"model": short_name(recipe.model.checkpoint), "bertkit": __version__}
    stops = [{"message": one.message, "hint": one.hint} for one in refused]
    return {"schema": 1, "facts": facts, "refused": stops, "estimate": takes}, found


def look_at(task: Task, splits: Splits, rows: Rows) -> Iterator[Finding]:
    """Columns, repeated and contradicting rows, texts that look like a fault, and such rows to read."""
    pairs = {s: [*own.columns.items(), *(("-", name) for name in own.unread)] for s, own in splits.found.items()}
    lines = ((split, name, column) for split, own in pairs.items() for column, name in own if name)
    yield tabulate("Columns", "Those without a name beside them are not read.", ("split", "column", "read as"), lines)
    if said := [f"{split}: {note}" for split, own in splits.found.items() for note in own.notes]:
        yield Note(title="Read otherwise", text="; ".join(said) + ".")
    looks = [(split, row, content(task.reads, row), task.texts_in(row)) for split in rows for row in rows[split]]
    golds: dict[object, Counter[str]] = defaultdict(Counter)
    for _, row, key, _ in looks:
        gold = row[task.gold]
        golds[key][str(sorted(gold) if isinstance(gold, tuple) else gold)] += 1
    where = {split: {key for own, _, key, _ in looks if own == split} for split in rows}
    sizes = [sum(map(len, texts.values())) for *_, texts in looks]
    limit = max(LONG_FROM, LONG * float(np.median(sizes)))
    times: Counter[tuple[str, str]] = Counter()
    reasons: dict[int, dict[str, str]] = {}
    seen: set[object] = set()
    for number, (split, _, key, texts) in enumerate(looks):
        whys = dict.fromkeys(chain.from_iterable(map(faults_of, texts.values())), "yes")
        whys |= {LONG_TEXT: f"{sizes[number]:,} characters"} if sizes[number] > limit else {}
        if len(golds[key]) > 1 and task.head != "span":  # a question may have several answers
            what = {gold: "tags" if task.head == "token" else gold for gold in golds[key]}
            whys[TORN] = ", ".join(f"{what[gold]} ({count})" for gold, count in golds[key].most_common())
        reasons |= {number: whys} if whys else {}
        also = [f"also in {other}" for other in where if other != split and key in where[other]]
        times.update((why, split) for why in ["rows", *(["repeated"] if (split, key) in seen else []), *also, *whys])
        seen.add((split, key))
    caption = f"Case and white space aside. Very long: {LONG} times the median and over {LONG_FROM:,} characters."
    whys = ["rows", "repeated", *(f"also in {split}" for split in rows), TORN, *FAULTS, LONG_TEXT]
    lines = [(why, *(times[why, split] for split in rows)) for why in whys]
    yield tabulate("Rows", caption, ("what", *rows), (line for line in lines if any(line[1:])))
    if torn := sum(times[TORN, split] for split in rows):
        text = f"{counted(torn, 'row')} have a text that has another answer elsewhere: no model can get all right."
        yield Note(title="The same text, another answer", text=text)

    def passage(number: int) -> Passage:
        split, row, _, texts = looks[number]
        return Passage(title=f"{split}, row {row['id']}", facts=reasons[number], texts=texts)

    often = Counter(chain.from_iterable(reasons.values()))
    once = {[*looks[number][3].values()][-1]: number for number in reversed(reasons)}  # a document has many questions
    rarity = {number: sum(1 / often[why] for why in reasons[number]) for number in sorted(once.values())}
    if rarity:
        yield worst_first("texts that look like a fault, the rarest reasons first.", rarity, passage, "Rows to read")


@lru_cache(maxsize=1000)  # a document comes with each of its questions
def faults_of(text: str) -> list[str]:
    return [why for why, pattern in FAULTS.items() if re.search(pattern, text, re.IGNORECASE)]


def labels_of(task: Task, rows: Rows) -> Iterator[Finding]:
    """How often each label stands in each split; of numbers and answers, how large they are."""
    if task.head in ("number", "span"):
        what, size = ("Numbers", float) if task.head == "number" else ("Answers", lambda gold: len(gold[0]["text"]))
        sizes = {s: [float(size(row[task.gold])) for row in some if row[task.gold] != []] for s, some in rows.items()}
        columns = ("split", "count", "without", "least", "median", "most")
        lines = (
            (s, len(own), len(rows[s]) - len(own), *(map(float, np.quantile(own, (0, 0.5, 1))) if own else [None] * 3))
            for s, own in sizes.items()
        )
        yield tabulate(what, "An answer counts by the characters of its first text.", columns, lines, plain=columns[3:])
        return
    unit, counts = "word" if task.head == "token" else "row", {s: count_labels(task, rows[s]) for s in rows}
    train, names = counts["train"], [name for name, _ in sum(counts.values(), Counter()).most_common()]
    lines = [(name, *(own[name] for own in counts.values()), train[name] / max(train.total(), 1)) for name in names]
    caption = f"{counted(len(names), 'label')}, counted by the {unit}, {SHOWN_LABELS} shown at most. Shares times 100."
    yield tabulate("Labels", caption, ("label", *rows, "share of train"), lines[:SHOWN_LABELS])
    if 1 < len(names) <= DRAWN_LABELS:
        look = {"rows": tuple(rows), "columns": tuple(names), "row_label": "split", "column_label": "label"}
        values = tuple(tuple(float(own[name]) for name in names) for own in counts.values())
        yield Heatmap(title="Balance", values=values, **look)
    if idle := [
        f"{split} {name!r}" for split, own in counts.items() for name in names if split != "train" and not own[name]
    ]:
        yield Note(title="Labels that are not scored", text=f"No row has them: {', '.join(idle[:10])}.")
    if rare := [f"{name!r} ({train[name]})" for name in names if 0 < train[name] < RARE]:
        text = ", ".join(rare[:5]) + (f" and {len(rare) - 5} more" if len(rare) > 5 else "")
        yield Note(title="Rare labels", text=f"In train, fewer than {RARE} {unit}s have {text}.")
    if task.head == "class" and (most := train.most_common(1)[0])[1] > 0.8 * train.total():
        text = f"{percent(most[1] / train.total())} of train are {most[0]!r}: f1_macro says more than accuracy"
        yield Note(title="One label prevails", text=f"{text} (train.best_by=f1_macro).")


def fit(material: Material, rows: Rows) -> Iterator[Finding]:
    """Lengths and windows, and what the tokenizer makes of the words."""
    task, windows, backend = material.task, material.recipe.windows, material.tokenizer.backend_tokenizer
    # without a limit each row is one window, cut by the code that training uses, and no token counts twice
    whole = WindowMaker(backend, windows.model_copy(update={"max_length": 1 << 30, "max_short_length": None}))
    some = {split: own[:: -(-len(own) // SAMPLE)] for split, own in rows.items()}  # evenly over all
    stores = {split: cut_rows(task, own, whole).store for split, own in some.items()}
    caption = f"Special tokens included; {SAMPLE:,} rows of a split at most. A window holds {windows.max_length}."
    parts = {"median": 0.5, "90 %": 0.9, "99 %": 0.99, "longest": 1}
    lines = ((split, *map(int, np.quantile(own.lengths, [*parts.values()]))) for split, own in stores.items())
    yield tabulate("Tokens of a row", caption, ("split", *parts), lines)
    every = np.concatenate([own.lengths for own in stores.values()])
    x = np.unique(np.geomspace(every.min(), every.max(), 40).round())
    look = {"x_label": "tokens at most", "y_label": "share of rows", "shares": ("y",), "log_x": x[-1] > 30 * x[0]}
    shares = {split: tuple(float((own.lengths <= most).mean()) for most in x) for split, own in stores.items()}
    yield Series(title="Rows by length", caption=caption, x=tuple(x.tolist()), lines=shares, **look)
    covered = dict(material.background().covered)
    yield coverage_table(covered)
    losses = {split: part.losses() for split, part in covered.items()}
    yield from (Note(title="What windows lose", text=f"{split}: {text}.") for split, text in losses.items() if text)
    inputs = [row[task.reads.words[0]] if task.reads.words else texts_of(task.inputs(row)) for row in some["train"]]
    words = Counter(chain.from_iterable(inputs if task.reads.words else map(words_of, chain.from_iterable(inputs))))
    ids, special = stores["train"].input_ids, backend.num_special_tokens_to_add(len(task.reads.text) > 1)
    pieces, unknown = len(ids) - special * len(some["train"]), material.tokenizer.unk_token_id
    yield from judge(backend, words, pieces / words.total(), np.count_nonzero(ids == unknown) / pieces, unknown)


def bare(word: str) -> str:
    """A word without accents and vowel signs."""
    return "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn")


def judge(backend, words: Counter[str], pieces: float, unknown: float, unknown_id: int | None) -> Iterator[Finding]:
    """Whether a vocabulary knows these words, and whether it sees their capitals and accents."""

    def pieces_of(some: Iterable[str]) -> list[list[int]]:
        return [encoding.ids for encoding in backend.encode_batch_fast(list(some), add_special_tokens=False)]

    known = dict(zip(words, pieces_of(words), strict=True))
    strange = ", ".join([word for word, _ in words.most_common() if unknown_id in known[word]][:5]) or "-"
    lines = [("pieces a word", f"{pieces:.2f}"), ("unknown pieces", percent(unknown)), ("unknown words", strange)]
    lost = {}
    for what, change, form in (("capitals", str.lower, "NFC"), ("accents", bare, "NFD")):
        having = [word for word in words if change(word) != unicodedata.normalize(form, word)]
        same = [a == known[word] for word, a in zip(having, pieces_of(map(change, having)), strict=True)]
        is_lost = all(same) and sum(words[word] for word in having) >= UNKNOWN * words.total()
        lost[what] = max(having, key=words.__getitem__) if is_lost else None
        lines.append((f"sees {what}", "has none" if not having else "no" if all(same) else "yes"))
    caption = f"{SAMPLE:,} training rows at most. A word is a run of letters, a mark, or a Chinese character."
    yield tabulate("How the tokenizer fits", caption, ("what", "value"), lines)
    if unknown >= UNKNOWN:
        text = f"{percent(unknown)} of all pieces are unknown ({strange}): take a checkpoint of this language."
        yield Note(title="The tokenizer does not know this text", text=text)
    if pieces >= PIECES:
        text = f"A word is {pieces:.1f} pieces: another language or field than the checkpoint's, or text without words."
        yield Note(title="The tokenizer cuts words small", text=text)
    if lost["accents"]:
        text = f"{lost['accents']!r} is read as {bare(lost['accents'])!r}: take a cased checkpoint where that matters."
        yield Note(title="The tokenizer drops accents", text=text)


def time_steps(material: Material, say: Say) -> tuple[dict[str, object], Table]:
    """What training takes here, by steps that stand for all of it; their weights are thrown away."""
    lane = open_lane(settle(material, say), (), STEPS)
    plan, store = lane.prepared.plan, material.train.store
    steps, rows = plan.step_count, material.splits.validation
    few = rows[:: -(-len(rows) // ANSWERED)]
    with Memory() as memory:
        lane.train(1)  # the first step chooses kernels and fills caches
        samples, began = [], time.monotonic()
        while len(samples) < STEPS and time.monotonic() - began < SECONDS:
            samples.append(lane.train(1))
        answered = lane.evaluate([cut_rows(material.task, few, material.maker)])
    tokens = float(store.lengths.sum()) * steps / plan.steps_per_epoch
    training = tokens * sum(one.wall for one in samples) / sum(one.tokens for one in samples)
    times = -(-steps // (material.recipe.train.evaluate_every or plan.steps_per_epoch))
    evaluation = answered.wall / answered.count * len(rows) * times
    memory_mb, gpu_mb = round(memory.most / MEGABYTE), held().get("gpu_mb")
    lines = [
        (
            "training",
            duration(training),
            f"{steps:,} x {training / steps:.3g} s; {counted(len(samples), 'step')} timed",
        ),
        ("evaluation", duration(evaluation), f"{times} x {counted(len(rows), 'row')}; {answered.count} timed"),
        ("memory of the process", f"{memory_mb:,} MB", "the most in these steps"),
        *([("memory of the GPU", f"{gpu_mb:,} MB", "the most in these steps")] if gpu_mb else []),
    ]
    device = lane.prepared.setup.summary
    caption = f"On {device}, as busy as it is now; without start, checkpoints and early stopping."
    takes = {"device": device, "steps": steps, "timed_steps": len(samples), "training_seconds": training,
             "evaluation_seconds": evaluation, "memory_mb": memory_mb, "gpu_mb": gpu_mb}  # fmt: skip
    return takes, tabulate("What a run takes", caption, ("what", "about", "by"), lines)

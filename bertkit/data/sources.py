"""Rows with a task's columns, read from the files, folders and Hub data sets that people keep them in.

Files end in .csv .tsv .jsonl .ndjson .json .parquet .conllu .txt, maybe packed as .gz or .xz. The readers are our own
where the common ones guess: no `NA` becomes a missing value, no `01` becomes 1, no lone quote opens a field.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import json
import lzma
import math
import os
import re
import reprlib
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from types import MappingProxyType
from typing import NamedTuple

from bertkit.errors import BertkitError, did_you_mean, nearest, one_line

LINE_BYTES = 64 << 20  # of one line or csv field; longer than this is a file of another kind
UNPACKED_BYTES = 4 << 30  # of a packed file: above any task's data, below what fills a machine
PEEKED_ROWS = 100  # JSON has no header line: these first objects say which keys there are
USUAL_NAMES = {  # what other people call our columns: for hints only
    "text": ("sentence", "review", "content", "text_a"),
    "premise": ("sentence1", "sentence_A", "text_a"),
    "hypothesis": ("sentence2", "sentence_B", "text_b"),
    "label": ("gold_label", "sentiment", "class", "category"),
    "words": ("tokens",),
    "tags": ("upos", "pos_tags", "pos"),
}
SHOWN = 60  # characters of a value in a message
SKIP = "leave such rows out with data.skip_bad_rows=true"
UNANSWERABLE = "set task.unanswerable=true"


class Columns(NamedTuple):
    """Which columns a task reads, by kind; the reader checks them and gives each row these keys and `id`."""

    text: tuple[str, ...] = ()  # a str, maybe empty
    words: tuple[str, ...] = ()  # a list of str
    label: str | None = None  # one class name
    labels: str | None = None  # multi-label: a tuple of class names; `|` separates them where they come as one string
    number: str | None = None  # a finite float
    tags: str | None = None  # a str for each word
    answers: str | None = None  # [{"text": str, "start": int}, ...]; `text` is then (question, context)


class Rows(NamedTuple):
    """What `read_rows` read, and what it left out."""

    rows: list[dict[str, object]]  # `id` (the source's own, else the row's number from 0) and the task's columns
    label_names: tuple[str, ...] | None  # the classes in order, where the source declares them (ClassLabel)
    skipped: tuple[str, ...]  # `FILE:LINE: reason`, one for each bad row that was left out
    ignored_labels: int  # rows left out because their label is in `ignore_labels`


class BadRow(Exception):
    """One row that cannot be used, and what to do about it other than leaving it out."""

    def __init__(self, reason: str, hint: str = "mend it") -> None:
        super().__init__(reason)
        self.hint = hint


class IgnoredLabel(Exception):
    """The row has a label that the user wants left out."""


class File(NamedTuple):
    """What a reader is told: what to open, and what will be asked of it."""

    name: str  # as the user gave it
    path: str
    packing: str  # "", ".gz" or ".xz"
    wanted: Mapping[str, str]  # task column -> column of the source
    header: bool | None  # csv, tsv: does the first line name the columns (else they are "0", "1", ...)


class Table(NamedTuple):
    """What a reader gives back; each record with its line from 1, or 0 where the source has no lines."""

    names: list[str]
    records: Iterator[tuple[int, dict[str, object] | BadRow]]
    class_names: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def read_rows(
    source: str,
    columns: Columns,
    *,
    mapping: Mapping[str, str | int] = MappingProxyType({}),
    split: str = "train",
    config: str | None = None,
    require_gold: bool = True,
    ignore_labels: Sequence[str] = (),
    skip_bad_rows: bool = False,
    unanswerable: bool = False,
) -> Rows:
    """Read and check every row of a source: a row is right, or it is named with its line; none is quietly changed.

    Args:
        source: a file; a folder (with a file `{split}.tsv` or the like, of `save_to_disk`, or as `load_dataset` takes
            it); anything else is a Hub id.
        columns: what the task reads.
        mapping: task column (or `id`) -> column of the source. A number in it, `3` or `"3"`, says that a csv or tsv
            file has no header line; positions count from 0.
        split: of a folder or a Hub id. A file is its own split.
        require_gold: False for prediction: gold columns may be missing, and a row without gold holds None.
        ignore_labels: rows with these labels are left out and counted; `""` is an empty one, `"-1"` also ClassLabel's.
        skip_bad_rows: leave bad rows out and list them.
        unanswerable: question answering: a row without an answer, or with an empty context, is right.
    Raises:
        BertkitError: the source, the mapping or a row is wrong, two rows share an id, or no row is left.
    """
    gold = [name for name in columns[2:] if name]
    known = ["id", *gold, *columns.text, *columns.words]  # gold first: an ignored label is never a bad row
    for column in mapping:
        if column not in known:
            raise BertkitError(f"data.columns: the task has no column {column!r}", hint=did_you_mean(column, known))
    file, table = open_source(source, columns, known, mapping, split, config)
    places = locate(file, table, columns, () if require_gold else gold)
    class_names = next((table.class_names[places[name]] for name in gold if places[name] in table.class_names), None)
    rules = Rules(columns, class_names, require_gold, frozenset(ignore_labels), unanswerable)
    rows, bad, hint, ignored = collect(file, table, rules, places)
    if bad and not skip_bad_rows:
        raise BertkitError(bad[0] + (f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""), hint=f"{hint}, or {SKIP}")
    if not rows and not bad and not ignored:
        raise no_rows(file)
    if not rows:
        first = f"; the first: {bad[0]}" if bad else ""
        raise BertkitError(
            f"{file.name}: no row is left: {len(bad)} bad, {ignored} with an ignored label{first}",
            hint="look at data.columns, data.skip_bad_rows and data.ignore_labels",
        )
    if places["id"] is not None:
        check_ids(file, rows)
    return Rows(rows, class_names, tuple(bad), ignored)


def collect(
    file: File, table: Table, rules: Rules, places: Mapping[str, str | None]
) -> tuple[list[dict[str, object]], list[str], str, int]:
    """The good rows, a line for each bad one, the hint of the first of these, and how many labels were ignored."""
    plan = [(column, place, rules.converter(column)) for column, place in places.items()]
    rows, bad, hint, ignored = [], [], "", 0
    for number, (line, record) in enumerate(table.records):
        row: dict[str, object] = {}
        place = None
        try:
            if isinstance(record, BadRow):
                raise record
            for column, place, convert in plan:
                row[column] = convert(record.get(place))
            place = None
            row["id"] = row["id"] or str(number)
            rules.check(row)
            rows.append(row)
        except IgnoredLabel:
            ignored += 1
        except BadRow as reason:
            hint = hint or reason.hint
            where = f"{file.name}:{line}" if line else file.name
            if rules.columns.answers:
                where += f": question {cut(row.get('id') or str(number))}"
            elif not line:
                where += f": row {number}"
            bad.append(one_line(f"{where}: column {place!r} {reason}" if place else f"{where}: {reason}"))
    return rows, bad, hint, ignored


def locate(file: File, table: Table, columns: Columns, optional: Sequence[str]) -> dict[str, str | None]:
    """Task column -> column of the source; None where the source may lack it."""
    places: dict[str, str | None] = {}
    taken = {"id", *file.wanted.values(), *(["text"] if columns.words else [])}
    unused = [name for name in table.names if name not in taken]
    for column, name in file.wanted.items():
        if table.names.count(name) > 1:
            raise BertkitError(f"{file.name}: two columns are named {name!r}", hint="give each its own name")
        if name in table.names:
            places[column] = name
        elif column in optional or column == name == "id":
            places[column] = None
        elif column in columns.words and columns.tags in optional and "text" in table.names:
            places[column] = "text"  # prediction on running text: `words_of` finds its words
        else:
            usual = [other for other in unused if other in USUAL_NAMES.get(column, ())]
            guess = next(iter(usual or unused[: len(unused) == 1]), nearest(name, unused) or nearest(column, unused))
            hint = f"add data.columns.{column}={guess or 'NAME'}" if unused else "no column is left for it"
            if file.header:
                hint += f", or a position if the file has no header line: data.columns.{column}=0"
            has = ", ".join(cut(other) for other in table.names[:50]) or "none"
            raise BertkitError(f"{file.name}: no column {name!r} for the task's {column!r}; it has: {has}", hint=hint)
    return places


def check_ids(file: File, rows: list[dict[str, object]]) -> None:
    """Predictions are gathered by id, so two rows must not share one."""
    twice = [name for name, times in Counter(row["id"] for row in rows).items() if times > 1]
    if twice:
        some = ", ".join(cut(name) for name in twice[:5]) + (", ..." if len(twice) > 5 else "")
        raise BertkitError(
            f"{file.name}: {len(twice)} ids belong to more than one row: {some}",
            hint="make the ids unique, or name a column in which they are: data.columns.id=NAME",
        )


@dataclass(frozen=True)
class Rules:
    """What makes a row right for one task. The reasons that converters raise read on after "column 'x' ..."."""

    columns: Columns
    class_names: tuple[str, ...] | None
    required: bool
    ignored: frozenset[str]
    unanswerable: bool

    def converter(self, column: str) -> Callable[[object], object]:
        """The function that checks one column's values."""
        kinds = dict.fromkeys(self.columns.text, as_text)
        kinds |= {self.columns.label: self.label, self.columns.labels: self.labels, self.columns.number: self.number}
        return {"id": name_of, self.columns.answers: as_answers, **kinds}.get(column, lambda value: value)

    def class_name(self, value: object) -> str | None:
        """A ClassLabel's number becomes its name, and its -1 (unlabelled test sets of the Hub) becomes None."""
        if self.class_names is None or type(value) is not int:
            return name_of(value)
        if not -1 <= value < len(self.class_names):
            raise BadRow(f"holds {value}, but the classes are 0 to {len(self.class_names) - 1}")
        return self.class_names[value] if value >= 0 else None

    def label(self, value: object) -> str | None:
        name = self.class_name(value)
        if self.ignored and ((name or "") in self.ignored or (name is None and value == -1 and "-1" in self.ignored)):
            raise IgnoredLabel
        if name is None and self.required:
            raise BadRow("has no label")
        return name

    def labels(self, value: object) -> tuple[str, ...] | None:
        """Class names without doubles; an empty list or string is a row that no class fits."""
        if value is None and not self.required:
            return None
        if isinstance(value, str):
            value = [name for name in value.split("|") if name.strip()]
        if not isinstance(value, list):
            raise BadRow(f"holds {show(value)}, not a list of class names")
        names = [self.class_name(item) for item in value]
        if None in names:
            raise BadRow(f"holds an empty class name: {show(value)}")
        return tuple(dict.fromkeys(names))

    def number(self, value: object) -> float | None:
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            if self.required:
                raise BadRow("has no number")
            return None
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            raise BadRow(f"holds {show(value)}, not a finite number")
        return number

    def check(self, row: dict[str, object]) -> None:
        """What a column alone does not tell: tags count like words, answers stand in their context."""
        if self.columns.answers:
            self.check_question(row, *self.columns.text)
        for name in self.columns.words:
            self.check_words(row, name)

    def check_question(self, row: dict[str, object], question: str, context: str) -> None:
        answers = row[self.columns.answers]
        if not row[question].strip():
            raise BadRow(f"column {question!r} is empty")
        if not (self.unanswerable or row[context].strip()):
            raise BadRow(f"column {context!r} is empty", hint=UNANSWERABLE)
        if self.required and not answers:
            if not self.unanswerable:
                raise BadRow("has no answer", hint=UNANSWERABLE)
            row[self.columns.answers] = []
        for answer in answers or ():
            text, start = answer["text"], answer["start"]
            if start < 0 or not row[context].startswith(text, start):
                raise BadRow(f"answer {show(text)} does not stand at character {start}")

    def check_words(self, row: dict[str, object], name: str) -> None:
        """Strings are split at spaces where tags go with them, and otherwise by `words_of`."""
        words, tags = row[name], row.get(self.columns.tags)
        if isinstance(tags, str):
            tags = [tag for tag in tags.split(" ") if tag] or None
        if isinstance(words, str):
            words = words_of(words) if tags is None else [word for word in words.split(" ") if word]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise BadRow(f"column {name!r} holds {show(words)}, not a list of words")
        if not words:
            raise BadRow("has no words")
        if tags is None and self.columns.tags and self.required:
            raise BadRow("has no tags")
        if tags is not None:
            if not isinstance(tags, list):
                raise BadRow(f"column {self.columns.tags!r} holds {show(tags)}, not a list of tags")
            tags = [self.class_name(tag) for tag in tags]
            if None in tags:
                raise BadRow(f"word {tags.index(None) + 1} has no tag")
            if len(tags) != len(words):
                raise BadRow(f"has {len(words)} words but {len(tags)} tags")
        row[name] = words
        if self.columns.tags:
            row[self.columns.tags] = tags


def as_text(value: object) -> str:
    if type(value) is str:
        return value
    raise BadRow("is missing" if value is None else f"holds {show(value)}, not text")


def name_of(value: object) -> str | None:
    """A class name or an id as a str: 1, 1.0 and True are "1"; nothing is None."""
    if isinstance(value, str):
        return value.strip() or None
    if value is None or value != value:  # NaN: how pandas writes a missing value
        return None
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    raise BadRow(f"holds {show(value)}, not a name")


def as_answers(value: object) -> list[dict[str, object]] | None:
    """Answers without doubles, from [{text, answer_start or start}, ...] or {text: [...], answer_start: [...]}.

    An empty text is left out: that is how some files write that there is no answer.
    """
    if isinstance(value, str):  # a cell of a csv file
        try:
            value = parse_json(value) if value.strip() else None
        except (ValueError, RecursionError):
            raise BadRow(f"holds {show(value)}, not JSON") from None
    if value is None:
        return None
    if isinstance(value, dict):
        texts, starts = value.get("text"), value.get("answer_start", value.get("start"))
        if not (isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)):
            raise BadRow(f"holds {show(value)}, not lists `text` and `answer_start` of one length")
        pairs = list(zip(texts, starts, strict=True))
    elif isinstance(value, list) and all(isinstance(item, dict) for item in value):
        pairs = [(item.get("text"), item.get("answer_start", item.get("start"))) for item in value]
    else:
        raise BadRow(f"holds {show(value)}, not a list of answers")
    for text, start in pairs:
        if not isinstance(text, str) or type(start) is not int:
            raise BadRow(f"holds an answer {show(text)} at {show(start)}; it needs a text and its first character")
    return [{"text": text, "start": start} for text, start in dict.fromkeys(pairs) if text]


JOINED_SCRIPTS = re.compile(  # Han and kana, written without spaces: every character is a word
    "[\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U0001b000-\U0001b16f\U00020000-\U0003ffff]"
)


def words_of(text: str) -> list[str]:
    """Running text as words for tagging: punctuation marks and symbols apart, Han and kana by the character.

    Accents and joiners stay with what they follow. Other scripts without spaces (Thai, Khmer) stay runs.
    """
    words: list[str] = []
    attached = in_word = False  # does a word end right here; does it end in a letter
    for character in text:
        category = unicodedata.category(character)
        if character.isspace() or category in ("Cc", "Cs") or character in "\u200b\ufeff":
            attached = in_word = False
            continue
        is_letter = character.isalnum() and not JOINED_SCRIPTS.match(character)
        if attached and (category.startswith("M") or category == "Cf" or (in_word and is_letter)):
            words[-1] += character
        else:
            words.append(character)
            attached, in_word = True, is_letter
    return words


# Finding out what a source is.


def open_source(
    source: str, columns: Columns, known: list[str], mapping: Mapping[str, str | int], split: str, config: str | None
) -> tuple[File, Table]:
    """See whether it is a file, a folder or a Hub id, and open it with the reader that its ending names."""
    path = os.path.expanduser(source)
    if os.path.isdir(path) and (inner := split_file(source, path, split)):
        source, path = os.path.join(source, inner), os.path.join(path, inner)
    is_folder = os.path.isdir(path)
    _, ending, packing = name_parts(path)
    wanted = {column: str(mapping.get(column, column)) for column in known}
    header = None
    if ending == ".conllu":
        own = {**dict.fromkeys(columns.words, "form"), columns.tags: "upos"}
        wanted = {column: str(mapping.get(column, own.get(column, column))).lower() for column in known}
    elif ending == ".txt" and len(columns.text) == 1:
        wanted[columns.text[0]] = "text"  # its one column needs no mapping, and a recipe's mapping is for other files
    elif ending in (".csv", ".tsv"):
        header = not any(place.isdecimal() for place in wanted.values())
    file = File(source, path, packing, wanted, header)
    if is_folder:
        return file, read_folder(file, split, config)
    if os.path.exists(path):
        if ending in READERS:
            return file, READERS[ending](file)
        hint = "if it is CoNLL-U (ten columns, tabs), name it .conllu" if ending == ".conll" else f"name it {ENDINGS}"
        raise BertkitError(f"{source}: files that end in {ending!r} are not read", hint=hint)
    if ending in READERS or ending == ".conll" or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", source, re.ASCII):
        raise missing(source, path)
    return file, read_hub(file, split, config)


def missing(source: str, path: str) -> BertkitError:
    folder, name = os.path.split(path)
    try:
        near = nearest(name, os.listdir(folder or "."))
    except (OSError, ValueError):
        return BertkitError(f"{source}: there is no such file", hint=f"there is no folder {folder!r} to be read either")
    hint = f"did you mean {os.path.join(os.path.dirname(source), near)!r}?" if near else "no name there is like it"
    return BertkitError(f"{source}: there is no such file", hint=hint)


def name_parts(path: str) -> tuple[str, str, str]:
    """`train`, `.tsv` and `.gz` of `some/train.tsv.gz`."""
    stem, packing = os.path.splitext(os.path.basename(path))
    if packing.lower() not in PACKINGS:
        stem, packing = stem + packing, ""
    stem, ending = os.path.splitext(stem)
    return stem, ending.lower(), packing.lower()


def split_file(source: str, path: str, split: str) -> str | None:
    """The file in a folder that is the split (GLUE calls validation dev); pandas would guess at its quotes and NAs."""
    try:
        files = {name: name_parts(name) for name in sorted(os.listdir(path))}
    except OSError as error:
        raise unreadable(source, error) from None
    for other in ("validation", "dev", "valid", "val"):
        wanted = split.replace("validation", other)
        found = [name for name, (stem, ending, _) in files.items() if stem == wanted and ending in READERS]
        if len(found) > 1:
            raise BertkitError(f"{source}: several files are the split {split!r}: {', '.join(found)}", hint="name one")
        if found:
            return found[0]
    return None


def read_folder(file: File, split: str, config: str | None) -> Table:
    """A folder of `save_to_disk` (a single data set in it is its own split), or one that `load_dataset` understands."""
    import datasets

    try:
        if any(os.path.exists(os.path.join(file.path, name)) for name in ("dataset_dict.json", "state.json")):
            dataset = datasets.load_from_disk(file.path)
        else:
            endings = {name_parts(name)[1] for _, _, names in os.walk(file.path) for name in names}
            options: dict[str, object] = {}
            if endings & {".csv", ".tsv"}:  # pandas reads these: keep it from guessing at types, NAs and quotes
                options["converters"] = dict.fromkeys(["text", *file.wanted.values()], str)
                options["quoting"] = csv.QUOTE_NONE if ".tsv" in endings else csv.QUOTE_MINIMAL
            # absolute: a folder named `csv` must not become the builder of that name
            dataset = datasets.load_dataset(os.path.abspath(file.path), config, split=split, **options)
    except Exception as error:  # whatever its builders and caches raise, the user sees a line
        raise BertkitError(
            f"{file.name}: the folder has no file {split!r} and is no data set: {shorten(error)}",
            hint=f"put {split}.csv, {split}.jsonl, ... into it, or name one file",
        ) from error
    if isinstance(dataset, dict):
        if split not in dataset:
            raise BertkitError(f"{file.name}: the folder has no split {split!r}", hint=did_you_mean(split, dataset))
        dataset = dataset[split]
    return from_dataset(file, dataset)


def read_hub(file: File, split: str, config: str | None) -> Table:
    import datasets

    try:
        # `load_dataset("csv")` would read whatever lies in the working directory
        if file.name.isidentifier() and importlib.util.find_spec(f"datasets.packaged_modules.{file.name}"):
            raise ValueError("this is the name of a file format")
        dataset = datasets.load_dataset(file.name, config, split=split)  # data sets that are scripts are refused by it
    except Exception as error:
        raise BertkitError(
            f"{file.name}: there is no such file, and it could not be loaded from the Hub: {shorten(error)}",
            hint="check the name, data.config, the split and the network; a file needs its ending",
        ) from error
    return from_dataset(file, dataset)


def from_dataset(file: File, dataset: object) -> Table:
    names = list(dataset.column_names)
    chosen = dataset.with_format(None).select_columns(kept(file, names))  # the others are never decoded

    def records() -> Iterator[tuple[int, dict[str, object]]]:
        try:
            for batch in chosen.iter(batch_size=1000):
                for values in zip(*batch.values(), strict=True):
                    yield 0, dict(zip(batch, values, strict=True))
        except Exception as error:
            raise unreadable(file.name, error) from error

    return Table(names, records(), declared_classes(dataset.features.to_dict()))


def read_parquet(file: File) -> Table:
    import pyarrow
    import pyarrow.parquet

    place = pyarrow.BufferReader(read_all(file)) if file.packing else file.path
    try:
        parquet = pyarrow.parquet.ParquetFile(place)
        groups = [parquet.metadata.row_group(index) for index in range(parquet.num_row_groups)]
        schema = parquet.schema_arrow
        declared = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        classes = declared_classes(declared.get("info", {}).get("features", {}))
    except Exception as error:  # pyarrow's own errors, OSError, or malformed metadata of any shape
        raise unreadable(file.name, error) from error
    if sum(group.total_byte_size for group in groups) > UNPACKED_BYTES:
        raise too_large(file)

    def records() -> Iterator[tuple[int, dict[str, object]]]:
        try:
            with parquet:
                for batch in parquet.iter_batches(batch_size=1000, columns=kept(file, schema.names)):
                    yield from ((0, record) for record in batch.to_pylist())
        except Exception as error:
            raise unreadable(file.name, error) from error

    return Table(schema.names, records(), classes)


def kept(file: File, names: Iterable[str]) -> list[str]:
    return [name for name in names if name == "text" or name in file.wanted.values()]


def declared_classes(features: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    """Names of the columns that are a ClassLabel, or a list of them, in the Hub's own description of columns."""
    found = {}
    for column, feature in features.items():
        if isinstance(feature, list) and feature:
            feature = feature[0]
        elif isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
            feature = feature["feature"]
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names"):
            found[column] = tuple(str(name) for name in feature["names"])
    return found


# Files of lines.


def read_delimited(file: File) -> Table:
    """csv, or tsv: the latter has no quoting at all, so a lone quote is text. Blank lines are left out."""
    lines = decoded_lines(file)
    if name_parts(file.path)[1] == ".tsv":
        fields = ((line, text.rstrip("\r\n").split("\t")) for line, text in lines if text.strip("\r\n"))
    else:
        fields = csv_fields(file, lines)
    first = next(fields, None)
    if first is None:
        raise no_rows(file)
    width = len(first[1])
    names = [name.strip() for name in first[1]] if file.header else [str(place) for place in range(width)]

    def records() -> Iterator[tuple[int, dict[str, object] | BadRow]]:
        for line, values in fields if file.header else chain([first], fields):
            if len(values) == width:
                yield line, dict(zip(names, values, strict=True))
            else:
                yield line, BadRow(f"has {len(values)} fields, but the first line has {width}")

    return Table(names, records())


def csv_fields(file: File, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row with the line it begins in; the first line tells comma, semicolon or tab."""
    first = next(lines, (1, ""))

    def found(mark: str) -> tuple[int, int]:
        names = [name.strip().strip('"') for name in first[1].split(mark)]
        places = set(names) if file.header else {str(place) for place in range(len(names))}
        return len(places.intersection(file.wanted.values())), len(names) if file.header else 0

    csv.field_size_limit(max(LINE_BYTES, csv.field_size_limit()))  # the module's one limit; only ever raised
    # strict: otherwise a quote that is never closed swallows the rest of the file without a word
    reader = csv.reader((text for _, text in chain([first], lines)), delimiter=max(",;\t", key=found), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "a field that begins with a quote must end with one, and quotes inside are doubled; or use tsv"
            if "new-line" in str(error):
                error, hint = "a carriage return outside quotes", "end lines with LF or CRLF"
            raise BertkitError(f"{file.name}:{line}: {error}", hint=hint) from None
        if fields:
            yield line, fields


def read_json_lines(file: File) -> Table:
    return from_objects(file, json_lines(decoded_lines(file)))


def read_json(file: File) -> Table:
    """A list of objects, maybe under `data`; SQuAD; or JSON lines by another name."""
    text = decoded(file, read_all(file), 1)
    try:
        value = parse_json(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data":  # after the first value: more lines
            return from_objects(file, json_lines(enumerate(text.split("\n"), start=1)))
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BertkitError(
            f"{file.name}{line}: {json_fault(error)}",
            hint="write a list of objects, SQuAD's layout, or one object a line",
        ) from None
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
        if any(isinstance(article, dict) and "paragraphs" in article for article in value):
            return from_objects(file, ((0, question) for question in squad_questions(file, value)))
    value = value if isinstance(value, list) else [value]
    return from_objects(file, ((0, item if isinstance(item, dict) else not_an_object(item)) for item in value))


def json_lines(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, dict[str, object] | BadRow]]:
    for line, text in lines:
        if text.strip():
            try:
                value = parse_json(text.rstrip())
                yield line, value if isinstance(value, dict) else not_an_object(value)
            except (ValueError, RecursionError) as error:
                yield line, BadRow(json_fault(error))


def parse_json(text: str) -> object:
    """Raises ValueError also for half a surrogate pair, which no tokenizer and no output file can take."""
    value = json.loads(text)
    if "\\ud" in text or "\\uD" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def json_fault(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):  # its own text counts lines from where we began
        return f"not JSON: {error.msg} (character {error.colno})"
    return f"not JSON: {shorten(error)}"


def not_an_object(value: object) -> BadRow:
    return BadRow(f"{show(value)} is not an object", hint='write rows as {"column": value, ...}')


def from_objects(file: File, records: Iterator[tuple[int, dict[str, object] | BadRow]]) -> Table:
    first = list(islice(records, PEEKED_ROWS))
    objects = [record for _, record in first if isinstance(record, dict)]
    if not objects:  # nothing to find columns in
        if not first:
            raise no_rows(file)
        line, reason = first[0]
        where = f"{file.name}:{line}" if line else f"{file.name}: row 0"
        raise BertkitError(f"{where}: {reason}", hint=reason.hint)
    return Table(list(dict.fromkeys(chain.from_iterable(objects))), chain(first, records))


def squad_questions(file: File, articles: list[object]) -> Iterator[dict[str, object] | BadRow]:
    """Source: Rajpurkar et al. 2016, 2018; data > paragraphs > qas > answers, with `is_impossible` since 2.0."""
    for number, article in enumerate(articles):
        where = f"{file.name}: data[{number}]"
        for index, paragraph in enumerate(listed(article, "paragraphs", where)):
            for question in listed(paragraph, "qas", f"{where}.paragraphs[{index}]"):
                if not isinstance(question, dict):
                    yield not_an_object(question)
                elif question.get("is_impossible") is not True:
                    yield {"context": paragraph.get("context"), **question}
                elif question.get("answers"):
                    yield BadRow("is_impossible is true, but it has answers")
                else:
                    yield {"context": paragraph.get("context"), **question, "answers": []}


def listed(value: object, key: str, where: str) -> list[object]:
    inner = value.get(key) if isinstance(value, dict) else None
    if not isinstance(inner, list):
        raise BertkitError(f"{where} has no list {key!r}", hint="SQuAD's layout is data > paragraphs > qas > answers")
    return inner


def read_text(file: File) -> Table:
    """A text a line; blank lines are left out."""
    lines = decoded_lines(file)
    return Table(["text"], ((line, {"text": text.rstrip("\r\n")}) for line, text in lines if text.strip()))


def read_conllu(file: File) -> Table:
    return Table(["id", "form", "upos", "xpos"], conllu_sentences(file))


def conllu_sentences(file: File) -> Iterator[tuple[int, dict[str, object]]]:
    """Source: universaldependencies.org/format.html. Multi-word ranges (1-2) and empty nodes (8.1) are not words."""
    words: list[tuple[int, list[str]]] = []
    name = None
    for line, text in chain(decoded_lines(file), [(0, "")]):
        if text.startswith("#"):
            found = re.match(r"#\s*sent_id\s*=\s*(.*\S)", text)
            name = found[1] if found else name
        elif text.strip():
            fields = text.rstrip("\r\n").split("\t")
            check_conllu_word(f"{file.name}:{line}", fields, len(words) + 1)
            if fields[0].isdecimal():
                words.append((line, fields))
        else:
            if words:
                tags = {"upos": column_of_tags(file, words, "upos", 3), "xpos": column_of_tags(file, words, "xpos", 4)}
                yield words[0][0], {"id": name, "form": [fields[1] for _, fields in words], **tags}
            words, name = [], None


def check_conllu_word(where: str, fields: list[str], expected: int) -> None:
    if len(fields) != 10:
        hint = "a word line has ten columns with tabs between them"
        if len(fields) == 1:
            hint = "put tabs between the columns, not spaces"
        elif len(fields) == 9:
            hint = "a column is missing; an empty one is written _"
        raise BertkitError(f"{where}: {len(fields)} columns instead of 10: {show(' '.join(fields))}", hint=hint)
    if not re.fullmatch(r"\d+-\d+|\d+\.\d+", fields[0], re.ASCII) and fields[0] != str(expected):
        raise BertkitError(
            f"{where}: word ID {show(fields[0])} where {expected} is due",
            hint="words count from 1 in each sentence, and a blank line ends a sentence",
        )
    if not fields[1]:
        raise BertkitError(f"{where}: the word (FORM) is empty", hint="a word line has ten columns, none of them empty")


def column_of_tags(file: File, words: list[tuple[int, list[str]]], column: str, place: int) -> list[str] | None:
    """A sentence's tags, or None when it has none."""
    tags = [fields[place] for _, fields in words]
    if "_" not in tags or column not in file.wanted.values():
        return tags
    if any(tag != "_" for tag in tags):
        line, fields = words[tags.index("_")]
        raise BertkitError(
            f"{file.name}:{line}: {show(fields[1])} has no {column.upper()}, but other words of the sentence have one",
            hint="tag every word of a sentence, or none",
        )
    return None


def decoded_lines(file: File) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers. Only a line feed ends a line: U+2028 and the like are text."""
    with opened(file) as stream:
        for line in count(1):
            raw = stream.readline(LINE_BYTES + 1)
            if not raw:
                return
            if len(raw) > LINE_BYTES:
                raise BertkitError(f"{file.name}:{line}: a line of more than {LINE_BYTES >> 20} MiB", hint="split it")
            yield line, decoded(file, raw, line)


def decoded(file: File, raw: bytes, line: int) -> str:
    try:
        text = raw.decode()
        if "\0" not in text:
            return text.removeprefix("\ufeff") if line == 1 else text
        fault, place = "a NUL character", raw.index(0)
    except UnicodeDecodeError as error:
        fault, place = f"byte {raw[error.start]:#04x} is not UTF-8", error.start
    line += raw.count(b"\n", 0, place)
    raise BertkitError(f"{file.name}:{line}: {fault} (byte {place})", hint="save the file as UTF-8 text")


def read_all(file: File) -> bytes:
    with opened(file) as stream:
        return stream.read()


def opened(file: File) -> io.BufferedReader:
    try:
        return io.BufferedReader(Guarded(file, PACKINGS.get(file.packing, open)(file.path, "rb")), 1 << 18)
    except (OSError, ValueError) as error:
        raise unreadable(file.name, error) from None


class Guarded(io.RawIOBase):
    """A stream whose faults become BertkitErrors, and which does not unpack without end."""

    def __init__(self, file: File, stream: io.BufferedIOBase) -> None:
        self.file, self.stream = file, stream
        self.left = UNPACKED_BYTES if file.packing else math.inf

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        try:
            size = self.stream.readinto(buffer)
        except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:
            raise unreadable(self.file.name, error) from None
        self.left -= size
        if self.left < 0:
            raise too_large(self.file)
        return size

    def close(self) -> None:
        self.stream.close()
        super().close()


# How faults are said.


def unreadable(name: str, error: Exception) -> BertkitError:
    return BertkitError(f"{name}: cannot be read: {shorten(error)}", hint="is it whole, and what its ending says?")


def too_large(file: File) -> BertkitError:
    return BertkitError(f"{file.name}: unpacks to more than {UNPACKED_BYTES >> 20} MiB", hint="split it")


def no_rows(file: File) -> BertkitError:
    return BertkitError(f"{file.name}: there are no rows", hint="is it the right file, and is it whole?")


def shorten(error: Exception) -> str:
    """An error of another library in one line."""
    text = one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)
    return text if len(text) <= 300 else text[:297] + "..."


def show(value: object) -> str:
    """A value's repr, cut."""
    return cut(repr(value[: SHOWN + 1]) if isinstance(value, str) else reprlib.repr(value))


def cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


PACKINGS = {".gz": gzip.open, ".xz": lzma.open}
READERS: Mapping[str, Callable[[File], Table]] = {
    ".csv": read_delimited,
    ".tsv": read_delimited,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".parquet": read_parquet,
    ".conllu": read_conllu,
    ".txt": read_text,
}
ENDINGS = " ".join(READERS)

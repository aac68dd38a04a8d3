"""Where rows are kept: in a file (its ending names the reader), a folder, a Hub data set, or in memory."""

import csv
import importlib.util
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, repeat

from bertkit.data import formats
from bertkit.data.exports import read_brat
from bertkit.data.files import LINE_BYTES, Begun, File, Table, check_size, name_parts, read_all, shorten, unreadable
from bertkit.data.words import ENTITY_NAMES
from bertkit.errors import BertkitError, did_you_mean, nearest

PIPES = re.compile(r"/dev/stdin|/(dev|proc/self)/fd/\d+")  # standard input, and what `<(command)` becomes


def find(source: str, split: str) -> tuple[str, str]:
    """What to call a source in messages, and its path.

    A folder with a file for the split (GLUE calls validation dev) is that file: pandas would guess its quotes and NAs.
    """
    if source == "-":
        return "standard input", "/dev/stdin"
    path = os.path.expanduser(source)
    try:
        files = {name: name_parts(name) for name in sorted(os.listdir(path))} if os.path.isdir(path) else {}
    except OSError as error:
        raise unreadable(source, error) from None
    for other in ("validation", "dev", "valid", "val"):
        wanted = split.replace("validation", other)
        found = [name for name, (stem, ending, _) in files.items() if stem == wanted and ending in READERS]
        if len(found) > 1:
            raise BertkitError(f"{source}: several files are the split {split!r}: {', '.join(found)}", hint="name one")
        if found:
            return os.path.join(source, found[0]), os.path.join(path, found[0])
    return source, path


def is_pipe(source: object) -> bool:
    """Whether rows come through standard input, or a pipe that the shell opened."""
    return str(source) == "-" or PIPES.fullmatch(str(source)) is not None


def open_pipe(name: str, path: str) -> tuple[bytes, Begun] | None:
    """Standard input, or a pipe that the shell opened: its first lines, and all of it; None for every other path."""
    if not PIPES.fullmatch(path):
        return None
    from bertkit.launch import process_count

    if process_count() > 1:
        raise BertkitError(f"{name}: only one process can read it", hint="write it to a file first, or use one process")
    try:
        is_device = stat.S_ISCHR(os.stat(path).st_mode)
        if is_device and not (path == "/dev/stdin" and sys.stdin.isatty()):
            raise BertkitError(f"{name}: is a device, not a file", hint="pipe the rows into it, as in `cat rows.csv |`")
        rest, begin, line = open(path, "rb"), b"", b"#"  # noqa: SIM115 whoever reads it closes it
        while line.startswith(b"#") or (line and not line.strip()):  # comments of CoNLL-U, and blank lines
            line = rest.readline(LINE_BYTES + 1)
            begin += line
    except OSError as error:
        raise unreadable(name, error) from None
    return begin, Begun(begin, rest)


def ending_of(content: bytes, names: Collection[str]) -> str:
    """The ending that fits these first lines: JSON, CoNLL-U, a table whose first line names its columns, or texts.

    A table has columns of these names; positions say that it is one without names.
    """
    text = content[: 1 << 20].decode(errors="replace").removeprefix("\ufeff").lstrip()
    first = text.partition("\n")[0].strip()
    if re.match(r"\{|\[\s*(\{|$)", first):
        with suppress(ValueError, RecursionError):
            value = json.loads(first)
            if isinstance(value, dict) and value.keys() >= set(names):
                return ".jsonl"
        return ".json"  # read as a whole, whatever it is
    if re.match(r"(#.*\n)*1\t([^\t\n]*\t){8}[^\t\n]*(\n|$)", text):
        return ".conllu"
    fields = {field.strip().strip('"') for field in re.split("[,;\t]", first)}
    if fields.issuperset(names) or all(name.isdecimal() for name in names):
        return ".tsv" if "\t" in first else ".csv"
    return ".txt"


def open_table(file: File, split: str, config: str | None) -> Table:
    """See whether it is a file, a folder or a Hub id, and open it with the reader that its ending names."""
    if file.stream is None and not os.path.isfile(file.path):
        is_there, is_folder = os.path.exists(file.path), os.path.isdir(file.path)
        if is_there and not is_folder:
            raise BertkitError(f"{file.name}: is a pipe or a device, not a file", hint="write it to a file first")
        is_hub_id = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", file.name, re.ASCII)
        if not is_there and (file.ending in READERS or not is_hub_id):
            folder, name = os.path.split(file.path)
            try:
                near = nearest(name, os.listdir(folder or "."))
                guess = os.path.join(os.path.dirname(file.name), near or "")
                hint = f"did you mean {guess!r}?" if near else "no file there is named alike"
            except (OSError, ValueError):
                hint = f"there is no folder {folder!r} to be read either"
            raise BertkitError(f"{file.name}: there is no such file", hint=hint)
        if is_folder and any(name.endswith(".ann") for name in os.listdir(file.path)):
            return read_brat(file)
        return from_dataset(file, load_folder(file, split, config) if is_folder else load_hub(file, split, config))
    if file.ending not in READERS:
        hint = f"name it {' '.join(READERS)}"
        raise BertkitError(f"{file.name}: files that end in {file.ending!r} are not read", hint=hint)
    return READERS[file.ending](file)


def load_folder(file: File, split: str, config: str | None) -> object:
    """A folder of `save_to_disk` (a single data set in it is its own split), or one that `load_dataset` understands."""
    import datasets

    names = [os.path.join(folder, name) for folder, _, names in os.walk(file.path) for name in names]
    if odd := next((path for path in names if os.path.exists(path) and not os.path.isfile(path)), None):
        raise BertkitError(f"{odd}: is a pipe or a device, not a file", hint="remove it")
    try:
        if any(os.path.exists(os.path.join(file.path, name)) for name in ("dataset_dict.json", "state.json")):
            dataset = datasets.load_from_disk(file.path)
        else:
            endings = {name_parts(name)[1] for name in names}
            options: dict[str, object] = {}
            if endings & {".csv", ".tsv"}:  # pandas reads these: keep it from guessing at types, NAs and quotes
                options["converters"] = dict.fromkeys(["text", *file.wanted.values()], str)
                options["quoting"] = csv.QUOTE_NONE if ".tsv" in endings else csv.QUOTE_MINIMAL
            # absolute: a folder named `csv` must not become the builder of that name
            dataset = datasets.load_dataset(os.path.abspath(file.path), config, split=split, **options)
    except Exception as error:  # whatever its builders and caches raise, the user sees a line
        message = f"{file.name}: the folder has no file {split!r} and is no data set: {shorten(error)}"
        raise BertkitError(message, hint=f"put {split}.csv, {split}.jsonl, ... into it, or name one file") from error
    if isinstance(dataset, dict) and split not in dataset:
        raise BertkitError(f"{file.name}: the folder has no split {split!r}", hint=did_you_mean(split, dataset))
    return dataset[split] if isinstance(dataset, dict) else dataset


def load_hub(file: File, split: str, config: str | None) -> object:
    import datasets

    try:
        # `load_dataset("csv")` would read whatever lies in the working directory
        if file.name.isidentifier() and importlib.util.find_spec(f"datasets.packaged_modules.{file.name}"):
            raise ValueError("this is the name of a file format")
        return datasets.load_dataset(file.name, config, split=split)  # data sets that are scripts are refused by it
    except Exception as error:
        message = f"{file.name}: there is no such file, and it could not be loaded from the Hub: {shorten(error)}"
        hint = "check the name, data.config, the split and the network; a file needs its ending"
        raise BertkitError(message, hint=hint) from error


def from_dataset(file: File, dataset: object) -> Table:
    names = list(dataset.column_names)
    chosen = dataset.with_format(None).select_columns(kept(file, names))  # the others are never decoded
    batches = chosen.iter(batch_size=1000)
    records = (dict(zip(batch, row, strict=True)) for batch in batches for row in zip(*batch.values(), strict=True))
    return Table(names, readable(file, records), declared_classes(dataset.features.to_dict()))


def read_parquet(file: File) -> Table:
    import pyarrow
    import pyarrow.parquet

    content = pyarrow.BufferReader(read_all(file)) if file.packing else file.path
    try:
        parquet = pyarrow.parquet.ParquetFile(content)
        groups = [parquet.metadata.row_group(index) for index in range(parquet.num_row_groups)]
        schema = parquet.schema_arrow
        declared = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        classes = declared_classes(declared.get("info", {}).get("features", {}))
    except Exception as error:  # pyarrow's own errors, OSError, or malformed metadata of any shape
        raise unreadable(file.name, error) from error
    check_size(file, sum(group.total_byte_size for group in groups))
    batches = parquet.iter_batches(batch_size=1000, columns=kept(file, schema.names))
    records = chain.from_iterable(map(pyarrow.RecordBatch.to_pylist, batches))
    return Table(schema.names, readable(file, records), classes)


def readable(file: File, records: Iterable[dict[str, object]]) -> Iterator[tuple[int, dict[str, object]]]:
    """Records without lines; whatever a library raises as they are read, the user sees a line."""
    try:
        for record in records:
            yield 0, record
    except Exception as error:
        raise unreadable(file.name, error) from error


def kept(file: File, names: Iterable[str]) -> list[str]:
    """The columns that are read: also what words and tags may be called where the task's own names are missing."""
    known = {"text", *chain.from_iterable(ENTITY_NAMES), *file.wanted.values()}
    return [name for name in names if file.is_kept or name in known]


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


def is_table(rows: object) -> bool:
    """Whether rows have named columns, and so can be checked as those of a file; plain texts have none."""
    if isinstance(rows, list | tuple):
        return bool(rows) and all(isinstance(row, Mapping) for row in rows)
    return any(hasattr(rows, name) for name in ("itertuples", "iter_rows", "column_names"))


def table_of(file: File, rows: object) -> Table:
    """Rows in memory as a reader would give them; they have no lines, so messages name them by their number from 0."""
    if getattr(rows, "column_names", None) is not None:
        return from_dataset(file, rows)
    if hasattr(rows, "itertuples"):  # pandas
        names = [str(name) for name in rows.columns]
        values = rows.itertuples(index=False, name=None)
        return Table(names, ((0, dict(zip(names, map(plain, some), strict=True))) for some in values))
    if hasattr(rows, "iter_rows"):  # polars
        return Table(list(rows.columns), ((0, row) for row in rows.iter_rows(named=True)))
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        kinds = "a file, a list of mappings, a frame of pandas or polars, or a datasets.Dataset"
        raise BertkitError(f"{file.name}: the rows are of type {type(rows).__name__}", hint=f"give {kinds}")
    records = ({name: plain(v) for name, v in row.items()} if isinstance(row, Mapping) else row for row in rows)
    return formats.from_objects(file, zip(repeat(0), records))


def plain(value: object) -> object:
    """Numbers and arrays of numpy as Python's; what pandas writes for a missing value as None."""
    if type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        return None
    return value.tolist() if hasattr(value, "tolist") else value


READERS: Mapping[str, Callable[[File], Table]] = {
    ".csv": formats.read_delimited,
    ".tsv": formats.read_delimited,
    ".jsonl": formats.read_json_lines,
    ".ndjson": formats.read_json_lines,
    ".json": formats.read_json,
    ".parquet": read_parquet,
    ".conllu": formats.read_conllu,
    ".conll": formats.read_columns,
    ".txt": formats.read_text,
}

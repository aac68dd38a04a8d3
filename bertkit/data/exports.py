"""What annotation tools export, as plain rows: tasks of Prodigy and Label Studio, folders of brat."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator

from bertkit.data.files import BadRow, File, Table, decoded, name_parts, read_all
from bertkit.errors import BertkitError
from bertkit.metrics.shown import counted

PRODIGY_KEYS = {"_task_hash", "_input_hash", "spans", "options", "accept"}


def unwrapped(file: File, records: Iterable[tuple[int, object]], notes: list[str]) -> Iterator[tuple[int, object]]:
    """Records, of which those of Prodigy and Label Studio become rows; at their end `notes` has what was left out.

    Source: prodi.gy/docs/api-interfaces (`answer`, `accept`); labelstud.io/guide/task_format (`data`, `annotations`).
    """
    left_out: Counter[str] = Counter()
    is_asked = "answer" in file.wanted.values()  # whoever names the column wants to learn the answer itself
    for line, record in records:
        if isinstance(record, dict):
            answer, is_prodigy = record.get("answer"), not PRODIGY_KEYS.isdisjoint(record)
            if is_prodigy and answer in ("reject", "ignore") and not (is_asked or file.is_kept):
                left_out[answer] += 1
                continue
            if "label" in file.wanted:
                record = labelled(record, file.is_kept)
        yield line, record
    if left_out:
        counts = ", ".join(f"{count:,} {answer}" for answer, count in sorted(left_out.items()))
        notes.append(f"{counted(left_out.total(), 'row')} left out by Prodigy's answer: {counts}")


def labelled(record: dict[str, object], is_kept: bool) -> object:
    """A record with the choices of its annotator as its label; without them for prediction."""
    data, annotations = record.get("data"), record.get("annotations")
    if isinstance(data, dict) and isinstance(annotations, list):  # Label Studio: columns as its JSON-MIN has them
        given = [some for some in annotations if isinstance(some, dict) and not some.get("was_cancelled")]
        if len(given) > 1 and not is_kept:
            return BadRow(f"has {len(given)} annotations", hint="keep one of them")
        results = given[0].get("result") if given else ()
        parts = [part for part in results or () if isinstance(part, dict) and isinstance(part.get("value"), dict)]
        chosen = {str(part.get("from_name")): part["value"]["choices"] for part in parts if "choices" in part["value"]}
        only = {"label": next(iter(chosen.values()))} if len(chosen) == 1 else {}
        return {"id": record.get("id"), **data} if is_kept else {"id": record.get("id"), **only, **data, **chosen}
    if isinstance(record.get("accept"), list) and "options" in record and not is_kept:  # Prodigy
        return {"label": record["accept"], **record}
    return record


def is_brat(folder: str) -> bool:
    return any(name.endswith(".ann") for name in os.listdir(folder))


def read_brat(file: File) -> Table:
    """A row for each document of a folder: its text, and the entities that the file .ann beside it marks.

    Source: brat.nlplab.org/standoff.html (`T` lines; of the others nothing is read).
    """
    names = {name for name in os.listdir(file.path) if os.path.isfile(os.path.join(file.path, name))}
    stems = sorted(name.removesuffix(".ann") for name in names if name.endswith(".ann") and not name.startswith("."))
    if missing := [stem for stem in stems if f"{stem}.txt" not in names]:
        message = f"{file.name}: {missing[0]}.ann has no text {missing[0]}.txt beside it"
        raise BertkitError(message, hint="brat keeps both in one folder: copy the texts into it")
    unread: Counter[str] = Counter()
    notes: list[str] = []

    def content(name: str) -> str:
        inner = os.path.join(file.path, name)
        part = file._replace(name=os.path.join(file.name, name), path=inner, packing=name_parts(name)[2])
        return decoded(part, read_all(part), 1)

    def records() -> Iterator[tuple[int, object]]:
        for stem in stems:
            text, entities = content(f"{stem}.txt"), []
            lines = content(f"{stem}.ann").split("\n")
            unread.update(line[0] for line in lines if line.strip() and line[0] != "T")
            try:
                entities = [read_entity(line, text) for line in lines if line.startswith("T")]
                yield 0, {"id": stem, "text": text, "entities": entities}
            except BadRow as reason:
                yield 0, BadRow(f"document {stem} {reason}", reason.hint)
        if unread:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(unread.items()))
            notes.append(f"of brat's annotations only entities are read; lines left out: {kinds}")

    return Table(["id", "text", "entities"], records(), notes=notes)


def read_entity(line: str, text: str) -> list[object]:
    """A span as [first character, end, type]."""
    name, _, marked = line.rstrip("\r").partition("\t")[2].partition("\t")
    kind, _, offsets = name.partition(" ")
    try:
        start, end = map(int, offsets.split(" "))
    except ValueError:
        raise BadRow(f"has an entity in parts: {line!r}", hint="mark it as one span") from None
    if text[start:end] != marked:
        raise BadRow(f"has {text[start:end]!r} where {line!r} should be", hint="is the text as it was annotated?")
    return [start, end, kind]

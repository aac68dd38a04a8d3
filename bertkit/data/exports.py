"""What annotation tools export, as plain rows: tasks of Prodigy and Label Studio, folders of brat."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from bertkit.data.files import BadRow, File, Table, decoded, read_all
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
        results = given[0].get("result") if given else []
        parts = [part for part in results if isinstance(part, dict)] if isinstance(results, list) else []
        values = [(str(part.get("from_name")), part.get("value")) for part in parts]
        chosen = {name: value["choices"] for name, value in values if isinstance(value, dict) and "choices" in value}
        only = {"label": next(iter(chosen.values()))} if len(chosen) == 1 else {}
        # what data call a label was there before the annotator
        return {"id": record.get("id"), **data} if is_kept else {"id": record.get("id"), **data, **only, **chosen}
    if isinstance(record.get("accept"), list) and "options" in record and not is_kept:  # Prodigy
        return {**record, "label": record["accept"]}
    return record


def read_brat(file: File) -> Table:
    """A row for each document of a folder: its text, and the entities that the file .ann beside it marks.

    Source: brat.nlplab.org/standoff.html (lines that begin with T).
    """
    stems = sorted(name.removesuffix(".ann") for name in os.listdir(file.path) if name.endswith(".ann"))

    def content(name: str) -> str:
        part = file._replace(name=os.path.join(file.name, name), path=os.path.join(file.path, name), packing="")
        if not os.path.isfile(part.path):
            raise BertkitError(f"{part.name}: there is no such file", hint="brat keeps NAME.txt and NAME.ann together")
        return decoded(part, read_all(part), 1)

    def records() -> Iterator[tuple[int, object]]:
        for stem in stems:
            text, lines = content(f"{stem}.txt"), content(f"{stem}.ann").split("\n")
            try:
                entities = [read_entity(line.rstrip("\r"), text) for line in lines if line.startswith("T")]
                yield 0, {"id": stem, "text": text, "entities": entities}
            except BadRow as reason:
                yield 0, BadRow(f"document {stem} {reason}", reason.hint)

    return Table(["id", "text", "entities"], records())


def read_entity(line: str, text: str) -> list[object]:
    """A span as [first character, end, type]."""
    found = re.fullmatch(r"T[^\t]*\t(\S+) (\d{1,9}) (\d{1,9})\t(.*)", line)
    if found is None:
        raise BadRow(f"has an entity that is no single span: {line!r}", hint="mark it as one span")
    start, end = int(found[2]), int(found[3])
    if text[start:end] != found[4]:
        raise BadRow(f"has {text[start:end]!r} where {line!r} should be", hint="is the text as it was annotated?")
    return [start, end, found[1]]

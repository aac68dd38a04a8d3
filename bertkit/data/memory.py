"""Rows in memory as a table: mappings, frames of pandas and polars, and data sets of `datasets`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bertkit.data.files import File, Table
from bertkit.data.formats import from_objects, not_an_object
from bertkit.data.opening import from_dataset
from bertkit.errors import BertkitError


def is_table(rows: object) -> bool:
    """Whether rows have named columns, and so can be checked as those of a file; plain texts have none."""
    if isinstance(rows, list | tuple):
        return bool(rows) and all(isinstance(row, Mapping) for row in rows)
    return any(hasattr(rows, name) for name in ("itertuples", "iter_rows", "column_names"))


def table_of(file: File, rows: object) -> Table:
    """Rows as a reader would give them; they have no lines, so messages name them by their number from 0.

    Raises:
        BertkitError: they are nothing that holds rows.
    """
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
    return from_objects(file, ((0, row if isinstance(row, dict) else not_an_object(row)) for row in records))


def plain(value: object) -> object:
    """Numbers and arrays of numpy as Python's; what pandas writes for a missing value as None."""
    if type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        return None
    return value.tolist() if hasattr(value, "tolist") else value

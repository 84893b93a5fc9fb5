"""Parquet files as all materializers of tables write and read them, with PyArrow."""

from __future__ import annotations

from typing import Any, Final

from asyncstore.errors import MaterializationError
from asyncstore.materializers._library import decoding, encoding, library

DATA: Final = "data.parquet"

_FREE_CELLS: Final = 1 << 27
_CELLS_PER_BYTE: Final = 1024


def check_cells(rows: int, columns: int, size: int) -> None:
    """Raise MaterializationError where a small file stands for a table of absurd size.

    The same at save and at load, so that what was saved can be loaded.
    """
    if rows < 0 or rows * max(columns, 1) > _FREE_CELLS + _CELLS_PER_BYTE * size:
        raise MaterializationError(
            f"{rows:,} rows of {columns:,} columns in {size:,} bytes of Parquet would fill the "
            "memory of whoever loads them: split the table, or leave out what is always the same"
        )


def check_values(groups: list[Any], size: int) -> None:
    """The same for the items of lists, of which a single row may have any number."""
    values = sum(group.column(at).num_values for group in groups for at in range(group.num_columns))
    if values > _FREE_CELLS + _CELLS_PER_BYTE * size:
        raise MaterializationError(
            f"{values:,} values in {size:,} bytes of Parquet would fill the memory of whoever "
            "loads them: split the table, or leave out what is always the same"
        )


def to_parquet(table: Any, *, extra: str) -> memoryview:
    """A table as a Parquet file that keeps its Arrow schema."""
    pa = library("pyarrow", extra=extra)
    pq = library("pyarrow.parquet", extra=extra)
    with encoding("table as Parquet"):
        sink = pa.BufferOutputStream()
        pq.write_table(
            table,
            sink,
            version="2.6",
            compression="zstd",
            store_schema=True,
            use_compliant_nested_type=False,  # else the items of lists are renamed
        )
        written = memoryview(sink.getvalue())
    check_cells(table.num_rows, table.num_columns, written.nbytes)
    return written


def from_parquet(data: bytes, *, extra: str) -> Any:
    """The table of a Parquet file; whatever the bytes are, only MaterializationError is raised."""
    pa = library("pyarrow", extra=extra)
    pq = library("pyarrow.parquet", extra=extra)
    with decoding("table"):
        file = pq.ParquetFile(pa.BufferReader(data))
        about = file.metadata
        # What row groups say is what is allocated, whatever the file as a whole says.
        groups = [about.row_group(index) for index in range(about.num_row_groups)]
        rows = sum(group.num_rows for group in groups)
        check_cells(max(rows, about.num_rows), about.num_columns, len(data))
        check_values(groups, len(data))
        table = file.read()
        table.validate(full=True)
        return table

"""PyArrow tables, as Parquet files."""

from __future__ import annotations

from typing import Any, Final

from asyncstore.errors import MaterializationError
from asyncstore.materializers._library import library, loaded
from asyncstore.materializers._parquet import DATA, from_parquet, to_parquet
from asyncstore.materializers._tags import type_name
from asyncstore.materializers.base import Encoded
from asyncstore.materializers.basic import checked, only_file

_EXTRA: Final = "pyarrow"


class ArrowTableMaterializer:
    """PyArrow tables with their schema, its metadata and that of its fields.

    How the rows are split into chunks is not kept; it does not count for ``Table.equals`` either.
    Columns of other types than plain ones are read back and compared before they are stored.
    """

    id = "pyarrow"

    @property
    def types(self) -> tuple[type, ...]:
        """Exactly the Table."""
        return loaded("pyarrow", "Table")

    def accepts(self, kind: type) -> bool:
        """Never: a subclass would come back as a Table."""
        return False

    def advice(self, kind: type) -> str | None:
        """For the parts of tables, and what makes them."""
        if kind in loaded("pyarrow", "RecordBatch"):
            return "save pyarrow.Table.from_batches([batch])"
        if issubclass(kind, loaded("pyarrow", "Array", "ChunkedArray")):
            return 'save pyarrow.table({"name": array})'
        if issubclass(kind, loaded("pyarrow", "RecordBatchReader")):
            return "save what its .read_all() answers"
        return None

    def is_large(self, obj: Any) -> bool:
        """Always: the library is imported for it, and has threads of its own."""
        return True

    def is_slow(self, encoded: Encoded) -> bool:
        """Always: few bytes may stand for many rows."""
        return True

    def encode(self, obj: Any) -> Encoded:
        """Refuses what Parquet would give back otherwise, by its column and type."""
        pa = library("pyarrow", extra=_EXTRA)
        if type(obj) is not pa.Table:
            raise MaterializationError(
                f"expected a pyarrow.Table, not a {type_name(type(obj))}: convert it first"
            )
        if not obj.num_columns and obj.num_rows:
            raise MaterializationError(
                f"a table of {obj.num_rows:,} rows without columns would come back without rows"
            )
        for field in obj.schema:
            _require_known(pa, field)
        written = to_parquet(obj, extra=_EXTRA)
        _require_same_schema(obj.schema, _empty_schema(obj))
        names = [field.name for field in obj.schema if not _is_plain(pa, field.type)]
        if names:
            self._require_same(obj, from_parquet(bytes(written), extra=_EXTRA), names)
        return Encoded({DATA: written})

    def _require_same(self, table: Any, back: Any, names: list[str]) -> None:
        for index, field in enumerate(table.schema):
            if field.name in names and not _equal(table.column(index), back.column(index)):
                raise MaterializationError(
                    f"cannot save the column {field.name!a:.80}: its type {field.type!s:.200} "
                    "comes back from Parquet with other values: cast it to a plain one"
                )

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """The table."""
        return checked(from_parquet(only_file(encoded, DATA), extra=_EXTRA), as_type)


def _equal(one: Any, other: Any) -> bool:
    if one.equals(other):
        return True
    # Not-a-number is never equal; the text of all values tells it from numbers.
    return one.type == other.type and repr(one.to_pylist()) == repr(other.to_pylist())


def _require_known(pa: Any, field: Any) -> None:
    """Raise MaterializationError for types that have code of their own."""
    waiting = [field.type]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, pa.BaseExtensionType):
            raise MaterializationError(
                f"cannot save the column {field.name!a:.80}: its extension type {kind!s:.80} is "
                "not kept: save its .storage"
            )
        waiting += [kind.field(index).type for index in range(kind.num_fields)]
        if pa.types.is_dictionary(kind):
            waiting.append(kind.value_type)


def _is_plain(pa: Any, kind: Any) -> bool:
    """Whether the values of this type are known to come back exactly."""
    types = pa.types
    return bool(
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_date32(kind)
        or (types.is_timestamp(kind) and kind.unit != "s")
    )


def _empty_schema(table: Any) -> Any:
    """The schema that comes back, found out without writing a row."""
    empty = table.slice(0, 0)
    return from_parquet(bytes(to_parquet(empty, extra=_EXTRA)), extra=_EXTRA).schema


def _require_same_schema(schema: Any, back: Any) -> None:
    for one, other in zip(schema, back, strict=True):
        if not one.equals(other, check_metadata=True):
            raise MaterializationError(
                f"cannot save the column {one.name!a:.80}: Parquet gives its type {one!s:.200} "
                f"back as {other!s:.200}: cast it first"
            )
    if not schema.equals(back, check_metadata=True):
        raise MaterializationError("cannot save this table: Parquet does not keep its metadata")

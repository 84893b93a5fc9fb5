"""PyArrow tables."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore.errors import MaterializationError
from asyncstore.materializers import ArrowTableMaterializer, Encoded, default_materializers
from tests.materializers.support import (
    NESTED_BOMB,
    no_other_error,
    stored,
    there_and_back,
    through_registry,
)

pa: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")

ARROW = ArrowTableMaterializer()

COLUMNS = {
    "int": pa.array([1, None], pa.int8()),
    "uint": pa.array([2**64 - 1, 0], pa.uint64()),
    "half": pa.array([1.5, None], pa.float16()),
    "float": pa.array([-0.0, float("inf")]),
    "bool": pa.array([True, None]),
    "text": pa.array(["a", None]),
    "large text": pa.array(["a", None], pa.large_string()),
    "text view": pa.array(["a", None], pa.string_view()),
    "bytes": pa.array([b"a", None]),
    "fixed bytes": pa.array([b"ab", None], pa.binary(2)),
    "zone": pa.array([1, None], pa.timestamp("ns", "Europe/Berlin")),
    "timestamp": pa.array([1, None], pa.timestamp("ms")),
    "duration": pa.array([1, None], pa.duration("us")),
    "date": pa.array([dt.date(2020, 1, 1), None]),
    "time": pa.array([1, None], pa.time64("ns")),
    "decimal": pa.array([Decimal("1.23"), None]),
    "large decimal": pa.array([Decimal("1.23"), None], pa.decimal256(50, 2)),
    "dictionary": pa.array(["b", None, "a"]).dictionary_encode(),
    "dictionary with more": pa.DictionaryArray.from_arrays(pa.array([2, 0]), ["a", "b", "c"]),
    "list": pa.array([[1], [], None, [None]]),
    "large list": pa.array([[1], []], pa.large_list(pa.int8())),
    "fixed list": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
    "struct": pa.array([{"a": 1, "b": [1.5]}, None]),
    "null": pa.nulls(3),
    "no rows": pa.array([], pa.string()),
    "chunks": pa.chunked_array([[1, 2], [], [3]]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_tables_come_back_exactly(name: str) -> None:
    table = pa.table({name: COLUMNS[name]})
    assert default_materializers().for_object(table).id == "pyarrow"
    assert there_and_back(ARROW, table).equals(table, check_metadata=True)


def test_metadata_names_and_nullability_come_back() -> None:
    schema = pa.schema(
        [
            pa.field("a", pa.int8(), nullable=False, metadata={"unit": "m"}),
            pa.field("a", pa.string()),
            pa.field("", pa.string()),
        ],
        metadata={b"k": b"\xff\x00", b"pandas": b"not json"},
    )
    table = pa.Table.from_arrays([pa.array([1], pa.int8()), ["x"], ["y"]], schema=schema)
    assert there_and_back(ARROW, table).equals(table, check_metadata=True)
    for empty in (pa.table({}), schema.empty_table()):
        assert there_and_back(ARROW, empty).equals(empty, check_metadata=True)


def test_nan_comes_back_as_nan() -> None:
    nan = float("nan")
    table = pa.table({"f": [nan, None, 1.0], "l": [[nan], None, [1.0]]})
    back = there_and_back(ARROW, table)
    assert repr(back.to_pydict()) == repr(table.to_pydict())
    assert back.column("f").null_count == 1


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.text(), st.none() | st.floats())))
def test_all_rows_come_back(rows: list[Any]) -> None:
    numbers, texts, floats = ([row[at] for row in rows] for at in range(3))
    table = pa.table(
        [
            pa.array(numbers, pa.int64()),
            pa.array(texts, pa.string()),
            pa.array(floats, pa.float64()),
        ],
        names=["n", "t", "f"],
    )
    assert repr(there_and_back(ARROW, table).to_pydict()) == repr(table.to_pydict())


@pytest.mark.asyncio
async def test_tables_come_back_from_a_registry() -> None:
    table = pa.table({"a": range(50_000), "b": [str(n) for n in range(50_000)]})
    assert (await through_registry(table, pa.Table)).equals(table, check_metadata=True)


REFUSED = {
    "seconds": (pa.array([1], pa.timestamp("s")), r"column 'c'.*timestamp\[s\].*timestamp\[ms\]"),
    "time32": (pa.array([1], pa.time32("s")), r"column 'c'.*time32"),
    "date64": (pa.array([0], pa.date64()), r"column 'c'.*date64"),
    "map": (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())), r"column 'c'.*map"),
    "no fields": (pa.array([{}], pa.struct([])), "struct"),
    "run ends": (pa.RunEndEncodedArray.from_arrays([2], [7]), "run_end_encoded"),
    "extension": (pa.array([b"a" * 16], pa.uuid()), r"column 'c'.*extension.*\.storage"),
    "inner extension": (
        pa.ListArray.from_arrays([0, 1], pa.array([b"a" * 16], pa.uuid())),
        r"column 'c'.*extension",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_parquet_does_not_keep_is_refused_by_name(name: str) -> None:
    array, message = REFUSED[name]
    with pytest.raises(MaterializationError, match=message):
        ARROW.encode(pa.table({"c": array}))


def test_other_classes_are_refused_with_advice() -> None:
    table = default_materializers()
    batch = pa.record_batch({"a": [1]})
    for obj, advice in [(batch, "from_batches"), (pa.array([1]), r"pyarrow\.table")]:
        with pytest.raises(MaterializationError, match=advice):
            table.for_object(obj)
    with pytest.raises(MaterializationError, match=r"expected a pyarrow\.Table"):
        ARROW.encode(batch)
    with pytest.raises(MaterializationError, match="without columns"):
        ARROW.encode(pa.table({"a": [1]}).select([]))


def test_absurd_sizes_are_refused_at_save_and_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = ARROW.encode(pa.table({"a": pa.nulls(1 << 20), "b": pa.nulls(1 << 20)}))
    monkeypatch.setattr("asyncstore.materializers._parquet._FREE_CELLS", 1 << 10)
    monkeypatch.setattr("asyncstore.materializers._parquet._CELLS_PER_BYTE", 1)
    with pytest.raises(MaterializationError, match="would fill the memory"):
        ARROW.encode(pa.table({"a": pa.nulls(1 << 22)}))
    with pytest.raises(MaterializationError, match="would fill the memory"):
        ARROW.decode(stored(encoded), None)


def test_a_row_of_very_many_items_is_refused_before_it_is_read() -> None:
    with pytest.raises(MaterializationError, match="200,000,000 values in 309 bytes"):
        ARROW.decode(Encoded({"data.parquet": NESTED_BOMB}), None)


def test_damaged_files_raise_nothing_else() -> None:
    table = pa.table({"a": [1, None], "b": ["x", "y"], "l": [[1], None]})
    no_other_error(ARROW, ARROW.encode(table), tries=150)

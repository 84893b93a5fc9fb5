"""Polars data frames and series."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore.errors import MaterializationError
from asyncstore.materializers import Encoded, PolarsMaterializer, default_materializers
from tests.materializers.support import no_other_error, stored, there_and_back, through_registry

pl: Any = pytest.importorskip("polars", reason="polars is not installed")

POLARS = PolarsMaterializer()

SERIES = [
    pl.Series("int", [1, None, 3], pl.Int8),
    pl.Series("uint", [2**64 - 1], pl.UInt64),
    pl.Series("int128", [2**100, None], pl.Int128),
    pl.Series("float", [float("nan"), -0.0, None, float("inf")]),
    pl.Series("float32", [1.5], pl.Float32),
    pl.Series("bool", [True, None]),
    pl.Series("text", ["a", None, "\u00e9"]),
    pl.Series("bytes", [b"a", None]),
    pl.Series("date", [dt.date(2020, 1, 1), None]),
    pl.Series("time", [dt.time(1), None]),
    pl.Series("zone", [dt.datetime(2020, 1, 1), None], pl.Datetime("ns", "Europe/Berlin")),
    pl.Series("datetime", [dt.datetime(2020, 1, 1), None], pl.Datetime("ms")),
    pl.Series("duration", [dt.timedelta(1), None], pl.Duration("us")),
    pl.Series("decimal", [Decimal("1.50"), None], pl.Decimal(10, 2)),
    pl.Series("categorical", ["b", "a", None], pl.Categorical),
    pl.Series("enum", ["a", None], pl.Enum(["b", "a", "z"])),
    pl.Series("list", [[1], [], None, [None]]),
    pl.Series("nan list", [[float("nan")]]),
    pl.Series("categorical list", [["a"]], pl.List(pl.Categorical)),
    pl.Series("array", [[1, 2], None], pl.Array(pl.Int8, 2)),
    pl.Series("struct", [{"a": 1, "b": ["x"]}, None]),
    pl.Series("null", [None, None]),
    pl.Series("no rows", [], pl.String),
    pl.Series("", [1]),
]


def same(one: Any, other: Any) -> None:
    assert type(other) is type(one)
    if isinstance(one, pl.DataFrame):
        assert other.schema == one.schema
        assert list(other.schema) == list(one.schema)
        assert other.equals(one, null_equal=True)
    else:
        assert other.equals(one, check_dtypes=True, check_names=True, null_equal=True)


@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.name)
def test_series_come_back_exactly(series: Any) -> None:
    assert default_materializers().for_object(series).id == "polars"
    same(series, there_and_back(POLARS, series))
    same(series.to_frame(), there_and_back(POLARS, series.to_frame()))


def test_frames_without_columns_or_rows_come_back() -> None:
    for frame in (pl.DataFrame(), pl.DataFrame(schema={"b": pl.Int8, "a": pl.String})):
        same(frame, there_and_back(POLARS, frame))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.text(),
            st.none() | st.floats(),
            st.none() | st.lists(st.none() | st.integers(0, 9)),
        )
    )
)
def test_all_rows_come_back(rows: list[Any]) -> None:
    schema = {"i": pl.Int64, "s": pl.String, "f": pl.Float64, "l": pl.List(pl.Int64)}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    same(frame, there_and_back(POLARS, frame))


@pytest.mark.asyncio
async def test_frames_come_back_from_a_registry() -> None:
    frame = pl.DataFrame({"a": range(50_000), "b": [str(n) for n in range(50_000)]})
    same(frame, await through_registry(frame, pl.DataFrame))
    same(frame["b"], await through_registry(frame["b"], pl.Series))


class OwnFrame(pl.DataFrame):  # type: ignore[misc]
    pass


def test_what_would_not_come_back_is_refused_by_name() -> None:
    with pytest.raises(MaterializationError, match=r"column 'o'.*Object"):
        POLARS.encode(pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}))
    with pytest.raises(MaterializationError, match="struct"):
        POLARS.encode(pl.DataFrame({"s": pl.Series([{}], dtype=pl.Struct([]))}))
    with pytest.raises(MaterializationError, match=r"LazyFrame: .*\.collect\(\)"):
        default_materializers().for_object(pl.DataFrame({"a": [1]}).lazy())
    with pytest.raises(MaterializationError, match="OwnFrame"):
        default_materializers().for_object(OwnFrame())
    for obj in (OwnFrame(), pl.DataFrame({"a": [1]}).lazy(), 1):
        with pytest.raises(MaterializationError, match=r"expected a polars\.DataFrame"):
            POLARS.encode(obj)


def test_absurd_sizes_are_refused_at_save_and_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({"a": pl.repeat(None, 1 << 22, eager=True)})
    encoded = POLARS.encode(frame)
    monkeypatch.setattr("asyncstore.materializers._parquet._FREE_CELLS", 1 << 10)
    monkeypatch.setattr("asyncstore.materializers._parquet._CELLS_PER_BYTE", 1)
    with pytest.raises(MaterializationError, match="would fill the memory"):
        POLARS.encode(frame)
    with pytest.raises(MaterializationError, match="would fill the memory"):
        POLARS.decode(stored(encoded), None)


def test_damaged_files_raise_nothing_else() -> None:
    frame = pl.DataFrame({"a": [1, None], "b": ["x", "y"], "l": [[1], None]})
    no_other_error(POLARS, POLARS.encode(frame), tries=100)
    with pytest.raises(MaterializationError, match="2 columns"):
        POLARS.decode(
            Encoded(
                {"data.parquet": bytes(POLARS.encode(frame[:, :2]).files["data.parquet"])},
                {"series": True},
            ),
            None,
        )
    with pytest.raises(MaterializationError, match="as_type"):
        there_and_back(POLARS, frame, pl.Series)

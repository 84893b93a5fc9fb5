"""pandas data frames, series and indexes."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore.errors import MaterializationError
from asyncstore.materializers import Encoded, PandasMaterializer, default_materializers
from asyncstore.materializers.values import decode_value, encode_value
from tests.materializers.support import no_other_error, stored, there_and_back, through_registry

pd: Any = pytest.importorskip("pandas", reason="pandas is not installed")
np: Any = pytest.importorskip("numpy", reason="numpy is not installed")
pa: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
extra: Any = pytest.importorskip("hypothesis.extra.pandas", reason="pandas is not installed")

PANDAS = PandasMaterializer()
BERLIN = ZoneInfo("Europe/Berlin")


def same(one: Any, other: Any) -> None:
    assert type(other) is type(one)
    if isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, other, exact=True)
        assert list(map(repr, one.names)) == list(map(repr, other.names))
        assert getattr(one, "freq", None) == getattr(other, "freq", None)
        return
    check = pd.testing.assert_frame_equal
    if isinstance(one, pd.Series):
        check = pd.testing.assert_series_equal
        values, others = list(one), list(other)
        if one.dtype == object:
            assert list(map(type, values)) == list(map(type, others))
    else:
        same(one.columns, other.columns)
        for at in range(len(one.columns)):
            same(one.iloc[:, at], other.iloc[:, at])
    check(one, other, check_exact=True, check_freq=True)
    same(one.index, other.index)
    assert one.attrs == other.attrs
    assert one.flags == other.flags


def with_attrs() -> Any:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"source": ("x", 1), 2: dt.date(2020, 1, 1)}
    frame.flags.allows_duplicate_labels = False
    return frame


def column(values: Any, dtype: Any = None) -> Any:
    return pd.Series(pd.array(values, dtype=dtype))


OBJECTS: dict[str, Any] = {
    "plain": pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, np.nan], "d": [True, False]}),
    "empty": pd.DataFrame(),
    "no columns": pd.DataFrame(index=[3, 4]),
    "no rows": pd.DataFrame({"a": pd.Series([], dtype="i1"), "b": pd.Series([], dtype=object)}),
    "equal columns": pd.DataFrame([[1, "a"], [2, "b"]], columns=["a", "a"]),
    "labels of all kinds": pd.DataFrame([[1, 2, 3]], columns=[1, ("t", 2), None]),
    "surrogate label": pd.DataFrame([[1, 2]], columns=pd.Index(["\ud800", ""], dtype=object)),
    "multi index": pd.DataFrame(
        {"v": [1, 2, 3]},
        index=pd.MultiIndex.from_tuples([("a", 1), ("a", None), ("b", 1)], names=["x", None]),
    ),
    "multi columns": pd.DataFrame(
        [[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=[("n", 1), "m"])
    ),
    "frequency": pd.DataFrame(
        {"v": range(3)}, index=pd.date_range("2020", periods=3, freq="2D", tz=BERLIN, name="when")
    ),
    "month ends": pd.Series(range(3), index=pd.date_range("2020-01-31", periods=3, freq="ME")),
    "over the change of the clocks": pd.Series(
        range(4), index=pd.date_range("2020-10-25 01:00", periods=4, freq="h", tz=BERLIN)
    ),
    "zone": pd.Series(pd.to_datetime(["2020-01-01", None]).tz_localize(BERLIN)),
    "offset": pd.Series(
        pd.to_datetime(["2020-01-01", None]).tz_localize(dt.timezone(dt.timedelta(hours=2)))
    ),
    "utc": pd.Series(pd.to_datetime(["2020-01-01"]).tz_localize("UTC")),
    "seconds": pd.Series(np.array(["1000000-01-01", "NaT"], "M8[s]")),
    "nanoseconds": pd.Series(np.array(["2020-01-01T00:00:00.000000001", "NaT"], "M8[ns]")),
    "timedelta": pd.Series(np.array([1, "NaT"], "m8[ms]")),
    "timedelta s": pd.Series(np.array([1, "NaT"], "m8[s]")),
    "categories": pd.Series(pd.Categorical(["a", None], categories=["z", "a"], ordered=True)),
    "number categories": pd.Series(pd.Categorical([1, 2, 1])),
    "date categories": pd.Series(pd.Categorical(pd.to_datetime(["2020", "2021"]))),
    "category index": pd.Series([1, 2], index=pd.CategoricalIndex(["a", "b"], name="k")),
    "Int64": column([1, None], "Int64"),
    "UInt8": column([1, None], "UInt8"),
    "boolean": column([True, None], "boolean"),
    "Float32": column([1.5, None], "Float32"),
    "string python": column(["a", None], pd.StringDtype("python")),
    "string pyarrow": column(["a", None], pd.StringDtype("pyarrow")),
    "arrow": column([1, None], pd.ArrowDtype(pa.int8())),
    "arrow list": pd.Series([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int8()))),
    "arrow decimal": pd.Series([Decimal("1.2"), None], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
    "objects": pd.Series([1, "a", None, (1, 2), [3], {"k": Decimal("1")}, 1.5], dtype=object),
    "object text": pd.Series(["a", None], dtype=object),
    "object nan": pd.Series(["a", float("nan")], dtype=object),
    "object surrogate": pd.Series(["\ud800"], dtype=object),
    "half": pd.Series([1, 2], dtype="float16"),
    "uint64": pd.Series([2**64 - 1], dtype="uint64"),
    "name": pd.Series([1], name=("a", 1)),
    "zeros": pd.Series([0.0, -0.0, np.inf]),
    "index": pd.Index(["a", "b"], name="n"),
    "object index": pd.Index(["a", 1, None], dtype=object),
    "range": pd.RangeIndex(1, 10, 3, name="r"),
    "product": pd.MultiIndex.from_product([[1, 2], ["a"]]),
    "timedelta index": pd.timedelta_range("1D", periods=3),
    "float index": pd.Index([1.5, np.nan]),
    "bool index": pd.Index([True, False]),
    "small index": pd.Index([1], dtype="int8"),
    "date columns": pd.DataFrame([[1, 2]], columns=pd.date_range("2020", periods=2, freq="D")),
    "zone columns": pd.DataFrame([[1]], columns=pd.date_range("2020", periods=1, tz=BERLIN)),
    "nullable columns": pd.DataFrame([[1, 2]], columns=pd.Index([1, None], dtype="Int64")),
    "category columns": pd.DataFrame([[1, 2]], columns=pd.CategoricalIndex(["a", "b"])),
    "attrs and flags": with_attrs(),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_pandas_objects_come_back_exactly(name: str) -> None:
    obj = OBJECTS[name]
    assert default_materializers().for_object(obj).id == "pandas"
    same(obj, there_and_back(PANDAS, obj))


@pytest.mark.asyncio
async def test_pandas_objects_come_back_from_a_registry() -> None:
    for name in ("plain", "frequency", "objects", "multi columns", "index"):
        same(OBJECTS[name], await through_registry(OBJECTS[name], type(OBJECTS[name])))
    large = pd.DataFrame(np.random.default_rng(0).random((20_000, 5)), columns=list("abcde"))
    same(large, await through_registry(large))


DTYPES = ["int8", "uint64", "float32", "float64", "bool", "M8[ns]", "m8[us]", "M8[s]"]
COLUMNS = st.lists(
    st.one_of(
        *(st.builds(extra.column, name=st.text(max_size=3), dtype=st.just(dtype))
          for dtype in DTYPES),
        st.builds(
            extra.column,
            name=st.text(max_size=3),
            elements=st.just(st.none() | st.text(max_size=3) | st.integers()),
            dtype=st.just(object),
        ),
    ),
    max_size=4,
    unique_by=lambda one: one.name,
)  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(COLUMNS.flatmap(extra.data_frames))
def test_all_frames_come_back_exactly(frame: Any) -> None:
    same(frame, there_and_back(PANDAS, frame))


class OwnFrame(pd.DataFrame):  # type: ignore[misc]
    pass


REFUSED = {
    "period": (pd.DataFrame({"p": pd.period_range("2020", periods=2)}), r"column 'p'.*period\[D\]"),
    "interval": (pd.Series(pd.interval_range(0, 2), name="i"), r"series 'i'.*interval"),
    "sparse": (pd.Series(pd.arrays.SparseArray([0, 1])), r"Sparse.*to_dense"),
    "complex": (pd.DataFrame({"c": [1j]}), r"column 'c'.*complex128.*\.real"),
    "byte order": (
        pd.DataFrame({"c": np.array([1], ">i4")}),
        r"column 'c'.*>i4.*astype\('int32'\)",
    ),
    "interval index": (pd.Series([1], index=pd.interval_range(0, 1)), r"index: a pandas.*Interval"),
    "objects": (pd.DataFrame({"o": [object()]}), r"column 'o'.*\$\[0\]: a object"),
    "timestamps": (pd.Series([pd.Timestamp(0)], dtype=object), r"\$\[0\]: a pandas.Timestamp"),
    "bins": (pd.Series(pd.cut([1, 2], 2)), r"categories of the series.*IntervalIndex"),
    "attrs": (pd.Series([1]), r"attrs.*object"),
    "name": (pd.Series([1], name=pd.Timestamp(0)), r"\.name: a pandas.Timestamp"),
    "arrow seconds": (
        pd.DataFrame({"s": pd.Series([1], dtype=pd.ArrowDtype(pa.timestamp("s")))}),
        r"column 's'.*timestamp\[s\]",
    ),
}
REFUSED["attrs"][0].attrs = {"a": object()}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_back_is_refused_by_name(name: str) -> None:
    obj, message = REFUSED[name]
    with pytest.raises(MaterializationError, match=message):
        PANDAS.encode(obj)


def test_other_classes_are_refused_with_advice() -> None:
    table = default_materializers()
    for obj in (OwnFrame(), pd.period_range("2020", periods=2), pd.Timestamp(0), pd.array([1])):
        with pytest.raises(MaterializationError, match=r"no materializer for pandas|OwnFrame: "):
            table.for_object(obj)
    with pytest.raises(MaterializationError, match="expected a pandas"):
        PANDAS.encode(1)
    with pytest.raises(MaterializationError, match="as_type"):
        there_and_back(PANDAS, pd.Series([1]), pd.DataFrame)


def test_others_can_read_the_parquet_file(tmp_path: Any) -> None:
    import pyarrow.parquet as pq

    frame = pd.DataFrame({"a": [1, 2], "when": pd.to_datetime(["2020", None])})
    (tmp_path / "a.parquet").write_bytes(PANDAS.encode(frame).files["data.parquet"])
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column("a").to_pylist() == [1, 2]
    assert table.column("when").null_count == 1


@pytest.mark.parametrize("zone", ["dateutil//etc/passwd", "dateutil/Europe/Berlin", "UTC", 3])
def test_no_file_is_opened_as_a_time_zone(zone: Any) -> None:
    files = stored(PANDAS.encode(pd.Series(pd.to_datetime(["2020"]).tz_localize("UTC")))).files
    about = decode_value(bytes(files["pandas.json"]))
    about["data"]["tz"] = zone
    with pytest.raises(MaterializationError, match="its time zone is none"):
        PANDAS.decode(Encoded({**files, "pandas.json": encode_value(about)}), None)


@pytest.mark.parametrize("name", ["plain", "objects", "categories", "frequency", "multi columns"])
def test_damaged_files_raise_nothing_else(name: str) -> None:
    no_other_error(PANDAS, PANDAS.encode(OBJECTS[name]), tries=25)

"""The arrays that pandas objects are made of, as Arrow arrays with a description, and back.

The description says which dtype the array has, so that nothing rests on what Parquet readers make
of types. What is not known to come back exactly is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timezone
from types import NoneType
from typing import Any, Final
from zoneinfo import ZoneInfo

from asyncstore.errors import MaterializationError
from asyncstore.materializers._library import encoding, library
from asyncstore.materializers._tags import as_list, kind_of, type_name
from asyncstore.materializers.values import decode_value, encode_value

EXTRA: Final = "pandas"

Described = dict[str, Any]

_MASKED: Final = frozenset(
    [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
    + ["boolean", "Float32", "Float64"]
)
_NAT: Final = -(2**63)
_PLAIN: Final = frozenset("biuf")


@dataclass(frozen=True, slots=True)
class Libraries:
    """pandas, NumPy and PyArrow, imported when they were needed."""

    pd: Any
    np: Any
    pa: Any

    @classmethod
    def imported(cls) -> Libraries:
        """Raises MaterializationError where one is missing."""
        return cls(*(library(name, extra=EXTRA) for name in ("pandas", "numpy", "pyarrow")))


def split(libs: Libraries, array: Any, what: str) -> tuple[Described, Any]:
    """The description of an array, and its values as an Arrow array or the JSON of a list."""
    pd, pa = libs.pd, libs.pa
    if type(array) is pd.arrays.NumpyExtensionArray:  # that of strings is a subclass
        array = array.to_numpy()
    dtype = array.dtype
    with encoding(f"pandas object: {what}"):
        if isinstance(dtype, pd.StringDtype):
            na = "NA" if dtype.na_value is pd.NA else "nan"
            return {"kind": "string", "storage": dtype.storage, "na": na}, _text(libs, array)
        if isinstance(dtype, pd.ArrowDtype):
            return {"kind": "arrow"}, _whole(pa, array.__arrow_array__())
        if isinstance(dtype, pd.DatetimeTZDtype):
            return _moments(libs, "datetime", dtype.unit, array.view("i8"), dtype.tz, what)
        if str(dtype) in _MASKED and hasattr(dtype, "numpy_dtype"):
            return {"kind": "masked", "dtype": str(dtype)}, _whole(pa, array.__arrow_array__())
        if isinstance(dtype, libs.np.dtype):
            return _split_plain(libs, array, what)
    raise _refused(libs, dtype, what)


def _split_plain(libs: Libraries, array: Any, what: str) -> tuple[Described, Any]:
    dtype, pa = array.dtype, libs.pa
    if not dtype.isnative or dtype.metadata:
        raise MaterializationError(
            f"cannot save {what}: its dtype {dtype.str} has another byte order than this machine, "
            f"or metadata: convert it with .astype({dtype.newbyteorder('=').name!r})"
        )
    if dtype.kind in "mM":
        unit = libs.np.datetime_data(dtype)[0]
        kind = "datetime" if dtype.kind == "M" else "timedelta"
        return _moments(libs, kind, unit, array.view("i8"), None, what)
    if dtype.kind in _PLAIN and dtype.itemsize <= 8:
        return {"kind": "numpy", "dtype": dtype.str}, pa.array(array, from_pandas=False)
    if dtype.kind != "O":
        raise _refused(libs, dtype, what)
    items = list(array)
    if set(map(type, items)) <= {str, type(None)} and _is_utf8(items):
        return {"kind": "object"}, pa.array(items, pa.large_string())
    try:
        return {"kind": "object"}, encode_value(items)
    except MaterializationError as error:
        raise MaterializationError(
            f"cannot save {what}, whose dtype is object: {str(error).removeprefix('cannot save ')}"
        ) from error


def _moments(
    libs: Libraries, kind: str, unit: str, numbers: Any, tz: Any, what: str
) -> tuple[Described, Any]:
    try:
        encode_value(tz)
    except MaterializationError as error:
        raise MaterializationError(
            f"cannot save {what}: its time zone {tz!s:.80} is a {type_name(kind_of(tz))}; "
            "convert it with .tz_convert(zoneinfo.ZoneInfo(...))"
        ) from error
    plain = libs.np.asarray(numbers)
    made = libs.pa.array(plain, mask=plain == _NAT)
    if unit != "s":  # Parquet has no seconds: they stay numbers
        shape = libs.pa.timestamp(unit) if kind == "datetime" else libs.pa.duration(unit)
        made = made.view(shape)
    return {"kind": kind, "unit": unit, "tz": tz}, made


def _text(libs: Libraries, array: Any) -> Any:
    if array.dtype.storage == "pyarrow":
        return _whole(libs.pa, array.__arrow_array__()).cast(libs.pa.large_string())
    items = array.to_numpy(dtype=object, na_value=None)
    return libs.pa.array(items, libs.pa.large_string(), from_pandas=False)


def _whole(pa: Any, array: Any) -> Any:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _is_utf8(items: list[Any]) -> bool:
    try:
        for item in items:
            if item is not None and not item.isascii():
                item.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refused(libs: Libraries, dtype: Any, what: str) -> MaterializationError:
    advice = "convert it to numbers, text or dates first"
    if isinstance(dtype, (libs.pd.PeriodDtype, libs.pd.IntervalDtype)):
        advice = "convert it with .astype(str), or save its start and end as columns"
    elif isinstance(dtype, libs.pd.SparseDtype):
        advice = "convert it with .sparse.to_dense()"
    elif getattr(dtype, "kind", "") == "c":
        advice = "save .real and .imag as columns"
    return MaterializationError(
        f"cannot save {what}: Parquet does not keep its dtype {dtype!s:.80}: {advice}"
    )


def join(libs: Libraries, about: Described, values: Any) -> Any:
    """The array again; raises whatever where the description does not fit."""
    pd, np, pa = libs.pd, libs.np, libs.pa
    kind = about["kind"]
    if kind == "object" and isinstance(values, bytes):
        return _objects(np, decode_value(values))
    whole = _whole(pa, values)
    if kind == "object":
        return _objects(np, _required(whole, pa.large_string()).to_pylist())
    if kind == "string":
        na = {"NA": pd.NA, "nan": np.nan}[about["na"]]
        if about["storage"] not in ("python", "pyarrow"):
            raise ValueError("unknown storage of strings")
        dtype = pd.StringDtype(about["storage"], na_value=na)
        return dtype.__from_arrow__(_required(whole, pa.large_string()))
    if kind == "arrow":
        return pd.ArrowDtype(whole.type).__from_arrow__(whole)
    if kind == "masked" and about["dtype"] in _MASKED:
        return pd.api.types.pandas_dtype(about["dtype"]).__from_arrow__(whole)
    if kind == "numpy":
        made = whole.to_numpy(zero_copy_only=False)
        if made.dtype.str != about["dtype"] or made.dtype.kind not in _PLAIN or whole.null_count:
            raise ValueError(f"a column of {made.dtype} is described as {about['dtype']!a:.40}")
        return made if made.flags.writeable else made.copy()
    if kind in ("datetime", "timedelta"):
        return _joined_moments(libs, kind, about, whole)
    raise ValueError(f"unknown kind of array {kind!a:.40}")


def _joined_moments(libs: Libraries, kind: str, about: Described, whole: Any) -> Any:
    unit = about["unit"]
    if unit not in ("s", "ms", "us", "ns"):
        raise ValueError("unknown unit of time")
    if type(about["tz"]) not in (NoneType, timezone, ZoneInfo):  # of text, pandas opens files
        raise ValueError("its time zone is none")
    numbers = whole.view(libs.pa.int64()).fill_null(_NAT).to_numpy(zero_copy_only=False)
    made = numbers.copy().view(f"{'M' if kind == 'datetime' else 'm'}8[{unit}]")
    if kind == "timedelta" or about["tz"] is None:
        return libs.pd.array(made, copy=False)
    return libs.pd.DatetimeIndex(made).tz_localize("UTC").tz_convert(about["tz"]).array


def _required(array: Any, kind: Any) -> Any:
    if array.type != kind:
        raise ValueError(f"a column is {array.type}, expected {kind}")
    return array


def _objects(np: Any, items: Any) -> Any:
    found = as_list(items)
    made = np.empty(len(found), object)
    for index, item in enumerate(found):  # at once, lists would be unpacked
        made[index] = item
    return made

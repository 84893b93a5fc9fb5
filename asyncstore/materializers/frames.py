"""pandas data frames, series and indexes: their values as Parquet, all the rest beside it."""

from __future__ import annotations

from typing import Any, Final

from asyncstore.digests import Buffer
from asyncstore.errors import MaterializationError
from asyncstore.materializers._library import decoding, encoding, loaded
from asyncstore.materializers._pandas_arrays import EXTRA, Described, Libraries, join, split
from asyncstore.materializers._parquet import DATA, from_parquet
from asyncstore.materializers._tags import type_name
from asyncstore.materializers.base import Encoded
from asyncstore.materializers.basic import checked
from asyncstore.materializers.tables import ArrowTableMaterializer
from asyncstore.materializers.values import decode_value, encode_value

_REST: Final = "pandas.json"
_INDEXES: Final = (
    "Index", "RangeIndex", "MultiIndex", "DatetimeIndex", "TimedeltaIndex", "CategoricalIndex",
)  # fmt: skip


class PandasMaterializer:
    """Data frames, series and indexes of pandas, with all dtypes and labels.

    Kept are the index (several levels, names, ranges, frequency and time zone), labels of columns
    that are not text or not unique, categories with their order, nullable and Arrow dtypes, and
    ``attrs``. The Parquet file alone is readable by others, with columns by position where labels
    are no plain text.
    """

    id = "pandas"

    @property
    def types(self) -> tuple[type, ...]:
        """Exactly DataFrame, Series and the kinds of Index that are kept."""
        return loaded("pandas", "DataFrame", "Series", *_INDEXES)

    def accepts(self, kind: type) -> bool:
        """Never: a subclass would come back as its base class."""
        return False

    def advice(self, kind: type) -> str | None:
        """For subclasses, and parts that are nothing by themselves."""
        if issubclass(kind, loaded("pandas", "DataFrame", "Series")):
            return "only plain frames and series come back as what they were: convert it"
        if issubclass(kind, loaded("pandas", "Index")):
            return "this kind of index is not kept: save .to_frame() of .astype(str), or its ends"
        if issubclass(kind, loaded("pandas.api.extensions", "ExtensionArray")):
            return "save pandas.Series(...) of it"
        if issubclass(kind, loaded("pandas", "Timestamp", "Timedelta")):
            return "save its .to_pydatetime() or .to_pytimedelta(), or a Series of it"
        return None

    def is_large(self, obj: Any) -> bool:
        """Always: PyArrow is imported for it, and has threads of its own."""
        return True

    def is_slow(self, encoded: Encoded) -> bool:
        """Always: few bytes may stand for many rows."""
        return True

    def encode(self, obj: Any) -> Encoded:
        """Refuses what would not come back exactly, by its column and dtype."""
        libs = Libraries.imported()
        writer = _Writer(libs)
        with encoding("pandas object"):
            return writer.written(writer.described(obj))

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """The frame, series or index."""
        libs = Libraries.imported()
        files = dict(encoded.files)
        about = decode_value(bytes(files.pop(_REST, b"")))
        table = from_parquet(bytes(files.pop(DATA, b"")), extra=EXTRA)
        with decoding("pandas object"):
            made = _Reader(libs, table, files).made(about)
            if files:
                raise ValueError("there are files that belong to no column")
            return checked(made, as_type)


class _Writer:
    """Collects arrays as columns of one table; those of other lengths as tables of their own."""

    def __init__(self, libs: Libraries) -> None:
        self._libs = libs
        self._columns: list[Any] = []
        self._names: list[str] = []
        self._files: dict[str, Any] = {}

    def described(self, obj: Any) -> Described:
        pd = self._libs.pd
        kind = type(obj)
        if kind is pd.DataFrame:
            # By position, since labels need not be unique.
            data = [
                self._column(obj.iloc[:, at].array, f"the column {label!a:.80}", label)
                for at, label in enumerate(obj.columns)
            ]
            return {
                "kind": "frame", "rows": len(obj), "data": data,
                "columns": self._index(obj.columns, "the labels of the columns", inside=False),
                "index": self._index(obj.index, "the index"),
                **self._extras(obj),
            }  # fmt: skip
        if kind is pd.Series:
            return {
                "kind": "series", "rows": len(obj), "name": obj.name,
                "data": self._column(obj.array, f"the series {obj.name!a:.80}", obj.name),
                "index": self._index(obj.index, "the index"),
                **self._extras(obj),
            }  # fmt: skip
        if isinstance(obj, pd.Index):
            return {"kind": "index", "index": self._index(obj, "the index")}
        raise MaterializationError(
            f"expected a pandas.DataFrame, Series or Index, not a {type_name(kind)}: convert it"
        )

    def _extras(self, obj: Any) -> Described:
        return {"attrs": obj.attrs, "duplicates": obj.flags.allows_duplicate_labels}

    def written(self, about: Described) -> Encoded:
        names = self._names
        if len({*names, ""}) != len(names) + 1:
            names = [str(at) for at in range(len(names))]
        table = self._libs.pa.Table.from_arrays(self._columns, names=names)
        parquet = ArrowTableMaterializer().encode(table)
        try:
            rest = encode_value(about)
        except MaterializationError as error:
            raise MaterializationError(
                f"{error} (of the labels, names and attrs of the pandas object)"
            ) from error
        return Encoded({_REST: rest, **parquet.files, **self._files})

    def _column(self, array: Any, what: str, label: object, *, inside: bool = True) -> Described:
        """The description of an array, whose values go into the table if ``inside`` it."""
        if isinstance(array.dtype, self._libs.pd.CategoricalDtype):
            codes = self._libs.np.asarray(array.codes)
            return {
                "kind": "categorical",
                "ordered": array.ordered,
                "codes": self._column(codes, what, label, inside=inside),
                "categories": self._index(array.categories, f"the categories of {what}", False),
            }
        about, values = split(self._libs, array, what)
        if isinstance(values, bytes):
            name = f"objects-{len(self._files)}.json"
            self._files[name] = values
            return {**about, "file": name}
        if not inside:
            return {**about, **self._listed(values, what)}
        self._columns.append(values)
        self._names.append(label if type(label) is str and _is_name(label) else "")
        return {**about, "column": len(self._columns) - 1}

    def _listed(self, values: Any, what: str) -> Described:
        """The values of a short array in the description itself."""
        pa = self._libs.pa
        kind = values.type
        if pa.types.is_temporal(kind):
            values = values.view(pa.int64())
        try:
            known = pa.type_for_alias(str(kind)) == kind
        except ValueError:
            known = False
        if not known:
            raise MaterializationError(
                f"cannot save {what}: an index of the type {kind!s:.80} is not kept: convert it "
                "with .astype(...)"
            )
        return {"type": str(kind), "values": values.to_pylist()}

    def _index(self, index: Any, what: str, inside: bool = True) -> Described:
        pd = self._libs.pd
        if type(index) not in tuple(getattr(pd, name) for name in _INDEXES):
            raise MaterializationError(
                f"cannot save {what}: a {type_name(type(index))} is not kept: convert it with "
                ".astype(str), or to a column"
            )
        if type(index) is pd.RangeIndex:
            ends = [index.start, index.stop, index.step]
            return {"kind": "range", "ends": ends, "name": index.name}
        if type(index) is pd.MultiIndex:
            codes = [
                self._column(self._libs.np.asarray(part), what, None, inside=inside)
                for part in index.codes
            ]
            levels = [self._index(level, f"a level of {what}", False) for level in index.levels]
            return {"kind": "multi", "levels": levels, "codes": codes, "names": list(index.names)}
        return {
            "kind": "flat",
            "name": index.name,
            "freq": _frequency(pd, index, what),
            "data": self._column(index.array, what, None, inside=inside),
        }


def _is_name(label: str) -> bool:
    try:
        return bool(label.encode("utf-8"))
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _frequency(pd: Any, index: Any, what: str) -> str | None:
    freq = getattr(index, "freq", None)
    if freq is None:
        return None
    text = str(freq.freqstr)
    try:
        if pd.tseries.frequencies.to_offset(text) == freq:
            return text
    except ValueError:
        pass
    raise MaterializationError(
        f"cannot save {what}: its frequency {freq!r:.80} has no text that says the same: set "
        ".freq = None"
    )


class _Reader:
    """Takes arrays out of the table again, by their descriptions."""

    def __init__(self, libs: Libraries, table: Any, files: dict[str, Buffer]) -> None:
        self._libs = libs
        self._table = table
        self._files = files

    def made(self, about: Described) -> Any:
        kind = about["kind"]
        if kind == "index":
            return self._index(about["index"])
        if kind not in ("frame", "series"):
            raise ValueError(f"unknown kind {kind!a:.40}")
        index = self._index(about["index"])
        if len(index) != about["rows"]:
            raise ValueError("the index has another length")
        return self._frame(about, index) if kind == "frame" else self._series(about, index)

    def _series(self, about: Described, index: Any) -> Any:
        made = self._plain_series(about["data"], index)
        made.name = about["name"]
        return _with_extras(made, about)

    def _plain_series(self, about: Described, index: Any) -> Any:
        array = self._column(about)
        return self._libs.pd.Series(array, index=index, dtype=array.dtype, copy=False)

    def _frame(self, about: Described, index: Any) -> Any:
        pd = self._libs.pd
        plain = pd.RangeIndex(len(index))
        columns = [self._plain_series(one, plain) for one in about["data"]]
        frame = pd.DataFrame(dict(enumerate(columns)), index=plain, copy=False)
        frame.index = index
        frame.columns = self._index(about["columns"])
        return _with_extras(frame, about)

    def _column(self, about: Described) -> Any:
        if about["kind"] == "categorical":
            return self._libs.pd.Categorical.from_codes(
                self._column(about["codes"]),
                categories=self._index(about["categories"]),
                ordered=about["ordered"],
            )
        if "file" in about:
            return join(self._libs, about, bytes(self._files.pop(about["file"])))
        if "column" in about:
            return join(self._libs, about, self._table.column(about["column"]))
        pa = self._libs.pa
        kind = pa.type_for_alias(about["type"])
        if not pa.types.is_temporal(kind):
            return join(self._libs, about, pa.array(about["values"], kind))
        return join(self._libs, about, pa.array(about["values"], pa.int64()).view(kind))

    def _index(self, about: Described) -> Any:
        pd = self._libs.pd
        kind = about["kind"]
        if kind == "range":
            start, stop, step = about["ends"]
            return pd.RangeIndex(start, stop, step, name=about["name"])
        if kind == "multi":
            return pd.MultiIndex(
                levels=[self._index(level) for level in about["levels"]],
                codes=[self._column(codes) for codes in about["codes"]],
                names=about["names"],
            )
        if kind != "flat":
            raise ValueError(f"unknown kind of index {kind!a:.40}")
        array = self._column(about["data"])
        made = pd.Index(array, dtype=array.dtype, name=about["name"], copy=False)
        if about["freq"] is not None:
            made.freq = pd.tseries.frequencies.to_offset(about["freq"])
        return made


def _with_extras(made: Any, about: Described) -> Any:
    if type(about["attrs"]) is not dict or type(about["duplicates"]) is not bool:
        raise ValueError("its attrs do not fit")
    made.attrs = about["attrs"]
    made.flags.allows_duplicate_labels = about["duplicates"]
    return made

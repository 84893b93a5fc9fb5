"""Polars data frames and series, as Parquet files that Polars itself writes."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Final

from asyncstore.errors import MaterializationError
from asyncstore.materializers._library import decoding, encoding, library, loaded
from asyncstore.materializers._parquet import DATA, check_cells
from asyncstore.materializers._tags import type_name
from asyncstore.materializers.base import Encoded
from asyncstore.materializers.basic import checked, only_file

_EXTRA: Final = "polars"


class PolarsMaterializer:
    """Data frames and series of Polars with their names and dtypes.

    Columns of other types than plain ones are read back and compared before they are stored. Flags
    that say that a column is sorted are not kept.
    """

    id = "polars"

    @property
    def types(self) -> tuple[type, ...]:
        """Exactly DataFrame and Series."""
        return loaded("polars", "DataFrame", "Series")

    def accepts(self, kind: type) -> bool:
        """Never: a subclass would come back as its base class."""
        return False

    def advice(self, kind: type) -> str | None:
        """For frames that have not been computed."""
        if issubclass(kind, loaded("polars", "LazyFrame")):
            return "it is a query and not yet data: save what its .collect() answers"
        return None

    def is_large(self, obj: Any) -> bool:
        """Always: Polars has threads of its own, which would be waited for."""
        return True

    def is_slow(self, encoded: Encoded) -> bool:
        """Always: few bytes may stand for many rows."""
        return True

    def encode(self, obj: Any) -> Encoded:
        """Refuses what Parquet would give back otherwise, by its column and dtype."""
        pl = library("polars", extra=_EXTRA)
        if type(obj) is pl.Series:
            return Encoded(self._files(pl, obj.to_frame()), {"series": True})
        if type(obj) is not pl.DataFrame:
            raise MaterializationError(
                f"expected a polars.DataFrame or Series, not a {type_name(type(obj))}: convert it"
            )
        return Encoded(self._files(pl, obj))

    def _files(self, pl: Any, frame: Any) -> dict[str, memoryview]:
        for name, dtype in frame.schema.items():
            _require_known(pl, name, dtype)
        if not frame.width and frame.height:
            raise MaterializationError(
                f"a frame of {frame.height:,} rows without columns would come back without rows"
            )
        _require_same(pl, frame.clear())
        nested = [name for name, dtype in frame.schema.items() if not _is_plain(pl, dtype)]
        if nested:
            _require_same(pl, frame.select(nested))
        written = _written(frame)
        check_cells(frame.height, frame.width, written.nbytes)
        return {DATA: written}

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """The data frame, or series."""
        frame = _read(library("polars", extra=_EXTRA), only_file(encoded, DATA))
        if encoded.params.get("series") is not True:
            return checked(frame, as_type)
        if frame.width != 1:
            raise MaterializationError(f"the stored series has {frame.width} columns")
        return checked(frame.to_series(), as_type)


def _written(frame: Any) -> memoryview:
    buffer = BytesIO()
    with _panics("frame"), encoding("frame as Parquet"):
        frame.write_parquet(buffer)
    return buffer.getbuffer()


def _read(pl: Any, data: bytes) -> Any:
    with _panics("frame"), decoding("frame"):
        rows = pl.scan_parquet(BytesIO(data)).select(pl.len()).collect().item()
        check_cells(rows, len(pl.read_parquet_schema(BytesIO(data))), len(data))
        return pl.read_parquet(BytesIO(data))


class _panics:  # noqa: N801  # reads as the function that it stands for
    """Turns a panic of Rust, which Python code is not meant to catch, into our error."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and type(error).__name__ == "PanicException":
            raise MaterializationError(
                f"Polars gave up on this {self._what}: {ascii(str(error))[1:-1][:300]}"
            ) from None


def _require_same(pl: Any, frame: Any) -> None:
    """Raise MaterializationError unless Parquet gives this frame back."""
    back = _read(pl, bytes(_written(frame)))
    for name, dtype in frame.schema.items():
        if back.schema.get(name) != dtype:
            raise MaterializationError(
                f"cannot save the column {name!a:.80}: Parquet gives its dtype {dtype!s:.200} back "
                f"as {back.schema.get(name)!s:.200}: cast it first"
            )
        if not back[name].equals(frame[name], check_dtypes=True, null_equal=True):
            raise MaterializationError(
                f"cannot save the column {name!a:.80}: its dtype {dtype!s:.200} comes back from "
                "Parquet with other values: cast it to a plain one"
            )


def _require_known(pl: Any, name: str, dtype: Any) -> None:
    """Raise MaterializationError for dtypes that hold what only Python knows."""
    waiting = [dtype]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, pl.Object) or type(kind).__name__.endswith("Extension"):
            raise MaterializationError(
                f"cannot save the column {name!a:.80}: its dtype {kind!s:.80} holds Python objects "
                "or an extension type: cast it to one of Polars' own types"
            )
        inner = getattr(kind, "inner", None)
        waiting += [] if inner is None else [inner]
        waiting += [field.dtype for field in getattr(kind, "fields", ())]


def _is_plain(pl: Any, dtype: Any) -> bool:
    """Whether the values of this dtype are known to come back exactly."""
    plain = (pl.Boolean, pl.String, pl.Binary, pl.Date, pl.Time, pl.Datetime, pl.Duration, pl.Null)
    return bool(dtype.is_integer() or dtype.is_float() or isinstance(dtype, plain))

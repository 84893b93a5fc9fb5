"""NumPy arrays, numbers and dictionaries of arrays, as .npy files.

A dictionary is one .npy file for each array and not a .npz archive: its arrays are uploaded, hashed
and fetched at the same time, none is copied into an archive first, and no zip has to be trusted.
"""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any, Final

from asyncstore.errors import MaterializationError
from asyncstore.materializers._library import decoding, encoding, is_loaded, library, loaded, said
from asyncstore.materializers._tags import shown, type_name
from asyncstore.materializers.base import Encoded
from asyncstore.materializers.basic import checked, only_file
from asyncstore.materializers.values import LARGE, decode_value, encode_value

MAX_ARRAYS: Final = 10_000
"""How many arrays one dictionary may have: each becomes a file."""

_MAX_HEADER: Final = 60_000
_FILE: Final = "data.npy"
_KEYS: Final = "keys.json"


class NumpyMaterializer:
    """Arrays and numbers of NumPy: shape, dtype with byte order, and C or Fortran order come back.

    An array is copied once, since its owner may write to it while it is being stored. Of strides
    only the order of the axes is kept, and every loaded array is writeable.
    """

    id = "numpy"

    @property
    def types(self) -> tuple[type, ...]:
        """Arrays and all of NumPy's scalar types."""
        return loaded("numpy", "ndarray", "generic")

    def accepts(self, kind: type) -> bool:
        """NumPy's own scalar types. A subclass of an array would come back as a plain one."""
        return kind.__module__ == "numpy" and any(
            issubclass(kind, scalar) for scalar in loaded("numpy", "generic")
        )

    def advice(self, kind: type) -> str | None:
        """For subclasses of arrays."""
        if not issubclass(kind, loaded("numpy", "ndarray")):
            return None
        if kind.__name__ == "MaskedArray":
            return "save a dict of its .data and its .mask, or what .filled() makes of it"
        return (
            "only plain arrays come back as what they were: save np.asarray(...) of it, and "
            "convert it back after loading"
        )

    def is_large(self, obj: Any) -> bool:
        """By its bytes, however they are laid out."""
        return _nbytes(obj) > LARGE

    def is_slow(self, encoded: Encoded) -> bool:
        """As long as NumPy has not been imported."""
        return not is_loaded("numpy")

    def encode(self, obj: Any) -> Encoded:
        """Refuses what .npy cannot hold exactly, by its dtype."""
        np = library("numpy", extra="numpy")
        scalar = isinstance(obj, np.generic)
        array = np.asarray(obj) if scalar else obj
        if scalar and array.dtype.type is not type(obj):
            raise MaterializationError(
                f"a {type_name(type(obj))} would come back as a "
                f"{type_name(array.dtype.type)}: convert it first"
            )
        return Encoded({_FILE: to_npy(np, array, "the array")}, {"scalar": True} if scalar else {})

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """The array, never one of Python objects, and never larger than the file."""
        data = only_file(encoded, _FILE)
        array = from_npy(library("numpy", extra="numpy"), data)
        if encoded.params.get("scalar") is True:
            if array.shape != ():
                raise MaterializationError("the stored NumPy number is an array")
            array = array[()]
        return checked(array, as_type)


class NumpyDictMaterializer:
    """Dictionaries whose values are all NumPy arrays, in their order; keys as in ``json``."""

    id = "numpy-dict"
    types: tuple[type, ...] = ()
    containers: tuple[type, ...] = (dict,)

    def accepts(self, kind: type) -> bool:
        """Never: the type of a dictionary says nothing."""
        return False

    def takes(self, obj: Any) -> bool:
        """A dictionary that begins with an array."""
        return type(first_value(obj)) in loaded("numpy", "ndarray")

    def is_large(self, obj: Any) -> bool:
        """By the bytes of all arrays."""
        if type(obj) is not dict or len(obj) > 100:
            return True
        return sum(map(_nbytes, list(obj.values()))) > LARGE

    def is_slow(self, encoded: Encoded) -> bool:
        """As long as NumPy has not been imported."""
        return not is_loaded("numpy") or len(encoded.files) > 100

    def encode(self, obj: Any) -> Encoded:
        """Refuses what is no array by its key, and arrays as :class:`NumpyMaterializer` does."""
        np = library("numpy", extra="numpy")
        if type(obj) is not dict:
            raise MaterializationError(
                f"expected exactly dict, not a {type_name(type(obj))}: convert it with dict(...)"
            )
        pairs = list(obj.items())
        if len(pairs) > MAX_ARRAYS:
            raise MaterializationError(
                f"a dict of {len(pairs):,} arrays is too many for one object, the most are "
                f"{MAX_ARRAYS:,}: stack them, or save several dicts"
            )
        files: dict[str, Any] = {_KEYS: encode_value([key for key, _ in pairs])}
        for index, (key, array) in enumerate(pairs):
            files[f"{index}.npy"] = to_npy(np, array, f"[{shown(key)}]")
        return Encoded(files)

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """The dictionary, in its order."""
        np = library("numpy", extra="numpy")
        files = dict(encoded.files)
        keys = decode_value(bytes(files.pop(_KEYS, b"")))
        names = [f"{index}.npy" for index in range(len(files))]
        if type(keys) is not list or len(keys) != len(files) or set(names) != set(files):
            raise MaterializationError("the stored keys do not fit the stored arrays")
        with decoding("dict of arrays"):  # a key may not be hashable
            found = {
                key: from_npy(np, bytes(files[name])) for key, name in zip(keys, names, strict=True)
            }
            if len(found) != len(keys):
                raise ValueError("two keys are equal")
        return checked(found, as_type)


def first_value(obj: Any) -> Any:
    """The first value of a dictionary that another thread may be changing; None if it has none."""
    try:
        return next(iter(obj.values()), None)
    except RuntimeError:
        return None


def _nbytes(obj: Any) -> int:
    size = getattr(obj, "nbytes", None)
    return size if isinstance(size, int) else LARGE + 1


def to_npy(np: Any, array: Any, path: str) -> memoryview:
    """A snapshot of an array as the bytes of a .npy file, or a MaterializationError."""
    if type(array) is not np.ndarray:
        raise MaterializationError(
            f"cannot save {path}: expected a plain numpy.ndarray, not a {type_name(type(array))}: "
            "convert it with np.asarray(...)"
        )
    _require_exact(np, array.dtype, path)
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    header = _header(np, array, fortran, path)
    size = len(header)
    # NumPy copies without the interpreter lock; joining bytes would hold it.
    make = np.zeros if array.dtype.names else np.empty  # between fields there may be gaps
    out = make(size + array.size * array.itemsize, np.uint8)
    out[:size] = np.frombuffer(header, np.uint8)
    if array.nbytes:
        np.ndarray(
            array.shape, array.dtype, out, offset=size, order="F" if fortran else "C"
        )[...] = array  # fmt: skip
    return memoryview(out)


def _header(np: Any, array: Any, fortran: bool, path: str) -> bytes:
    form = np.lib.format
    described = {
        "descr": form.dtype_to_descr(array.dtype),
        "fortran_order": fortran,
        "shape": array.shape,
    }
    buffer = BytesIO()
    try:
        form.write_array_header_1_0(buffer, described)
    except ValueError as error:
        raise MaterializationError(
            f"cannot save {path}: its dtype has too many fields, or names that are not Latin-1 "
            f"({said(error)}): rename them"
        ) from error
    if buffer.tell() > _MAX_HEADER:
        raise MaterializationError(
            f"cannot save {path}: its dtype has too many fields: save them as several arrays"
        )
    return buffer.getvalue()


def _require_exact(np: Any, dtype: Any, path: str) -> None:
    """Raise MaterializationError for a dtype that .npy does not give back as it is."""
    if dtype.hasobject or dtype.kind == "T":
        what = "strings of any length" if dtype.kind == "T" else "Python objects"
        advice = ".astype('U')" if dtype.kind == "T" else ".tolist() or .astype(...)"
        raise MaterializationError(
            f"cannot save {path}: its dtype {dtype!s:.80} holds {what}, for which .npy needs "
            f"pickle: convert it with {advice}"
        )
    with encoding(f"array of dtype {dtype!s:.80}"):
        if _has_metadata(dtype):
            raise MaterializationError(
                f"cannot save {path}: its dtype {dtype!s:.80} carries metadata, which .npy leaves "
                "out: save an array without it"
            )
        back = np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype))
        if back == dtype and back.itemsize == dtype.itemsize and repr(back) == repr(dtype):
            return
    raise MaterializationError(
        f"cannot save {path}: its dtype {dtype!r:.200} would come back as {back!r:.200}: convert "
        "it with .view(...) or .astype(...)"
    )


def _has_metadata(dtype: Any) -> bool:
    if dtype.metadata:
        return True
    if dtype.subdtype is not None:
        return _has_metadata(dtype.subdtype[0])
    return any(_has_metadata(dtype.fields[name][0]) for name in dtype.names or ())


def from_npy(np: Any, data: bytes) -> Any:
    """The array of a .npy file. Takes no more memory than the file has, and runs nothing."""
    with decoding("array"):
        stream = BytesIO(data)
        form = np.lib.format
        version = form.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version} of .npy is not known")
        read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, fortran, dtype = read(stream, max_header_size=_MAX_HEADER)
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which only pickle can load")
        if any(length < 0 for length in shape):
            raise ValueError("its shape is negative")
        start = stream.tell()
        if math.prod(shape) * dtype.itemsize != len(data) - start:
            raise ValueError(f"{len(data) - start} bytes do not fill the shape {shape!s:.80}")
        array = np.empty(shape, dtype, order="F" if fortran else "C")
        if array.nbytes:
            array.ravel(order="K").view(np.uint8)[...] = np.frombuffer(data, np.uint8, -1, start)
        return array

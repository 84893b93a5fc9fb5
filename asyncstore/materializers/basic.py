"""The materializers for plain values: JSON-like ones, text and bytes."""

from __future__ import annotations

from typing import Any, TypeVar

from asyncstore.errors import MaterializationError
from asyncstore.materializers._tags import type_name
from asyncstore.materializers.base import Encoded
from asyncstore.materializers.values import (
    LARGE,
    SUPPORTED,
    decode_value,
    encode_value,
    is_large,
)

_T = TypeVar("_T")


class JsonMaterializer:
    """Values that come back equal and of the same types throughout; see ``values``."""

    id = "json"
    types: tuple[type, ...] = tuple(kind for kind in SUPPORTED if kind not in (str, bytes))

    def accepts(self, kind: type) -> bool:
        """Never: a subclass would come back as something else."""
        return False

    def is_large(self, obj: object) -> bool:
        """An estimate from at most about a thousand nodes."""
        return is_large(obj)

    def encode(self, obj: object) -> Encoded:
        """Refuses what does not come back the same, by its path."""
        return Encoded({"data.json": encode_value(obj)})

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """Runs and imports nothing that the data names."""
        return checked(decode_value(only_file(encoded, "data.json")), as_type)


class StrMaterializer:
    """Text as UTF-8, so that other programs can read it. Lone surrogates are kept as well."""

    id = "str"
    types: tuple[type, ...] = (str,)

    def accepts(self, kind: type) -> bool:
        """Never: a subclass would come back as a str."""
        return False

    def is_large(self, obj: object) -> bool:
        """By its length in characters."""
        return type(obj) is str and len(obj) > LARGE

    def encode(self, obj: object) -> Encoded:
        """Refuses all but exactly str."""
        return Encoded({"data.txt": exactly(str, obj).encode("utf-8", "surrogatepass")})

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """The text, or MaterializationError if it is no UTF-8."""
        try:
            text = only_file(encoded, "data.txt").decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise MaterializationError(f"the stored text is no UTF-8: {error}") from error
        return checked(text, as_type)


class BytesMaterializer:
    """Bytes as they are: the very object goes through, nothing is copied."""

    id = "bytes"
    types: tuple[type, ...] = (bytes,)

    def accepts(self, kind: type) -> bool:
        """Never: a subclass would come back as bytes."""
        return False

    def is_large(self, obj: object) -> bool:
        """Never: there is no work to do."""
        return False

    def encode(self, obj: object) -> Encoded:
        """Refuses all but exactly bytes."""
        return Encoded({"data.bin": exactly(bytes, obj)})

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """The bytes of the file."""
        return checked(only_file(encoded, "data.bin"), as_type)


def only_file(encoded: Encoded, path: str) -> bytes:
    """The one file that there must be, or a MaterializationError."""
    if set(encoded.files) != {path}:
        found = ", ".join(f"{name!a:.80}" for name in sorted(encoded.files)[:5]) or "none"
        raise MaterializationError(f"expected the one file {path!r}, found {found}")
    return bytes(encoded.files[path])  # what was loaded is bytes already, and not copied


def checked(obj: object, as_type: object) -> object:
    """The object itself, unless it is no instance of what the caller asked for."""
    if as_type is None:
        return obj
    if not isinstance(as_type, type):
        raise MaterializationError(f"as_type must be a class, not {as_type!r}")
    if not isinstance(obj, as_type):
        raise MaterializationError(
            f"the stored object is a {type_name(type(obj))}, not a {type_name(as_type)}; load it "
            "without as_type= and convert it"
        )
    return obj


def exactly(kind: type[_T], obj: object) -> _T:
    """The object itself; refuses at save what would come back as another type."""
    if isinstance(obj, kind) and type(obj) is kind:
        return obj
    raise MaterializationError(
        f"expected exactly {kind.__name__}, not a {type_name(type(obj))}: convert it with "
        f"{kind.__name__}(...), or save it with another materializer"
    )

"""msgspec structs, as MessagePack.

The class is never imported by its stored name: whoever loads names it with ``as_type``, or has
given it to the materializer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from asyncstore.errors import MaterializationError
from asyncstore.materializers._library import decoding, encoding
from asyncstore.materializers._same import difference
from asyncstore.materializers._tags import type_name
from asyncstore.materializers.base import Encoded
from asyncstore.materializers.basic import only_file
from asyncstore.materializers.typed import class_to_load
from asyncstore.materializers.values import LARGE, is_large

_FILE = "data.msgpack"


class StructMaterializer:
    """Structs of msgspec, tagged ones too, whose MessagePack makes an equal struct again.

    Whether it does, with the same types throughout, is found out at save by decoding and comparing.
    Loading checks the types that the class names. ``known`` are classes that are found without
    ``as_type``.
    """

    id = "msgspec"
    types: tuple[type, ...] = (msgspec.Struct,)

    def __init__(self, known: Iterable[type] = ()) -> None:
        self._known = tuple(known)

    def accepts(self, kind: type) -> bool:
        """Every struct."""
        return issubclass(kind, msgspec.Struct)

    def is_large(self, obj: Any) -> bool:
        """An estimate from at most about a thousand nodes, for writing and reading."""
        return is_large(obj, LARGE // 2, parts=_values)

    def encode(self, obj: Any) -> Encoded:
        """Refuses a struct that is not given back, by the path of the field."""
        kind = type(obj)
        if not self.accepts(kind):
            raise MaterializationError(f"expected a msgspec.Struct, not a {type_name(kind)}")
        with encoding(f"struct {type_name(kind)}"):
            data = msgspec.msgpack.encode(obj)
        try:
            back = _decoded(kind, data)
        except MaterializationError as error:
            raise MaterializationError(
                f"cannot save this {type_name(kind)}, since its values do not fit its own types: "
                f"{error}; correct the hint of the field, or its value"
            ) from error
        with encoding(f"struct {type_name(kind)}"):
            found = difference(obj, back, _parts)
        if found is not None:
            raise MaterializationError(
                f"cannot save this {type_name(kind)}, since MessagePack does not give it back: "
                f"{found:.300}; name the exact type in the field's hint"
            )
        return Encoded({_FILE: data}, {"class": type_name(kind)})

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """Needs ``as_type`` or a known class: the struct, or another one that fits."""
        data = only_file(encoded, _FILE)
        kind = class_to_load(as_type, encoded.params, self.accepts, "msgspec struct", self._known)
        return _decoded(kind, data)


def _decoded(kind: type, data: bytes) -> Any:
    with decoding(type_name(kind)):
        return msgspec.msgpack.decode(data, type=kind)


def _parts(obj: Any) -> Mapping[str, Any] | None:
    if not isinstance(obj, msgspec.Struct):
        return None
    names: tuple[str, ...] = obj.__struct_fields__
    return {name: getattr(obj, name, None) for name in names}


def _values(obj: Any) -> list[Any]:
    named = _parts(obj)
    return [] if named is None else list(named.values())

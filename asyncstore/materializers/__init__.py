"""Materializers: the ways between objects and the files that are stored of them."""

from __future__ import annotations

from asyncstore.materializers.base import Encoded, Materializer, Materializers
from asyncstore.materializers.basic import BytesMaterializer, JsonMaterializer, StrMaterializer
from asyncstore.materializers.pickled import PickleMaterializer
from asyncstore.materializers.typed import DataclassMaterializer, EnumMaterializer

__all__ = [
    "BytesMaterializer",
    "DataclassMaterializer",
    "Encoded",
    "EnumMaterializer",
    "JsonMaterializer",
    "Materializer",
    "Materializers",
    "PickleMaterializer",
    "StrMaterializer",
    "default_materializers",
]


def default_materializers(*, allow_pickle: bool = False) -> Materializers:
    """A table with all that need no further library: JSON-like values, text, bytes, and so on.

    Pickle is in it, behind the gate that only ``allow_pickle=True`` opens, and takes only what
    nothing else does.
    """
    return Materializers(
        [
            PickleMaterializer(),
            JsonMaterializer(),
            StrMaterializer(),
            BytesMaterializer(),
            EnumMaterializer(),
            DataclassMaterializer(),
        ],
        allow_pickle=allow_pickle,
    )

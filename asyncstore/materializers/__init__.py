"""Materializers: the ways between objects and the files that are stored of them."""

from __future__ import annotations

from functools import cache

from asyncstore.materializers.arrays import NumpyDictMaterializer, NumpyMaterializer
from asyncstore.materializers.base import (
    Advises,
    DecodesSlowly,
    Encoded,
    Materializer,
    Materializers,
    TakesContainers,
)
from asyncstore.materializers.basic import BytesMaterializer, JsonMaterializer, StrMaterializer
from asyncstore.materializers.cloudpickled import CloudpickleMaterializer
from asyncstore.materializers.files import PathMaterializer
from asyncstore.materializers.frames import PandasMaterializer
from asyncstore.materializers.images import PillowMaterializer
from asyncstore.materializers.models import PydanticMaterializer
from asyncstore.materializers.pickled import PickleMaterializer
from asyncstore.materializers.polars_frames import PolarsMaterializer
from asyncstore.materializers.structs import StructMaterializer
from asyncstore.materializers.tables import ArrowTableMaterializer
from asyncstore.materializers.tensors import TorchMaterializer
from asyncstore.materializers.typed import DataclassMaterializer, EnumMaterializer

__all__ = [
    "Advises",
    "ArrowTableMaterializer",
    "BytesMaterializer",
    "CloudpickleMaterializer",
    "DataclassMaterializer",
    "DecodesSlowly",
    "Encoded",
    "EnumMaterializer",
    "JsonMaterializer",
    "Materializer",
    "Materializers",
    "NumpyDictMaterializer",
    "NumpyMaterializer",
    "PandasMaterializer",
    "PathMaterializer",
    "PickleMaterializer",
    "PillowMaterializer",
    "PolarsMaterializer",
    "PydanticMaterializer",
    "StrMaterializer",
    "StructMaterializer",
    "TakesContainers",
    "TorchMaterializer",
    "default_materializers",
]


@cache  # a table never changes, and checking that each is a materializer takes a millisecond
def default_materializers(*, allow_pickle: bool = False) -> Materializers:
    """A table with all that asyncstore has. Making it imports none of the libraries they are for.

    Pickle and cloudpickle are in it, behind the gate that only ``allow_pickle=True`` opens. Pickle
    takes only what nothing else does, cloudpickle only what it is asked for.
    """
    return Materializers(
        [
            PickleMaterializer(),
            CloudpickleMaterializer(),
            TorchMaterializer(),
            PillowMaterializer(),
            PydanticMaterializer(),
            StructMaterializer(),
            ArrowTableMaterializer(),
            PolarsMaterializer(),
            PandasMaterializer(),
            NumpyDictMaterializer(),
            NumpyMaterializer(),
            JsonMaterializer(),
            StrMaterializer(),
            BytesMaterializer(),
            PathMaterializer(),
            EnumMaterializer(),
            DataclassMaterializer(),
        ],
        allow_pickle=allow_pickle,
    )

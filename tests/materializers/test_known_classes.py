"""Dataclasses and enums that were given to their materializers load without ``as_type``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import pytest

from asyncstore.errors import MaterializationError
from asyncstore.materializers import DataclassMaterializer, Encoded, EnumMaterializer
from tests.materializers.support import there_and_back, through_registry


@dataclass
class Point:
    x: int


class Color(Enum):
    RED = 1


@pytest.mark.asyncio
async def test_known_classes_are_found_by_name() -> None:
    given = [DataclassMaterializer([Point, int, Point]), EnumMaterializer([Color])]
    assert await through_registry(Point(1), materializers=given) == Point(1)
    assert await through_registry(Color.RED, materializers=given) is Color.RED


def test_x1_only_those_and_none_of_the_same_name() -> None:
    twin = dataclass(type("Point", (), {"__annotations__": {"x": int}, "__module__": __name__}))
    twin.__qualname__ = "Point"
    for known in ([], [Color], [Point, twin]):
        with pytest.raises(MaterializationError, match="as_type=Point"):
            there_and_back(DataclassMaterializer(known), Point(1))
    files = DataclassMaterializer().encode(Point(1)).files
    for name in ("os.system", 5, None, ["x"]):
        with pytest.raises(MaterializationError, match="as_type"):
            DataclassMaterializer([Point]).decode(Encoded(files, {"class": name}), None)

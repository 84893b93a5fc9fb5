"""Classes of whoever loads, which are given as ``as_type``.

Their type hints are no text, because that is evaluated when it is looked at, and it is to be seen
that nothing else is.
"""

import dataclasses
import enum
from typing import Any

import msgspec
import pydantic


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: Any = 0
    color: Color | None = None


class Model(pydantic.BaseModel):
    x: int = 0
    rest: dict[str, Any] = {}


class Struct(msgspec.Struct):
    x: int = 0
    rest: dict[str, Any] = {}

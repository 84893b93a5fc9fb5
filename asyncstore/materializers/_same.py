"""Whether two objects are equal and of the same types throughout, and where they are not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, time, timezone
from typing import Any

from asyncstore.materializers._tags import type_name

Parts = Callable[[Any], Mapping[str, Any] | None]
"""The named parts of an object that is compared by them, or None."""


def difference(one: Any, other: Any, parts: Parts, path: str = "$") -> str | None:
    """The path of the first difference, and what it is; None if there is none.

    Not-a-number equals itself here, and True is not 1.
    """
    kind = type(one)
    if type(other) is not kind:
        return f"{path}: a {type_name(kind)} comes back as a {type_name(type(other))}"
    named = parts(one)
    if named is None and dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        return _by_key(
            {name: getattr(one, name, None) for name in names},
            {name: getattr(other, name, None) for name in names},
            parts,
            path,
        )
    if named is not None:
        return _by_key(named, parts(other) or {}, parts, path)
    if isinstance(one, Mapping):
        return _by_key(one, other, parts, path)
    if isinstance(one, (set, frozenset)):
        return _of_sets(one, other, path)
    if isinstance(one, Sequence) and not isinstance(one, (str, bytes, bytearray, memoryview)):
        return _in_order(one, other, parts, path)
    if isinstance(one, (datetime, time)):
        return _of_moments(one, other, path)
    if isinstance(one, (float, complex)):
        return None if repr(one) == repr(other) else f"{path}: {one!r} comes back as {other!r}"
    return None if one is other or bool(one == other) else f"{path}: it comes back changed"


def _in_order(one: Any, other: Any, parts: Parts, path: str) -> str | None:
    if len(one) != len(other):
        return f"{path}: {len(one):,} items come back as {len(other):,}"
    for index, (a, b) in enumerate(zip(one, other, strict=True)):
        found = difference(a, b, parts, f"{path}[{index}]")
        if found is not None:
            return found
    return None


def _by_key(one: Any, other: Any, parts: Parts, path: str) -> str | None:
    found = _in_order(list(one), list(other), parts, f"{path}.keys()")
    if found is not None:
        return found
    for a, b in zip(list(one), list(other), strict=True):
        step = f".{a}" if isinstance(a, str) else f"[{a!r:.40}]"
        found = difference(one[a], other[b], parts, path + step)
        if found is not None:
            return found
    return None


def _of_moments(one: Any, other: Any, path: str) -> str | None:
    """A fixed offset may come back as the same offset in another class, a time zone may not."""
    kinds = type(one.tzinfo), type(other.tzinfo)
    if kinds[0] is not kinds[1] and kinds[0] is not timezone:
        return f"{path}: the time zone {one.tzinfo!r} comes back as {other.tzinfo!r}"
    same = one == other and one.utcoffset() == other.utcoffset() and one.fold == other.fold
    return None if same else f"{path}: {one!r} comes back as {other!r}"


def _of_sets(one: Any, other: Any, path: str) -> str | None:
    # Equal items of different types are told apart by their types being counted.
    kinds = sorted(type_name(type(item)) for item in one)
    if one == other and kinds == sorted(type_name(type(item)) for item in other):
        return None
    return f"{path}: it comes back changed"

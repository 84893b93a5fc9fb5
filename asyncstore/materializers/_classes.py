"""Looking at dataclasses: which classes their hints reach, and which state an instance has."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from enum import Enum, EnumMeta
from functools import cached_property
from types import MemberDescriptorType
from typing import Any

from asyncstore.errors import MaterializationError
from asyncstore.materializers._tags import type_name


def is_dataclass_type(kind: type) -> bool:
    """Whether its instances are dataclasses; an enum with a dataclass mixed in is an enum."""
    return dataclasses.is_dataclass(kind) and not isinstance(kind, EnumMeta)


def class_key(kind: type) -> str:
    """How a class is named in stored data."""
    return f"{kind.__module__}:{kind.__qualname__}"


class Reached:
    """The dataclasses and enums that the type hints of a class reach, itself included.

    The hints are only looked at when a nested class is met.
    """

    def __init__(self, root: type) -> None:
        self._root = root

    @cached_property
    def _classes(self) -> list[type]:
        found: list[type] = []
        seen: dict[int, Any] = {}  # by identity, as hints need not be hashable; keeps them alive
        waiting: list[Any] = [self._root]
        while waiting:
            hint = waiting.pop()
            if id(hint) in seen:
                continue
            seen[id(hint)] = hint
            if not isinstance(hint, type):
                waiting += _inside(hint)
            elif isinstance(hint, EnumMeta):
                found.append(hint)
            elif is_dataclass_type(hint):
                found.append(hint)
                waiting += _field_hints(hint)
        return found

    def key_of(self, kind: type) -> str:
        """The name to store, if loading will find this very class by it."""
        key = class_key(kind)
        if [reached for reached in self._classes if class_key(reached) == key] == [kind]:
            return key
        raise MaterializationError(
            f"loading could not find the class {type_name(kind)}: nothing is imported by a stored "
            f"name, and the type hints of {type_name(self._root)} do not name this class (or two "
            f"of this name); add it to the hint of the field, as in x: {kind.__name__} | None"
        )

    def by_key(self, key: str) -> type:
        """The class of a stored name, or the only one of this name if its module has moved."""
        named = [kind for kind in self._classes if class_key(kind) == key]
        qualname = key.rpartition(":")[2]
        moved = [kind for kind in self._classes if kind.__qualname__ == qualname]
        for found in (named, moved):
            if len(found) == 1:
                return found[0]
        raise MaterializationError(
            f"the type hints of {type_name(self._root)} name no class {ascii(key)[:200]}, or "
            "several; load with as_type= the class that it was saved with"
        )


def _field_hints(kind: type) -> list[Any]:
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception:  # a class inside a function does not see its own name
        hints = _hints_of_local(kind)
    return [hints[field.name] for field in dataclasses.fields(kind) if field.name in hints]


def _hints_of_local(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, localns={kind.__name__: kind}, include_extras=True)
    except Exception as error:
        raise MaterializationError(
            f"the type hints of {type_name(kind)} cannot be resolved ({error}); define the "
            "classes that they name at the top of a module and import them outside TYPE_CHECKING"
        ) from error


def _inside(hint: Any) -> list[Any]:
    """What a hint that is no class is made of."""
    if isinstance(hint, Enum):  # Literal[Color.RED]
        return [type(hint)]
    parts = [getattr(hint, name, None) for name in ("__supertype__", "__bound__", "__value__")]
    return [typing.get_origin(hint), *typing.get_args(hint), *parts]


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """What a dataclass lets its instances hold, found out once for many instances."""

    name: str
    fields: tuple[str, ...]
    ignored: frozenset[str]
    other_slots: tuple[Any, ...]

    @classmethod
    def of(cls, kind: type) -> Shape:
        """Refuses classes of which ``object.__new__`` makes no full instance."""
        _require_plain_new(kind)
        fields = tuple(field.name for field in dataclasses.fields(kind))
        _require_plain_fields(kind, fields)
        attributes = [item for base in kind.__mro__ for item in vars(base).items()]
        cached = {name for name, found in attributes if isinstance(found, cached_property)}
        slots = tuple(
            found
            for name, found in attributes
            if isinstance(found, MemberDescriptorType) and name not in fields
        )
        return cls(type_name(kind), fields, frozenset({*fields, *cached}), slots)

    def fields_of(self, obj: Any) -> dict[str, Any]:
        """The values of all fields; refuses an instance that has more, or less, than these."""
        extra = [name for name in list(getattr(obj, "__dict__", ())) if name not in self.ignored]
        extra += [slot.__name__ for slot in self.other_slots if _is_set(slot, obj)]
        if extra:
            raise MaterializationError(
                f"this {self.name} has the attribute {extra[0]!r}, which is no field and would "
                "not come back: make it a field (init=False if need be), or remove it"
            )
        try:
            return {name: object.__getattribute__(obj, name) for name in self.fields}
        except AttributeError as error:
            raise MaterializationError(
                f"a field of this {self.name} has no value ({error}); set it before saving"
            ) from error


def _is_set(slot: Any, obj: Any) -> bool:
    try:
        slot.__get__(obj)
    except AttributeError:
        return False
    return True


def _require_plain_fields(kind: type, names: tuple[str, ...]) -> None:
    for name in names:
        found: object = inspect.getattr_static(kind, name, None)
        if hasattr(type(found), "__set__") and not isinstance(found, MemberDescriptorType):
            raise MaterializationError(
                f"the field {name!r} of {type_name(kind)} is a {type_name(type(found))}, which "
                "keeps its value elsewhere; make it a plain field"
            )


def _require_plain_new(kind: type) -> None:
    try:
        object.__new__(kind)
    except TypeError as error:
        raise MaterializationError(
            f"{type_name(kind)} cannot be rebuilt from its fields ({error}); make what it "
            "inherits from a field"
        ) from error
    new: object = kind.__new__
    if new is object.__new__:
        return
    try:
        inspect.signature(kind.__new__).bind(kind)
    except TypeError as error:
        raise MaterializationError(
            f"{type_name(kind)} cannot be rebuilt from its fields: its __new__ needs arguments "
            f"({error}); give them defaults"
        ) from error

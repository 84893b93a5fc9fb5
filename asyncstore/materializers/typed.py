"""The materializers for dataclasses and enums, which the caller of ``load`` has to name.

Nothing is imported by a stored name: ``as_type`` is the root, and the classes inside it are those
that its type hints reach.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from enum import Enum, EnumMeta, Flag
from typing import Any, cast

from asyncstore.errors import MaterializationError
from asyncstore.materializers._classes import Reached, Shape, is_dataclass_type
from asyncstore.materializers._tags import kind_of, shown, type_name
from asyncstore.materializers.base import Encoded, Params
from asyncstore.materializers.basic import only_file
from asyncstore.materializers.values import decode_value, encode_value, is_large


class DataclassMaterializer:
    """Dataclasses whose fields hold JSON-like values, enums and dataclasses that its hints reach.

    All fields come back, without ``__init__`` or ``__post_init__`` being run. Their values are what
    was stored and not compared with the type hints. ``known`` are classes that are found without
    ``as_type``.
    """

    id = "dataclass"
    types: tuple[type, ...] = ()

    def __init__(self, known: Iterable[type] = ()) -> None:
        self._known = tuple(known)

    def accepts(self, kind: type) -> bool:
        """Every dataclass that is no enum."""
        return is_dataclass_type(kind)

    def is_large(self, obj: object) -> bool:
        """An estimate from at most about a thousand nodes."""
        return is_large(obj, parts=_parts)

    def encode(self, obj: object) -> Encoded:
        """Refuses what would not come back, by the path of the field."""
        kind = type(obj)
        if not is_dataclass_type(kind):
            raise MaterializationError(
                f"expected an instance of a dataclass, not a {type_name(kind)}"
            )
        nested = _TypedValues(kind)
        fields = nested.fields_of(obj)
        return Encoded({"data.json": encode_value(fields, nested=nested)}, _params(kind))

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """Needs ``as_type`` or a known class: it, or another that has the stored fields."""
        kind = class_to_load(as_type, encoded.params, is_dataclass_type, "dataclass", self._known)
        nested = _TypedValues(kind)
        fields = decode_value(only_file(encoded, "data.json"), nested=nested)
        return _rebuilt(kind, fields)


class EnumMaterializer:
    """Members of enums by name, combined flags by value.

    ``known`` are enums that are found without ``as_type``.
    """

    id = "enum"
    types: tuple[type, ...] = (Enum,)

    def __init__(self, known: Iterable[type] = ()) -> None:
        self._known = tuple(known)

    def accepts(self, kind: type) -> bool:
        """Every enum, those with a value type as well."""
        return isinstance(kind, EnumMeta)

    def is_large(self, obj: object) -> bool:
        """Never."""
        return False

    def encode(self, obj: object) -> Encoded:
        """Refuses what its class would not give back by name or value."""
        kind = type(obj)
        if not isinstance(kind, EnumMeta):
            raise MaterializationError(f"expected the member of an enum, not a {type_name(kind)}")
        return Encoded({"data.json": encode_value(_member_key(obj))}, _params(kind))

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """Needs ``as_type`` or a known class: the enum."""
        kind = class_to_load(as_type, encoded.params, self.accepts, "enum", self._known)
        return _member(kind, decode_value(only_file(encoded, "data.json")))


class _TypedValues:
    """What the value codec is taught: the dataclasses and enums that one class reaches."""

    def __init__(self, root: type) -> None:
        self._reached = Reached(root)
        self._shapes: dict[type, Shape] = {}

    def fields_of(self, obj: object) -> dict[str, Any]:
        kind = type(obj)
        if kind not in self._shapes:
            self._shapes[kind] = Shape.of(kind)
        return self._shapes[kind].fields_of(obj)

    def to_tagged(self, value: object) -> tuple[str, str, Any] | None:
        kind = type(value)
        if isinstance(kind, EnumMeta):
            return "$enum", self._reached.key_of(kind), _member_key(value)
        if is_dataclass_type(kind):
            return "$dataclass", self._reached.key_of(kind), self.fields_of(value)
        return None

    def from_tagged(self, tag: str, name: str, content: Any) -> Any:
        kind = self._reached.by_key(name)
        if tag == "$enum" and isinstance(kind, EnumMeta):
            return _member(kind, content)
        if tag == "$dataclass" and is_dataclass_type(kind):
            return _rebuilt(kind, content)
        raise MaterializationError(f"{tag[:40]!a} does not fit {type_name(kind)}")


def _parts(obj: object) -> list[Any]:
    """The values of a dataclass's fields, as far as they are set."""
    kind = cast("type[Any]", type(obj))
    fields = dataclasses.fields(kind) if is_dataclass_type(kind) else ()
    return [getattr(obj, field.name, None) for field in fields]


def _params(kind: type) -> Params:
    return {"class": type_name(kind)}


def class_to_load(
    as_type: object,
    params: Params,
    fits: Callable[[type], bool],
    what: str,
    known: Iterable[type] = (),
) -> type:
    """The class to load as, or the advice to name it.

    It is ``as_type``, or without it the one of ``known`` that has the stored name.
    """
    if isinstance(as_type, type) and fits(as_type):
        return as_type
    if as_type is None:
        named = {kind for kind in known if fits(kind) and type_name(kind) == params.get("class")}
        if len(named) == 1:
            return named.pop()
    name = ascii(str(params.get("class")))[1:-1][:200]
    given = "" if as_type is None else f", and {as_type!r} is no {what}"
    raise MaterializationError(
        f"the stored object is of the {what} {name}, which is never imported by name{given}: "
        f"import it and type load(..., as_type={name.rpartition('.')[2]})"
    )


def _rebuilt(kind: type, stored: Any) -> Any:
    """An instance with these fields, made without running code of its class but defaults."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if kind_of(stored) is not dict:
        raise MaterializationError(f"the stored fields of {type_name(kind)} are no dict")
    given: dict[Any, Any] = stored
    unknown = [name for name in given if name not in fields]
    if unknown:
        raise MaterializationError(f"{type_name(kind)} has no field {shown(unknown[0])}")
    try:
        made = cast(object, object.__new__(kind))
        for name, field in fields.items():
            value = given[name] if name in given else _default(kind, field)
            object.__setattr__(made, name, value)
    except (MaterializationError, MemoryError):
        raise
    except Exception as error:  # an abstract class, a read-only property, a default factory
        raise MaterializationError(f"{type_name(kind)} cannot be rebuilt: {error}") from error
    return made


def _default(kind: type, field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise MaterializationError(
        f"the field {field.name!r} of {type_name(kind)} is not stored and has no default; give it "
        "one, or load with as_type= a class without this field"
    )


def _member_key(member: object) -> str | int:
    """The name of a member; the value of a combination of flags."""
    kind = cast(EnumMeta, type(member))
    name = getattr(member, "_name_", None)
    if type(name) is str and kind.__members__.get(name) is member:
        return name
    value = getattr(member, "_value_", None)
    if issubclass(kind, Flag) and type(value) is int and _same_flags(kind, value) is member:
        return value
    raise MaterializationError(
        f"{name!a} is no member that {type_name(kind)} would give back; save one of its own"
    )


def _member(kind: Any, key: Any) -> Any:
    found = kind.__members__.get(key) if type(key) is str else None
    if found is None and type(key) is int and issubclass(kind, Flag):
        found = _same_flags(kind, key)
    if found is None:
        raise MaterializationError(f"{type_name(kind)} has no member {shown(key)}")
    return found


def _same_flags(kind: Any, value: int) -> Any:
    """The combination of flags, or None where the class makes something else of the value."""
    try:
        combined = kind(value)
    except Exception:  # whatever a _missing_ hook raises
        return None
    return combined if type(combined) is kind and combined.value == value else None

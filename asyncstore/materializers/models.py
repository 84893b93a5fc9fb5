"""pydantic models, as the JSON that pydantic writes of them.

The class is never imported by its stored name: whoever loads names it with ``as_type``, or has
given it to the materializer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from asyncstore.errors import MaterializationError
from asyncstore.materializers._library import decoding, encoding, library, loaded
from asyncstore.materializers._same import difference
from asyncstore.materializers._tags import type_name
from asyncstore.materializers.base import Encoded
from asyncstore.materializers.basic import only_file
from asyncstore.materializers.typed import class_to_load
from asyncstore.materializers.values import LARGE, is_large

_FILE = "data.json"


class PydanticMaterializer:
    """Models of pydantic whose JSON makes an equal model again, with the same types throughout.

    Whether it does is found out at save, by validating the JSON and comparing. Loading validates
    with the class as it is then, so its validators run. ``known`` are classes that are found
    without ``as_type``. Which fields were set and which are defaults is not kept, and fixed offsets
    of times come back in pydantic's own class for them.
    """

    id = "pydantic"

    def __init__(self, known: Iterable[type] = ()) -> None:
        self._known = tuple(known)

    @property
    def types(self) -> tuple[type, ...]:
        """The base class of all models."""
        return loaded("pydantic.main", "BaseModel")

    def accepts(self, kind: type) -> bool:
        """Every model."""
        return issubclass(kind, self.types)

    def is_large(self, obj: Any) -> bool:
        """An estimate from at most about a thousand nodes, for writing and reading."""
        return is_large(obj, LARGE // 4, parts=_values)

    def encode(self, obj: Any) -> Encoded:
        """Refuses a model that its JSON does not give back, by the path of the field."""
        library("pydantic", extra="pydantic")
        kind = type(obj)
        if not self.accepts(kind):
            raise MaterializationError(f"expected a pydantic model, not a {type_name(kind)}")
        with encoding(f"model {type_name(kind)}"):
            text: str = obj.model_dump_json(round_trip=True, by_alias=False, warnings="error")
            data = text.encode("utf-8")
        try:
            back = _validated(kind, data)
        except MaterializationError as error:
            raise MaterializationError(
                f"cannot save this {type_name(kind)}, since its own JSON does not validate: "
                f"{error}; make the fields' serializers and validators fit"
            ) from error
        with encoding(f"model {type_name(kind)}"):
            found = difference(obj, back, _parts)
        if found is not None:
            raise MaterializationError(
                f"cannot save this {type_name(kind)}, since JSON does not give it back: "
                f"{found:.300}; name the exact type in the field's hint, or leave it out"
            )
        return Encoded({_FILE: data}, {"class": type_name(kind)})

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """Needs ``as_type`` or a known class: the model, or another one that validates."""
        data = only_file(encoded, _FILE)
        library("pydantic", extra="pydantic")
        kind = class_to_load(as_type, encoded.params, self.accepts, "pydantic model", self._known)
        return _validated(kind, data)


def _validated(kind: Any, data: bytes) -> Any:
    with decoding(f"{type_name(kind)}"):
        return kind.model_validate_json(data, by_alias=False, by_name=True)


def _parts(obj: Any) -> Mapping[str, Any] | None:
    """Fields, extra fields and private attributes of a model."""
    if not isinstance(obj, loaded("pydantic.main", "BaseModel")):
        return None
    model: Any = obj
    names = type(model).model_fields  # the value of a cached_property is beside them
    fields = {name: value for name, value in model.__dict__.items() if name in names}
    extra: dict[str, Any] = model.__pydantic_extra__ or {}
    private: dict[str, Any] = model.__pydantic_private__ or {}
    return {**fields, **extra, **private}


def _values(obj: Any) -> list[Any]:
    named = _parts(obj)
    return [] if named is None else list(named.values())

"""What JSON has no notation for, as an object with one key, its tag; and back.

Encoding is exact or raises :class:`Refused`. Decoding takes only what encoding writes.
"""

from __future__ import annotations

import math
import re
import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from types import NoneType
from typing import Any, TypeVar, cast
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

MAX_EQUAL_HASHES = 100
"""How many keys of one set or dictionary may collide: with more, building it is quadratic."""

_INT64 = 2**63
_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_Moment = TypeVar("_Moment", datetime, time)


class Refused(Exception):
    """A value that cannot be kept; every container on the way up adds its step to the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.steps: list[str] = []


def kind_of(value: object) -> type:
    """``type(value)``, without type checkers taking the value for a list of unknown items."""
    return type(value)


def type_name(kind: type) -> str:
    """The name for messages and metadata: with the module, unless it is a builtin."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def shown(value: object) -> str:
    """A value for messages, in ASCII and short; of a huge number Python writes no decimals."""
    try:
        return ascii(value)[:80]
    except ValueError:
        return "a number of very many digits"


def is_plain(items: list[Any]) -> bool:
    """Whether JSON keeps all of these as they are, found out at C speed for lists of one type."""
    kinds = set(map(type, items))
    if kinds == {int}:
        return bool(min(items) >= -_INT64 and max(items) < _INT64)
    if kinds == {float}:
        return all(map(math.isfinite, items))
    return kinds == {str} and all(map(str.isascii, items))


def is_plain_key(key: Any) -> bool:
    """Whether a JSON object can have this key."""
    return type(key) is str and key[:1] != "$" and (key.isascii() or _str(key) is key)


def hashable(items: list[Any]) -> list[Any]:
    """Only what makes as many keys of a set or dictionary, and in linear time."""
    try:
        crowd = len(items) - len(set(map(hash, items)))
        if crowd <= MAX_EQUAL_HASHES and len(set(items)) == len(items):
            return items
    except Exception as error:  # whatever a user's __hash__ or __eq__ raises
        raise Refused(f"its keys cannot be hashed and compared: {error}") from error
    if crowd > MAX_EQUAL_HASHES:
        raise Refused(f"more than {MAX_EQUAL_HASHES} of its keys have equal hashes; use a list")
    raise Refused("some of its keys are equal; were they changed after they were put in?")


# Values to trees


def _same(value: Any) -> Any:
    return value


def _str(value: str) -> Any:
    # JSON joins the two halves of a surrogate pair to one character, which Python keeps apart.
    if value.isascii() or not _SURROGATE_PAIR.search(value):
        return value
    return {"$str": _base64(value.encode("utf-8", "surrogatepass"))}


def _int(value: int) -> Any:
    return value if -_INT64 <= value < _INT64 else {"$int": f"{value:x}"}


def _float(value: float) -> Any:
    return value if math.isfinite(value) else {"$float": struct.pack(">d", value).hex()}


def _complex(value: complex) -> Any:
    return {"$complex": [_float(value.real), _float(value.imag)]}


def _base64(value: bytes | bytearray) -> str:
    return b2a_base64(value, newline=False).decode("ascii")


def _bytes(value: bytes | bytearray) -> Any:
    return {f"${type(value).__name__}": _base64(value)}


def _date(value: date) -> Any:
    return {"$date": value.isoformat()}


def _moment(value: datetime | time) -> Any:
    naive = value.replace(tzinfo=None).isoformat()
    return {f"${type(value).__name__}": [naive, value.fold, _zone(value.tzinfo)]}


def _zone(zone: tzinfo | None) -> Any:
    if type(zone) not in (NoneType, timezone, ZoneInfo):
        raise Refused(
            f"its time zone is a {type_name(type(zone))}, allowed are datetime.timezone and "
            "zoneinfo.ZoneInfo: convert it with .astimezone(ZoneInfo(...)) first"
        )
    return SCALARS[type(zone)](zone)


def _timezone(zone: timezone) -> Any:
    offset, *name = cast("tuple[Any, ...]", zone.__reduce__()[1])
    if type(offset) is not timedelta or any(type(part) is not str for part in name):
        raise Refused("the offset and the name of the time zone must be a timedelta and a str")
    return {"$timezone": [_timedelta(offset), *map(_str, name)]}


def _zoneinfo(zone: ZoneInfo) -> Any:
    # Another instance than the key stands for may have other rules, and compares unequal.
    key: Any = zone.key
    try:
        if type(key) is str and ZoneInfo(key) is zone:
            return {"$zoneinfo": key}
    except (ValueError, LookupError, OSError):
        pass
    raise Refused(f"the time zone is not ZoneInfo({key!a}), which would come back: use that one")


def _timedelta(value: timedelta) -> Any:
    return {"$timedelta": [value.days, value.seconds, value.microseconds]}


def _decimal(value: Decimal) -> Any:
    return {"$decimal": str(value).upper()}  # the case of its E depends on the decimal context


def _uuid(value: UUID) -> Any:
    if type(value.is_safe) is not SafeUUID:
        raise Refused("its is_safe is no uuid.SafeUUID")
    return {"$uuid": [str(value), value.is_safe.value]}


SCALARS: dict[type, Callable[[Any], Any]] = {
    NoneType: _same,
    bool: _same,
    int: _int,
    float: _float,
    complex: _complex,
    str: _str,
    bytes: _bytes,
    bytearray: _bytes,
    datetime: _moment,
    date: _date,
    time: _moment,
    timedelta: _timedelta,
    timezone: _timezone,
    ZoneInfo: _zoneinfo,
    Decimal: _decimal,
    UUID: _uuid,
}
"""The tree of a value, for each type that contains no other values."""


# Contents of tags to values; what they contain has been decoded before


def _like(content: Any, *kinds: type) -> Any:
    """A list whose items are of exactly these types."""
    if tuple(map(type, as_list(content))) != kinds:
        raise ValueError(f"expected {', '.join(kind.__name__ for kind in kinds)}")
    return content


def as_text(content: Any) -> str:
    """The content, if it is one str."""
    if type(content) is not str:
        raise ValueError("expected text")
    return content


def as_list(content: Any) -> list[Any]:
    """The content, if it is a list."""
    if kind_of(content) is not list:
        raise ValueError("expected a list")
    found: list[Any] = content
    return found


def _as_written(value: Any, text: str, expected: str) -> Any:
    if text != expected:
        raise ValueError(f"{text[:40]!a} is not how {type(value).__name__} is written")
    return value


def _to_str(content: Any) -> str:
    return a2b_base64(as_text(content), strict_mode=True).decode("utf-8", "surrogatepass")


def _to_int(content: Any) -> Any:
    value = int(as_text(content), 16)
    return _as_written(value, content, f"{value:x}")


def _to_float(content: Any) -> float:
    value = struct.unpack(">d", bytes.fromhex(as_text(content)))[0]
    return cast(float, _as_written(value, content, struct.pack(">d", value).hex()))


def _to_complex(content: Any) -> complex:
    real, imag = _like(content, float, float)
    return complex(real, imag)


def _to_bytes(content: Any) -> bytes:
    return a2b_base64(as_text(content), strict_mode=True)


def _to_bytearray(content: Any) -> bytearray:
    return bytearray(_to_bytes(content))


def _to_tuple(content: Any) -> tuple[Any, ...]:
    return tuple(as_list(content))


def _to_set(content: Any) -> set[Any]:
    return set(hashable(as_list(content)))


def _to_frozenset(content: Any) -> frozenset[Any]:
    return frozenset(hashable(as_list(content)))


def _to_dict(content: Any) -> dict[Any, Any]:
    pairs = as_list(content)
    if any(type(pair) is not list or len(pair) != 2 for pair in pairs):
        raise ValueError("expected pairs of key and value")
    hashable([key for key, _ in pairs])
    return dict(pairs)


def _to_date(content: Any) -> Any:
    value = date.fromisoformat(as_text(content))
    return _as_written(value, content, value.isoformat())


def _to_datetime(content: Any) -> datetime:
    return _to_moment(datetime.fromisoformat, content)


def _to_time(content: Any) -> time:
    return _to_moment(time.fromisoformat, content)


def _to_moment(parse: Callable[[str], _Moment], content: Any) -> _Moment:
    text, fold, zone = as_list(content)
    _like([text, fold], str, int)
    if type(zone) not in (NoneType, timezone, ZoneInfo):
        raise ValueError("expected a time zone")
    naive = parse(text).replace(tzinfo=None)
    return cast("_Moment", _as_written(naive, text, naive.isoformat())).replace(
        fold=fold, tzinfo=zone
    )


def _to_timedelta(content: Any) -> Any:
    value = timedelta(*_like(content, int, int, int))
    if _timedelta(value)["$timedelta"] != content:
        raise ValueError("expected days, seconds and microseconds in their ranges")
    return value


def _to_timezone(content: Any) -> timezone:
    parts = as_list(content)
    return timezone(*_like(parts, *(timedelta, str)[: len(parts)]))


def _to_zoneinfo(content: Any) -> ZoneInfo:
    return ZoneInfo(as_text(content))


def _to_decimal(content: Any) -> Any:
    value = Decimal(as_text(content))
    return _as_written(value, content, str(value).upper())


def _to_uuid(content: Any) -> Any:
    text, safe = as_list(content)
    value = UUID(as_text(text), is_safe=SafeUUID(safe))
    return _as_written(value, text, str(value))


TAGS: dict[str, Callable[[Any], Any]] = {
    "$bytearray": _to_bytearray,
    "$bytes": _to_bytes,
    "$complex": _to_complex,
    "$date": _to_date,
    "$datetime": _to_datetime,
    "$decimal": _to_decimal,
    "$dict": _to_dict,
    "$float": _to_float,
    "$frozenset": _to_frozenset,
    "$int": _to_int,
    "$set": _to_set,
    "$str": _to_str,
    "$time": _to_time,
    "$timedelta": _to_timedelta,
    "$timezone": _to_timezone,
    "$tuple": _to_tuple,
    "$uuid": _to_uuid,
    "$zoneinfo": _to_zoneinfo,
}
"""The value of a tag's content, by tag."""

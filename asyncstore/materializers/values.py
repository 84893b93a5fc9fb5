"""JSON-like values as bytes and back: equal and of exactly the same types, or refused at save.

The encoding is ASCII JSON. What JSON has no notation for is an object with one key, its tag, as in
``{"$tuple": [1, 2]}``; a dictionary that could be taken for one is written as ``{"$dict": [...]}``.
Decoding runs and imports nothing that the data names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import accumulate, chain, islice
from typing import Any, NoReturn, Protocol, cast

from asyncstore.errors import MaterializationError
from asyncstore.materializers._tags import (
    SCALARS,
    TAGS,
    Refused,
    as_list,
    as_text,
    hashable,
    is_plain,
    is_plain_key,
    kind_of,
    type_name,
)

MAX_NESTING = 100
"""How many containers deep a value may be."""

MAX_TREE_NESTING = 16
"""The same for :func:`to_tree`, so that its JSON stays less than 56 levels deep."""

LARGE = 64 * 1024
"""How many bytes are too many to encode on an event loop."""

_JSON_DEPTH = 3 * MAX_NESTING + 8  # {"$dict": [[key, value]]} is three levels, a datetime six
_VISITS = 1000
_NODE = 16  # what a small node counts for in ``is_large``
_LENGTHS: dict[type, Callable[[Any], int]] = {
    str: len,
    bytes: len,
    bytearray: len,
    int: int.bit_length,  # in bits, as its digits cost more than characters
}
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_STEPS = {ord("["): 1, ord("]"): -1}
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))


class Nested(Protocol):
    """Teaches the codec more types: a value of one becomes ``{tag: [name, content]}``."""

    def to_tagged(self, value: Any) -> tuple[str, str, Any] | None:
        """Tag, name and content, which is encoded in turn; None for a type it does not know."""
        ...

    def from_tagged(self, tag: str, name: str, content: Any) -> Any:
        """The value again, or a MaterializationError."""
        ...


def encode_value(value: Any, *, nested: Nested | None = None) -> bytes:
    """Encode so that :func:`decode_value` gives back an equal value of the same types throughout.

    Equal sets give equal bytes. Raises MaterializationError with the path of what cannot be kept.
    """
    encoder = _Encoder(MAX_NESTING, nested)
    text: str = _saving(lambda: _dump(encoder.tree(value, MAX_NESTING)))
    return text.encode("ascii")


def decode_value(data: bytes, *, nested: Nested | None = None) -> Any:
    """Decode in linear time; whatever the bytes are, only MaterializationError is raised."""
    try:
        if _is_too_deep(data):
            raise ValueError("it is nested too deeply")
        text = data.decode("ascii")
        if b'"$' not in data:  # no tags: without a hook the scanner is several times faster
            return _PLAIN.decode(text)
        return (_TAGGED if nested is None else _decoder(nested)).decode(text)
    except (MaterializationError, MemoryError):
        raise
    except Exception as error:  # also of a user's __hash__, which hostile values may upset
        detail = ascii(str(error))[1:-1][:200]
        raise MaterializationError(f"these bytes are no stored value: {detail}") from error


def to_tree(value: object) -> dict[str, Any]:
    """Encode a dictionary with str keys as a JSON tree; the order of keys counts."""
    if not _has_str_keys(value):
        raise MaterializationError("cannot save $: expected a dict with keys of type str only")
    encoder = _Encoder(MAX_TREE_NESTING, None)
    return cast("dict[str, Any]", _saving(lambda: encoder.tree(value, MAX_TREE_NESTING)))


def from_tree(tree: Any) -> dict[str, Any]:
    """The dictionary again; whatever the tree is, only MaterializationError is raised."""
    try:
        data = _dump(tree).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise MaterializationError(f"this is no tree of a stored value: {error}") from error
    value = decode_value(data)
    if not _has_str_keys(value):
        raise MaterializationError("expected the tree of a dict with str keys")
    return cast("dict[str, Any]", value)


def is_large(
    value: object, budget: int = LARGE, *, parts: Callable[[Any], Iterable[Any]] | None = None
) -> bool:
    """Estimate, from at most about a thousand nodes, if encoding exceeds ``budget`` bytes of work.

    In doubt it is large. ``parts`` opens objects that the codec does not know.
    """
    work = 0
    waiting: list[object] = [value]
    for _ in range(_VISITS):
        if work > budget:
            return True
        if not waiting:
            return False
        node = waiting.pop()
        kind = type(node)
        if kind in _LENGTHS:
            work += _LENGTHS[kind](node)
        elif kind in _CONTAINERS:
            inner = _opened(node, budget // _NODE)
            work += _NODE * (1 + len(inner))
            waiting += inner
        elif kind not in SCALARS and parts is not None:
            waiting += parts(node)
    return True


def _opened(container: Any, limit: int) -> list[object]:
    """What is in it, up to one more than the limit."""
    try:
        inner = chain(container, container.values() if kind_of(container) is dict else ())
        return list(islice(inner, limit + 1))
    except RuntimeError:  # another thread is changing it
        return [None] * (limit + 1)


def _has_str_keys(value: object) -> bool:
    if type(value) is not dict:
        return False
    return all(type(key) is str for key in list(cast("dict[object, object]", value)))


class _Encoder:
    """Turns a value into a tree of what JSON keeps as it is, sharing no container with it."""

    def __init__(self, limit: int, nested: Nested | None) -> None:
        self._limit = limit
        self._nested = nested

    def tree(self, value: object, room: int) -> Any:
        kind = type(value)
        if kind in SCALARS:
            return SCALARS[kind](value)
        container = _CONTAINERS.get(kind)
        if container is None:
            return self._extra(value, kind, room)
        if room == 0:
            raise Refused(
                f"it is inside {self._limit} containers; either it contains itself, which cannot "
                "be stored, or it must be made flatter"
            )
        return container(self, value, room - 1)

    def from_list(self, value: Any, room: int) -> Any:
        return self._items(list(value), room, "[{}]".format)

    def from_tuple(self, value: Any, room: int) -> Any:
        return {"$tuple": self.from_list(value, room)}

    def from_set(self, value: Any, room: int) -> Any:
        trees = self._items(hashable(list(value)), room, lambda _: "{}")
        return {f"${type(value).__name__}": sorted(trees, key=_dump)}

    def from_dict(self, value: Any, room: int) -> Any:
        pairs: list[tuple[Any, object]] = list(
            value.items()
        )  # at once: another thread may be changing it
        keys = [key for key, _ in pairs]
        if not all(map(is_plain_key, keys)):
            return self._from_pairs(keys, [item for _, item in pairs], room)
        tree: dict[str, Any] = {}
        key = ""
        try:
            for key, item in pairs:
                scalar = SCALARS.get(type(item))
                tree[key] = self.tree(item, room) if scalar is None else scalar(item)
        except Refused as refused:
            refused.steps.append(_step(key))
            raise
        return tree

    def _from_pairs(self, keys: list[Any], items: list[object], room: int) -> Any:
        trees = self._items(items, room, lambda index: _step(keys[index]))
        key_trees = self._items(hashable(keys), room, lambda _: ".keys()")
        return {"$dict": [[key, tree] for key, tree in zip(key_trees, trees, strict=True)]}

    def _items(self, items: list[object], room: int, step: Callable[[int], str]) -> list[Any]:
        """The trees of a list that nobody else has; ``step`` names the place of a refused one."""
        if len(items) > 8 and is_plain(items):
            return items
        trees: list[Any] = []
        try:
            for item in items:
                scalar = SCALARS.get(type(item))
                trees.append(self.tree(item, room) if scalar is None else scalar(item))
        except Refused as refused:
            refused.steps.append(step(len(trees)))
            raise
        return trees

    def _extra(self, value: Any, kind: type, room: int) -> Any:
        try:
            tagged = self._nested.to_tagged(value) if self._nested is not None else None
        except MaterializationError as error:
            raise Refused(str(error)) from error
        if tagged is None:
            raise Refused(_unknown(kind))
        tag, name, content = tagged
        return {tag: [name, self.tree(content, room)]}


_CONTAINERS: dict[type, Callable[[_Encoder, Any, int], Any]] = {
    list: _Encoder.from_list,
    tuple: _Encoder.from_tuple,
    dict: _Encoder.from_dict,
    set: _Encoder.from_set,
    frozenset: _Encoder.from_set,
}

SUPPORTED: tuple[type, ...] = (*SCALARS, *_CONTAINERS)
"""The types that the codec keeps, exactly these and no subclass of them."""


def _saving(encode: Callable[[], Any]) -> Any:
    """Give every way in which encoding fails its message."""
    try:
        return encode()
    except Refused as refused:
        path = "$" + "".join(reversed(refused.steps))
        path = path if len(path) <= 200 else f"{path[:100]}...{path[-97:]}"
        raise MaterializationError(f"cannot save {path}: {refused}") from refused.__cause__
    except RecursionError:
        reason = "the call stack is too deep here for a value that is nested like this one"
        raise MaterializationError(f"cannot save $: {reason}") from None
    except RuntimeError as error:  # a dict or set changed its size
        reason = "the value changed while it was being saved; save a copy"
        raise MaterializationError(f"cannot save $: {reason} ({error})") from error


def _step(key: Any) -> str:
    if type(key) is not str:
        return f"[{type(key).__name__} key]"
    return f".{key}" if key.isascii() and key.isidentifier() else f"[{key[:40]!a}]"


def _unknown(kind: type) -> str:
    near = next((base for base in kind.__mro__[1:] if base in SUPPORTED), None)
    allowed = ", ".join(known.__name__ for known in SUPPORTED[1:])
    advice = (
        "convert it to one of them, or save it by itself with a materializer for its type"
        if near is None
        else f"convert it with {near.__name__}(...)"
    )
    return f"a {type_name(kind)} would not come back; allowed are None, {allowed}: {advice}"


def _is_too_deep(data: bytes) -> bool:
    """Whether brackets outside strings nest deeper than encoding writes. A few passes in C."""
    if data.count(b"[") + data.count(b"{") <= _JSON_DEPTH:
        return False
    unescaped = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = unescaped.translate(_BRACKETS, _NO_MARKS).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2]).replace(b"[]", b"")  # the innermost, most often all
    depth = 1 + max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)
    return depth > _JSON_DEPTH


def _dump(tree: Any) -> str:
    return _WRITER.encode(tree)


def _decoder(nested: Nested | None) -> json.JSONDecoder:
    """A decoder that replaces tagged objects, the innermost first."""

    def untagged(members: dict[str, Any]) -> Any:
        tags = [key for key in members if key[:1] == "$"]
        if not tags:
            return members
        if len(members) != 1:
            raise ValueError("a tag stands alone in its object")
        ((tag, content),) = members.items()
        if tag in TAGS:
            return TAGS[tag](content)
        if nested is None:
            raise ValueError(f"unknown tag {tag!a}; was it written by a newer version?")
        name, inner = as_list(content)
        return nested.from_tagged(tag, as_text(name), inner)

    return json.JSONDecoder(object_hook=untagged, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_WRITER = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":"))
_PLAIN = json.JSONDecoder(parse_constant=_refuse_constant)
_TAGGED = _decoder(None)

"""Object names and the form in which they become part of a backend's keys. Pure.

A name is almost any text. Its escaped form is lower-case ASCII, reversible, and injective even
where the backend folds case or normalises Unicode, so that no two names ever share a key, and no
name leaves its place ("..", absolute paths and device names are ordinary names).
Upper case is escaped as Go's module cache does it.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final

from asyncstore.errors import StoreKeyFormatError

MAX_NAME_BYTES: Final = 1024
"""Longest name, in bytes of UTF-8."""

MAX_ESCAPED: Final = 240
"""Longest escaped form; what would be longer is cut and ends in a digest of the name."""

_KEPT_OF_LONG: Final = 180
_LONG_MARK: Final = "!!"
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")
_LONG: Final = re.compile(r"(?s)(.*)!!([0-9a-f]{48})")
_TOKEN: Final = re.compile(r"[a-z0-9_.\-=,]|!(?:[0-7][0-9a-f]|[a-z])|\(((?:[0-9a-f]{2})+)\)")


def check_name(name: object) -> str:
    """Answer ``name`` if it may name an object, else raise StoreKeyFormatError."""
    if not isinstance(name, str):
        raise StoreKeyFormatError(f"a name must be a str, got {type(name).__name__} ({name!r:.80})")
    problem = _problem(name)
    if problem:
        raise StoreKeyFormatError(f"{name[:80]!r} cannot name an object: {problem}")
    return str(name)


def _problem(name: str) -> str | None:
    if not name:
        return "it is empty"
    if name != name.strip():
        hint = f"; did you mean {name.strip()[:80]!r}?" if name.strip() else ""
        return f"it has white space at its ends{hint}"
    if "@" in name:
        return "'@' stands between a name and its version"
    if "\0" in name:
        return "it holds a NUL character"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "it holds a lone surrogate, which is no text"
    if size > MAX_NAME_BYTES:
        return f"it has {size:,} bytes of UTF-8, and {MAX_NAME_BYTES:,} is the most"
    return None


@lru_cache(4096)  # every request of an operation needs it again
def escape_name(name: str) -> str:
    """The key segment of ``name``: at most 240 characters of ``[a-z0-9_.,=!()-]``."""
    tokens = _tokens(name.encode())
    if _DEVICE.match(name) or tokens[0] in {".", "-", "_"}:
        tokens[0] = f"!{ord(tokens[0]):02x}"
    if tokens[-1] == ".":
        tokens[-1] = "!2e"
    escaped = "".join(tokens)
    return escaped if len(escaped) <= MAX_ESCAPED else _shortened(tokens, name)


def unescape_name(segment: str) -> str | None:
    """The name whose escaped form is exactly ``segment``.

    None where there is no such name (the key is foreign), or where the form is a long one, which
    only its record can spell out (see :func:`is_long`).
    """
    out = bytearray()
    at = 0
    while at < len(segment):
        token = _TOKEN.match(segment, at)
        if token is None:
            return None
        out += _decoded(token)
        at = token.end()
    try:
        name = out.decode()
    except UnicodeDecodeError:
        return None
    return name if _problem(name) is None and escape_name(name) == segment else None


def is_long(segment: str) -> bool:
    """Whether ``segment`` has the form of a name too long to be spelt out in a key."""
    match = _LONG.fullmatch(segment)
    return match is not None and len(match[1]) <= _KEPT_OF_LONG and segment.isascii()


def _tokens(data: bytes) -> list[str]:
    tokens: list[str] = []
    run = bytearray()
    for byte in data:
        if byte >= 0x80:
            run.append(byte)
            continue
        if run:
            tokens.append(f"({run.hex()})")
            run.clear()
        tokens.append(_ascii_token(chr(byte)))
    if run:
        tokens.append(f"({run.hex()})")
    return tokens


def _ascii_token(char: str) -> str:
    if char.islower() or char.isdigit() or char in "_.-":
        return char
    if char.isupper():
        return "!" + char.lower()
    return {":": "=", "/": ","}.get(char, f"!{ord(char):02x}")


def _decoded(token: re.Match[str]) -> bytes:
    text = token[0]
    if text[0] == "(":
        return bytes.fromhex(token[1])
    if text[0] == "!":
        return text[1].upper().encode() if len(text) == 2 else bytes.fromhex(text[1:])
    return {"=": b":", ",": b"/"}.get(text, text.encode())


def _shortened(tokens: list[str], name: str) -> str:
    kept = ""
    for token in tokens:
        if len(kept) + len(token) > _KEPT_OF_LONG:
            break
        kept += token
    return kept + _LONG_MARK + hashlib.sha256(name.encode()).hexdigest()[:48]

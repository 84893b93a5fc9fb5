"""Version numbers, and the keys under which the newest version sorts first. Pure.

A version is a tuple of as many numbers as its registry has components. In a key each number is
written as its nine's complement behind a letter for its length, so that ascending byte order of
keys is descending order of versions and the first key of a listing is the newest (as Lance's
``u64::MAX - v`` manifests, without a fixed width).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, TypeAlias

from asyncstore.errors import StoreKeyFormatError

Version: TypeAlias = tuple[int, ...]

LATEST: Final = "latest"
MAX_COMPONENTS: Final = 7
MAX_DIGITS: Final = 18
MAX_TEXT: Final = 80
"""Longest version as text, so that a key stays far below what file systems allow (255 bytes)."""

_TEXT: Final = re.compile(r"[vV]?([0-9]+(?:\.[0-9]+)*)")
_NINES: Final = str.maketrans("0123456789", "9876543210")


def read_version(text: object) -> Version:
    """The numbers that ``text`` writes ("v1.2" -> (1, 2)), before any padding."""
    if not isinstance(text, str):
        raise StoreKeyFormatError(
            f"a version must be a str such as '1.0.0', got {type(text).__name__} ({text!r:.80})"
        )
    return _numbers(text)


@lru_cache(1024)  # every load reads its version's text more than once
def _numbers(text: str) -> Version:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise StoreKeyFormatError(
            f"{text[:80]!r} is no version: expected numbers joined by dots, such as '1.0.0', or "
            f"'{LATEST}'"
        )
    parts = match[1].split(".")
    longest = max(map(len, parts))
    if len(parts) > MAX_COMPONENTS or longest > MAX_DIGITS or len(match[1]) > MAX_TEXT:
        raise StoreKeyFormatError(
            f"{text[:80]!r} is no version: at most {MAX_COMPONENTS} numbers of at most "
            f"{MAX_DIGITS} digits each, and {MAX_TEXT} characters in all"
        )
    return tuple(int(part) for part in parts)


def fit_version(numbers: Version, components: int) -> Version | None:
    """``numbers`` with zeros added up to ``components``, or None where they are too many."""
    missing = components - len(numbers)
    return numbers + (0,) * missing if missing >= 0 else None


def format_version(version: Version) -> str:
    """The one way to write a version: "1.0.0"."""
    return ".".join(map(str, version))


def same_version(one: str, other: str) -> bool:
    """Whether both write the same version, however padded ("v1" and "1.0.0")."""
    if LATEST in (one, other):
        return one == other
    a, b = read_version(one), read_version(other)
    width = max(len(a), len(b))
    return fit_version(a, width) == fit_version(b, width)


def first_version(components: int) -> Version:
    """What auto-increment starts with: 1.0.0."""
    return (1,) + (0,) * (components - 1)


def next_version(newest: Version | None, components: int) -> Version:
    """What auto-increment makes of the newest version: its last number plus one."""
    if newest is None:
        return first_version(components)
    last = newest[-1] + 1
    if len(str(last)) > MAX_DIGITS:
        raise StoreKeyFormatError(
            f"no version can follow {format_version(newest)}: its last number has {MAX_DIGITS} "
            "digits already; save an explicit higher version"
        )
    return (*newest[:-1], last)


@lru_cache(4096)
def version_key(version: Version) -> str:
    """The key segment of a version: ``1.0.10`` -> ``z8z9y89_1.0.10``."""
    return "".join(map(_inverted, version)) + "_" + format_version(version)


@lru_cache(4096)  # a listing shows the same keys again and again
def version_of_key(segment: str, components: int) -> Version | None:
    """The version whose key is exactly ``segment``, else None: the key is foreign."""
    _, mark, text = segment.partition("_")
    if not mark or not _TEXT.fullmatch(text) or len(text) > MAX_COMPONENTS * (MAX_DIGITS + 1):
        return None
    parts = text.split(".")
    if len(parts) != components or any(len(part) > MAX_DIGITS for part in parts):
        return None
    try:
        version = tuple(map(int, parts))
    except ValueError:
        return None
    return version if version_key(version) == segment else None


def _inverted(number: int) -> str:
    digits = str(number)
    return chr(ord("z") - (len(digits) - 1)) + digits.translate(_NINES)

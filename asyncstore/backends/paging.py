"""Cutting one page of direct children out of sorted keys. Pure."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Direct children of a prefix: keys, and the prefixes of deeper keys."""

    keys: tuple[str, ...]
    prefixes: tuple[str, ...]
    more: bool


def paged(
    keys: Sequence[str], prefix: str, start_after: str, limit: int, *, deep: bool = False
) -> KeyPage:
    """At most ``limit`` children of ``prefix`` that come after ``start_after``, in order.

    With ``deep``, keys at any depth and no prefixes.

    Work grows with the children shown, not with the keys below them.
    """
    found: list[str] = []
    prefixes: list[str] = []
    at = bisect.bisect_left(keys, prefix)
    if start_after:
        after = _end_of(start_after) if start_after.endswith("/") else start_after + "\0"
        at = max(at, bisect.bisect_left(keys, after))
    while at < len(keys) and keys[at].startswith(prefix):
        if len(found) + len(prefixes) >= limit:
            return KeyPage(tuple(found), tuple(prefixes), True)
        key = keys[at]
        slash = -1 if deep else key.find("/", len(prefix))
        if slash < 0:
            found.append(key)
            at += 1
        else:
            prefixes.append(key[: slash + 1])
            at = bisect.bisect_left(keys, _end_of(prefixes[-1]), at)
    return KeyPage(tuple(found), tuple(prefixes), False)


def _end_of(prefix: str) -> str:
    """The least text that sorts after everything that starts with ``prefix`` ("a/" -> "a0")."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)

"""Keys as users write them: ``[<location>/]<name>[@<version>]``. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Container, Iterable

from asyncstore.errors import StoreKeyFormatError, StoreLocationNotFound
from asyncstore.names import check_name
from asyncstore.versions import LATEST, read_version, same_version


def check_location(location: object) -> str:
    """Answer ``location`` if a mount may have that name, else raise StoreKeyFormatError."""
    if not isinstance(location, str):
        raise StoreKeyFormatError(
            f"a mount's name must be a str, got {type(location).__name__} ({location!r:.80})"
        )
    if not location or location != location.strip() or any(c in location for c in "/@\0"):
        raise StoreKeyFormatError(
            f"{location[:80]!r} cannot name a mount: expected text without '/' and '@', not empty "
            "and without white space at its ends"
        )
    return str(location)


def split_name(key: object, version: object = None) -> tuple[str, str | None]:
    """Split ``name[@version]`` and reconcile it with ``version=``; "latest" stays "latest".

    Raises StoreKeyFormatError where either is malformed or the two differ.
    """
    if not isinstance(key, str):
        raise StoreKeyFormatError(f"a key must be a str, got {type(key).__name__} ({key!r:.80})")
    name, mark, in_key = key.partition("@")
    check_name(name)
    for text in ([in_key] if mark else []) + ([] if version is None else [version]):
        if text != LATEST:
            read_version(text)
    if not mark:
        return name, None if version is None else str(version)
    if version is not None and not same_version(in_key, str(version)):
        raise StoreKeyFormatError(
            f"the key {key!r} says version {in_key!r}, and version={version!r}: give one of them"
        )
    return name, in_key


def split_key(
    key: object, mounted: Container[str], version: object = None
) -> tuple[str | None, str, str | None]:
    """Split a key into (location or None, name, version or None).

    The first segment makes a key qualified exactly when a mount of that name is mounted.
    """
    if isinstance(key, str):
        first, slash, rest = key.partition("/")
        if slash and first in mounted:
            return first, *split_name(rest, version)
    return None, *split_name(key, version)


def join_key(location: str, name: str, version: str | None = None) -> str:
    """The qualified key of these parts."""
    return f"{location}/{name}" if version is None else f"{location}/{name}@{version}"


def unknown_location(location: str, mounted: Iterable[str]) -> StoreLocationNotFound:
    """The error for a mount that is not there, with close names."""
    known = list(mounted)
    near = close_name(location, known)
    hint = f"did you mean {near!r}?" if near else f"mounted: {_listed(known) or 'nothing'}"
    return StoreLocationNotFound(f"no mount is named {location!r}; {hint}", location=location)


def unqualified_write(key: str, operation: str, writable: Iterable[str]) -> StoreKeyFormatError:
    """The error for a write that does not name its mount, with the keys that would work."""
    mounts = list(writable)
    if not mounts:
        return StoreKeyFormatError(f"{operation} needs a mount, and no writable one is mounted")
    first, slash, rest = key.partition("/")
    near = close_name(first, mounts) if slash else None
    suggestions = [join_key(near, rest)] if near else [join_key(mount, key) for mount in mounts]
    no_mount = f" (no mount is named {first!r})" if slash else ""
    return StoreKeyFormatError(
        f"{operation} needs a key that names its mount, got {key!r}{no_mount}; "
        f"{'did you mean' if near else 'use'} {_listed(suggestions, ' or ')}"
    )


def close_name(name: str, known: Collection[str]) -> str | None:
    """The known name that ``name`` is a near miss of, if any."""
    folded = {other.casefold(): other for other in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else None


def _listed(items: list[str], joint: str = ", ", most: int = 8) -> str:
    shown = joint.join(map(repr, items[:most]))
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"

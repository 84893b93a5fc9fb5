"""From what a user writes to a backend: a path, a URI, or a backend as it is."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import unquote, urlsplit

from asyncstore.backends.base import Backend
from asyncstore.backends.local import Durability, LocalBackend
from asyncstore.backends.memory import MemoryBackend
from asyncstore.errors import RegistrySettingsConflict

_KNOWN: Final = "a path, file:///path or memory://name"


def open_backend(
    target: str | os.PathLike[str] | Backend, *, durability: Durability = "full"
) -> Backend:
    """The backend for a path or URI. Opens and creates nothing.

    Raises RegistrySettingsConflict for what is neither; its message shows no credentials.
    """
    if isinstance(target, Backend):
        return target
    try:
        text: object = os.fspath(target)
    except TypeError:
        text = None
    if not isinstance(text, str) or not text or "\0" in text:
        raise RegistrySettingsConflict(
            f"{type(target).__name__} {target!r:.100} is no backend: expected {_KNOWN}, or a "
            "Backend"
        )
    scheme, mark, rest = text.partition("://")
    if not mark or isinstance(target, os.PathLike):
        return LocalBackend(text, durability=durability)
    if scheme == "file":
        return LocalBackend(_file_path(text), durability=durability)
    if scheme == "memory":
        return MemoryBackend(rest)
    raise RegistrySettingsConflict(
        f"{scheme[:20]!r} is no kind of backend that this version knows: expected {_KNOWN}"
    )


def _file_path(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise RegistrySettingsConflict(
            f"{uri[:200]!r} names no absolute path on this machine: expected file:///path"
        )
    if parts.query or parts.fragment:
        raise RegistrySettingsConflict(
            f"{uri[:200]!r} has a query or a fragment, which a file has not; write '?' as %3F and "
            "'#' as %23"
        )
    return unquote(parts.path)

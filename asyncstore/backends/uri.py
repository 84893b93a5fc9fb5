"""From what a user writes to a backend: a path, a URI, or a backend as it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from asyncstore.backends.base import Backend
from asyncstore.backends.local import Durability, LocalBackend
from asyncstore.backends.memory import MemoryBackend
from asyncstore.errors import RegistrySettingsConflict

_KNOWN: Final = "a path, file:///path, memory://name or s3://bucket/prefix"


def open_backend(
    target: str | os.PathLike[str] | Backend,
    *,
    durability: Durability = "full",
    max_concurrency: int = 64,
    request_timeout: float = 30.0,
    options: Mapping[str, Any] | None = None,
) -> Backend:
    """The backend for a path or URI. Opens and creates nothing.

    ``options`` are for a service: how to reach it and how to sign in. ``request_timeout`` is in
    seconds. Raises RegistrySettingsConflict for what is neither path nor URI, and for options
    that are not known; its message shows no credentials.
    """
    options = options or {}
    if isinstance(target, Backend):
        _take_no(options, "a backend that is handed in")
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
    if mark and scheme == "s3" and not isinstance(target, os.PathLike):
        # Here, because nobody without a bucket should wait for its client library.
        from asyncstore.backends.s3 import S3Backend

        given = {"connections": max_concurrency, "read_timeout": request_timeout, **options}
        return S3Backend.from_uri(text, **given)
    _take_no(options, "a directory" if scheme != "memory" else "memory")
    if not mark or isinstance(target, os.PathLike):
        return LocalBackend(text, durability=durability)
    if scheme == "file":
        return LocalBackend(_file_path(text), durability=durability)
    if scheme == "memory":
        return MemoryBackend(rest)
    raise RegistrySettingsConflict(
        f"{scheme[:20]!r} is no kind of backend that this version knows: expected {_KNOWN}"
    )


def _take_no(options: Mapping[str, Any], what: str) -> None:
    if options:
        raise RegistrySettingsConflict(
            f"{', '.join(sorted(options))}: {what} takes no such arguments"
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

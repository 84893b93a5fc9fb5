"""Asking a place what it keeps of what the commit protocol needs, before anything is kept there."""

from __future__ import annotations

import os
from typing import Any

from asyncstore.backends.base import Backend
from asyncstore.backends.probing import BackendReport, probe_backend
from asyncstore.backends.uri import open_backend


async def check_backend(target: str | os.PathLike[str] | Backend, **options: Any) -> BackendReport:
    """Try out whether a registry can be kept safely in a place: some 45 small requests.

    ``target`` and ``options`` are what :class:`~asyncstore.AsyncRegistry` takes. Writes small
    objects under a random prefix and removes them again. A registry does the same when it is
    created over a network, and refuses a place with faults. Raises BackendError where the place
    cannot be reached, read or written.
    """
    backend = open_backend(target, options=options)
    try:
        return await probe_backend(backend)
    finally:
        if backend is not target:
            await backend.aclose()

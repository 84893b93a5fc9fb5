"""Backends: where the bytes are. See :class:`Backend` for what one has to be."""

from asyncstore.backends.base import (
    Backend,
    Blob,
    Buffer,
    Capabilities,
    CreatesNext,
    Entry,
    Page,
    PutReply,
    PutStatus,
)
from asyncstore.backends.bounded import BoundedBackend
from asyncstore.backends.local import LocalBackend
from asyncstore.backends.memory import MemoryBackend
from asyncstore.backends.uri import open_backend

__all__ = [
    "Backend",
    "Blob",
    "BoundedBackend",
    "Buffer",
    "Capabilities",
    "CreatesNext",
    "Entry",
    "LocalBackend",
    "MemoryBackend",
    "Page",
    "PutReply",
    "PutStatus",
    "open_backend",
]

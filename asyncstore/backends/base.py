"""What a backend is: six primitives over keys and bytes, and what it states of itself.

A backend knows nothing of versions, records or commits. Everything else is built above it, once.
A new backend subclasses nothing: it has these methods, and passes
:class:`asyncstore.testing.BackendConformance`. The vocabulary follows obspec and object_store.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from asyncstore.errors import BackendError

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes to be stored; never changed while a call that was given them is under way."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend does with conditional writes and listings.

    ``create``: of several concurrent ``put_if(tag=None)`` on one key exactly one is done.
    ``replace``: of several concurrent ``put_if(tag=t)`` exactly one is done, and a stale tag is
    refused. ``ordered``: ``list`` answers in ascending byte order of keys.

    ``remote``: requests travel, so that one may be lost and is worth repeating, several at once
    are faster than one, and what the other side keeps is tried out before anything is trusted to
    it (see :func:`asyncstore.check_backend`).
    """

    create: bool = True
    replace: bool = True
    ordered: bool = True
    remote: bool = False


class Entry(msgspec.Struct, frozen=True):
    """One object as a listing or ``head`` shows it.

    ``tag`` names these very bytes for ``put_if``; None where a listing cannot tell it cheaply.
    ``data`` is the whole content, attached by a listing that was asked to ``peek``.
    (A msgspec struct, like the two below: made for every small read, in a third of the time.)
    """

    key: str
    size: int
    tag: str | None = None
    data: bytes | None = None


class Page(msgspec.Struct, frozen=True):
    """One page of a listing.

    ``more`` says that others may follow the last key or prefix shown; such a page is never empty.
    """

    entries: tuple[Entry, ...] = ()
    prefixes: tuple[str, ...] = ()
    more: bool = False


class Blob(msgspec.Struct, frozen=True):
    """The bytes of an object, or of a range of it, with the size and tag of the whole.

    ``tag`` may be empty where only a part was read, or where the object is too large to be a
    commit record (over 32 MiB).
    """

    data: bytes
    size: int
    tag: str


class PutStatus(Enum):
    """What the backend knows about a conditional write."""

    DONE = "done"
    """It was applied and is durable."""
    REFUSED = "refused"
    """The condition did not hold when this attempt was judged (an earlier one may have landed)."""
    UNKNOWN = "unknown"
    """No answer that tells: a lost reply, a timeout, a 409 or 5xx."""
    FAILED = "failed"
    """Provably not applied: no space, no permission."""
    OVERTAKEN = "overtaken"
    """Provably not applied: the key that was to be the newest is no longer (``put_next``)."""
    NOT_DURABLE = "not durable"
    """Applied and visible, but flushing it to the disk failed."""


@dataclass(frozen=True, slots=True)
class PutReply:
    """The answer to :meth:`Backend.put_if`; ``error`` says why it is not ``DONE``."""

    status: PutStatus
    tag: str = ""
    error: BackendError | None = None


def check_key(key: str) -> None:
    """Raise BackendError for what could lead out of a backend's place, or has no bytes there."""
    parts = key.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\0" in key or "\\" in key:
        raise BackendError(f"{key[:200]!r} is no key: expected segments joined by '/'")


@runtime_checkable
class Backend(Protocol):
    """Keys to bytes, with conditional writes.

    Keys are relative: ASCII segments of ``[a-z0-9_.,=!()-]`` joined by ``/``. Only a definite
    "not there" is answered with None or an empty page; whatever else goes wrong is a
    :class:`~asyncstore.errors.BackendError`. Every method may be cancelled at any await.
    """

    @property
    def uri(self) -> str:
        """Where the bytes are, for people to read. Holds no credentials."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this backend keeps of what the protocol asks."""
        ...

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> Blob | None:
        """Read ``length`` bytes from ``start`` (fewer where the object ends), all by default.

        All of the bytes are of one version of the object. None if there is no such key.
        """
        ...

    async def head(self, key: str) -> Entry | None:
        """Size and tag without the bytes, or None if there is no such key."""
        ...

    async def list(
        self,
        prefix: str,
        *,
        start_after: str = "",
        limit: int = 1000,
        peek: int | None = None,
        deep: bool = False,
    ) -> Page:
        """List what is directly below ``prefix``, which ends in ``/``.

        Objects are entries; deeper ones show as the prefixes that hold them, each ending in
        ``/``, and only where they hold something. Both come in ascending order after the full
        key or prefix ``start_after``, at most ``limit`` together (a backend may show fewer).

        With ``deep``, every object at any depth below ``prefix`` is an entry, and there are no
        prefixes.

        ``peek`` is a hint: a backend for which reading is as cheap as listing may attach ``data``
        and ``tag`` to entries up to and including the first of at least ``peek`` bytes, and may
        end the page there.
        """
        ...

    async def put(self, key: str, data: Buffer | AsyncIterable[Buffer]) -> None:
        """Store unconditionally, all or nothing; durable when it returns.

        An error or a cancellation leaves what was there before, or all of the new bytes.
        """
        ...

    async def put_if(self, key: str, data: Buffer, *, tag: str | None) -> PutReply:
        """Create (``tag=None``) or replace the object that has this tag, atomically.

        Never raises :class:`~asyncstore.errors.BackendError`: whatever happened is the reply. On
        cancellation the write may or may not be applied, then or later, but never in part.
        """
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove these objects; those that are not there are no error."""
        ...

    async def aclose(self) -> None:
        """Let go of threads and connections. The next use opens them again."""
        ...


@runtime_checkable
class CreatesNext(Protocol):
    """What a backend may have besides: a look at the listing and a creation in one request.

    It is for places where a request costs more than what it does, such as a hop to a thread.
    """

    async def put_next(self, key: str, data: Buffer, *, newest: str) -> PutReply:
        """Create ``key`` if ``newest`` is the first of all keys directly beside it.

        The listing is made after the call began and before the creation. Answers ``OVERTAKEN``
        where another key is first; else all is as with :meth:`Backend.put_if`.
        """
        ...


@runtime_checkable
class Multipart(Protocol):
    """What a backend may have besides: objects that are stored in parts.

    Then each part is a request of its own, with its own turn, time and repetition, and
    :func:`asyncstore.backends.multipart.put_in_parts` sees to all of them.
    """

    @property
    def part_size(self) -> int:
        """Bytes of a part; up to so many are stored in one request."""
        ...

    async def put_whole(self, key: str, data: Buffer) -> None:
        """Store unconditionally in one request."""
        ...

    async def begin_parts(self, key: str) -> str:
        """Start an upload, and answer its id."""
        ...

    async def put_part(self, key: str, upload: str, number: int, data: Buffer) -> str:
        """Store a part, counted from 1, and answer its tag; again with the same bytes is fine."""
        ...

    async def finish_parts(self, key: str, upload: str, tags: Sequence[str], size: int) -> None:
        """Make the object of these parts, ``size`` bytes, visible at once; again is fine."""
        ...

    async def abandon_parts(self, key: str, upload: str) -> None:
        """Drop the upload and its parts; again is fine."""
        ...


@runtime_checkable
class CopiesWithin(Protocol):
    """What a backend may have besides: copies that the service makes by itself.

    Nobody sees the bytes of such a copy, so nothing about them is verified.
    """

    def copies_from(self, source: Backend, size: int) -> bool:
        """Whether objects of ``size`` bytes can be copied here from there."""
        ...

    async def copy_object(self, source: Backend, source_key: str, key: str) -> None:
        """Store the object of another backend under ``key``, unconditionally and whole."""
        ...

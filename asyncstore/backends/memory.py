"""Objects in the memory of this process: for tests, examples and caches."""

from __future__ import annotations

import asyncio
import bisect
import itertools
import weakref
from collections.abc import AsyncIterable, Sequence
from typing import Final

from asyncstore.backends.base import (
    Blob,
    Buffer,
    Capabilities,
    Entry,
    Page,
    PutReply,
    PutStatus,
    check_key,
)
from asyncstore.backends.paging import paged
from asyncstore.concurrency import SMALL, maybe_in_worker
from asyncstore.errors import BackendError

_NAMED: Final[weakref.WeakValueDictionary[str, _Shelf]] = weakref.WeakValueDictionary()
"""What ``memory://name`` shares; an entry ends with its last backend."""


_PIECE: Final = 256 * 1024


def _copied(data: Buffer) -> bytes:
    """The same bytes, which nobody can change. Joining pieces lets go of the interpreter lock."""
    if isinstance(data, bytes):
        return data
    view = memoryview(data).cast("B")
    return b"".join([bytes(view[at : at + _PIECE]) for at in range(0, view.nbytes, _PIECE)])


class _Shelf:
    """The objects themselves, under sorted keys."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.keys: list[str] = []
        self.tags = itertools.count(1)

    def set(self, key: str, data: bytes) -> str:
        tag = f"m{next(self.tags)}"
        if key not in self.objects:
            bisect.insort(self.keys, key)
        self.objects[key] = (data, tag)
        return tag

    def drop(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            del self.keys[bisect.bisect_left(self.keys, key)]


class MemoryBackend:
    """A backend in memory: every primitive is atomic, nothing outlives the process.

    Backends made with the same ``name`` share their objects, which are gone with the last of
    them; without a name a backend is private. Stored ``bytes`` are kept as they are, not copied.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._shelf = (_NAMED.get(name) if name else None) or _Shelf()
        if name:
            _NAMED[name] = self._shelf

    @property
    def uri(self) -> str:
        """``memory://name``."""
        return f"memory://{self._name}"

    @property
    def capabilities(self) -> Capabilities:
        """All of them."""
        return Capabilities()

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> Blob | None:
        """Read; the whole of an object is handed over without a copy."""
        check_key(key)
        await asyncio.sleep(0)
        found = self._shelf.objects.get(key)
        if found is None:
            return None
        data, tag = found
        end = len(data) if length is None else start + length
        part = data if start == 0 and end >= len(data) else data[start:end]
        return Blob(part, len(data), tag)

    async def head(self, key: str) -> Entry | None:
        """Size and tag."""
        check_key(key)
        await asyncio.sleep(0)
        found = self._shelf.objects.get(key)
        return None if found is None else Entry(key, len(found[0]), found[1])

    async def list(
        self,
        prefix: str,
        *,
        start_after: str = "",
        limit: int = 1000,
        peek: int | None = None,
        deep: bool = False,
    ) -> Page:
        """List; with ``peek``, the bytes are there anyway."""
        check_key(prefix.removesuffix("/"))
        await asyncio.sleep(0)
        page = paged(self._shelf.keys, prefix, start_after, limit, deep=deep)
        entries: list[Entry] = []
        peeking = peek is not None
        for key in page.keys:
            data, tag = self._shelf.objects[key]
            entries.append(Entry(key, len(data), tag, data if peeking else None))
            peeking = peeking and peek is not None and len(data) < peek
        return Page(tuple(entries), page.prefixes, page.more)

    async def put(self, key: str, data: Buffer | AsyncIterable[Buffer]) -> None:
        """Store."""
        check_key(key)
        await asyncio.sleep(0)
        if isinstance(data, (bytes, bytearray, memoryview)):
            large = memoryview(data).nbytes > SMALL and not isinstance(data, bytes)
            whole = await maybe_in_worker(large, _copied, data)
        else:
            pieces = [bytes(piece) async for piece in data]
            large = sum(map(len, pieces)) > SMALL
            whole = await maybe_in_worker(large, b"".join, pieces)
        self._shelf.set(key, whole)

    async def put_if(self, key: str, data: Buffer, *, tag: str | None) -> PutReply:
        """Create or replace; check and write are one step of the event loop."""
        try:
            check_key(key)
        except BackendError as error:
            return PutReply(PutStatus.FAILED, error=error)
        await asyncio.sleep(0)
        found = self._shelf.objects.get(key)
        if (found[1] if found else None) != tag:
            return PutReply(PutStatus.REFUSED)
        return PutReply(PutStatus.DONE, self._shelf.set(key, bytes(data)))

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove."""
        for key in keys:
            check_key(key)
        await asyncio.sleep(0)
        for key in keys:
            self._shelf.drop(key)

    async def aclose(self) -> None:
        """Nothing to let go of: the objects stay for as long as a backend holds them."""

"""Fetching the bytes of stored files: each chunk is verified before it is handed over."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final

import msgspec

from asyncstore.backends.bounded import SLOWEST
from asyncstore.concurrency import (
    SMALL,
    in_order,
    in_worker,
    maybe_in_worker,
    some_at_once,
    together,
)
from asyncstore.digests import chunk_hash
from asyncstore.errors import BackendTimeout, IntegrityError
from asyncstore.materializers.files import PATH_ID
from asyncstore.record import FileEntry, Manifest, Record
from asyncstore.registry.opened import Opened
from asyncstore.registry.reading import Found, Moved, Verify, fetch_record, find, must_be_current
from asyncstore.versions import Version, format_version

AHEAD: Final = 2
"""Chunks that are on their way, or being read and hashed, while one is being used."""

_AT_ONCE: Final = 8
"""Chunks of one file that are fetched at once when all of it is wanted."""

_MOST_RESTARTS: Final = 4


class Fetched(msgspec.Struct, frozen=True):
    """A live version whole: its record and the bytes of its files, verified unless told not to."""

    name: str
    version: Version
    record: Record
    manifest: Manifest
    files: dict[str, bytes]
    found: Found
    verify: Verify = "integrity"


async def fetch(o: Opened, found: Found, verify: Verify, *, deadline: float) -> Fetched:
    """Fetch the record and all files of what was found.

    ``deadline`` is for small objects; large payload has the time that its size takes on top. A
    version that is overwritten meanwhile is read again from its new record, at most 4 times; one
    that is deleted meanwhile is not found. Bytes of two commits are never mixed.
    """
    current: Found | None = found
    for _ in range(_MOST_RESTARTS + 1):
        if current is None:
            raise o.not_found(found.name, found.version if found.pinned else None)
        try:
            return await _fetch_once(o, current, verify, deadline)
        except Moved:
            version = found.version if found.pinned else None
            current = await find(o.until(deadline), found.name, version)
    raise BackendTimeout(
        f"{found.name!r} was overwritten {_MOST_RESTARTS + 1} times while it was being read"
    )


async def _fetch_once(o: Opened, found: Found, verify: Verify, deadline: float) -> Fetched:
    record = found.record or await fetch_record(o.until(deadline), found, verify)
    manifest = record.manifest
    if manifest is None:
        raise Moved
    o.meter.begin(manifest.size, len(manifest.files))
    if manifest.materializer == PATH_ID:  # files go to a folder, and not through memory
        return Fetched(found.name, found.version, record, manifest, {}, found, verify)
    files = {
        entry.p: _inline_file(found, record, entry, verify)
        for entry in manifest.files
        if entry.i is not None
    }
    payload = [entry for entry in manifest.files if entry.b is not None]
    if payload:
        o = o.until(deadline + manifest.size / SLOWEST)
        fetched = await together(*(_payload_file(o, found, record, e, verify) for e in payload))
        files.update(zip([entry.p for entry in payload], fetched, strict=True))
    return Fetched(found.name, found.version, record, manifest, files, found)


def _inline_file(found: Found, record: Record, entry: FileEntry, verify: Verify) -> bytes:
    start = entry.i or 0
    data = record.inline[start : start + entry.n].tobytes()
    if verify != "none" and not is_intact(entry, data):
        raise IntegrityError(_damaged(found, entry))
    return data


async def _payload_file(
    o: Opened, found: Found, record: Record, entry: FileEntry, verify: Verify
) -> bytes:
    """A whole file: in one request, or over a network a large one in several at once."""

    async def chunk(at: int) -> bytes:
        data = await chunk_of(o, found, record, entry, at, verify)
        o.meter.moved(len(data))
        return data

    if (o.io.capabilities.remote or o.meter.watched) and len(entry.chunks) > 1:
        calls = [partial(chunk, at) for at in range(len(entry.chunks))]
        return await in_worker(b"".join, await some_at_once(_AT_ONCE, calls))
    key = o.payload_key(found.name, record.line.commit, entry.b or 0)
    blob = await o.io.get(key, start=entry.o, length=entry.n)
    if blob is not None and (verify == "none" or await in_worker(is_intact, entry, blob.data)):
        o.meter.moved(len(blob.data))
        return blob.data
    await must_be_current(o, found, record)
    raise IntegrityError(_damaged(found, entry) if blob else _missing(found, entry))


async def contents_of(
    o: Opened, found: Found, record: Record, entries: Sequence[FileEntry], verify: Verify
) -> AsyncGenerator[bytes]:
    """The bytes of files, one after the other, each chunk verified before it is handed over.

    The next chunks are under way meanwhile: close it (``aclosing``) to end them. Raises
    :class:`~asyncstore.registry.reading.Moved` where the version was overwritten or deleted
    meanwhile.
    """
    calls = (
        partial(chunk_of, o, found, record, entry, at, verify)
        for entry in entries
        for at in range(len(entry.chunks))
    )
    small = all(entry.n <= SMALL for entry in entries)
    ahead = _AT_ONCE if small else AHEAD
    async with aclosing(in_order(calls, ahead=ahead)) as chunks:
        async for chunk in chunks:
            o.meter.moved(len(chunk))
            yield chunk
            del chunk  # else it stays in memory until the next one is there


async def chunk_of(
    o: Opened, found: Found, record: Record, entry: FileEntry, at: int, verify: Verify
) -> bytes:
    """One chunk of a file, verified."""
    start = at * entry.s
    size = min(entry.s, entry.n - start)
    data: bytes | None
    if entry.i is not None:
        data = bytes(record.inline[entry.i + start : entry.i + start + size])
    else:
        key = o.payload_key(found.name, record.line.commit, entry.b or 0)
        blob = await o.io.get(key, start=entry.o + start, length=size)
        data = blob.data if blob is not None else None
    if data is not None and await _is_chunk(data, size, entry.chunks[at], verify):
        return data
    await must_be_current(o, found, record)
    raise IntegrityError(
        f"{found.name!r} version {format_version(found.version)}: bytes {start:,} to "
        f"{start + size:,} of {entry.p!r} are {'damaged' if data is not None else 'missing'}"
    )


async def _is_chunk(data: bytes, size: int, digest: str, verify: Verify) -> bool:
    if verify == "none" or len(data) != size:
        return len(data) == size
    return await maybe_in_worker(size > SMALL, chunk_hash, data) == digest


def is_intact(entry: FileEntry, data: bytes | memoryview) -> bool:
    """Whether these are the bytes that the entry vouches for, chunk by chunk."""
    if len(data) != entry.n:
        return False
    if not entry.c:
        return chunk_hash(data) == entry.h
    view = memoryview(data)
    return all(
        chunk_hash(view[at * entry.s : (at + 1) * entry.s]) == chunk
        for at, chunk in enumerate(entry.chunks)
    )


def _damaged(found: Found, entry: FileEntry) -> str:
    return (
        f"{found.name!r} version {format_version(found.version)}: the stored bytes of "
        f"{entry.p!r} are not what was written (expected {entry.n:,} bytes with SHA-256 {entry.h})"
    )


def _missing(found: Found, entry: FileEntry) -> str:
    return (
        f"{found.name!r} version {format_version(found.version)}: the stored bytes of "
        f"{entry.p!r} are missing"
    )

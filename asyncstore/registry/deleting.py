"""Deleting: a tombstone in place, so that a dead version stays dead."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from asyncstore.backends.base import Entry
from asyncstore.commit import Slot, settle
from asyncstore.concurrency import backoff, both, together
from asyncstore.errors import (
    BackendCapabilityError,
    BackendError,
    BackendTimeout,
    CommitUnknown,
)
from asyncstore.names import escape_name
from asyncstore.record import Record, is_dead_size, new_commit, write_tombstone
from asyncstore.registry.opened import Opened
from asyncstore.registry.reading import entries_after, read_current, version_of
from asyncstore.versions import Version, format_version

_MOST_MARKED: Final = 100_000
_MOST_ROUNDS: Final = 4


async def delete_version(
    o: Opened, name: str, version: Version, *, exactly: str | None = None, purge: bool = False
) -> bool:
    """Bury a version. True if it was seen live and is dead now, whoever buried it.

    With ``exactly``, bury only the record of that commit; True only if this very call did.
    """
    if not o.io.capabilities.replace:
        raise BackendCapabilityError(f"{o.io.uri} cannot replace a record atomically")
    deadline = o.deadline()
    o = o.until(deadline)
    current, _ = await both(read_current(o, name, version), _mark(o, name))
    seen_live = False
    attempt = 0
    while current is not None and current[0].line.live:
        record, tag = current
        if exactly is not None and record.line.commit != exactly:
            return False
        seen_live = True
        if await _bury(o, name, version, record, tag, deadline):
            if purge:
                await _free(o, name, record)
            return True
        if asyncio.get_running_loop().time() > deadline:
            raise BackendTimeout(f"{name!r} was overwritten faster than it could be deleted")
        await backoff(attempt, most=0.05)
        attempt += 1
        current = await read_current(o, name, version)
    return seen_live and exactly is None


async def _bury(
    o: Opened, name: str, version: Version, record: Record, tag: str, deadline: float
) -> bool:
    commit = new_commit()
    key = o.key(name, version)
    tombstone = write_tombstone(commit=commit, after=record.line)
    over = Slot(record.line, tag)
    try:
        settled = await settle(o.io, key, tombstone, commit=commit, over=over, deadline=deadline)
    except CommitUnknown as error:
        error.name, error.version = name, format_version(version)
        raise
    o.shared.records.drop(key)
    return settled.ours


async def _mark(o: Opened, name: str) -> None:
    """Note that the name may have no live version, before it can come true.

    A listing of names then looks closer at the marked ones only. The mark is there before any
    tombstone, so two deletes that race for the last two versions cannot both think it needless.
    """
    if name in o.shared.marked:
        return
    await o.io.put(f"g/{escape_name(name)}/_", b"")
    if len(o.shared.marked) >= _MOST_MARKED:
        o.shared.marked.clear()
    o.shared.marked.add(name)


async def _free(o: Opened, name: str, record: Record) -> None:
    files = record.manifest.files if record.manifest else []
    indexes = sorted({entry.b for entry in files if entry.b is not None})
    if indexes:
        keys = [o.payload_key(name, record.line.commit, index) for index in indexes]
        with suppress(BackendError):  # the version is deleted; garbage collection has the rest
            await o.io.delete(keys)


async def delete_all(o: Opened, name: str, *, purge: bool) -> bool:
    """Bury every version that a listing shows, the newest last, so that "latest" never goes back.

    Versions that are saved meanwhile are buried too, for a few rounds; a newer one may survive.
    """
    seen_live = False
    for _ in range(_MOST_ROUNDS):
        versions = [version_of(o, entry.key) for entry in await live_entries(o, name)]
        live = [version for version in versions if version is not None]
        if not live:
            break
        seen_live = True
        newest, *older = live
        await together(*(delete_version(o, name, version, purge=purge) for version in older))
        await delete_version(o, name, newest, purge=purge)
    return seen_live


async def live_entries(o: Opened, name: str) -> list[Entry]:
    """The records of a name that are not tombstones, newest first."""
    found: list[Entry] = []
    after: str | None = ""
    while after is not None:
        page, after = await entries_after(o, name, after)
        found += [entry for entry in page if not is_dead_size(entry.size)]
    return found

"""Finding a version, and reading its record."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

import msgspec

from asyncstore.backends.base import Entry
from asyncstore.concurrency import SMALL, maybe_in_worker
from asyncstore.errors import BackendTimeout, IntegrityError, UnsupportedFormatError
from asyncstore.record import (
    MAX_RECORD,
    MIN_LIVE_SIZE,
    Record,
    is_dead_size,
    read_record,
)
from asyncstore.registry.opened import Kept, Opened
from asyncstore.versions import Version, first_version, format_version, version_of_key

Verify = Literal["none", "integrity", "full"]

_FIRST_PAGE: Final = 8
_LIKELY_HEADER: Final = 64 * 1024
_FULL_PAGE: Final = 1000


class Found(msgspec.Struct, frozen=True):
    """A live version, and what finding it brought along: its record, or its entry in a listing.

    ``pinned`` says that this very version was asked for, not the newest.
    """

    name: str
    version: Version
    pinned: bool
    record: Record | None = None
    entry: Entry | None = None


class Moved(Exception):
    """The version was overwritten or deleted while it was being read."""


async def find(o: Opened, name: str, version: Version | None) -> Found | None:
    """Find a version, or the newest (None). None means a definite "not there"."""
    if version is None and o.descriptor.version_objects:
        return await find_latest(o, name)
    version = version or first_version(o.descriptor.version_digits)
    record = await read_current(o, name, version)
    return Found(name, version, True, record[0]) if record and record[0].line.live else None


async def read_current(o: Opened, name: str, version: Version) -> tuple[Record, str] | None:
    """The record of a version, dead or alive, with its tag; None where there never was one."""
    key = o.key(name, version)
    likely = o.descriptor.inline_max + _LIKELY_HEADER
    blob = await o.io.get(key, length=MAX_RECORD + 1, likely=likely)
    if blob is None:
        return None
    return await parse(o, key, name, version, blob.data, blob.tag), blob.tag


async def parse(
    o: Opened, key: str, name: str, version: Version, data: bytes, tag: str | None
) -> Record:
    """Parse and check a record that was read from ``key``, and keep it.

    Bytes that are the same as those kept have passed every check already.
    """
    kept = o.shared.records.get(key)
    if kept is not None and len(data) <= SMALL and kept.data == data:
        return kept.record
    if len(data) > MAX_RECORD:
        raise IntegrityError(f"{o.where(key)} is corrupt: larger than any record")
    text = format_version(version)
    record = await maybe_in_worker(
        len(data) > SMALL, lambda: read_record(data, o.where(key), name=name, version=text)
    )
    o.shared.records.put(key, Kept(tag, data, record), len(data))
    return record


async def find_latest(o: Opened, name: str) -> Found | None:
    """The newest live version by its listing.

    Where a tombstone stands before it, one listing may have missed a version that was saved while
    it ran: then the listing is repeated until two in a row agree ("no live version" included).
    """
    deadline = o.deadline()
    before: list[tuple[str, int, str | None]] | None = None
    while True:
        seen, newest = await scan(o, name)
        if all(entry is newest for entry in seen):
            return await _found(o, name, newest)
        now = [(entry.key, entry.size, entry.tag) for entry in seen]
        if now == before:
            return await _found(o, name, newest)
        before = now
        if asyncio.get_running_loop().time() > deadline:
            raise BackendTimeout(f"the versions of {name!r} changed faster than they were listed")


async def scan(o: Opened, name: str) -> tuple[list[Entry], Entry | None]:
    """All entries up to the first that is not dead, and that one."""
    seen: list[Entry] = []
    after: str | None = ""
    limit = _FIRST_PAGE
    while after is not None:
        page, after = await entries_after(o, name, after, limit=limit, peek=MIN_LIVE_SIZE)
        for entry in page:
            seen.append(entry)
            if not _is_dead(o, entry):
                return seen, entry
        limit = _FULL_PAGE
    return seen, None


def _is_dead(o: Opened, entry: Entry) -> bool:
    """Whether a tombstone is listed. Where its bytes are at hand, its size alone does not tell:
    a live record that was cut short must not be passed over.
    """
    if not is_dead_size(entry.size):
        return False
    if entry.data is None:
        return True
    try:
        return not read_record(entry.data, o.where(entry.key)).line.live
    except (IntegrityError, UnsupportedFormatError):
        return False  # whoever reads it is told so


async def _found(o: Opened, name: str, entry: Entry | None) -> Found | None:
    if entry is None:
        return None
    version = version_of(o, entry.key)
    assert version is not None  # entries() shows no foreign keys
    if entry.size < MIN_LIVE_SIZE:
        raise IntegrityError(
            f"{o.where(entry.key)} is corrupt: {entry.size} bytes are too few for a record"
        )
    if entry.data is None:
        return Found(name, version, False, entry=entry)
    record = await parse(o, entry.key, name, version, entry.data, entry.tag)
    return Found(name, version, False, record, entry)


def version_of(o: Opened, key: str) -> Version | None:
    """The version whose record is under ``key``; None for a foreign key."""
    return version_of_key(key.rpartition("/")[2], o.descriptor.version_digits)


async def entries_after(
    o: Opened, name: str, after: str, *, limit: int = 1000, peek: int | None = None
) -> tuple[list[Entry], str | None]:
    """Records of a name that come after a key, newest first, and where to go on (None: the end).

    Dead ones are included, foreign keys are skipped. A backend that lists in no order is read to
    the end.
    """
    found: list[Entry] = []
    while True:
        page = await o.io.list(o.prefix(name), start_after=after, limit=limit, peek=peek)
        found += [entry for entry in page.entries if version_of(o, entry.key) is not None]
        shown = [*(entry.key for entry in page.entries), *page.prefixes]
        if not page.more or not shown:
            return sorted(found, key=lambda entry: entry.key), None
        after = max(shown)
        if o.io.capabilities.ordered:
            return found, after


async def fetch_record(o: Opened, found: Found, verify: Verify) -> Record:
    """Read the record that a listing showed; a kept copy serves if the listing has the same tag."""
    if found.record is not None:
        return found.record
    key = o.key(found.name, found.version)
    tag = found.entry.tag if found.entry else None
    kept = o.shared.records.get(key) if verify != "full" else None
    if kept is not None and tag is not None and kept.tag == tag:
        return kept.record
    likely = found.entry.size if found.entry else o.descriptor.inline_max + _LIKELY_HEADER
    blob = await o.io.get(key, length=MAX_RECORD + 1, likely=likely)
    if blob is None:
        raise Moved
    return await parse(o, key, found.name, found.version, blob.data, blob.tag)


async def must_be_current(o: Opened, found: Found, record: Record) -> None:
    """Raise the restart signal if the record was replaced, so that its payload may be gone."""
    current = await read_current(o, found.name, found.version)
    if current is None or current[0].line.commit != record.line.commit:
        o.shared.records.drop(o.key(found.name, found.version))
        raise Moved

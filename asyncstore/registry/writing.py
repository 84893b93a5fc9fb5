"""Saving: the payload first, then one commit that makes all of it visible or nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal, cast

import msgspec

from asyncstore.backends.base import Buffer
from asyncstore.commit import Settled, Slot, settle
from asyncstore.concurrency import (
    SMALL,
    backoff,
    both,
    maybe_in_worker,
    some_at_once,
    to_the_end,
)
from asyncstore.errors import (
    BackendCapabilityError,
    BackendError,
    BackendTimeout,
    CommitUnknown,
    RegistryVersionConflict,
)
from asyncstore.record import (
    Line,
    write_live,
)
from asyncstore.registry.drafting import Draft, now
from asyncstore.registry.opened import Opened
from asyncstore.registry.reading import entries_after, read_current, version_of
from asyncstore.versions import Version, first_version, format_version, next_version

OnConflict = Literal["error", "skip", "overwrite"]

READER_GRACE: Final = 3600.0
"""Seconds that overwritten payload stays for readers under way."""

_DISCARD_GRACE: Final = 5.0
_AT_ONCE: Final = 32
_STREAMS_AT_ONCE: Final = 2
"""Each stream of a payload has some parts in memory."""

_MOST_TRASH: Final = 64


@dataclass(frozen=True, slots=True)
class Saved:
    """How a save ended: the version that is there now, and whether it was there before."""

    version: Version
    skipped: bool = False


class Payload:
    """The payload objects of one commit, which go again unless the commit may refer to them."""

    def __init__(self, o: Opened, draft: Draft) -> None:
        self._o = o
        self._draft = draft
        count = draft.payload_count
        self._keys = [o.payload_key(draft.name, draft.commit, index) for index in range(count)]
        self.needed = False

    async def upload(self, payloads: Sequence[Buffer | AsyncIterable[Buffer]]) -> None:
        """Store all of them: several at once, where that costs no memory."""
        streams = [data for data in payloads if isinstance(data, AsyncIterable)]
        async with AsyncExitStack() as stack:
            for stream in streams:
                if isinstance(stream, AsyncGenerator):
                    await stack.enter_async_context(aclosing(stream))
            io, meter = self._o.io, self._o.meter
            put = io.watched(meter.moved).put if meter.watched else io.put
            puts = [partial(put, key, data) for key, data in zip(self._keys, payloads, strict=True)]
            await some_at_once(_STREAMS_AT_ONCE if streams else _AT_ONCE, puts)

    async def copy(self, source: Opened, places: Sequence[tuple[str, int]]) -> bool:
        """Have the service copy them from these keys of another registry.

        Answers whether each is of the size that is given with its key.
        """

        async def one(key: str, source_key: str, size: int) -> bool:
            await self._o.io.copy_object(source.io, source_key, key, size)
            there = await self._o.io.head(key)
            self._o.meter.moved(size)
            return there is not None and there.size == size

        copies = [
            partial(one, key, source_key, size)
            for key, (source_key, size) in zip(self._keys, places, strict=True)
        ]
        return all(await some_at_once(_AT_ONCE, copies))

    def release(self) -> None:
        """No commit refers to them, nor may one yet appear."""
        self.needed = False

    async def end(self) -> None:
        """Remove them if no commit that names them was made, or may yet appear."""
        if self.needed or not self._keys:
            return
        with suppress(BackendError):  # garbage collection finds what no record names
            await to_the_end(self._o.io.delete(self._keys), grace=_DISCARD_GRACE)


async def save(o: Opened, draft: Draft, version: Version | None, policy: OnConflict) -> Saved:
    """Store a draft under a version, or the next one (None): all of it, or nothing."""
    payload = Payload(o, draft)
    try:
        if version is None and o.descriptor.version_objects:
            return await _save_next(o, draft, payload)
        version = version or first_version(o.descriptor.version_digits)
        if draft.payloads:
            await payload.upload(draft.payloads)
        return await save_at(o, await draft.finished(), version, policy, payload)
    finally:
        await payload.end()


async def _save_next(o: Opened, draft: Draft, payload: Payload) -> Saved:
    """Commit under the next free version, with the upload beside the look at the listing."""
    known = o.shared.newest.get(draft.name)

    async def look() -> Version | None:
        if known is not None and o.creates_next:
            return None  # the commit looks itself
        return await newest_number(o.until(o.deadline()), draft.name)

    if draft.payloads:
        listed, _ = await both(look(), payload.upload(draft.payloads))
    else:
        listed = await look()
    return await _commit_next(o, await draft.finished(), payload, listed, known)


async def _commit_next(
    o: Opened, draft: Draft, payload: Payload, listed: Version | None, known: Version | None
) -> Saved:
    """Who loses a race for a number looks again.

    Savers of one name in this process queue here, so that only other processes contend. What was
    saved while this one looked and waited counts beside what it saw; ``known`` is what was known
    before.
    """
    refused: Version | None = None
    attempt = 0
    async with o.shared.queue(draft.name, o.timeout):
        deadline = o.deadline()
        o = o.until(deadline)
        saved = o.shared.newest.get(draft.name)
        newest = _newer(listed, saved if saved != known or o.creates_next else None)
        slot = Slot(newest=o.key(draft.name, newest) if o.creates_next and newest else None)
        while True:
            version = next_version(_newer(newest, refused), o.descriptor.version_digits)
            look = partial(newest_number, o, draft.name)
            settled = await commit_draft(o, draft, version, slot, payload, deadline, beside=look)
            if settled.ours:
                o.shared.note_newest(draft.name, version)
                return Saved(version)
            _check_time(deadline, o, draft.name)
            if isinstance(settled.beside, Exception):
                raise settled.beside
            if settled.current is None:  # overtaken
                newest = await look()
            else:
                newest, refused = cast("Version | None", settled.beside), version
                await backoff(attempt, most=0.05)
                attempt += 1
            slot = Slot()


def _newer(one: Version | None, other: Version | None) -> Version | None:
    return max((version for version in (one, other) if version is not None), default=None)


async def newest_number(o: Opened, name: str) -> Version | None:
    """The highest version number that was ever used for a name; deleted ones count."""
    after: str | None = ""
    while after is not None:
        page, after = await entries_after(o, name, after, limit=1)
        if page:
            return version_of(o, page[0].key)
    return None


async def save_at(
    o: Opened, draft: Draft, version: Version, policy: OnConflict, payload: Payload
) -> Saved:
    """Commit under one version, replacing what is there as far as the policy allows."""
    deadline = o.deadline()
    o = o.until(deadline)
    slot, trash = Slot(), draft.manifest.trash
    if policy == "overwrite":
        slot, trash = await _read_slot(o, draft.name, version)
    attempt = 0
    while True:
        if slot.line is not None and (slot.line.live or not o.descriptor.reuse_deleted):
            if policy == "skip" and slot.line.live:
                return Saved(version, skipped=True)
            if policy != "overwrite":
                raise taken(o, draft.name, version, slot.line)
        if slot.line is not None and not o.io.capabilities.replace:
            raise BackendCapabilityError(f"{o.io.uri} cannot replace a record atomically")
        fresh, expired = _sorted_trash(trash)
        manifest = msgspec.structs.replace(draft.manifest, trash=fresh)
        settled = await commit_draft(
            o, replace(draft, manifest=manifest), version, slot, payload, deadline
        )
        if settled.ours:
            await _empty_trash(o, draft.name, expired)
            return Saved(version)
        if settled.current is not None and policy != "overwrite":
            slot = Slot(settled.current)
            if settled.current.live or not o.descriptor.reuse_deleted:
                continue
        _check_time(deadline, o, draft.name)
        await backoff(attempt, most=0.05)
        attempt += 1
        slot, trash = await _read_slot(o, draft.name, version)


async def _read_slot(o: Opened, name: str, version: Version) -> tuple[Slot, list[tuple[str, int]]]:
    """What is in the slot of a version now, and the trash that whoever replaces it takes over."""
    current = await read_current(o, name, version)
    if current is None:
        return Slot(), []
    record, tag = current
    trash = list(record.manifest.trash) if record.manifest else []
    if record.manifest and any(entry.b is not None for entry in record.manifest.files):
        trash.append((record.line.commit, int(time.time())))
    return Slot(record.line, tag), trash


def _sorted_trash(
    trash: list[tuple[str, int]],
) -> tuple[list[tuple[str, int]], list[str]]:
    """Trash that readers may still be reading, and the commits that are old enough to go."""
    limit = time.time() - READER_GRACE
    fresh = [(commit, at) for commit, at in trash if at > limit]
    return fresh[-_MOST_TRASH:], [commit for commit, at in trash if at <= limit]


async def _empty_trash(o: Opened, name: str, commits: list[str]) -> None:
    for commit in commits:
        prefix = o.payload_key(name, commit, 0).rpartition("/")[0] + "/"
        try:
            page = await o.io.list(prefix)
            await o.io.delete([entry.key for entry in page.entries])
        except BackendError:
            return  # the save is done; garbage collection takes what is left


async def commit_draft(
    o: Opened,
    draft: Draft,
    version: Version,
    slot: Slot,
    payload: Payload,
    deadline: float,
    *,
    beside: Callable[[], Coroutine[Any, Any, object]] | None = None,
) -> Settled:
    """The commit of a draft, with its payload kept from the moment that it may be referred to."""
    text = format_version(version)
    manifest = msgspec.structs.replace(draft.manifest, version=text, committed=now())
    large = len(draft.inline) + 128 * len(manifest.files) > SMALL
    record = await maybe_in_worker(
        large, lambda: write_live(manifest, draft.inline, commit=draft.commit, after=slot.line)
    )
    payload.needed = True
    key = o.key(draft.name, version)
    try:
        return await settle(
            o.io, key, record, commit=draft.commit, over=slot, deadline=deadline,
            lost=payload.release, beside=beside,
        )  # fmt: skip
    except CommitUnknown as error:
        error.name, error.version = draft.name, text
        raise


def taken(o: Opened, name: str, version: Version, line: Line) -> RegistryVersionConflict:
    """The error for a version that may not be written."""
    text = format_version(version)
    if line.live:
        hint = (
            "pass on_conflict='overwrite' or 'skip'"
            if o.descriptor.mutable
            else "versions are immutable here; choose another number (save chooses the next one "
            "where you leave it out), or pass on_conflict='skip'"
        )
        message = f"{name!r} version {text} is already in {o.io.uri}: {hint}"
    else:
        message = (
            f"{name!r} version {text} was deleted from {o.io.uri}, and deleted numbers are not "
            "used again: choose another (save chooses the next one where you leave it out)"
        )
    return RegistryVersionConflict(message, name=name, version=text)


def _check_time(deadline: float, o: Opened, name: str) -> None:
    if asyncio.get_running_loop().time() > deadline:
        raise BackendTimeout(
            f"saving {name!r} lost every race for {o.timeout} s; nothing was written"
        )

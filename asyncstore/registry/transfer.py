"""Copying between registries: verified bytes and the manifest, never the decoded object."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

import msgspec

from asyncstore.concurrency import by_turns
from asyncstore.errors import (
    BackendError,
    BackendTimeout,
    RegistryVersionConflict,
    StoreKeyFormatError,
)
from asyncstore.record import FileEntry, Manifest, Record, new_commit
from asyncstore.registry.drafting import Draft
from asyncstore.registry.fetching import chunk_of, contents_of
from asyncstore.registry.layout import lay_out
from asyncstore.registry.opened import Opened
from asyncstore.registry.reading import (
    Found,
    Moved,
    Verify,
    fetch_record,
    find,
    must_be_current,
    read_current,
)
from asyncstore.registry.writing import OnConflict, Payload, save_at
from asyncstore.versions import Version, first_version, fit_version, format_version

_MOST_RESTARTS = 4
_AT_ONCE = 4
"""Files that are verified at once, each with one chunk in memory."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied (its commit in the source) and where it is now.

    ``same`` says that source and target are one and the same version, ``skipped`` that another
    one is in the target and was left there: either way nothing was done.
    """

    source: Version
    commit: str
    target: Version
    same: bool = False
    skipped: bool = False


async def copy(
    source: Opened,
    name: str,
    version: Version | None,
    target: Opened,
    target_name: str,
    target_version: Version | None,
    policy: OnConflict,
    verify: Verify,
) -> Copied:
    """Copy a version: all of it or nothing; identical content at the target is success.

    A source that is overwritten meanwhile is read again, so the target is never a mixture. Every
    chunk is verified on its way; ``verify="full"`` reads the copy back besides. With ``"none"``
    the service may copy the payload by itself, which shows nobody a flipped byte.
    """
    for _ in range(_MOST_RESTARTS + 1):
        found = await find(source, name, version)
        if found is None:
            raise source.not_found(name, version)
        to = target_version or fitting(target, found.version)
        try:
            record = await fetch_record(source, found, verify)
            done = await _copy_once(source, found, record, target, target_name, to, policy, verify)
        except Moved:
            continue
        if verify == "full" and not done.same and not done.skipped:
            await verify_stored(target, target_name, to)
        return done
    raise BackendTimeout(f"{name!r} was overwritten faster than it could be copied")


def fitting(target: Opened, version: Version) -> Version:
    """The same number in another registry."""
    if not target.descriptor.version_objects:
        return first_version(target.descriptor.version_digits)
    fitted = fit_version(version, target.descriptor.version_digits)
    if fitted is None:
        raise StoreKeyFormatError(
            f"version {format_version(version)} does not fit {target.io.uri}, whose versions have "
            f"{target.descriptor.version_digits} numbers: pass target_version=..."
        )
    return fitted


async def _copy_once(
    source: Opened,
    found: Found,
    record: Record,
    target: Opened,
    name: str,
    version: Version,
    policy: OnConflict,
    verify: Verify,
) -> Copied:
    manifest = record.manifest
    if manifest is None:
        raise Moved
    target.meter.begin(manifest.size, len(manifest.files))
    commit = record.line.commit
    onto_itself = (found.name, found.version) == (name, version)
    if onto_itself and await _is_one_place(source, found, record, target):
        return Copied(found.version, commit, version, same=True)
    done = Copied(found.version, commit, version)
    if await _has_same(target, name, version, manifest):
        return done
    draft, uploads = await _draft(source, found, record, manifest, target, name, verify)
    payload = Payload(target, draft)
    try:
        places = _places(source, found, record, target, draft) if verify == "none" else None
        if places is None or not await _copied_within(source, found, record, payload, places):
            target.meter.begin(manifest.size, len(manifest.files))
            await payload.upload(uploads)
        saved = await save_at(target, draft, version, policy, payload)
    except RegistryVersionConflict:
        if not await _has_same(target, name, version, manifest):
            raise
        return done
    finally:
        await payload.end()
    if saved.skipped and not await _has_same(target, name, version, manifest):
        return replace(done, skipped=True)
    return done


def _places(
    source: Opened, found: Found, record: Record, target: Opened, draft: Draft
) -> list[tuple[str, int]] | None:
    """The source's payload objects with their sizes, where each is one of the copy's, too.

    None where the service cannot copy them, or the target lays its payload out otherwise.
    """
    entries = record.manifest.files if record.manifest else []
    if not draft.payload_count or [(e.b, e.o) for e in entries] != [
        (e.b, e.o) for e in draft.manifest.files
    ]:
        return None
    sizes = [0] * draft.payload_count
    for entry in entries:
        sizes[entry.b or 0] += entry.n
    if not all(target.io.copies_from(source.io, size) for size in sizes):
        return None
    commit = record.line.commit
    return [(source.payload_key(found.name, commit, at), size) for at, size in enumerate(sizes)]


async def _copied_within(
    source: Opened,
    found: Found,
    record: Record,
    payload: Payload,
    places: list[tuple[str, int]],
) -> bool:
    """Have the service copy; whether objects of the right sizes are there now.

    Where not, they are to go through us, which tells what is wrong with them, if anything is.
    """
    try:
        if await payload.copy(source, places):
            return True
    except BackendError:
        pass
    await must_be_current(source, found, record)  # else it is read again
    return False


async def _is_one_place(source: Opened, found: Found, record: Record, target: Opened) -> bool:
    """Whether the target holds this very record, under whatever URI.

    The ids alone do not tell: a directory that was copied as a whole has the id of the original.
    """
    if source.descriptor.id != target.descriptor.id:
        return False
    if source.io.uri == target.io.uri:
        return True
    there = await read_current(target, found.name, found.version)
    if there is not None and there[0].line.commit == record.line.commit:
        return True
    await must_be_current(source, found, record)
    return False


async def _has_same(target: Opened, name: str, version: Version, manifest: Manifest) -> bool:
    current = await read_current(target, name, version)
    there = current[0].manifest if current else None
    return there is not None and _content(there) == _content(manifest)


def _content(manifest: Manifest) -> tuple[object, ...]:
    """What a copy has in common with its original."""
    return manifest.hash, manifest.materializer, manifest.params, manifest.metadata


async def _draft(
    source: Opened,
    found: Found,
    record: Record,
    manifest: Manifest,
    target: Opened,
    name: str,
    verify: Verify,
) -> tuple[Draft, list[AsyncGenerator[bytes]]]:
    """The draft of the copy, and what is to be uploaded for it, in the target's own layout."""
    entries = manifest.files
    groups = lay_out([entry.n for entry in entries], target.descriptor.inline_max)
    inline = b""
    files = [msgspec.structs.replace(entry, i=None, b=None, o=0) for entry in entries]
    for index, group in enumerate(groups if groups is not None else [range(len(entries))]):
        offset = 0
        for at in group:
            place = {"i": offset} if groups is None else {"b": index, "o": offset}
            files[at] = msgspec.structs.replace(files[at], **place)
            offset += entries[at].n
    if groups is None:
        stream = contents_of(source, found, record, entries, verify)
        async with aclosing(stream):
            inline = b"".join([part async for part in stream])
    made = msgspec.structs.replace(manifest, name=name, files=files, trash=[])
    draft = Draft(name, new_commit(), made, inline=inline, payload_count=len(groups or ()))
    return draft, [
        contents_of(source, found, record, [entries[at] for at in group], verify)
        for group in groups or ()
    ]


async def verify_stored(o: Opened, name: str, version: Version) -> None:
    """Read everything that is stored of a version and check it; raises what a load would."""
    for _ in range(_MOST_RESTARTS + 1):
        found = await find(o, name, version)
        if found is None:
            raise o.not_found(name, version)
        try:
            return await _verify_once(o, found)
        except Moved:
            continue
    raise BackendTimeout(f"{name!r} was overwritten faster than it could be verified")


async def _verify_once(o: Opened, found: Found) -> None:
    record = await fetch_record(o, found, "full")
    entries = record.manifest.files if record.manifest else []

    async def check(entry: FileEntry) -> None:
        for at in range(len(entry.chunks)):
            await chunk_of(o, found, record, entry, at, "full")

    await by_turns(_AT_ONCE, (partial(check, entry) for entry in entries))

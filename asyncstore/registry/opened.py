"""An opened registry: its backend, its settings, and what its operations share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakSet

from asyncstore._version import __version__
from asyncstore.backends.base import Backend, PutStatus
from asyncstore.backends.bounded import BoundedBackend
from asyncstore.backends.probing import probe_backend
from asyncstore.concurrency import ByteLRU, NameLocks, backoff
from asyncstore.descriptor import (
    DESCRIPTOR_KEY,
    MAX_DESCRIPTOR,
    Descriptor,
    Wanted,
    read_descriptor,
    write_descriptor,
)
from asyncstore.errors import (
    BackendCapabilityError,
    BackendError,
    BackendTimeout,
    IntegrityError,
    RegistryObjectNotFound,
)
from asyncstore.names import escape_name
from asyncstore.progress import UNWATCHED, Meter
from asyncstore.record import Record
from asyncstore.registry.chunks import SharedChunks
from asyncstore.versions import Version, format_version, version_key

MANIFEST_CACHE: Final = 32 * 1024 * 1024
"""Bytes of last-known records that a registry keeps; used only where a listing confirms them."""


_MOST_NEWEST: Final = 100_000


@dataclass(frozen=True, slots=True)
class Kept:
    """A record as it was last read and checked: its tag in the backend, its bytes, its meaning."""

    tag: str | None
    data: bytes
    record: Record


@dataclass
class Shared:
    """What every view of one registry shares for as long as the registry lives."""

    descriptor: Descriptor | None = None
    records: ByteLRU[Kept] = field(default_factory=lambda: ByteLRU[Kept](MANIFEST_CACHE))
    locks: NameLocks = field(default_factory=NameLocks)
    chunks: SharedChunks = field(default_factory=SharedChunks)
    long_names: dict[str, str] = field(default_factory=dict[str, str])
    newest: dict[str, Version] = field(default_factory=dict[str, Version])
    marked: set[str] = field(default_factory=set[str])
    confirmed: bool = False
    users: WeakSet[object] = field(default_factory=WeakSet[object])

    def note_newest(self, name: str, version: Version) -> None:
        """Remember the highest number of a name that was seen; it saves a look, if it is right."""
        if len(self.newest) >= _MOST_NEWEST:
            self.newest.clear()
        self.newest[name] = version

    @asynccontextmanager
    async def queue(self, name: str, timeout: float) -> AsyncGenerator[None]:
        """One at a time for each name, in order; BackendTimeout after so many seconds' wait."""
        entered = False
        try:
            async with self.locks.hold(name, timeout=timeout):
                entered = True
                yield
        except TimeoutError as error:
            if entered or isinstance(error, BackendTimeout):
                raise
            raise BackendTimeout(
                f"other operations on {name!r} took more than {timeout} s; nothing was done"
            ) from None


@dataclass(frozen=True, slots=True)
class Opened:
    """A registry whose settings are known. ``timeout`` is in seconds and for one operation."""

    io: BoundedBackend
    descriptor: Descriptor
    shared: Shared
    timeout: float
    meter: Meter = UNWATCHED

    @property
    def creates_next(self) -> bool:
        """Whether a commit can look at the listing itself."""
        return self.io.creates_next

    def until(self, deadline: float) -> Opened:
        """The same registry for one operation, whose requests all end by then."""
        io = self.io.until(deadline)
        return Opened(io, self.descriptor, self.shared, self.timeout, self.meter)

    def deadline(self) -> float:
        """When an operation that starts now has used up its time, by the loop's clock."""
        return asyncio.get_running_loop().time() + self.timeout

    def prefix(self, name: str) -> str:
        """Where the versions of a name are."""
        return f"m/{escape_name(name)}/"

    def key(self, name: str, version: Version) -> str:
        """Where the record of one version is."""
        return self.prefix(name) + version_key(version)

    def payload_key(self, name: str, commit: str, index: int) -> str:
        """Where one payload object of a commit is."""
        return f"d/{escape_name(name)}/{commit}/{index}"

    def where(self, key: str) -> str:
        """A key as error messages show it."""
        return f"{self.io.uri}/{key}"

    def not_found(self, name: str, version: Version | str | None) -> RegistryObjectNotFound:
        """The error for what is definitely not here."""
        text = version if isinstance(version, str) or version is None else format_version(version)
        return not_found(self.io.uri, name, text)


def not_found(where: str, name: str, version: str | None) -> RegistryObjectNotFound:
    """The error for what is definitely not in the registry at ``where``."""
    what = repr(name) if version is None else f"{name!r} version {version}"
    return RegistryObjectNotFound(f"{what} is not in {where}", name=name, version=version)


async def open_existing(io: Backend, wanted: Wanted, *, create: bool) -> Descriptor | None:
    """The settings of the registry on a backend, checked; None where there is no registry yet.

    Creates nothing. A place that holds objects but no settings is damaged, not empty.
    """
    found = await look_for(io, wanted, create=create)
    if found is None and (await io.list("m/", limit=1)).prefixes:
        found = await look_for(io, wanted, create=create)  # created just now?
        if found is None:
            raise no_settings(io)
    return found


def no_settings(io: Backend) -> IntegrityError:
    """The error for objects without the settings that they were written under."""
    return IntegrityError(
        f"{io.uri} holds objects but no {DESCRIPTOR_KEY}: restore that file, without which their "
        "settings are unknown"
    )


async def look_for(io: Backend, wanted: Wanted, *, create: bool) -> Descriptor | None:
    """The settings on a backend, checked, in one request; None where there are none."""
    blob = await io.get(DESCRIPTOR_KEY, length=MAX_DESCRIPTOR + 1)
    if blob is not None:
        return wanted.check(read_descriptor(blob.data, io.uri), io.uri)
    if not create:
        raise BackendError(
            f"there is no registry at {io.uri}, and it was opened with create=False: is the disk "
            "mounted and the path right?"
        )
    return None


async def create_new(io: Backend, wanted: Wanted, *, timeout: float) -> Descriptor:
    """Write the settings of a new registry, unless somebody else was first; then take theirs."""
    if not io.capabilities.create:
        raise BackendCapabilityError(
            f"{io.uri} has no atomic creation, without which two writers overwrite each other"
        )
    if io.capabilities.remote:
        (await probe_backend(io)).raise_for_faults()
    made = wanted.new()
    deadline = asyncio.get_running_loop().time() + timeout
    attempt = 0
    while True:
        reply = await io.put_if(DESCRIPTOR_KEY, write_descriptor(made), tag=None)
        if reply.status is PutStatus.DONE:
            return made
        if reply.status in (PutStatus.FAILED, PutStatus.NOT_DURABLE):
            raise reply.error or BackendError(f"{io.uri}/{DESCRIPTOR_KEY} could not be written")
        found = await open_existing(io, wanted, create=True)
        if found is not None:
            return found
        if asyncio.get_running_loop().time() > deadline:
            raise BackendTimeout(f"no registry could be created at {io.uri} in {timeout} s")
        await backoff(attempt, most=1.0)
        attempt += 1


def writer_name() -> str:
    """What a record says of who wrote it."""
    return f"asyncstore/{__version__} pid {os.getpid()}"


Files = Mapping[str, bytes]
"""An object as files: relative path -> bytes."""

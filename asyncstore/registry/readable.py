"""What a registry tells: loading, asking and listing. Creates and changes nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from asyncstore.errors import (
    RegistryObjectNotFound,
    StoreKeyFormatError,
)
from asyncstore.keys import split_name
from asyncstore.mapping import MappingReads
from asyncstore.progress import OnProgress
from asyncstore.registry import listing
from asyncstore.registry.base import (
    RegistryBase,
    check_output_dir,
    check_verify,
    metadata_of,
    time_of,
    version_to_read,
)
from asyncstore.registry.fetching import Fetched, fetch
from asyncstore.registry.opened import Opened, not_found
from asyncstore.registry.reading import Found, Verify, fetch_record, find
from asyncstore.registry.streams import ObjectReader, open_object
from asyncstore.registry.transfer import verify_stored
from asyncstore.results import ObjectRecord, run_batch
from asyncstore.versions import format_version

Key = str | Sequence[str]


class ReadableRegistry(RegistryBase, MappingReads):
    """The reads of a registry."""

    async def load(
        self,
        key: Key,
        version: str | None = None,
        *,
        verify: Verify = "integrity",
        as_type: type | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Any:
        """Load an object, by default the newest version, verified; a sequence gives a BatchResult.

        ``verify="full"`` also asks the backend again instead of trusting any cache; with
        ``"none"`` unverified bytes may be decoded. ``as_type`` is the class to build where the
        stored form does not say (dataclasses, enums). What is stored as files is written to
        ``output_dir``. ``on_progress`` is called with a :class:`~asyncstore.ProgressEvent` now and
        then.

        Raises RegistryObjectNotFound, IntegrityError, MaterializationError, UnsupportedFormatError
        or BackendError.
        """
        if not isinstance(key, str):
            keys = sequence_of_keys(key)
            return await run_batch(
                keys,
                lambda at: self.load(
                    keys[at], version, verify=verify, as_type=as_type, output_dir=output_dir,
                    on_progress=on_progress,
                ),
            )  # fmt: skip
        watched = self.watching(on_progress, "load", key)
        fetched = await watched.fetch(key, version, verify=verify, output_dir=output_dir)
        value = await watched.materialize(fetched, as_type, output_dir)
        watched.meter.end()
        return value

    async def load_record(
        self,
        key: str,
        version: str | None = None,
        *,
        verify: Verify = "integrity",
        as_type: type | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        on_progress: OnProgress | None = None,
    ) -> ObjectRecord:
        """Load an object together with its version, hash, metadata and time of creation."""
        watched = self.watching(on_progress, "load", key)
        fetched = await watched.fetch(key, version, verify=verify, output_dir=output_dir)
        record = self.record_of(fetched, await watched.materialize(fetched, as_type, output_dir))
        watched.meter.end()
        return record

    def record_of(self, fetched: Fetched, value: Any, location: str | None = None) -> ObjectRecord:
        """A loaded object with where it came from."""
        manifest = fetched.manifest
        version = format_version(fetched.version)
        key = f"{fetched.name}@{version}"
        return ObjectRecord(
            value=value,
            key=key if location is None else f"{location}/{key}",
            location=location,
            name=fetched.name,
            version=version,
            hash=manifest.hash,
            metadata=metadata_of(manifest.metadata),
            created=time_of(manifest.created, key),
        )

    async def probe(self, name: str, version: str | None = None) -> Found | None:
        """Whether a version is here, in the fewest round trips; None is a definite "no"."""
        return await self.reading(lambda o: _look(o, name, version))

    async def fetch_found(
        self, found: Found, verify: Verify, *, deadline: float | None = None
    ) -> Fetched:
        """All that is stored of what a probe found, verified but not yet decoded."""
        o = await self.open_to_read()
        if o is None:
            raise not_found(self.uri, found.name, None)
        return await fetch(o, found, verify, deadline=deadline or o.deadline())

    async def fetch(
        self,
        key: str,
        version: str | None,
        *,
        verify: Verify,
        output_dir: str | os.PathLike[str] | None = None,
    ) -> Fetched:
        """Find and fetch a version, or raise RegistryObjectNotFound."""
        name, text = split_name(key, version)
        check_verify(verify)
        check_output_dir(output_dir)
        deadline = asyncio.get_running_loop().time() + self._timeout
        found = await self.probe(name, text)
        if found is None:
            raise not_found(self.uri, name, text)
        return await self.fetch_found(found, verify, deadline=deadline)

    # -- asking ------------------------------------------------------------------------------

    async def has_object(self, key: str, version: str | None = None) -> bool:
        """Whether the version (or any) is there. An unreachable backend raises, never "no"."""
        return await self.probe(*split_name(key, version)) is not None

    async def info(self, key: str | None = None, version: str | None = None) -> dict[str, Any]:
        """The registry's settings (no key), or the manifest of one version."""
        if key is None:
            o = await self.open_to_read()
            settings = msgspec.to_builtins(o.descriptor) if o else None
            return {"uri": self.uri, "exists": o is not None, "settings": settings}
        name, text = split_name(key, version)
        found = await self.probe(name, text)
        o = await self.open_to_read() if found is not None else None
        if o is None or found is None:
            raise not_found(self.uri, name, text)
        manifest = (await fetch_record(o, found, "integrity")).manifest
        if manifest is None:
            raise not_found(self.uri, name, text)
        tree: dict[str, Any] = msgspec.to_builtins(manifest)
        return {**tree, "metadata": metadata_of(manifest.metadata)}

    async def list_versions(self, key: str) -> list[str]:
        """The live versions of a name, oldest first; none for a name that is not there."""
        name, _ = split_name(key)
        versions = await self.reading(lambda o: listing.versions_of(o, name))
        return [format_version(version) for version in versions or ()]

    async def list_objects(self) -> list[str]:
        """All names that have a live version, sorted."""
        return sorted([name async for name in self.iter_objects()])

    async def list_objects_and_versions(self) -> dict[str, list[str]]:
        """All names with their live versions, in one pass over the listing."""
        o = await self.open_to_read()  # not bounded as a whole: there may be any number
        return await listing.names_and_versions(o) if o else {}

    async def iter_objects(self, *, prefix: str = "") -> AsyncIterator[str]:
        """All names that start with ``prefix``, in the backend's order, in constant memory."""
        if not isinstance(prefix, str):
            raise StoreKeyFormatError(f"a prefix must be a str, got {type(prefix).__name__}")
        o = await self.open_to_read()
        if o is not None:
            async for page in listing.names(o, prefix):
                for name in page:
                    yield name

    async def verify(self, key: str, version: str | None = None) -> None:
        """Read everything that is stored of a version and check it, without decoding it."""
        found = await self._must_find(*split_name(key, version))
        o = await self.open_to_read()
        if o is not None:
            await verify_stored(o, found.name, found.version)

    async def _must_find(self, name: str, version: str | None) -> Found:
        found = await self.probe(name, version)
        if found is None:
            raise not_found(self.uri, name, version)
        return found

    # -- streams -----------------------------------------------------------------------------

    @asynccontextmanager
    async def open_reader(
        self,
        key: str,
        version: str | None = None,
        *,
        verify: Verify = "integrity",
        on_progress: OnProgress | None = None,
    ) -> AsyncGenerator[ObjectReader]:
        """The raw bytes of an object, as an async context manager; see :class:`ObjectReader`."""
        name, text = split_name(key, version)
        check_verify(verify)
        meter = self.watching(on_progress, "read", key).meter
        found = await self._must_find(name, text)
        o = await self.open_to_read()
        if o is None:
            raise not_found(self.uri, name, text)
        reader = await open_object(o, found, verify, meter)
        try:
            yield reader
            meter.end(whole=False)
        finally:
            await reader.aclose()


async def _look(o: Opened, name: str, version: str | None) -> Found | None:
    try:
        number = version_to_read(o, name, version)
    except RegistryObjectNotFound:
        return None  # a number that this registry cannot even express
    return await find(o, name, number)


def sequence_of_keys(keys: Any) -> list[str]:
    """The keys of a batch, or a StoreKeyFormatError before anything is done."""
    if isinstance(keys, (bytes, bytearray)) or not isinstance(keys, Sequence):
        raise StoreKeyFormatError(
            f"a key must be a str, or a list of them for a batch, got {type(keys).__name__}"
        )
    return list(keys)

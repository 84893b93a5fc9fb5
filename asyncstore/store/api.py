"""The store as users see it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, overload

from asyncstore.concurrency import together
from asyncstore.discovery import Answer
from asyncstore.errors import AsyncStoreError, StoreKeyFormatError
from asyncstore.keys import join_key
from asyncstore.mapping import MISSING, MappingReads
from asyncstore.materializers import Materializer
from asyncstore.mounts import StoreMount
from asyncstore.progress import OnProgress
from asyncstore.registry import AsyncRegistry, ObjectReader, ObjectWriter
from asyncstore.registry.base import check_output_dir, check_verify
from asyncstore.registry.fetching import Fetched
from asyncstore.registry.readable import Key, sequence_of_keys
from asyncstore.registry.reading import Verify
from asyncstore.registry.writable import paired
from asyncstore.registry.writing import OnConflict
from asyncstore.results import BatchResult, ObjectRecord, run_batch
from asyncstore.store.base import Place, StoreBase, incomplete, naming
from asyncstore.verdicts import Failure, Hit, Incomplete, judge_all, judge_any
from asyncstore.versions import format_version


class AsyncStore(StoreBase, MappingReads):
    """Many registries under names, and one face over all of them.

    A key is qualified (``"mount/name"``, ``"mount/name@1.0.0"``) or not (``"name"``). Reads take
    both: an unqualified one asks every discoverable mount at once, and a name that is in two of
    them is refused, never guessed. Whatever may write or delete names its mount. A mount that
    cannot be reached is never taken for "not there".

    ``mounts`` maps locations to registries, StoreMounts, paths or URIs, or lists StoreMounts;
    without any there are those of ``settings``, else one local mount, ``default``.
    ``location_cache_ttl`` is in seconds. ``max_concurrency`` bounds the requests to backends under
    way at once. Works with and without ``async with``: clients open on first use, ``aclose()`` ends
    them, and no task, task group or cancel scope is left open between calls.
    """

    # -- saving ------------------------------------------------------------------------------

    @overload
    async def save(
        self, key: str, obj: Any, *, version: str | None = None,
        metadata: Mapping[str, Any] | None = None, materializer: str | Materializer | None = None,
        on_conflict: OnConflict | None = None, on_progress: OnProgress | None = None,
    ) -> str: ...  # fmt: skip

    @overload
    async def save(
        self, key: Sequence[str], obj: Sequence[Any], *, version: str | None = None,
        metadata: Mapping[str, Any] | None = None, materializer: str | Materializer | None = None,
        on_conflict: OnConflict | None = None, on_progress: OnProgress | None = None,
    ) -> BatchResult: ...  # fmt: skip

    async def save(
        self, key: Key, obj: Any, *, version: str | None = None,
        metadata: Mapping[str, Any] | None = None, materializer: str | Materializer | None = None,
        on_conflict: OnConflict | None = None, on_progress: OnProgress | None = None,
    ) -> Any:  # fmt: skip
        """Store an object under a qualified key, all or nothing; answers the version written.

        See :meth:`AsyncRegistry.save`. Sequences of keys and objects, of one length, give a
        BatchResult. Raises StoreKeyFormatError for an unqualified key, with the keys that would
        work, and StoreReadOnlyError before anything is sent.
        """

        async def one(key: str, obj: Any) -> str:
            place = self.place_to_write(key, version, "save")
            watched = place.registry.watching(on_progress, "save", key)
            saved = await watched.save_one(
                place.name, obj, place.version, metadata, materializer, on_conflict
            )
            self._cache.update(place.name, place.location)
            return saved

        if isinstance(key, str):
            return str(await one(key, obj))
        keys, objects = paired(key, obj)
        return await run_batch(keys, lambda at: one(keys[at], objects[at]))

    # -- loading -----------------------------------------------------------------------------

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
        """Load an object; a sequence of keys gives a BatchResult.

        An unqualified key costs no more serial round trips than a qualified one: the load of the
        first mount that has it starts while the others are still being asked, and is handed over
        once the discovery policy is satisfied. See :meth:`AsyncRegistry.load` for the arguments.

        Raises StoreAmbiguousObjectError, StoreDiscoveryIncomplete, RegistryObjectNotFound,
        IntegrityError, MaterializationError, UnsupportedFormatError or BackendError.
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
        _, registry, fetched = await self._fetch(key, version, verify, output_dir, on_progress)
        value = await registry.materialize(fetched, as_type, output_dir)
        registry.meter.end()
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
        """Load an object together with where it came from; resolves a key as :meth:`load` does."""
        place, registry, fetched = await self._fetch(key, version, verify, output_dir, on_progress)
        value = await registry.materialize(fetched, as_type, output_dir)
        registry.meter.end()
        return registry.record_of(fetched, value, place.location)

    async def _fetch(
        self,
        key: str,
        version: str | None,
        verify: Verify,
        output_dir: str | os.PathLike[str] | None,
        on_progress: OnProgress | None,
    ) -> tuple[Place, AsyncRegistry, Fetched]:
        """Find a key and fetch its bytes, verified; nothing is decoded before the verdict.

        Answers the registry's view that counts the progress of this load, too.
        """
        check_verify(verify)
        check_output_dir(output_dir)
        views: dict[str, AsyncRegistry] = {}
        _, name, text = self._split(key, version)

        async def fetch(mount: StoreMount, hit: Hit) -> Fetched:
            registry, shown = self._mounts.view(mount.name), join_key(mount.name, name, text)
            views[mount.name] = watched = registry.watching(on_progress, "load", shown)
            return await watched.fetch_found(hit.found, verify)

        place = await self.place_to_read(key, version, fetch=fetch)
        registry = views.get(place.location)
        if registry is None:
            shown = join_key(place.location, name, text)
            registry = place.registry.watching(on_progress, "load", shown)
        if isinstance(place.fetched, Exception):
            raise place.fetched
        if place.fetched is not None:
            return place, registry, place.fetched
        if place.hit is not None:
            return place, registry, await registry.fetch_found(place.hit.found, verify)
        with naming(place):
            fetched = await registry.fetch(place.name, place.version, verify=verify)
        self._cache.update(place.name, place.location)
        return place, registry, fetched

    # -- asking ------------------------------------------------------------------------------

    async def has_object(self, key: str, version: str | None = None) -> bool:
        """Whether an object is there; unqualified, whether any mount has it.

        Raises StoreDiscoveryIncomplete where no mount has it and one gave no answer.
        """
        location, name, text = self._split(key, version)
        if location is not None:
            return await self._mounts.view(location).has_object(name, text)
        search = self.discovery(name, text)
        result: Answer[bool | Incomplete] = await search.run(judge_any)
        self._warn_of(search)
        answer = result.verdict
        if isinstance(answer, Incomplete):
            raise incomplete(repr(name), name, answer)
        return answer

    async def locate(self, name: str, version: str | None = None) -> list[str]:
        """The locations that have a name, in mount order; any failure leaves that open."""
        location, plain, text = self._split(name, version)
        mounts = None if location is None else [self._mounts.get(location)]
        search = self.discovery(plain, text, mounts)
        result: Answer[list[str] | Incomplete] = await search.run(judge_all)
        self._warn_of(search)
        answer = result.verdict
        if isinstance(answer, Incomplete):
            raise incomplete(repr(plain), plain, answer)
        return answer

    async def info(self, key: str | None = None, version: str | None = None) -> dict[str, Any]:
        """The store and its mounts (no key), or the manifest of one object."""
        if key is None:
            return {
                "default_location": self.default_location,
                "mounts": self.list_mount_info(),
                "stats": self.stats(),
            }
        place = await self.place_to_read(key, version)
        with naming(place):
            manifest = await place.registry.info(place.name, place.version)
        return {**manifest, "location": place.location}

    async def list_versions(self, key: str) -> list[str]:
        """The live versions of an object, oldest first."""
        location, name, _ = self._split(key)
        if location is not None:
            return await self._mounts.view(location).list_versions(name)
        place = await self.place_to_read(name)
        return await place.registry.list_versions(name)

    async def list_objects(self, location: str | None = None) -> list[str]:
        """The qualified keys of all objects, in mount order and then sorted.

        A mount that cannot be read raises, unless it is optional: it must not look empty.
        """
        listed = await self._of_each(location, lambda registry: registry.list_objects())
        return [join_key(place, name) for place, names in listed for name in names]

    async def list_objects_and_versions(self, location: str | None = None) -> dict[str, list[str]]:
        """All objects with their live versions, oldest first."""
        listed = await self._of_each(
            location, lambda registry: registry.list_objects_and_versions()
        )
        return {
            join_key(place, name): versions
            for place, found in listed
            for name, versions in found.items()
        }

    async def iter_objects(
        self, location: str | None = None, *, prefix: str = ""
    ) -> AsyncIterator[str]:
        """Qualified keys whose name starts with ``prefix``, mount by mount, in constant memory.

        A mount that cannot be read raises; an optional one is left out from where it fails.
        """
        places = self.list_mounts() if location is None else [self.get_mount(location).name]
        for place in places:
            try:
                async for name in self._mounts.view(place).iter_objects(prefix=prefix):
                    yield join_key(place, name)
            except AsyncStoreError as error:
                if location is not None or not self.get_mount(place).optional:
                    raise
                self._warn_left_out("the listing", {place: error})

    async def _of_each(self, location: str | None, ask: Any) -> list[tuple[str, Any]]:
        """What every mount (or one) answers, asked at once."""
        places = self.list_mounts() if location is None else [self.get_mount(location).name]

        async def one(place: str) -> Any:
            try:
                return await ask(self._mounts.view(place))
            except AsyncStoreError as error:
                return Failure(error)

        answers = dict(zip(places, await together(*map(one, places)), strict=True))
        errors = {at: one.error for at, one in answers.items() if isinstance(one, Failure)}
        left_out = {at: error for at, error in errors.items() if self.get_mount(at).optional}
        self._warn_left_out("the listing", left_out)
        serious = {at: error for at, error in errors.items() if at not in left_out}
        if location is not None and errors:
            raise errors[location]
        if serious:
            hits = tuple(at for at in places if at not in errors)
            raise incomplete("the listing", None, Incomplete(hits, serious))
        return [(at, answer) for at, answer in answers.items() if at not in errors]

    # -- deleting ----------------------------------------------------------------------------

    async def delete(self, key: Key, version: str | None = None, *, purge: bool = False) -> Any:
        """Delete a version of a qualified key, or all of them; see :meth:`AsyncRegistry.delete`."""
        if not isinstance(key, str):
            keys = sequence_of_keys(key)
            return await run_batch(keys, lambda at: self.delete(keys[at], version, purge=purge))
        place = self.place_to_write(key, version, "delete")
        try:
            with naming(place):
                await place.registry.delete(place.name, place.version, purge=purge)
        finally:
            self._cache.evict(place.name, place.location)
        return None

    # -- copying -----------------------------------------------------------------------------

    async def copy(
        self,
        source: str,
        *,
        target: str,
        source_version: str | None = None,
        target_version: str | None = None,
        on_conflict: OnConflict | None = None,
        verify: Verify = "integrity",
        on_progress: OnProgress | None = None,
    ) -> str:
        """Copy a version to a qualified key, bytes and manifest, without decoding it.

        Answers the target's version, by default the source's number. Identical content at the
        target is success, other content a conflict; onto itself it does nothing. Every chunk is
        verified on its way; ``verify="full"`` reads the copy back and checks it, too: one that is
        found damaged stays, and is refused by every load, until that version is deleted. With
        ``"none"`` a service that both are on copies by itself, and only sizes are looked at.
        """
        check_verify(verify)
        to = self.place_to_write(target, target_version, "copy")
        place = await self.place_to_read(source, source_version)
        shown = join_key(place.location, place.name, place.version)
        watched = to.registry.watching(on_progress, "copy", shown)
        with naming(place):
            copied = await watched.copy_from(
                place.registry, place.name, place.version, target=to.name,
                target_version=to.version, on_conflict=on_conflict, verify=verify,
            )  # fmt: skip
        watched.meter.end()
        self._cache.update(to.name, to.location)
        return format_version(copied.target)

    async def move(
        self,
        source: str,
        *,
        target: str,
        source_version: str | None = None,
        target_version: str | None = None,
        on_conflict: OnConflict | None = None,
        verify: Verify = "integrity",
        on_progress: OnProgress | None = None,
    ) -> str:
        """Copy, check the copy, then delete exactly the commit that was copied.

        Both keys are qualified. After a crash in between both are there, and a re-run ends it.
        """
        check_verify(verify)
        place = self.place_to_write(source, source_version, "move")
        to = self.place_to_write(target, target_version, "move")
        shown = join_key(place.location, place.name, place.version)
        watched = to.registry.watching(on_progress, "move", shown)
        with naming(place):
            copied = await watched.move_from(
                place.registry, place.name, place.version, target=to.name,
                target_version=to.version, on_conflict=on_conflict, verify=verify,
            )  # fmt: skip
        watched.meter.end()
        self._cache.update(to.name, to.location)
        if not copied.same:
            self._cache.evict(place.name, place.location)
        return format_version(copied.target)

    # -- as a dict ---------------------------------------------------------------------------

    async def pop(self, key: str, default: Any = MISSING, *, as_type: type | None = None) -> Any:
        """Load a qualified key and delete exactly what was loaded, as a registry does."""
        place = self.place_to_write(key, None, "pop")
        name = place.name if place.version is None else f"{place.name}@{place.version}"
        try:
            with naming(place):
                return await place.registry.pop(name, default, as_type=as_type)
        finally:
            self._cache.evict(place.name, place.location)

    async def setdefault(self, key: str, default: Any) -> Any:
        """The object of a qualified key, or ``default`` after storing it; never stored twice."""
        place = self.place_to_write(key, None, "setdefault")
        name = place.name if place.version is None else f"{place.name}@{place.version}"
        value = await place.registry.setdefault(name, default)
        self._cache.update(place.name, place.location)
        return value

    async def update(
        self, other: Mapping[str, Any] | AsyncStore, *, on_progress: OnProgress | None = None
    ) -> None:
        """Save every item of a mapping of qualified keys, or copy all of another store.

        From a store, every object goes to the mount of the same name here, every version under
        its number. All keys, mounts and values are checked before anything is written.
        """
        if isinstance(other, AsyncStore):
            await self._update_from(other, on_progress)
            return
        if not isinstance(other, Mapping):
            raise StoreKeyFormatError(
                "update takes a mapping of qualified keys, or another store, got "
                f"{type(other).__name__}"
            )
        keys = list(other)
        for key in keys:
            place = self.place_to_write(key, None, "update")
            await place.registry.encode(other[key], None)  # refused before anything is written
        done = await self.save(keys, [other[key] for key in keys], on_progress=on_progress)
        if not done.all_succeeded:
            raise done.errors[min(done.errors)]

    async def _update_from(self, other: AsyncStore, on_progress: OnProgress | None) -> None:
        listed = await other.list_objects_and_versions()
        keys = [f"{key}@{v}" for key, versions in listed.items() for v in versions]
        for key in keys:
            location, name, _ = other.parse_key(key)
            self.place_to_write(f"{location}/{name}", None, "update")

        async def one(at: int) -> str:
            location, name, version = other.parse_key(keys[at])
            to = self.place_to_write(f"{location}/{name}", None, "update")
            source = other._mounts.view(location or "")
            watched = to.registry.watching(on_progress, "copy", keys[at])
            copied = await watched.copy_from(source, name, version, target=name)
            watched.meter.end()
            return format_version(copied.target)

        done = await run_batch(keys, one)
        if not done.all_succeeded:
            raise done.errors[min(done.errors)]

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
        """The raw bytes of an object; resolves a key as :meth:`load` does."""
        place = await self.place_to_read(key, version)
        shown = join_key(place.location, place.name, place.version)
        watched = place.registry.watching(on_progress, "read", shown)
        async with AsyncExitStack() as stack:
            reading = watched.open_reader(place.name, place.version, verify=verify)
            with naming(place):
                reader = await stack.enter_async_context(reading)
            yield reader

    @asynccontextmanager
    async def open_writer(
        self,
        key: str,
        *,
        version: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        on_conflict: OnConflict | None = None,
        on_progress: OnProgress | None = None,
    ) -> AsyncGenerator[ObjectWriter]:
        """Write the bytes of a qualified key; see :meth:`AsyncRegistry.open_writer`."""
        place = self.place_to_write(key, version, "open_writer")
        watched = place.registry.watching(on_progress, "write", key)
        async with watched.open_writer(
            place.name, version=place.version, metadata=metadata, on_conflict=on_conflict
        ) as writer:
            yield writer
        self._cache.update(place.name, place.location)

    # -- location cache and statistics -------------------------------------------------------

    def cache_lookup_locations(self, name: str) -> list[str]:
        """The locations where a name was seen of late, the most recent first."""
        return self._cache.lookup(name)

    def cache_update_location(self, name: str, location: str) -> None:
        """Note that a name is in a mounted location; it steers where loads start, nothing more."""
        self._cache.update(name, self.get_mount(location).name)

    def cache_evict_name(self, name: str) -> None:
        """Forget where a name was seen."""
        self._cache.evict(name)

    def clear_location_cache(self) -> None:
        """Forget where all names were seen."""
        self._cache.clear()

    def stats(self) -> dict[str, Any]:
        """Counts of probes, hits, misses, errors and speculation, and latency per mount."""
        return self._stats.as_dict()

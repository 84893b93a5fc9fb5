"""The synchronous face, for scripts and notebooks: the same API over one background event loop.

A registry and a store also behave as a dict does: ``store["a/x"] = 1``, ``store["x"]``, ``del``,
``in``, ``len`` and iteration. Ctrl-C cancels the call under way and waits for its clean end. Works
in a notebook, whose own event loop it leaves alone, and a forked child starts a loop of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from asyncstore.backends import checking
from asyncstore.backends.base import Backend
from asyncstore.backends.local import Durability
from asyncstore.backends.probing import BackendReport
from asyncstore.backends.retries import RetryPolicy
from asyncstore.materializers import Materializer
from asyncstore.mounts import StoreMount
from asyncstore.progress import OnProgress
from asyncstore.registry import AsyncRegistry
from asyncstore.settings import DiscoveryPolicy, Settings
from asyncstore.store import AsyncStore
from asyncstore.store.base import ListedMounts
from asyncstore.sync.face import Face, Reader, Writer, blocking, iterating, plain, unwrapped
from asyncstore.sync.loop import run

__all__ = ["Reader", "Registry", "Store", "Writer", "check_backend"]

# A face keeps its registry alive, so while one is in here no other object can have its id.
_faces: WeakValueDictionary[int, Registry] = WeakValueDictionary()


def check_backend(target: str | os.PathLike[str] | Backend, **options: Any) -> BackendReport:
    """The synchronous form of :func:`asyncstore.check_backend`."""
    return run(lambda: checking.check_backend(target, **options))


class Registry(Face[AsyncRegistry]):
    """The synchronous form of :class:`asyncstore.AsyncRegistry`; see there for the arguments."""

    def __init__(
        self,
        backend: str | os.PathLike[str] | Backend,
        *,
        version_objects: bool | None = None,
        mutable: bool | None = None,
        version_digits: int | None = None,
        inline_max: int | None = None,
        create: bool = True,
        allow_pickle: bool = False,
        durability: Durability = "full",
        materializers: Iterable[Materializer] = (),
        entry_points: bool = True,
        operation_timeout: float = 60.0,
        request_timeout: float = 30.0,
        retries: RetryPolicy | None = None,
        max_concurrency: int = 64,
        unsafe_single_writer: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            AsyncRegistry(
                backend,
                version_objects=version_objects,
                mutable=mutable,
                version_digits=version_digits,
                inline_max=inline_max,
                create=create,
                allow_pickle=allow_pickle,
                durability=durability,
                materializers=materializers,
                entry_points=entry_points,
                operation_timeout=operation_timeout,
                request_timeout=request_timeout,
                retries=retries,
                max_concurrency=max_concurrency,
                unsafe_single_writer=unsafe_single_writer,
                **options,
            )
        )
        _faces[id(self.asynchronous)] = self

    @classmethod
    def of(cls, registry: AsyncRegistry) -> Registry:
        """The synchronous form of a registry, which it shares with whoever else has it."""
        known = _faces.get(id(registry))
        if known is not None:
            return known
        made = cls.__new__(cls)
        Face.__init__(made, registry)
        _faces[id(registry)] = made
        return made

    save = blocking(AsyncRegistry.save)
    load = blocking(AsyncRegistry.load)
    load_record = blocking(AsyncRegistry.load_record)
    delete = blocking(AsyncRegistry.delete)
    has_object = blocking(AsyncRegistry.has_object)
    info = blocking(AsyncRegistry.info)
    verify = blocking(AsyncRegistry.verify)
    list_objects = blocking(AsyncRegistry.list_objects)
    list_versions = blocking(AsyncRegistry.list_versions)
    list_objects_and_versions = blocking(AsyncRegistry.list_objects_and_versions)
    iter_objects = iterating(AsyncRegistry.iter_objects)
    copy = blocking(AsyncRegistry.copy)
    move = blocking(AsyncRegistry.move)
    get = blocking(AsyncRegistry.get)
    pop = blocking(AsyncRegistry.pop)
    setdefault = blocking(AsyncRegistry.setdefault)
    contains = blocking(AsyncRegistry.contains)
    count = blocking(AsyncRegistry.count)
    keys = iterating(AsyncRegistry.keys)
    values = iterating(AsyncRegistry.values)
    items = iterating(AsyncRegistry.items)

    def update(
        self,
        other: Mapping[str, Any] | Registry | AsyncRegistry,
        *,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Save every item of a mapping, or copy every version of every object of a registry."""
        run(lambda: self.asynchronous.update(unwrapped(other), on_progress=on_progress))

    @property
    def uri(self) -> str:
        """Where the objects are. Holds no credentials."""
        return self.asynchronous.uri


Mountable = AsyncRegistry | Registry | StoreMount | str | os.PathLike[str]


class Store(Face[AsyncStore]):
    """The synchronous form of :class:`asyncstore.AsyncStore`; see there for the arguments."""

    def __init__(
        self,
        mounts: Mapping[str, Mountable] | ListedMounts | None = None,
        *,
        default_location: str | None = None,
        create_default_local_mount: bool = True,
        enable_location_cache: bool = True,
        location_cache_ttl: float = 300.0,
        location_cache_size: int = 10_000,
        discovery: DiscoveryPolicy | None = None,
        max_concurrency: int = 64,
        settings: Settings | None = None,
    ) -> None:
        given: Any = mounts
        if isinstance(given, Mapping):
            given = {name: unwrapped(mount) for name, mount in dict[str, Any](given).items()}
        super().__init__(
            AsyncStore(
                given,
                default_location=default_location,
                create_default_local_mount=create_default_local_mount,
                enable_location_cache=enable_location_cache,
                location_cache_ttl=location_cache_ttl,
                location_cache_size=location_cache_size,
                discovery=discovery,
                max_concurrency=max_concurrency,
                settings=settings,
            )
        )

    @classmethod
    def from_config(cls, path: str | os.PathLike[str] | None = None) -> Store:
        """The store that ``asyncstore.toml`` and the environment describe."""
        made = cls.__new__(cls)
        Face.__init__(made, AsyncStore.from_config(path))
        return made

    save = blocking(AsyncStore.save)
    load = blocking(AsyncStore.load)
    load_record = blocking(AsyncStore.load_record)
    delete = blocking(AsyncStore.delete)
    has_object = blocking(AsyncStore.has_object)
    locate = blocking(AsyncStore.locate)
    info = blocking(AsyncStore.info)
    list_objects = blocking(AsyncStore.list_objects)
    list_versions = blocking(AsyncStore.list_versions)
    list_objects_and_versions = blocking(AsyncStore.list_objects_and_versions)
    iter_objects = iterating(AsyncStore.iter_objects)
    copy = blocking(AsyncStore.copy)
    move = blocking(AsyncStore.move)
    get = blocking(AsyncStore.get)
    pop = blocking(AsyncStore.pop)
    setdefault = blocking(AsyncStore.setdefault)
    contains = blocking(AsyncStore.contains)
    count = blocking(AsyncStore.count)
    keys = iterating(AsyncStore.keys)
    values = iterating(AsyncStore.values)
    items = iterating(AsyncStore.items)

    remove_mount = plain(AsyncStore.remove_mount)
    get_mount = plain(AsyncStore.get_mount)
    has_mount = plain(AsyncStore.has_mount)
    list_mounts = plain(AsyncStore.list_mounts)
    list_mount_info = plain(AsyncStore.list_mount_info)
    set_default_location = plain(AsyncStore.set_default_location)
    parse_key = plain(AsyncStore.parse_key)
    build_key = plain(AsyncStore.build_key)
    cache_lookup_locations = plain(AsyncStore.cache_lookup_locations)
    cache_update_location = plain(AsyncStore.cache_update_location)
    cache_evict_name = plain(AsyncStore.cache_evict_name)
    clear_location_cache = plain(AsyncStore.clear_location_cache)
    stats = plain(AsyncStore.stats)

    def add_mount(
        self,
        location: str,
        registry: AsyncRegistry | Registry | str | os.PathLike[str],
        *,
        read_only: bool = False,
        discoverable: bool = True,
        optional: bool = False,
        description: str | None = None,
    ) -> None:
        """Mount a registry last. Keys that begin with ``location/`` are its own from now on."""
        self.asynchronous.add_mount(
            location,
            unwrapped(registry),
            read_only=read_only,
            discoverable=discoverable,
            optional=optional,
            description=description,
        )

    def update(
        self,
        other: Mapping[str, Any] | Store | AsyncStore,
        *,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Save every item of a mapping of qualified keys, or copy all of another store."""
        run(lambda: self.asynchronous.update(unwrapped(other), on_progress=on_progress))

    def resolve_registry(self, key_or_location: str) -> Registry:
        """The registry of a location, or of the mount that a qualified key names."""
        return Registry.of(self.asynchronous.resolve_registry(key_or_location))

    @property
    def default_location(self) -> str | None:
        """The location that comes first in suggestions."""
        return self.asynchronous.default_location

    @default_location.setter
    def default_location(self, location: str) -> None:
        self.asynchronous.set_default_location(location)

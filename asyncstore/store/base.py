"""The parts of a store that its operations stand on: mounts, keys, and finding what they mean."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from asyncstore._warnings import level_outside
from asyncstore.backends.bounded import Slots
from asyncstore.cache import LocationCache
from asyncstore.discovery import Answer, DegradedDiscoveryWarning, Discovery, Fetch
from asyncstore.errors import (
    RegistryObjectNotFound,
    RegistrySettingsConflict,
    StoreAmbiguousObjectError,
    StoreDiscoveryIncomplete,
    StoreReadOnlyError,
)
from asyncstore.keys import (
    check_location,
    close_name,
    join_key,
    split_key,
    split_name,
    unqualified_write,
)
from asyncstore.mounts import MountTable, StoreMount, as_registry, read_mounts
from asyncstore.registry import AsyncRegistry
from asyncstore.settings import DiscoveryPolicy, Settings
from asyncstore.stats import Stats
from asyncstore.verdicts import (
    Ambiguous,
    Chosen,
    Failure,
    Hit,
    Incomplete,
    NotThere,
    Verdict,
    judge,
)
from asyncstore.versions import LATEST

Self = TypeVar("Self", bound="StoreBase")

Mounts = Mapping[str, AsyncRegistry | StoreMount | str | os.PathLike[str]]

# Any iterable will do. Said like that, mypy would take a dict of registries and paths for one.
ListedMounts = Sequence[StoreMount] | Iterator[StoreMount] | ValuesView[StoreMount]

DEFAULT_LOCATION = "default"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a key leads: one mount, the name in it, and a version or None for the newest.

    ``hit`` and ``fetched`` are what finding it brought along, where it was looked for.
    """

    location: str
    registry: AsyncRegistry
    name: str
    version: str | None
    hit: Hit | None = None
    fetched: Any = None


class StoreBase:
    """The mounts of a store, the keys that lead to them, and the discovery of names."""

    def __init__(
        self,
        mounts: Mounts | ListedMounts | None = None,
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
        _check_limits(max_concurrency, location_cache_size, location_cache_ttl)
        self._slots = Slots(max_concurrency)
        self._mounts = MountTable(self._slots, user=self)
        if settings is not None and not isinstance(settings, Settings):
            raise RegistrySettingsConflict(f"settings={settings!r:.80}: expected a Settings(...)")
        if discovery is None:
            discovery = (settings or Settings.load()).discovery
        self._policy = discovery
        if not isinstance(self._policy, DiscoveryPolicy):
            raise RegistrySettingsConflict(
                f"discovery={self._policy!r}: expected a DiscoveryPolicy(...)"
            )
        size = location_cache_size if enable_location_cache else 0
        self._cache = LocationCache(size, location_cache_ttl)
        self._stats = Stats()
        self._default: str | None = None
        if mounts is not None:
            given = read_mounts(mounts)
        else:
            given = _configured(settings) if settings else []
        if not given and create_default_local_mount:
            directory = (settings or Settings.load()).store_dir
            given = [StoreMount(DEFAULT_LOCATION, AsyncRegistry(directory))]
        for mount in given:
            self._mount(mount)
        if default_location is None and settings is not None:
            default_location = settings.default_location
        if default_location is not None:
            self.set_default_location(default_location)

    @classmethod
    def from_config(cls: type[Self], path: str | os.PathLike[str] | None = None) -> Self:
        """The store that ``asyncstore.toml`` and the environment describe.

        The file is ``path``, else the one in the current directory, else the one in the user's
        configuration directory. Without mounts in it, there is one local mount, ``default``.
        Reads files: call it before the event loop runs, or in a thread.
        """
        return cls(settings=Settings.from_file(None if path is None else Path(path)))

    def __repr__(self) -> str:
        mounts = ", ".join(f"{mount.name!r}: {mount.registry.uri!r}" for mount in self._mounts)
        return f"{type(self).__name__}({{{mounts}}})"

    # -- life --------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Close every mounted registry that no other store uses; the next use opens it again."""
        for mount in list(self._mounts):
            await self._release(mount)

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _release(self, mount: StoreMount) -> None:
        mount.registry.users.discard(self)  # its next use makes this store one of them again
        if not mount.registry.users:
            await mount.registry.aclose()

    # -- mounts ------------------------------------------------------------------------------

    def _mount(self, mount: StoreMount) -> None:
        self._mounts.add(mount)
        self._cache.evict_location(mount.name)
        if self._default is None:
            self._default = mount.name

    def add_mount(
        self,
        location: str,
        registry: AsyncRegistry | str | os.PathLike[str],
        *,
        read_only: bool = False,
        discoverable: bool = True,
        optional: bool = False,
        description: str | None = None,
    ) -> None:
        """Mount a registry last. Keys that begin with ``location/`` are its own from now on."""
        check_location(location)
        self._mount(
            StoreMount(
                location, as_registry(registry), read_only, discoverable, optional, description
            )
        )

    def remove_mount(self, location: str) -> None:
        """Unmount a registry; nothing stored is touched, and it is not closed."""
        mount = self._mounts.remove(location)
        if all(other.registry is not mount.registry for other in self._mounts):
            mount.registry.users.discard(self)
        self._cache.evict_location(location)
        if self._default == location:
            self._default = next(iter(self._mounts.names), None)

    def get_mount(self, location: str) -> StoreMount:
        """The mount of that name, or StoreLocationNotFound."""
        return self._mounts.get(location)

    def has_mount(self, location: str) -> bool:
        """Whether a mount of that name is mounted."""
        return location in self._mounts

    def list_mounts(self) -> list[str]:
        """All locations, in mount order."""
        return self._mounts.names

    def list_mount_info(self) -> dict[str, dict[str, Any]]:
        """What each mount is, by location."""
        return {
            mount.name: {
                "uri": mount.registry.uri,
                "read_only": mount.read_only,
                "discoverable": mount.discoverable,
                "optional": mount.optional,
                "description": mount.description,
                "default": mount.name == self._default,
            }
            for mount in self._mounts
        }

    def resolve_registry(self, key_or_location: str) -> AsyncRegistry:
        """The registry of a location, or of the mount that a qualified key names."""
        if key_or_location in self._mounts:
            return self._mounts.get(key_or_location).registry
        location = split_key(key_or_location, self._mounts)[0]
        return self._mounts.get(location or key_or_location.partition("/")[0]).registry

    def set_default_location(self, location: str) -> None:
        """Make a mounted location the default one."""
        self._default = self._mounts.get(location).name

    @property
    def default_location(self) -> str | None:
        """The location that comes first in suggestions; nothing is ever written to it unasked."""
        return self._default

    @default_location.setter
    def default_location(self, location: str) -> None:
        self.set_default_location(location)

    # -- keys --------------------------------------------------------------------------------

    def parse_key(self, key: str) -> tuple[str | None, str, str | None]:
        """Split a key into (location or None, name, version or None), as the mounts are now."""
        return split_key(key, self._mounts)

    def build_key(self, location: str, name: str, version: str | None = None) -> str:
        """The qualified key of a mounted location, a name and perhaps a version."""
        mount = self._mounts.get(location)
        plain, text = split_name(name, version)
        return join_key(mount.name, plain, text)

    def _split(self, key: Any, version: str | None = None) -> tuple[str | None, str, str | None]:
        return split_key(key, self._mounts, version)

    def place_to_write(self, key: Any, version: str | None, operation: str) -> Place:
        """Where a write goes: the one place that refuses unqualified keys and read-only mounts."""
        location, name, text = self._split(key, version)
        if location is None:
            raise unqualified_write(key, operation, self._mounts.writable(self._default))
        if self._mounts.get(location).read_only:
            raise StoreReadOnlyError(
                f"{operation} of {key!r}: the mount {location!r} is read-only, and nothing was "
                "sent to it",
                location=location,
            )
        return Place(location, self._mounts.view(location), name, text)

    async def place_to_read(
        self, key: Any, version: str | None = None, *, fetch: Fetch | None = None
    ) -> Place:
        """Where a key leads; an unqualified one is looked for in every mount at once."""
        location, name, text = self._split(key, version)
        if location is not None:
            return Place(location, self._mounts.view(location), name, text)
        return await self._discover(name, text, fetch)

    # -- discovery ---------------------------------------------------------------------------

    def discovery(
        self, name: str, version: str | None, mounts: list[StoreMount] | None = None
    ) -> Discovery:
        """A discovery of a name in all discoverable mounts, or in these."""
        return Discovery(
            mounts=self._mounts.discoverable() if mounts is None else mounts,
            name=name,
            version=None if version == LATEST else version,
            policy=self._policy,
            slots=self._slots,
            stats=self._stats,
            on_hit=self._cache.update,
            on_miss=self._cache.evict,
        )

    async def _discover(self, name: str, version: str | None, fetch: Fetch | None) -> Place:
        cached = [place for place in self._cache.lookup(name) if place in self._mounts]
        self._stats.cache_hits += bool(cached)
        failed: Discovery | None = None
        if self._policy.trust_cache and len(cached) == 1:
            trusted = await self._ask_only(cached[0], name, version, fetch)
            if isinstance(trusted, Place):
                return trusted
            failed = trusted
        search = self.discovery(name, version)
        if failed is not None:  # to wait for it once more would double the time
            search.outcomes.update(failed.outcomes)
            search.left_out.update(failed.left_out)
        answer: Answer[Verdict] = await search.run(
            lambda mounts, outcomes: judge(self._policy.mode, mounts, outcomes),
            fetch=fetch,
            preferred=cached[0] if cached else None,
        )
        self._warn_of(search)
        verdict = answer.verdict
        if not isinstance(verdict, Chosen):
            self._refuse(verdict, name, version)
        hit = answer.outcomes[verdict.location]
        assert isinstance(hit, Hit)  # only a hit is chosen
        registry = self._mounts.view(verdict.location)
        return Place(verdict.location, registry, name, version, hit, answer.fetched)

    async def _ask_only(
        self, location: str, name: str, version: str | None, fetch: Fetch | None
    ) -> Place | Discovery | None:
        """Ask the one mount that the cache names, because the policy says to trust it.

        Answers where the object is, the search where it failed, or None for a definite "no".
        """
        mount = self._mounts.get(location)
        if not mount.discoverable:
            return None
        search = self.discovery(name, version, [mount])
        answer: Answer[Verdict] = await search.run(
            lambda mounts, outcomes: judge("unique", mounts, outcomes), fetch=fetch
        )
        hit = answer.outcomes[location]
        if not isinstance(hit, Hit):
            return search if isinstance(hit, Failure) or search.left_out else None
        return Place(location, self._mounts.view(location), name, version, hit, answer.fetched)

    def _warn_of(self, search: Discovery) -> None:
        self._warn_left_out(repr(search.name), search.left_out)

    def _warn_left_out(self, what: str, errors: Mapping[str, Exception]) -> None:
        for location, error in errors.items():
            warnings.warn(
                f"mount {location!r} gave no answer about {what} and was left out: {error}",
                DegradedDiscoveryWarning,
                stacklevel=level_outside(),
            )

    def _refuse(self, verdict: Verdict, name: str, version: str | None) -> NoReturn:
        """Raise what a verdict other than a choice means."""
        pinned = None if version == LATEST else version
        what = repr(name) if pinned is None else f"{name!r} version {pinned}"
        if isinstance(verdict, Incomplete):
            raise incomplete(what, name, verdict)
        if isinstance(verdict, Ambiguous):
            keys = [join_key(location, name, pinned) for location in verdict.locations]
            silent = f"; no answer from {', '.join(verdict.errors)}" if verdict.errors else ""
            raise StoreAmbiguousObjectError(
                f"{what} is in {len(keys)} mounts ({', '.join(verdict.locations)}){silent}: say "
                f"which one, with {' or '.join(map(repr, keys))}",
                name=name,
                version=pinned,
                locations=verdict.locations,
                suggested_keys=keys,
                errors=verdict.errors,
            )
        assert isinstance(verdict, NotThere)
        asked = ", ".join(verdict.locations) or "none: no mount is discoverable"
        first, slash, rest = name.partition("/")
        near = close_name(first, self.list_mounts()) if slash else None
        hint = f"; did you mean {join_key(near, rest, pinned)!r}?" if near else ""
        raise RegistryObjectNotFound(
            f"{what} is in no mount (asked: {asked}){hint}",
            name=name,
            version=pinned,
            locations=verdict.locations,
        )


@contextmanager
def naming(place: Place) -> Generator[None]:
    """Says in a "not found" which mount was asked, and that the key itself named it."""
    try:
        yield
    except RegistryObjectNotFound as error:
        raise RegistryObjectNotFound(
            f"{error}, which is the mount {place.location!r}: where a mount has the name that "
            "stands before the first '/' of a key, the key means that mount",
            name=error.name,
            version=error.version,
            locations=[place.location],
        ) from error


def incomplete(what: str, name: str | None, verdict: Incomplete) -> StoreDiscoveryIncomplete:
    """The error for an answer that a mount's silence leaves open."""
    reasons = "; ".join(f"{location}: {error}" for location, error in verdict.errors.items())
    hits = f"found in {', '.join(verdict.hits)}, but " if verdict.hits else ""
    return StoreDiscoveryIncomplete(
        f"{what}: {hits}no answer from {len(verdict.errors)} mount(s): {reasons}. Name the mount "
        "in the key, or mount what may fail with optional=True",
        name=name,
        hits=verdict.hits,
        errors=verdict.errors,
    )


def _configured(settings: Settings) -> list[StoreMount]:
    return [
        StoreMount(
            name,
            AsyncRegistry(mount.uri),
            read_only=mount.read_only,
            discoverable=mount.discoverable,
            optional=mount.optional,
            description=mount.description,
        )
        for name, mount in settings.mounts.items()
    ]


def _check_limits(concurrency: int, size: int, ttl: float) -> None:
    if type(concurrency) is not int or concurrency < 1:
        raise RegistrySettingsConflict(
            f"max_concurrency={concurrency!r}: expected a whole number of 1 or more"
        )
    if type(size) is not int or size < 0:
        raise RegistrySettingsConflict(
            f"location_cache_size={size!r}: expected a whole number of 0 or more"
        )
    if type(ttl) not in (int, float) or not ttl >= 0:
        raise RegistrySettingsConflict(f"location_cache_ttl={ttl!r}: expected seconds, 0 or more")

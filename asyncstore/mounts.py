"""Mounts: registries under names, in order, with what a store may do with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asyncstore.backends.base import Backend
from asyncstore.backends.bounded import Slots
from asyncstore.errors import RegistrySettingsConflict, StoreKeyFormatError
from asyncstore.keys import check_location, unknown_location
from asyncstore.registry import AsyncRegistry


@dataclass(frozen=True)
class StoreMount:
    """A registry under a name.

    ``read_only``: writes and deletes raise StoreReadOnlyError before anything is sent.
    ``discoverable=False``: only qualified keys reach it. ``optional``: when it gives no answer, a
    discovery goes on without it, with a DegradedDiscoveryWarning.
    """

    name: str
    registry: AsyncRegistry
    read_only: bool = False
    discoverable: bool = True
    optional: bool = False
    description: str | None = None

    def __post_init__(self) -> None:
        check_location(self.name)
        for flag in ("read_only", "discoverable", "optional"):
            value = getattr(self, flag)
            if not isinstance(value, bool):  # the text "false" would be taken for true
                raise RegistrySettingsConflict(
                    f"{flag}={value!r:.80} of the mount {self.name!r}: expected True or False"
                )
        object.__setattr__(self, "registry", as_registry(self.registry))


def as_registry(value: Any) -> AsyncRegistry:
    """The registry that a mount's value is, or that its path or URI opens."""
    value = getattr(value, "asynchronous", value)  # a registry of the synchronous face
    if isinstance(value, AsyncRegistry):
        return value
    if isinstance(value, (str, os.PathLike, Backend)):
        return AsyncRegistry(value)
    raise RegistrySettingsConflict(
        f"a mount is an AsyncRegistry, a StoreMount, a path or a URI, got {type(value).__name__}"
    )


class MountTable:
    """The mounts of one store, in order. The views it hands out take turns among its slots.

    The store (``user``) counts as a user of each registry from its mounting on, and again with
    each use after it was closed.
    """

    def __init__(self, slots: Slots, *, user: object) -> None:
        self._slots = slots
        self._user = user
        self._mounts: dict[str, StoreMount] = {}
        self._views: dict[str, AsyncRegistry] = {}

    def add(self, mount: StoreMount) -> None:
        """Mount it last."""
        if mount.name in self._mounts:
            raise StoreKeyFormatError(
                f"{mount.name!r} is mounted already: choose another name, or remove_mount() first"
            )
        self._mounts[mount.name] = mount
        self._views[mount.name] = mount.registry.within(self._slots)
        mount.registry.users.add(self._user)

    def remove(self, location: str) -> StoreMount:
        """Unmount it; nothing stored is touched."""
        mount = self.get(location)
        del self._mounts[location], self._views[location]
        return mount

    def get(self, location: str) -> StoreMount:
        """The mount of that name, or StoreLocationNotFound with close names."""
        mount = self._mounts.get(location) if location in self else None
        if mount is None:
            raise unknown_location(str(location), self._mounts)
        return mount

    def view(self, location: str) -> AsyncRegistry:
        """The registry of a mount, with its requests counted by the store."""
        self.get(location).registry.users.add(self._user)
        return self._views[location]

    def __contains__(self, location: object) -> bool:
        return isinstance(location, str) and location in self._mounts

    def __iter__(self) -> Iterator[StoreMount]:
        return iter(self._mounts.values())

    def __len__(self) -> int:
        return len(self._mounts)

    @property
    def names(self) -> list[str]:
        """All locations, in mount order."""
        return list(self._mounts)

    def discoverable(self) -> list[StoreMount]:
        """The mounts that an unqualified read asks."""
        mounts = [mount for mount in self._mounts.values() if mount.discoverable]
        for mount in mounts:
            mount.registry.users.add(self._user)
        return mounts

    def writable(self, first: str | None) -> list[str]:
        """The mounts that may be written to, ``first`` before the others."""
        names = [mount.name for mount in self._mounts.values() if not mount.read_only]
        return sorted(names, key=lambda name: name != first)


def read_mounts(mounts: Any) -> list[StoreMount]:
    """The mounts that a store is given, as a mapping or as StoreMounts."""
    if isinstance(mounts, Mapping):
        return [_named(name, value) for name, value in mounts.items()]
    if isinstance(mounts, Iterable) and not isinstance(mounts, (str, bytes)):
        listed: list[Any] = list(mounts)
        if all(isinstance(mount, StoreMount) for mount in listed):
            return listed
    raise RegistrySettingsConflict(
        "mounts must be a mapping of names to registries, or StoreMounts in a list, got "
        f"{type(mounts).__name__}"
    )


def _named(name: Any, value: Any) -> StoreMount:
    check_location(name)
    if not isinstance(value, StoreMount):
        return StoreMount(name, as_registry(value))
    if value.name != name:
        raise StoreKeyFormatError(
            f"the mount under {name!r} is named {value.name!r}: give it one name"
        )
    return value

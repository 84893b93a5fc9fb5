"""The dict-like reads that a registry and a store have in common, built on their other calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from enum import Enum
from typing import Any, Final

from asyncstore.errors import RegistryObjectNotFound, StoreKeyFormatError


class Missing(Enum):
    """The type of :data:`MISSING`."""

    MISSING = "no default was given"


MISSING: Final = Missing.MISSING
"""Says that a default was not given, where None would be one."""


class MappingReads(ABC):
    """``get``, ``contains``, ``count``, ``keys``, ``values`` and ``items``, as those of a dict.

    Only a definite "not found" is missing: an ambiguous name, an unreachable mount or a damaged
    object raises.
    """

    @abstractmethod
    async def load(self, key: str, version: str | None = None) -> Any:
        """Load an object."""

    @abstractmethod
    async def has_object(self, key: str, version: str | None = None) -> bool:
        """Whether an object is there."""

    @abstractmethod
    def iter_objects(self) -> AsyncIterator[str]:
        """All keys."""

    async def get(self, key: str, default: Any = None) -> Any:
        """The object, or ``default`` where it is definitely not there."""
        if not isinstance(key, str):
            raise StoreKeyFormatError(f"get takes one key, a str, got {type(key).__name__}")
        try:
            return await self.load(key)
        except RegistryObjectNotFound:
            return default

    async def contains(self, key: str) -> bool:
        """Whether the object is there; see ``has_object``."""
        return await self.has_object(key)

    async def count(self) -> int:
        """How many objects there are, each counted once however many versions it has."""
        total = 0
        async for _ in self.iter_objects():
            total += 1
        return total

    async def keys(self) -> AsyncIterator[str]:
        """The keys of all objects, in constant memory."""
        async for key in self.iter_objects():
            yield key

    async def values(self) -> AsyncIterator[Any]:
        """The newest version of every object, loaded one by one."""
        async for _, value in self.items():  # noqa: PERF102 - items() is ours, and asynchronous
            yield value

    async def items(self) -> AsyncIterator[tuple[str, Any]]:
        """Every key with the newest version of its object; what goes meanwhile is left out."""
        async for key in self.iter_objects():
            value = await self.get(key, MISSING)
            if value is not MISSING:
                yield key, value

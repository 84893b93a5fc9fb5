"""The location cache: where a name was last seen. It steers speculation and decides nothing."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class LocationCache:
    """Name -> locations, bounded in size and age (seconds); the least recently used goes first.

    "Not there" is never kept.
    """

    def __init__(self, size: int, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._ttl = ttl
        self._clock = clock
        self._names: OrderedDict[str, dict[str, float]] = OrderedDict()

    def lookup(self, name: str) -> list[str]:
        """The locations where the name was seen of late, the most recent first."""
        seen = self._names.get(name)
        if seen is None:
            return []
        limit = self._clock() - self._ttl
        fresh = {location: at for location, at in seen.items() if at > limit}
        if not fresh:
            del self._names[name]
            return []
        self._names[name] = fresh
        self._names.move_to_end(name)
        return sorted(fresh, key=lambda location: -fresh[location])

    def update(self, name: str, location: str) -> None:
        """The name was seen in this location just now."""
        if self._size < 1:
            return
        self._names.setdefault(name, {})[location] = self._clock()
        self._names.move_to_end(name)
        while len(self._names) > self._size:
            self._names.popitem(last=False)

    def evict(self, name: str, location: str | None = None) -> None:
        """Forget the name, in one location or in all."""
        seen = self._names.get(name)
        if seen is not None:
            if location is not None:
                seen.pop(location, None)
            if location is None or not seen:
                del self._names[name]

    def evict_location(self, location: str) -> None:
        """Forget everything about a location: its mount changed."""
        for name in list(self._names):
            self.evict(name, location)

    def clear(self) -> None:
        """Forget everything."""
        self._names.clear()

    def __len__(self) -> int:
        return len(self._names)

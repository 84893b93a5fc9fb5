"""Verified chunks that several readers of one registry want at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any
from weakref import WeakValueDictionary

from asyncstore.concurrency import ended, task_of, to_the_end

_GRACE = 60.0


class Chunk:
    """The bytes of a chunk, alive for as long as some reader holds them."""

    __slots__ = ("__weakref__", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data


class _UnderWay:
    """A chunk that is being fetched, and how many wait for it."""

    def __init__(self, task: asyncio.Task[Chunk]) -> None:
        self.task = task
        self.waiting = 0


class SharedChunks:
    """One fetch and one copy in memory for each chunk, however many readers are at it.

    Keeps nothing by itself: a chunk goes with the last reader that holds it, and a fetch that
    nobody waits for any more is cancelled and awaited. So 200 downloads of one object cost the
    memory and the hashing of a few.
    """

    def __init__(self) -> None:
        self._held: WeakValueDictionary[Hashable, Chunk] = WeakValueDictionary()
        self._under_way: dict[Hashable, _UnderWay] = {}

    async def get(self, chunk: Hashable, fetch: Callable[[], Coroutine[Any, Any, bytes]]) -> Chunk:
        """The chunk of that key, fetched with ``fetch`` unless somebody has it or is at it."""
        held = self._held.get(chunk)
        if held is not None:
            return held
        key = (asyncio.get_running_loop(), chunk)  # another loop's task cannot be awaited in this
        work = self._under_way.get(key)
        if work is None or work.task.done() or work.task.cancelling():
            work = _UnderWay(task_of(self._fetch(chunk, fetch), f"chunk {chunk}"))
            self._under_way[key] = work
        work.waiting += 1
        try:
            return await asyncio.shield(work.task)
        finally:
            work.waiting -= 1
            if not work.waiting:
                if self._under_way.get(key) is work:
                    del self._under_way[key]
                if not work.task.done():
                    await to_the_end(ended([work.task]), grace=_GRACE)

    async def _fetch(
        self, chunk: Hashable, fetch: Callable[[], Coroutine[Any, Any, bytes]]
    ) -> Chunk:
        found = Chunk(await fetch())
        self._held[chunk] = found
        return found

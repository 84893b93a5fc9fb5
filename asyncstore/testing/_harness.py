"""What the parts of the conformance suite share: running a scenario, and small helpers."""

from __future__ import annotations

import asyncio
import functools
import random
import unittest
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from asyncstore.backends.base import Backend, Blob, Buffer, Page, PutReply, PutStatus

S = TypeVar("S", bound="Harness")
T = TypeVar("T")


def scenario(test: Callable[[S, Backend], Awaitable[None]]) -> Callable[[S], None]:
    """Make a coroutine that is given an open, empty backend a plain test method."""

    @functools.wraps(test)
    def method(self: S) -> None:
        self.run(lambda backend: test(self, backend))

    del method.__wrapped__  # else pytest takes the backend for a fixture
    return method


class Harness:
    """How a test of the suite is run; the attributes may be overridden for a slow backend."""

    seconds = 60.0
    """Within which each test must end."""
    rounds = 20
    """How often a race is run."""
    writers = 32
    """How many take part in a race to create; half of them in a race to replace."""
    large = 20 * 1024 * 1024
    """Bytes of the largest object."""
    cancellations = 40
    """How many writes are cancelled."""

    async def open(self) -> Backend:
        """A backend on a fresh and empty place. To be overridden."""
        raise NotImplementedError("override open() to answer a backend on an empty place")

    async def reopen(self, backend: Backend) -> Backend | None:
        """Another backend on the same place, as another process would open it; None if none can."""
        return None

    def run(self, test: Callable[[Backend], Awaitable[None]]) -> None:
        """Run a test in an event loop of its own; tasks that it leaves behind fail it."""
        asyncio.run(self._bounded(test))

    async def _bounded(self, test: Callable[[Backend], Awaitable[None]]) -> None:
        async with asyncio.timeout(self.seconds):
            backend = await self.open()
            try:
                await test(backend)
            finally:
                await backend.aclose()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:  # a transport may take a moment to close
            _, left = await asyncio.wait(left, timeout=1)
        assert not left, f"tasks were left behind: {left}"

    async def second(self, backend: Backend) -> Backend:
        """Another backend on the same place, or skip the test."""
        other = await self.reopen(backend)
        self.need(other is not None, "no second backend can be opened on the same place")
        assert other is not None
        return other

    def need(self, able: bool, reason: str) -> None:
        """Skip the test unless ``able``."""
        if not able:
            print(f"skipped: {reason}")
            raise unittest.SkipTest(reason)


async def stream(*pieces: Buffer | Exception) -> AsyncIterator[Buffer]:
    """These pieces one after the other; an exception among them is raised in its turn."""
    for piece in pieces:
        await asyncio.sleep(0)
        if isinstance(piece, Exception):
            raise piece
        yield piece


async def content(backend: Backend, key: str) -> bytes | None:
    """The bytes of a key, or None where there is none."""
    blob = await backend.get(key)
    if blob is None:
        return None
    assert blob.size == len(blob.data), f"{key}: size {blob.size}, but {len(blob.data)} bytes"
    return blob.data


async def found(backend: Backend, key: str) -> Blob:
    """The blob of a key that must be there."""
    blob = await backend.get(key)
    assert blob is not None, f"{key} is not there"
    return blob


def shown(page: Page) -> list[str]:
    """Keys and prefixes of a page together, in order."""
    return sorted([entry.key for entry in page.entries] + list(page.prefixes))


async def paged(backend: Backend, prefix: str, *, limit: int, deep: bool = False) -> list[str]:
    """Everything that a listing shows, page by page."""
    names: list[str] = []
    after = ""
    while True:
        page = await backend.list(prefix, start_after=after, limit=limit, deep=deep)
        assert len(shown(page)) <= limit, f"asked for {limit}, got {shown(page)}"
        names += shown(page)
        if not page.more:
            return names
        assert shown(page), "an empty page that says 'more' leaves nothing to go on from"
        after = names[-1]


async def cancelled(work: Coroutine[Any, Any, T], dice: random.Random) -> None:
    """Start this, cancel it at a random point, and wait until it has ended."""
    task = asyncio.ensure_future(work)
    if dice.random() < 0.5:
        for _ in range(dice.randrange(8)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(dice.random() * 0.005)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()  # it may have ended before; an error is one


def check_one_winner(replies: Sequence[PutReply], stored: int) -> None:
    """Exactly one writer, whose bytes are ``stored``, is told that it won, and no other.

    Where a store answers a lost race with an error that tells nothing (409, 500), the winner may
    have been told so too.
    """
    told = [reply.status for reply in replies]
    winners = [index for index, status in enumerate(told) if status is PutStatus.DONE]
    in_doubt = [index for index, status in enumerate(told) if status is PutStatus.UNKNOWN]
    others = set(told) - {PutStatus.DONE, PutStatus.REFUSED, PutStatus.UNKNOWN}
    assert not others, f"a writer who lost a race must be refused, not told {others}"
    assert len(winners) <= 1, f"{len(winners)} of {len(told)} writers were told that they won"
    assert winners == [stored] or (not winners and stored in in_doubt), (
        f"writers {winners} were told that they won, but the bytes of writer {stored} are stored"
    )

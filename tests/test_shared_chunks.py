"""Readers of one object share what they fetch, and nothing of it outlives them."""

from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack

import pytest

from asyncstore import AsyncRegistry, IntegrityError
from asyncstore.registry.chunks import SharedChunks
from tests.support import Places, until, watched

LARGE = bytes(range(256)) * 40_000
"""10 MB, which is two chunks."""


class Source:
    """Fetches that wait until they are let go, or fail."""

    def __init__(self) -> None:
        self.count = 0
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def fetch(self) -> bytes:
        self.count += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return b"chunk"


async def start(count: int, chunks: SharedChunks, source: Source) -> list[asyncio.Task[bytes]]:
    async def one() -> bytes:
        return (await chunks.get("key", source.fetch)).data

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    await until(lambda: source.count)
    return tasks


@pytest.mark.asyncio
async def test_many_who_want_a_chunk_make_one_fetch() -> None:
    chunks, source = SharedChunks(), Source()
    tasks = await start(10, chunks, source)
    source.gate.set()
    assert await asyncio.gather(*tasks) == [b"chunk"] * 10
    assert source.count == 1


@pytest.mark.asyncio
async def test_a_chunk_is_kept_only_by_who_holds_it() -> None:
    chunks, source = SharedChunks(), Source()
    source.gate.set()
    held = [await chunks.get("key", source.fetch), await chunks.get("key", source.fetch)]
    assert source.count == 1
    held.clear()
    await asyncio.sleep(0)  # the loop itself holds what it has just handed over
    gc.collect()
    await chunks.get("key", source.fetch)
    assert source.count == 2


@pytest.mark.asyncio
async def test_one_who_leaves_does_not_take_the_chunk_from_the_others() -> None:
    chunks, source = SharedChunks(), Source()
    first, second = await start(2, chunks, source)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.gate.set()
    assert await second == b"chunk"
    assert (source.count, source.cancelled) == (1, 0)


@pytest.mark.asyncio
async def test_a_fetch_that_nobody_waits_for_any_more_is_ended() -> None:
    chunks, source = SharedChunks(), Source()
    tasks = await start(3, chunks, source)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert source.cancelled == 1
    source.gate.set()
    assert (await chunks.get("key", source.fetch)).data == b"chunk"


@pytest.mark.asyncio
async def test_an_error_goes_to_all_who_wait_and_is_not_kept() -> None:
    chunks, source = SharedChunks(), Source()
    source.error = IntegrityError("damaged")
    tasks = await start(3, chunks, source)
    source.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [IntegrityError] * 3
    source.error = None
    assert (await chunks.get("key", source.fetch)).data == b"chunk"


@pytest.mark.asyncio
async def test_concurrent_readers_fetch_each_chunk_once() -> None:
    there = watched()
    async with there.registry as registry:
        await registry.save("x", LARGE)
        there.recording.clear()

        def payloads() -> int:
            return sum("d/x/" in one.key for one in there.recording.requests)

        async with AsyncExitStack() as stack:
            readers = [await stack.enter_async_context(registry.open_reader("x")) for _ in range(9)]
            heads = await asyncio.gather(*(reader.read(100) for reader in readers))
            assert set(heads) == {LARGE[:100]}
            assert payloads() == 1
            tails = await asyncio.gather(*(reader.read() for reader in readers))
            assert set(tails) == {LARGE[100:]}
            assert payloads() == 2


@pytest.mark.asyncio
async def test_readers_share_nothing_of_another_commit(places: Places) -> None:
    async with places.registry(mutable=True) as registry:
        await registry.save("x", LARGE, version="1.0.0")
        async with registry.open_reader("x") as old:
            assert await old.read(3) == LARGE[:3]
            await registry.save("x", LARGE[::-1], version="1.0.0")
            async with registry.open_reader("x") as new:
                assert await new.read(3) == LARGE[::-1][:3]
            assert await old.read_range(3, 6) == LARGE[3:6]


@pytest.mark.asyncio
async def test_a_reader_says_whether_its_version_can_change() -> None:
    for settings, expected in (
        ({}, True),
        ({"mutable": True}, False),
        ({"version_objects": False}, False),
    ):
        async with AsyncRegistry("memory://", **settings) as registry:
            await registry.save("x", b"bytes")
            async with registry.open_reader("x") as reader:
                assert reader.immutable is expected

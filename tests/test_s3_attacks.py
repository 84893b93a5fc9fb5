"""What attacks on S3 support found: each test failed before its defect was mended."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import anyio
import msgspec
import pytest

from asyncstore import AsyncRegistry, check_backend
from asyncstore.backends.base import Blob, Buffer, PutReply, PutStatus
from asyncstore.backends.memory import MemoryBackend
from asyncstore.backends.wrapper import Wrapper
from asyncstore.errors import BackendError, CommitUnknown
from asyncstore.testing import SlowBackend
from tests.servers.control import Control
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.support import fresh_name, s3_uri

OLD = b"old" * 50_000
NEW = b"new" * 50_000


def opened(url: str, prefix: str, **options: Any) -> AsyncRegistry:
    """A registry in the bucket of the tests."""
    return AsyncRegistry(
        s3_uri(url, prefix), access_key_id="test", secret_access_key="test", **options
    )


async def write(registry: AsyncRegistry) -> None:
    async with registry.open_writer("x") as writer:
        await writer.write(NEW)


SAVES: dict[str, Callable[[AsyncRegistry], Awaitable[Any]]] = {
    "next": lambda registry: registry.save("x", NEW),
    "explicit": lambda registry: registry.save("x", NEW, version="2.0.0"),
    "overwrite": lambda registry: registry.save("x", NEW, version="1.0.0"),
    "setdefault": lambda registry: registry.setdefault("y", NEW),
    "writer": write,
}


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.asyncio
async def test_a_commit_that_landed_keeps_its_payload_when_the_next_request_is_forbidden(
    counting: Control, save: str
) -> None:
    # The answer to the commit is lost, and from then on the credentials are no longer good.
    # aiohttp sent it again by itself, and the 403 to that looked like proof that nothing landed.
    prefix = fresh_name()
    with FaultProxy(counting.url) as proxy:
        async with opened(proxy.url, prefix, mutable=True) as registry:
            await registry.save("x", OLD, version="1.0.0")
            proxy.faults.add(Fault.LOSE, method="PUT", match="/m/", times=1)
            proxy.faults.add(Fault.FORBID, method="PUT", match="/m/")
            with suppress(BackendError, CommitUnknown):
                await SAVES[save](registry)
    async with opened(counting.url, prefix) as registry:
        for name, versions in (await registry.list_objects_and_versions()).items():
            for version in versions:
                assert await registry.load(name, version) in (OLD, NEW)


MIB = 1024 * 1024


@pytest.mark.asyncio
async def test_an_upload_holds_no_more_than_its_parts_under_way(counting: Control) -> None:
    # The body of each part was copied once more, and the first two parts stayed until the end.
    piece = bytes(MIB)
    async with opened(counting.url, fresh_name()) as registry:
        await registry.save("small", 1)
        counting.delay(20)
        tracemalloc.start()
        try:
            async with registry.open_writer("large") as writer:
                for _ in range(100):
                    await writer.write(piece)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 64 * MIB


class SizeAsTag(Wrapper):
    """A backend whose tags tell the size of an object and nothing else."""

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> Blob | None:
        blob = await super().get(key, start=start, length=length)
        return blob and msgspec.structs.replace(blob, tag=str(blob.size))

    async def put_if(self, key: str, data: Buffer, *, tag: str | None) -> PutReply:
        blob = await self.inner.get(key)
        if (str(blob.size) if blob else None) != tag:
            return PutReply(PutStatus.REFUSED)
        return await self.inner.put_if(key, data, tag=blob.tag if blob else None)


@pytest.mark.asyncio
async def test_tags_that_tell_the_size_alone_are_found_out() -> None:
    report = await check_backend(SizeAsTag(MemoryBackend()))
    assert not report.replace
    assert report.faults


@pytest.mark.parametrize("seconds", [0.025, 0.045, 0.065, 0.085])
@pytest.mark.asyncio
async def test_a_check_that_is_cancelled_by_anyio_leaves_nothing(seconds: float) -> None:
    backend = MemoryBackend()
    with anyio.move_on_after(seconds) as scope:
        await check_backend(SlowBackend(backend, 0.01))
    assert scope.cancelled_caught
    await asyncio.sleep(0)
    assert (await backend.list("p/", deep=True)).entries == ()


def test_one_registry_in_two_event_loops_at_the_same_time(counting: Control) -> None:
    # A saver in one loop waited for a lock that was held in the other, and was never woken.
    counting.delay(2)
    registry = AsyncRegistry(
        s3_uri(counting.url, fresh_name()), access_key_id="test", secret_access_key="test"
    )

    async def save(count: int) -> list[str]:
        try:
            async with asyncio.timeout(30):
                saved = [registry.save("x", number) for number in range(count)]
                return list(await asyncio.gather(*saved))
        finally:
            await registry.aclose()

    asyncio.run(save(1))
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda count: asyncio.run(save(count)), [15, 15]))
    assert len({version for versions in done for version in versions}) == 30

"""Large payload goes up in parts: all of it in the end, or nothing of it is left anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncstore import AsyncRegistry
from asyncstore.errors import BackendError
from tests.servers.client import s3_client
from tests.servers.control import Control
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.support import BUCKET, fresh_name, s3_uri, until

pytestmark = pytest.mark.asyncio

PAYLOAD = bytes(range(256)) * 80_000  # 20 MB: two parts of 8 MiB, and the rest


@pytest.fixture
def proxy(counting: Control) -> Iterator[FaultProxy]:
    """A proxy before the S3 that counts."""
    with FaultProxy(counting.url) as found:
        yield found


@asynccontextmanager
async def opened(url: str, prefix: str, **options: Any) -> AsyncIterator[AsyncRegistry]:
    """A registry that puts everything but the smallest into payload objects."""
    uri = s3_uri(url, prefix)
    keys = {"access_key_id": "test", "secret_access_key": "test"}
    async with AsyncRegistry(uri, inline_max=1000, **keys, **options) as registry:
        await registry.save("something else", 1)
        yield registry


async def uploads_of(url: str, prefix: str) -> list[str]:
    """The uploads that were begun and neither finished nor dropped."""
    async with s3_client(url) as client:
        listed = await client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    return [upload["Key"] for upload in listed.get("Uploads", ())]


async def payload_of(url: str, prefix: str) -> list[str]:
    async with s3_client(url) as client:
        listed = await client.list_objects_v2(Bucket=BUCKET, Prefix=f"{prefix}/d/")
    return [each["Key"] for each in listed.get("Contents", ())]


async def assert_nothing_left(registry: AsyncRegistry, url: str, prefix: str) -> None:
    assert await uploads_of(url, prefix) == []
    assert await payload_of(url, prefix) == []
    assert not await registry.has_object("x")
    assert await registry.list_objects() == ["something else"]


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.RESET, Fault.LOSE, Fault.FORBID])
@pytest.mark.parametrize("match", ["partNumber=2", "partNumber=3", "?uploadId"])
async def test_an_upload_that_fails_leaves_nothing(
    counting: Control, proxy: FaultProxy, fault: Fault, match: str
) -> None:
    prefix = fresh_name()
    async with opened(proxy.url, prefix) as registry:
        method = "POST" if match == "?uploadId" else "PUT"  # the end of an upload, or a part
        proxy.faults.add(fault, method=method, match=match)
        with pytest.raises(BackendError):
            await registry.save("x", PAYLOAD)
        assert proxy.faults.applied[fault]
        await assert_nothing_left(registry, counting.url, prefix)
        proxy.faults.clear()
        assert await registry.save("x", PAYLOAD) == "1.0.0"
        assert await registry.load("x") == PAYLOAD


@pytest.mark.parametrize(
    ("method", "match"), [("PUT", "partNumber=1"), ("PUT", "partNumber=3"), ("POST", "?uploadId")]
)
async def test_an_upload_that_is_cancelled_leaves_nothing(
    counting: Control, proxy: FaultProxy, method: str, match: str
) -> None:
    prefix = fresh_name()
    async with opened(proxy.url, prefix) as registry:
        proxy.faults.add(Fault.HANG, method=method, match=match)
        saving = asyncio.create_task(registry.save("x", PAYLOAD))
        await until(lambda: proxy.faults.applied[Fault.HANG])
        assert await uploads_of(counting.url, prefix) != []
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        await assert_nothing_left(registry, counting.url, prefix)
        # What was cancelled may arrive late, and must not come to anything.
        proxy.faults.clear()
        assert await registry.load("something else") == 1
        await assert_nothing_left(registry, counting.url, prefix)


async def test_a_writer_that_is_cancelled_halfway_leaves_nothing(
    counting: Control, proxy: FaultProxy
) -> None:
    prefix = fresh_name()
    async with opened(proxy.url, prefix) as registry:

        async def write() -> None:
            async with registry.open_writer("x") as writer:
                for at in range(0, len(PAYLOAD), 1_000_000):
                    await writer.write(PAYLOAD[at : at + 1_000_000])
                await asyncio.Event().wait()

        writing = asyncio.create_task(write())
        await until(lambda: any(entry.kind == "PART" for entry in counting.log()))
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await assert_nothing_left(registry, counting.url, prefix)


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.RESET, Fault.LOSE, Fault.GARBAGE])
@pytest.mark.parametrize(
    ("method", "match"), [("PUT", "partNumber=2"), ("POST", "?uploadId"), ("POST", "?uploads")]
)
async def test_an_upload_outlives_a_fault_that_passes(
    counting: Control, proxy: FaultProxy, fault: Fault, method: str, match: str
) -> None:
    prefix = fresh_name()
    async with opened(proxy.url, prefix) as registry:
        # aiohttp repeats a PUT once by itself, but no POST.
        proxy.faults.add(fault, method=method, match=match, times=2 if method == "PUT" else 1)
        assert await registry.save("x", PAYLOAD) == "1.0.0"
        assert await registry.load("x", verify="full") == PAYLOAD
    assert proxy.faults.applied[fault]
    left = await uploads_of(counting.url, prefix)
    # The id of an upload whose begin was never heard of is not known to anybody.
    unheard = match == "?uploads" and fault in (Fault.LOSE, Fault.GARBAGE)
    assert len(left) == unheard


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.RESET, Fault.LOSE])
async def test_the_end_of_a_failed_upload_outlives_a_fault_too(
    counting: Control, proxy: FaultProxy, fault: Fault
) -> None:
    prefix = fresh_name()
    async with opened(proxy.url, prefix) as registry:
        proxy.faults.add(Fault.FORBID, method="PUT", match="partNumber=2")
        proxy.faults.add(fault, method="DELETE", times=2)
        with pytest.raises(BackendError, match="denied"):
            await registry.save("x", PAYLOAD)
        await assert_nothing_left(registry, counting.url, prefix)


async def test_parts_go_up_several_at_once_and_no_more(counting: Control) -> None:
    async with opened(counting.url, fresh_name()) as registry:
        counting.reset()
        counting.delay(50)
        await registry.save("x", PAYLOAD * 3)  # 60 MB: eight parts
        assert 2 <= counting.peak() <= 5
    parts = [entry for entry in counting.log() if entry.kind == "PART"]
    assert len(parts) == 8

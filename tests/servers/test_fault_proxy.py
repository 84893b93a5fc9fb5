"""The proxy that breaks what passes through it: every fault, as a client sees it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import aiohttp
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.servers.client import body_of, place, s3_client, status_of
from tests.servers.control import Control
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.servers.process import Server

MEGABYTE = 1024 * 1024


@pytest.fixture
def proxy(counting_server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(counting_server.url) as found:
        yield found
    assert not any(thread.name == "fault-proxy" for thread in threading.enumerate())


@pytest.mark.asyncio
async def test_the_proxy_passes_on_what_comes_as_it_comes(
    proxy: FaultProxy, counting: Control
) -> None:
    key = "a//b c/../ü+%2F&=?#/"
    body = b"x" * (3 * MEGABYTE)
    async with place(proxy.url) as (client, bucket):
        await client.put_object(Bucket=bucket, Key=key, Body=body, ContentEncoding="gzip")
        assert await body_of(client.get_object(Bucket=bucket, Key=key)) == body
        head = await client.head_object(Bucket=bucket, Key=key)
        assert head["ContentLength"] == len(body)
        assert head["ContentEncoding"] == "gzip"
        assert await status_of(client.head_object(Bucket=bucket, Key="none")) == 404
        async with s3_client(counting.url) as direct:
            listed = await direct.list_objects_v2(Bucket=bucket)
            assert [each["Key"] for each in listed["Contents"]] == [key]
    assert proxy.faults.requests == 5
    assert not proxy.faults.applied


@pytest.mark.parametrize(
    ("fault", "acted"), [(Fault.RESET, False), (Fault.LOSE, True), (Fault.TRUNCATE, True)]
)
@pytest.mark.asyncio
async def test_broken_connections(
    proxy: FaultProxy, counting: Control, fault: Fault, acted: bool
) -> None:
    async with place(proxy.url) as (client, bucket):
        proxy.faults.add(fault, method="PUT", match="/k", times=2)
        put = {"Bucket": bucket, "Key": "k", "Body": b"1"}
        with pytest.raises(BotoCoreError):
            await client.put_object(**put)
        found = await status_of(client.head_object(Bucket=bucket, Key="k"))
        assert found == (200 if acted else 404)
        await client.put_object(**put)
        assert proxy.faults.applied == {fault: 2}
        writes = [entry for entry in counting.log() if entry.key == "k" and entry.kind == "PUT"]
        assert len(writes) == (3 if acted else 1)


@pytest.mark.parametrize("size", [10, 3 * MEGABYTE])
@pytest.mark.asyncio
async def test_a_truncated_body_has_its_whole_length_in_the_headers(
    proxy: FaultProxy, counting: Control, size: int
) -> None:
    async with place(proxy.url) as (client, bucket):
        await client.put_object(Bucket=bucket, Key="k", Body=b"1" * size)
    proxy.faults.add(Fault.TRUNCATE)
    target = f"{proxy.url}/{bucket}/k"
    async with aiohttp.ClientSession() as session, session.get(target) as answer:
        assert answer.headers["Content-Length"] == str(size)
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


@pytest.mark.parametrize(
    ("fault", "code"), [(Fault.BUSY, "SlowDown"), (Fault.FORBID, "AccessDenied")]
)
@pytest.mark.asyncio
async def test_refusals_are_not_passed_on(
    proxy: FaultProxy, counting: Control, fault: Fault, code: str
) -> None:
    async with place(proxy.url) as (client, bucket):
        counting.reset()
        proxy.faults.add(fault, times=2)
        for _ in range(2):
            with pytest.raises(ClientError, match=code):
                await client.put_object(Bucket=bucket, Key="k", Body=b"1" * 100_000)
        assert counting.log() == []
        await client.put_object(Bucket=bucket, Key="k", Body=b"1")


@pytest.mark.asyncio
async def test_garbage_comes_with_status_200(proxy: FaultProxy, counting: Control) -> None:
    proxy.faults.add(Fault.GARBAGE, match="list-type=2")
    target = f"{proxy.url}/test?list-type=2"
    async with aiohttp.ClientSession() as session, session.get(target) as answer:
        assert answer.status == 200
        assert (await answer.text()).endswith("<Cont")


@pytest.mark.asyncio
async def test_delays_add_up(proxy: FaultProxy, counting: Control) -> None:
    proxy.faults.add(Fault.DELAY, seconds=0.1)
    proxy.faults.add(Fault.DELAY, seconds=0.1)
    clock = asyncio.get_running_loop().time
    start = clock()
    async with aiohttp.ClientSession() as session, session.get(f"{proxy.url}/test") as answer:
        assert answer.status == 200
    assert clock() - start >= 0.2


async def _applied(proxy: FaultProxy) -> None:
    """Wait until a fault has happened, in the thread of the proxy."""
    while not proxy.faults.applied:  # noqa: ASYNC110, it cannot set an event of this loop
        await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_what_hangs_goes_on_when_the_faults_are_cleared(
    proxy: FaultProxy, counting: Control
) -> None:
    async with place(proxy.url) as (client, bucket):
        proxy.faults.add(Fault.HANG, match="/slow")
        slow = asyncio.create_task(client.put_object(Bucket=bucket, Key="slow", Body=b"1"))
        await client.put_object(Bucket=bucket, Key="fast", Body=b"1")
        await _applied(proxy)
        assert not slow.done()
        proxy.faults.clear()
        await slow


@pytest.mark.asyncio
async def test_closing_the_proxy_breaks_what_hangs(counting_server: Server) -> None:
    with FaultProxy(counting_server.url) as proxy:
        proxy.faults.add(Fault.HANG)
        async with aiohttp.ClientSession() as session:
            waiting = asyncio.create_task(session.get(f"{proxy.url}/test"))
            await _applied(proxy)
            await asyncio.to_thread(proxy.close)
            with pytest.raises(aiohttp.ClientError):
                await waiting


def _fates(seed: int) -> list[Fault | None]:
    faults = FaultProxy("http://127.0.0.1:1", seed=seed).faults
    faults.add(Fault.BUSY, method="GET", match="/k", chance=0.5)
    assert faults.meet("PUT", "/k") == (0.0, None)
    assert faults.meet("GET", "/other") == (0.0, None)
    return [faults.meet("GET", "/k")[1] for _ in range(100)]


def test_chances_are_those_of_the_seed() -> None:
    assert _fates(1) == _fates(1) != _fates(2)
    assert 30 <= _fates(1).count(Fault.BUSY) <= 70


@pytest.mark.asyncio
async def test_a_server_that_is_gone_is_a_broken_connection() -> None:
    with FaultProxy("http://127.0.0.1:1") as proxy:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(f"{proxy.url}/test")

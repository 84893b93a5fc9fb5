"""Loads from S3, each beside the bare client making the same requests at the same depth.

The server answers every request after 20 ms, on loopback and from memory, so what is left to see
is how many serial round trips there are and what the client's own work costs. The floor is what
somebody would write with aiobotocore alone: a gather of LISTs, and a GET where one has a hit.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from asyncstore import AsyncRegistry, AsyncStore
from benchmarks.harness import Measure, compare
from tests.servers.control import Control
from tests.servers.process import Server

DELAY_MS = 20.0
MOUNTS = (1, 8, 64)
LOADS = 1000
AT_ONCE = 32
VALUE = {"acc": 0.92, "epochs": 40, "labels": ["cat", "dog", "bird"], "lr": 0.001}
SIGNED = {"access_key_id": "bench", "secret_access_key": "bench"}
BUCKET = "bench"


@asynccontextmanager
async def bare_client(url: str) -> AsyncIterator[Any]:
    """The client library as it comes, but for its own retries."""
    config = AioConfig(
        max_pool_connections=64, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
    )
    async with get_session().create_client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
        config=config,
    ) as client:
        yield client


async def measure() -> list[Measure]:
    """An unqualified load over 1, 8 and 64 mounts, cold and warm; many loads at concurrency 32."""
    with Server.of("tests.servers.counting_s3") as server:
        control = Control(server.url)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(bare_client(server.url))
            mounts: dict[str, AsyncRegistry] = {}
            for number in range(max(MOUNTS)):
                uri = f"s3://{BUCKET}/m{number}?endpoint_url={server.url}&region=us-east-1"
                mounts[f"m{number}"] = registry = AsyncRegistry(uri, **SIGNED)
                await stack.enter_async_context(registry)
                await registry.save("other", 1)
            await mounts["m0"].save("x", VALUE)
            control.delay(DELAY_MS)
            found: list[Measure] = []
            for count in MOUNTS:
                found += await _over_mounts(client, mounts, count)
            control.delay(0)
            return found + await _many_loads(client, mounts["m0"])


async def _over_mounts(client: Any, mounts: dict[str, AsyncRegistry], count: int) -> list[Measure]:
    store = AsyncStore(dict(list(mounts.items())[:count]))

    async def cold() -> None:
        store.clear_location_cache()
        await store.load("x", verify="full")  # trusts no record that was read before

    async def warm() -> None:
        await store.load("x")

    async def listed(number: int, get: bool) -> None:
        key = await _newest(client, f"m{number}/m/x/")
        if key is not None and get:
            await _get(client, key)

    async def bare(get: bool) -> None:
        await asyncio.gather(*(listed(number, get) for number in range(count)))

    name = f"unqualified load, {count} mount{'s' * (count > 1)}"
    return [
        await compare(f"{name}, cold", cold, lambda: bare(True), bar=1.1, rounds=9, calls=5),
        await compare(f"{name}, warm", warm, lambda: bare(False), bar=1.1, rounds=9, calls=5),
    ]


async def _many_loads(client: Any, registry: AsyncRegistry) -> list[Measure]:
    names = [f"n{number}" for number in range(LOADS)]
    for at in range(0, LOADS, 100):
        batch = names[at : at + 100]
        await asyncio.gather(*(registry.save(name, VALUE, version="1.0.0") for name in batch))

    async def floor_of_latest(name: str) -> None:
        key = await _newest(client, f"m0/m/{name}/")
        assert key is not None
        await _get(client, key)

    async def floor_of_pinned(name: str) -> None:
        await _get(client, f"m0/m/{name}/z8z9z9_1.0.0")

    async def all_of(load: Callable[[str], Awaitable[object]]) -> None:
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with turns:
                await load(name)

        await asyncio.gather(*(one(name) for name in names))

    what = f"{LOADS:,} small loads, {AT_ONCE} at once"
    return [
        await compare(
            f"{what}, latest cold",
            lambda: all_of(lambda name: registry.load(name, verify="full")),
            lambda: all_of(floor_of_latest),
            bar=1.1,
            rounds=5,
            calls=1,
        ),
        await compare(
            f"{what}, pinned",
            lambda: all_of(lambda name: registry.load(name, "1.0.0")),
            lambda: all_of(floor_of_pinned),
            bar=1.1,
            rounds=5,
            calls=1,
        ),
    ]


async def _newest(client: Any, prefix: str) -> str | None:
    reply = await client.list_objects_v2(Bucket=BUCKET, Prefix=prefix, Delimiter="/", MaxKeys=8)
    found = reply.get("Contents")
    return found[0]["Key"] if found else None


async def _get(client: Any, key: str) -> bytes:
    reply = await client.get_object(Bucket=BUCKET, Key=key)
    async with reply["Body"] as body:
        return bytes(await body.read())

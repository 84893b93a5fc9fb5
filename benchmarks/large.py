"""A 2 GiB file saved, loaded and copied, on a directory and on S3: throughput, and memory.

The floor on a directory is a plain copy of the file that also hashes it; on S3 it is aiobotocore
moving the same parts and ranges with as many under way at once, and hashing what it reads. Nobody
flushes the disk. Each copy is gone before the next one is made.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from asyncstore import AsyncRegistry, AsyncStore
from benchmarks.harness import Measure, Step, grown
from benchmarks.s3_loads import BUCKET, SIGNED, bare_client
from tests.servers.process import Server

MIB = int(os.environ.get("LARGE_MIB", "2048"))
PART = 8 << 20
UP, DOWN = 4, 4
"""Parts and ranges under way at once: what a registry does, too."""

ROUNDS = 3
SLOWEST = 1 / 0.9
GROWTH = 64.0
"""MiB by which the process may grow."""


@asynccontextmanager
async def _ground() -> AsyncIterator[tuple[Path, AsyncStore, Any]]:
    """A folder with a file of that size, two local mounts and two on S3, and a bare client."""
    folder = Path(tempfile.mkdtemp(prefix="asyncstore-large-"))
    try:
        await asyncio.to_thread(_make, folder / "file")
        with Server.of("tests.servers.counting_s3") as server:
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(bare_client(server.url))
                mounts = {at: AsyncRegistry(folder / at, durability="fast") for at in ("a", "b")}
                for at in ("s", "t"):
                    uri = f"s3://{BUCKET}/{at}?endpoint_url={server.url}&region=us-east-1"
                    mounts[at] = AsyncRegistry(uri, **SIGNED)
                store = await stack.enter_async_context(AsyncStore(mounts))
                yield folder, store, client
    finally:
        shutil.rmtree(folder)


async def measure() -> list[Measure]:
    """Save, load to a file and copy, each with its time and its growth."""
    found: list[Measure] = []
    async with _ground() as (folder, store, client):
        file, plain, out = folder / "file", folder / "plain", folder / "out"

        made = 0

        def new(mount: str) -> str:
            nonlocal made  # deleted numbers are not used again
            made += 1
            return f"{mount}/made {made}"

        async def undo() -> None:
            for mount in ("a", "b", "s", "t"):
                if await store.has_object(f"{mount}/made {made}"):
                    await store.delete(f"{mount}/made {made}", purge=True)
            for path in (plain, out / file.name):
                path.unlink(missing_ok=True)
            await client.delete_object(Bucket=BUCKET, Key="made")

        async def in_turn(name: str, ours: Step, floor: Step) -> None:
            pairs: list[tuple[float, float]] = []
            most = 0.0
            for turn in range(ROUNDS + 1):
                with grown() as growth:
                    mine = await _seconds(ours)
                await undo()
                least = await _seconds(floor)
                await undo()
                if turn:  # the first opens connections and starts threads
                    pairs.append((mine, least))
                    most = max(most, growth[0])
            found.extend(_measures(name, pairs, most))

        async def plainly() -> None:
            await asyncio.to_thread(_copy, file, plain)

        await in_turn("save to a directory", lambda: store.save(new("a"), file), plainly)
        await in_turn("save to S3", lambda: store.save(new("s"), file), lambda: _up(client, file))
        await store.save("a/x", file)
        await store.save("s/x", file)
        await _up(client, file, "x")
        await in_turn("load from a directory", lambda: store.load("a/x", output_dir=out), plainly)
        await in_turn(
            "load from S3",
            lambda: store.load("s/x", output_dir=out),
            lambda: _down(client, "x", plain),
        )
        await in_turn(
            "copy between directories", lambda: store.copy("a/x", target=new("b")), plainly
        )
        await in_turn(
            "copy from S3 to S3",
            lambda: store.copy("s/x", target=new("t")),
            lambda: _across(client, "x"),
        )
    return found


def _measures(name: str, pairs: list[tuple[float, float]], most: float) -> list[Measure]:
    ratios = [mine / least for mine, least in pairs]
    mine, least = (1e6 * statistics.median(times) for times in zip(*pairs, strict=True))
    rounds = [round(ratio, 3) for ratio in ratios]
    return [
        Measure(f"{MIB:,} MiB, {name}", SLOWEST, mine, least, statistics.median(ratios), rounds),
        Measure(f"{name}: growth of memory", 1.0, most, GROWTH, most / GROWTH, unit="MiB"),
    ]


async def _seconds(step: Step) -> float:
    began = time.perf_counter()
    await step()
    return time.perf_counter() - began


# -- the floors ------------------------------------------------------------------------------------


async def _up(client: Any, file: Path, key: str = "made") -> None:
    """Upload a file in parts, and hash it."""

    async def part(at: int) -> bytes:
        return await asyncio.to_thread(_read, file, at)

    await _put(client, key, part)


async def _down(client: Any, key: str, file: Path) -> None:
    """Download to a file in ranges, and hash each."""
    turns = asyncio.Semaphore(DOWN)
    fd = os.open(file, os.O_WRONLY | os.O_CREAT)

    async def one(at: int) -> None:
        async with turns:
            data = await _range(client, key, at)
            await asyncio.to_thread(os.pwrite, fd, data, at)

    try:
        await asyncio.gather(*(one(at) for at in range(0, MIB << 20, PART)))
    finally:
        os.close(fd)


async def _across(client: Any, key: str) -> None:
    """Copy by way of this process, and hash every range."""
    await _put(client, "made", lambda at: _range(client, key, at))


async def _range(client: Any, key: str, at: int) -> bytes:
    reply = await client.get_object(Bucket=BUCKET, Key=key, Range=f"bytes={at}-{at + PART - 1}")
    async with reply["Body"] as body:
        data: bytes = await body.read()
    await asyncio.to_thread(hashlib.sha256, data)
    return data


async def _put(client: Any, key: str, part: Callable[[int], Awaitable[bytes]]) -> None:
    begun = await client.create_multipart_upload(Bucket=BUCKET, Key=key)
    about = {"Bucket": BUCKET, "Key": key, "UploadId": begun["UploadId"]}
    turns = asyncio.Semaphore(UP)

    async def one(number: int) -> dict[str, Any]:
        async with turns:
            data = await part((number - 1) * PART)
            reply = await client.upload_part(**about, PartNumber=number, Body=io.BytesIO(data))
        return {"PartNumber": number, "ETag": reply["ETag"]}

    parts = await asyncio.gather(*(one(number) for number in range(1, MIB // 8 + 1)))
    await client.complete_multipart_upload(**about, MultipartUpload={"Parts": list(parts)})


def _read(file: Path, at: int) -> bytes:
    with file.open("rb") as reader:
        reader.seek(at)
        data = reader.read(PART)
    hashlib.sha256(data)
    return data


def _make(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(MIB // 8):
            file.write(os.urandom(1 << 20) * 8)


def _copy(source: Path, target: Path) -> None:
    hasher = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while piece := reader.read(PART):
            hasher.update(piece)
            writer.write(piece)

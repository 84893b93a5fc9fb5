"""Copies that the S3 service makes by itself: only where nothing was to be verified."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from asyncstore import AsyncRegistry, AsyncStore, BackendError, IntegrityError, ProgressEvent
from tests.servers.client import s3_client
from tests.servers.control import Control
from tests.support import BUCKET, fresh_name, s3_uri

pytestmark = pytest.mark.asyncio

KEYS = {"access_key_id": "test", "secret_access_key": "test"}
DATA = bytes(range(256)) * 80_000  # 20 MB


@pytest_asyncio.fixture
async def store(counting: Control, tmp_path: Path) -> AsyncIterator[AsyncStore]:
    """Three mounts on one service, the last of which is reached in another way; and a directory."""
    prefix = fresh_name()
    ways: dict[str, dict[str, Any]] = {"a": {}, "b": {}, "c": {"connect_timeout": 4}}
    async with AsyncExitStack() as stack:
        mounts = {
            name: AsyncRegistry(
                s3_uri(counting.url, f"{prefix}-{name}"), inline_max=1000, **KEYS, **options
            )
            for name, options in ways.items()
        }
        mounts["disk"] = AsyncRegistry(tmp_path / "disk", inline_max=1000, durability="fast")
        store = await stack.enter_async_context(AsyncStore(mounts))
        for name in mounts:
            await store.save(f"{name}/something else", 1)
        yield store


def kinds(counting: Control) -> Counter[str]:
    """How many requests of each kind there were."""
    return Counter(entry.kind for entry in counting.log())


async def test_without_verification_the_service_copies(
    store: AsyncStore, counting: Control, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for at in range(20):
        (folder / f"{at}.bin").write_bytes(bytes([at]) * (1000 + at))
    (folder / "large.bin").write_bytes(DATA)
    seen: list[ProgressEvent] = []
    for name, obj in {"large": DATA, "folder": folder}.items():
        await store.save(f"a/{name}", obj, metadata={"of": name})
        counting.reset()
        await store.copy(f"a/{name}", target=f"b/{name}", verify="none", on_progress=seen.append)
        sent = kinds(counting)
        assert sent["COPY"] == (1 if name == "large" else 2)
        assert sent["PART"] == 0
        assert (seen[-1].done, seen[-1].bytes) == (True, seen[-1].total)
        original, copied = await store.info(f"a/{name}"), await store.info(f"b/{name}")
        for about in (original, copied):
            del about["location"], about["committed"]
        assert copied == original
    assert await store.load("b/large") == DATA
    out = await store.load("b/folder", output_dir=tmp_path / "out")
    assert (out / "large.bin").read_bytes() == DATA
    assert (out / "7.bin").read_bytes() == bytes([7]) * 1007


@pytest.mark.parametrize(
    ("source", "target", "verify"),
    [
        ("a", "b", "integrity"),
        ("a", "b", "full"),
        ("a", "c", "none"),
        ("a", "disk", "none"),
        ("disk", "a", "none"),
    ],
)
async def test_else_the_bytes_come_through_us(
    store: AsyncStore, counting: Control, source: str, target: str, verify: Any
) -> None:
    await store.save(f"{source}/x", DATA)
    counting.reset()
    await store.copy(f"{source}/x", target=f"{target}/x", verify=verify)
    assert kinds(counting)["COPY"] == 0
    assert await store.load(f"{target}/x") == DATA


async def test_a_target_that_packs_otherwise_is_written_through_us(
    store: AsyncStore, counting: Control
) -> None:
    uri = s3_uri(counting.url, fresh_name())
    store.add_mount("wide", AsyncRegistry(uri, inline_max=30_000, **KEYS))
    await store.save("a/x", b"1" * 20_000)
    await store.save("wide/y", b"2" * 20_000)
    counting.reset()
    await store.copy("a/x", target="wide/x", verify="none")
    await store.copy("wide/y", target="a/y", verify="none")
    assert kinds(counting)["COPY"] == 0
    assert (await store.load("wide/x"), await store.load("a/y")) == (b"1" * 20_000, b"2" * 20_000)


async def test_what_the_service_refuses_to_copy_comes_through_us(
    store: AsyncStore, counting: Control
) -> None:
    await store.save("a/x", DATA)
    counting.reset()
    counting.fail(n=1, status=501, match="b/d/")
    await store.copy("a/x", target="b/x", verify="none")
    sent = kinds(counting)
    assert (sent["COPY"], sent["PART"]) == (1, 3)
    assert await store.load("b/x") == DATA


async def test_what_is_cut_or_gone_is_not_copied(store: AsyncStore, counting: Control) -> None:
    await store.save("a/x", DATA)
    place = store.get_mount("a").registry.uri.split("/")[3].partition("?")[0]
    async with s3_client(counting.url) as client:
        listed = await client.list_objects_v2(Bucket=BUCKET, Prefix=f"{place}/d/")
        [key] = [each["Key"] for each in listed["Contents"]]
        await client.put_object(Bucket=BUCKET, Key=key, Body=DATA[:-1])
        with pytest.raises(IntegrityError):
            await store.copy("a/x", target="b/x", verify="none")
        await client.delete_object(Bucket=BUCKET, Key=key)
    with pytest.raises(IntegrityError):
        await store.copy("a/x", target="b/x", verify="none")
    assert not await store.has_object("b/x")


async def test_a_copy_that_fails_leaves_nothing(store: AsyncStore, counting: Control) -> None:
    await store.save("a/x", DATA)
    counting.fail(n=100, status=403, match="/d/")
    with pytest.raises(BackendError):
        await store.copy("a/x", target="b/x", verify="none")
    counting.reset()
    assert not await store.has_object("b/x")
    assert await store.load("a/x") == DATA


async def test_a_move_reads_the_copy_back_before_it_deletes(
    store: AsyncStore, counting: Control
) -> None:
    await store.save("a/x", DATA)
    counting.reset()
    await store.move("a/x", target="b/x", verify="none")
    sent = kinds(counting)
    assert sent["COPY"] == 1
    assert sent["GET"] >= 3  # three chunks
    assert await store.load("b/x") == DATA
    assert not await store.has_object("a/x")


async def test_a_lost_reply_is_asked_for_again(store: AsyncStore, counting: Control) -> None:
    await store.save("a/x", DATA)
    counting.lose(n=1, match="b/d/")
    await store.copy("a/x", target="b/x", verify="none")
    assert await store.load("b/x") == DATA
    async with s3_client(counting.url) as client:
        place = store.get_mount("b").registry.uri.split("/")[3].partition("?")[0]
        listed = await client.list_objects_v2(Bucket=BUCKET, Prefix=f"{place}/d/")
    assert listed["KeyCount"] == 1

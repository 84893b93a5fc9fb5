"""Nothing grows and nothing stays behind (rig R16; lesson T7)."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from asyncstore import AsyncRegistry, AsyncStore
from asyncstore.errors import RegistryObjectNotFound
from tests.rigs.world import files_closed, no_tasks, open_files

OPERATIONS = 2000
MOST_GROWTH = 300_000
"""Bytes; what a save of 100 KB that is kept by mistake now and then would exceed at once."""
LARGE = bytes(100_000)
POOL = "asyncstore-local"
KNOWN_THREADS = ("MainThread", POOL, "AnyIO worker thread", "asyncstore-sync")


def pool_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(POOL)]


def no_pool_threads() -> None:
    """The threads of the pools end, in a moment."""
    deadline = time.monotonic() + 5
    while pool_threads() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not pool_threads()


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[AsyncStore]:
    mounts = {
        name: AsyncRegistry(tmp_path / name, mutable=True, durability="fast") for name in "abc"
    }
    async with AsyncStore(mounts) as store:
        yield store


async def one_of_many(store: AsyncStore, dice: random.Random) -> None:
    """One operation, of any kind, on a handful of names and versions."""
    key = f"{dice.choice('abc')}/{dice.choice('xyz')}@1.0.{dice.randrange(3)}"
    name = key.partition("/")[2]
    kind = dice.randrange(9)
    try:
        if kind < 3:
            await store.save(key, LARGE if dice.random() < 0.2 else {"n": kind})
        elif kind == 3:
            await store.delete(key, purge=True)
        elif kind == 4:
            await store.pop(key)
        elif kind == 5:
            await store.list_objects_and_versions()
        elif kind == 6:
            await store.locate(name)
        elif kind == 7:
            async with asyncio.timeout(dice.random() * 0.002):
                await store.save(key, LARGE)
        else:
            await store.load(key)
    except (RegistryObjectNotFound, TimeoutError):
        return


@pytest.mark.asyncio
async def test_two_thousand_operations_leave_nothing_to_grow(store: AsyncStore) -> None:
    dice = random.Random(5)
    for _ in range(300):  # caches fill, threads start
        await one_of_many(store, dice)
    gc.collect()
    files = open_files()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(OPERATIONS):
            await one_of_many(store, dice)
        no_tasks()
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    await files_closed(files)
    threads = [thread.name for thread in threading.enumerate()]
    print(
        f"{OPERATIONS} operations: {after - before:,} bytes more than before (peak "
        f"{peak - before:,}), {open_files() - files} files, {len(threads)} threads"
    )
    assert after - before < MOST_GROWTH
    assert all(name.startswith(KNOWN_THREADS) for name in threads), threads
    assert len(pool_threads()) <= 3 * 16


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_t7_one_store_serves_two_event_loops_one_after_the_other(kind: str, tmp_path: Path) -> None:
    registries = {
        name: AsyncRegistry("memory://" if kind == "memory" else tmp_path / name) for name in "ab"
    }
    store = AsyncStore(registries, max_concurrency=2)  # so that requests queue in both loops

    async def use(turn: int) -> None:
        versions = await asyncio.gather(*(store.save("a/x", [turn, at]) for at in range(8)))
        assert len(set(versions)) == 8
        assert await store.load(f"a/x@{versions[3]}") == [turn, 3]
        await store.save(f"b/large{turn}", LARGE)
        assert await store.load(f"large{turn}") == LARGE

    asyncio.run(use(1))
    asyncio.run(use(2))
    asyncio.run(store.aclose())
    asyncio.run(use(3))
    asyncio.run(store.aclose())
    no_pool_threads()


def test_t7_a_loop_that_was_torn_down_in_the_middle_leaves_the_store_usable(
    tmp_path: Path,
) -> None:
    registry = AsyncRegistry(tmp_path)

    async def give_up() -> None:
        for at in range(8):  # asyncio.run cancels these when it ends
            asyncio.get_running_loop().create_task(registry.save("x", at), name=f"save {at}")
        await asyncio.sleep(0)

    async def go_on() -> None:
        version = await registry.save("x", "last")
        assert await registry.load("x", version) == "last"
        await registry.aclose()

    asyncio.run(give_up())
    asyncio.run(go_on())
    no_pool_threads()


def test_a_forked_child_uses_the_registry_that_it_inherited(tmp_path: Path) -> None:
    registry = AsyncRegistry(tmp_path, mutable=True)

    async def save(value: object) -> str:
        return await registry.save("x", value, on_conflict="error")

    async def in_the_child() -> None:
        assert await registry.load("x") == "from the parent"
        assert await save(LARGE) == "1.0.1"
        await registry.aclose()

    asyncio.run(save("from the parent"))
    assert pool_threads()  # which the child will not have
    with warnings.catch_warnings():
        # Python 3.12 and newer warn of forking with threads. People do it all the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        code = 1
        try:
            asyncio.run(in_the_child())
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + 20
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == 0
    assert asyncio.run(save("from the parent again")) == "1.0.2"
    asyncio.run(registry.aclose())
    no_pool_threads()


@pytest.mark.asyncio
async def test_closing_and_forgetting_both_end_the_threads(tmp_path: Path) -> None:
    closed = AsyncRegistry(tmp_path / "closed")
    forgotten = AsyncRegistry(tmp_path / "forgotten")
    for registry in (closed, forgotten):
        await registry.save("x", LARGE)
    assert len(pool_threads()) >= 2
    await closed.aclose()
    del registry, forgotten
    gc.collect()
    await asyncio.to_thread(no_pool_threads)
    assert await closed.load("x") == LARGE  # opens again
    await closed.aclose()
    await asyncio.to_thread(no_pool_threads)


PROGRAM = """
import asyncio, sys
from asyncstore import AsyncRegistry, AsyncStore

async def main():
    store = AsyncStore({"a": AsyncRegistry(sys.argv[1]), "b": AsyncRegistry("memory://")})
    await store.save("a/x", bytes(100_000))
    await store.load("x")
    async with store.open_reader("a/x") as reader:
        await reader.read(10)
    # Neither store nor registries are closed.

asyncio.run(main())
print("done")
"""


def test_a_program_that_closes_nothing_ends_in_silence(tmp_path: Path) -> None:
    """In development mode every unclosed file, socket or task would be reported."""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, str(tmp_path / "a")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")

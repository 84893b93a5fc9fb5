"""What discovery costs in time: independent of the number of mounts, bounded where one hangs."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

import pytest

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    DegradedDiscoveryWarning,
    DiscoveryPolicy,
    StoreDiscoveryIncomplete,
    StoreMount,
)
from tests.support import Watched, watched

pytestmark = pytest.mark.asyncio

DELAY = 0.05
MOUNTS = 16


def sixteen(delay: float = DELAY) -> dict[str, Watched]:
    return {f"m{at:02}": watched(delay) for at in range(MOUNTS)}


def store_of(found: dict[str, Watched]) -> AsyncStore:
    """A store that has seen nothing yet."""
    return AsyncStore({at: AsyncRegistry(there.recording) for at, there in found.items()})


async def filled(found: dict[str, Watched], *, everywhere: bool = True) -> None:
    async def fill(at: str, there: Watched) -> None:
        if everywhere:
            await there.registry.save("something else", 1)
        if at == "m11":
            await there.registry.save("x", "value")

    await asyncio.gather(*(fill(at, there) for at, there in found.items()))


async def delays(call: Callable[[], Awaitable[object]], times: int = 5) -> float:
    """The median time of a call, in delays."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        assert await call() == "value"
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) / DELAY


def depth(found: dict[str, Watched]) -> int:
    return max(there.recording.depth() for there in found.values())


@pytest.mark.parametrize("everywhere", [True, False])
async def test_a_pinned_load_takes_one_delay(everywhere: bool) -> None:
    found = sixteen()
    await filled(found, everywhere=everywhere)
    store = store_of(found)
    assert await delays(lambda: store.load("x@1.0.0")) <= 1.4


@pytest.mark.parametrize("everywhere", [True, False])
async def test_a_warm_load_takes_one_delay(everywhere: bool) -> None:
    found = sixteen()
    await filled(found, everywhere=everywhere)
    store = store_of(found)
    await store.load("x")
    assert await delays(lambda: store.load("x")) <= 1.4


@pytest.mark.parametrize("everywhere", [True, False])
async def test_a_cold_load_of_the_newest_takes_two_delays(everywhere: bool) -> None:
    found = sixteen()
    await filled(found, everywhere=everywhere)
    assert await delays(lambda: store_of(found).load("x")) <= 2.4


async def test_even_the_first_pinned_load_takes_one_delay() -> None:
    found = sixteen()
    await filled(found)
    assert await delays(lambda: store_of(found).load("x@1.0.0")) <= 1.4


@pytest.mark.parametrize(("key", "serial"), [("x@1.0.0", 1), ("x", 2)])
async def test_serial_round_trips_of_a_store_that_has_seen_nothing(key: str, serial: int) -> None:
    found = sixteen(0)
    await filled(found)
    store = store_of(found)
    for there in found.values():
        there.recording.clear()
    assert await store.load(key) == "value"
    assert depth(found) == serial


@pytest.mark.parametrize("key", ["x@1.0.0", "x"])
async def test_a_warm_load_sends_one_request_to_each_mount(key: str) -> None:
    found = sixteen(0)
    await filled(found)
    store = store_of(found)
    await store.load(key)
    for there in found.values():
        there.recording.clear()
    assert await store.load(key) == "value"
    assert {there.recording.count() for there in found.values()} == {1}


@pytest.mark.parametrize("key", ["x@1.0.0", "x"])
async def test_an_unqualified_load_is_no_deeper_than_a_qualified_one(key: str) -> None:
    found = sixteen(0)
    await filled(found)
    depths = []
    for full in (key, f"m11/{key}"):
        store = store_of(found)
        for there in found.values():
            there.recording.clear()
        await store.load(full)
        depths.append(depth(found))
    assert depths[0] == depths[1]


# --- a mount that hangs

TIMEOUT = 0.3


async def one_hangs(**flags: bool) -> tuple[AsyncStore, Watched]:
    found = {at: watched() for at in ("good", "hung")}
    for there in found.values():
        await there.registry.save("something else", 1)
    store = AsyncStore(
        [
            StoreMount("good", found["good"].registry),
            StoreMount("hung", found["hung"].registry, **flags),
        ],
        discovery=DiscoveryPolicy(probe_timeout=TIMEOUT),
    )
    await store.save("good/x", "value")
    found["hung"].slow.hang()
    return store, found["hung"]


async def test_a_hung_mount_ends_in_an_incomplete_discovery_in_time() -> None:
    store, hung = await one_hangs()
    before = asyncio.all_tasks()
    began = time.perf_counter()
    with pytest.raises(StoreDiscoveryIncomplete) as caught:
        await store.load("x")
    assert TIMEOUT * 0.9 < time.perf_counter() - began < TIMEOUT + 0.1
    assert (caught.value.hits, list(caught.value.errors)) == (["good"], ["hung"])
    assert asyncio.all_tasks() == before
    assert hung.slow.waiting == 0


async def test_a_mount_that_hangs_from_the_first_use_on_ends_in_time() -> None:
    hung = watched()
    hung.slow.hang()
    store = AsyncStore(
        {"good": watched().registry, "hung": hung.registry},
        discovery=DiscoveryPolicy(probe_timeout=TIMEOUT),
    )
    before = asyncio.all_tasks()
    began = time.perf_counter()
    with pytest.raises(StoreDiscoveryIncomplete):
        await store.load("x")
    assert time.perf_counter() - began < TIMEOUT + 0.1
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("seen", [True, False])
async def test_loads_over_a_hung_mount_do_not_queue_behind_each_other(seen: bool) -> None:
    store, hung = await one_hangs()
    if not seen:
        store.remove_mount("hung")
        store.add_mount("hung", AsyncRegistry(hung.recording))

    async def load() -> float:
        began = time.perf_counter()
        with pytest.raises(StoreDiscoveryIncomplete):
            await store.load("x")
        return time.perf_counter() - began

    before = asyncio.all_tasks()
    assert max(await asyncio.gather(*(load() for _ in range(5)))) < TIMEOUT + 0.1
    assert asyncio.all_tasks() == before


async def test_an_optional_mount_that_hangs_is_left_out_with_a_warning() -> None:
    store, _ = await one_hangs(optional=True)
    began = time.perf_counter()
    with pytest.warns(DegradedDiscoveryWarning, match="'hung'"):
        assert await store.load("x") == "value"
    assert time.perf_counter() - began < TIMEOUT + 0.1


async def test_a_hung_mount_does_not_touch_qualified_loads_of_others() -> None:
    store, hung = await one_hangs()
    assert await store.load("good/x") == "value"
    assert hung.slow.waiting == 0

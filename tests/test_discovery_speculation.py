"""What a discovery starts before it knows, in which order it asks, and how long it waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    BackendTimeout,
    DiscoveryPolicy,
    StoreAmbiguousObjectError,
    StoreDiscoveryIncomplete,
)
from asyncstore.materializers import Encoded
from asyncstore.testing import Fault
from tests.support import (
    Places,
    store_of,
    until,
    watched,
    watched_mounts,
)

pytestmark = pytest.mark.asyncio

HASTY = DiscoveryPolicy(probe_timeout=0.05)


# --- speculation


async def test_every_mount_is_asked_at_once() -> None:
    found = await watched_mounts(8)
    store = store_of(found)
    await store.save("h/x", 1)
    for there in found.values():
        there.slow.hang()
    loading = asyncio.create_task(store.load("x"))
    await until(lambda: all(there.slow.waiting == 1 for there in found.values()))
    for there in found.values():
        there.slow.resume()
    assert await loading == 1


async def test_the_first_hit_starts_its_load_while_the_others_are_out() -> None:
    found = await watched_mounts()
    store = store_of(found)
    await store.save("b/x", b"1" * 200_000)
    store.clear_location_cache()
    found["a"].slow.hang()
    found["c"].slow.hang()
    found["b"].recording.clear()
    loading = asyncio.create_task(store.load("x"))
    await until(lambda: any("d/" in one.key for one in found["b"].recording.requests))
    assert found["a"].slow.waiting == found["c"].slow.waiting == 1
    assert not loading.done()
    assert store.cache_lookup_locations("x") == ["b"]  # at once
    found["a"].slow.resume()
    found["c"].slow.resume()
    assert await loading == b"1" * 200_000
    assert store.stats()["speculative_used"] == 1


async def test_nothing_is_decoded_before_the_verdict() -> None:
    decoded: list[bytes] = []

    class Spy:
        id = "spy"
        types = (complex,)

        def accepts(self, kind: type) -> bool:
            return False

        def is_large(self, obj: object) -> bool:
            return False

        def encode(self, obj: complex) -> Encoded:
            return Encoded({"data": b"1"})

        def decode(self, encoded: Encoded, as_type: type | None) -> complex:
            decoded.append(encoded.files["data"])
            return 1j

    found = {"a": watched(materializers=[Spy()]), "b": watched(materializers=[Spy()])}
    store = store_of(found)
    await store.save(["a/x", "b/y"], [1j, 1j])
    await store.save("b/x", 1j)
    with pytest.raises(StoreAmbiguousObjectError):
        await store.load("x")
    found["b"].slow.hang()
    found["a"].recording.clear()
    await store.save("a/z", 1j)
    loading = asyncio.create_task(store.load("z"))
    await until(lambda: found["b"].slow.waiting == 1 and found["a"].recording.count("get"))
    assert decoded == []
    found["b"].slow.resume()
    assert await loading == 1j
    assert decoded == [b"1"]


async def test_work_that_was_wasted_is_cancelled_and_awaited() -> None:
    found = await watched_mounts(2)
    store = store_of(found)
    await store.save(["a/x", "b/x"], [b"1" * 200_000] * 2)
    store.clear_location_cache()
    found["a"].faulty.add(Fault("hang", method="get", key="d/*", times=None))
    async with asyncio.timeout(5):
        with pytest.raises(StoreAmbiguousObjectError):
            await store.load("x")
    assert store.stats()["speculative_wasted"] == 1
    assert found["a"].recording.in_flight == found["b"].recording.in_flight == 0


async def test_two_hits_in_the_same_moment_start_no_needless_load(places: Places) -> None:
    store = places.store("a", "b")
    await store.save(["a/x", "b/x"], [1, 2])
    for preferred in ("a", "b", None):
        for _ in range(20):
            store.clear_location_cache()
            if preferred is not None:
                store.cache_update_location("x", preferred)
            with pytest.raises(StoreAmbiguousObjectError):
                await store.load("x")


async def test_a_cancelled_load_leaves_no_request_behind() -> None:
    found = await watched_mounts()
    store = store_of(found)
    await store.save("a/x", 1)
    for there in found.values():
        there.slow.hang()
    loading = asyncio.create_task(store.load("x"))
    await until(lambda: all(there.slow.waiting for there in found.values()))
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert all(there.recording.in_flight == 0 for there in found.values())


async def test_a_load_may_be_cancelled_at_every_turn_of_the_loop() -> None:
    found = await watched_mounts(inline_max=0)
    store = store_of(found)
    await store.save("a/x", b"in a payload of its own")
    turns = 0
    for turns in range(1, 500):
        loading = asyncio.create_task(AsyncStore(
            {at: AsyncRegistry(there.recording) for at, there in found.items()}
        ).load("x"))  # fmt: skip
        for _ in range(turns):
            await asyncio.sleep(0)
        if not loading.cancel():
            break
        await asyncio.wait([loading])
        assert all(there.recording.in_flight == 0 for there in found.values())
    assert 10 < turns < 499
    assert loading.result() == b"in a payload of its own"


# --- the cache steers and decides nothing


async def test_a_cached_location_is_asked_first_and_all_others_too() -> None:
    found = await watched_mounts()
    store = store_of(found)
    await store.save("c/x", 1)
    assert store.cache_lookup_locations("x") == ["c"]
    order: list[str] = []
    for at, there in found.items():
        passing = there.slow.passing

        async def noting(*args: Any, at: str = at, passing: Any = passing) -> Any:
            order.append(at)
            return await passing(*args)

        there.slow.passing = noting  # type: ignore[method-assign]
    assert await store.load("x") == 1
    assert order[0] == "c"
    assert {"a", "b"} <= set(order)


async def test_a_cached_location_hides_no_second_hit(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("a/x", 1)
    await store.load("x")
    await places.registry("b").save("x", 2)  # behind the store's back
    with pytest.raises(StoreAmbiguousObjectError):
        await store.load("x")


async def test_a_stale_cached_location_does_no_harm(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("a/x", 1)
    await places.registry("a").delete("x")
    await places.registry("b").save("x", 2)
    assert store.cache_lookup_locations("x") == ["a"]
    assert await store.load("x") == 2
    assert store.cache_lookup_locations("x") == ["b"]


async def test_a_trusted_cache_asks_only_the_mount_it_names() -> None:
    found = await watched_mounts()
    store = store_of(found, discovery=DiscoveryPolicy(trust_cache=True))
    await store.save("b/x", b"1" * 200_000)
    for there in found.values():
        there.recording.clear()
    assert await store.load("x") == b"1" * 200_000
    assert found["a"].recording.requests == found["c"].recording.requests == []
    assert found["b"].recording.count() == len({one.key for one in found["b"].recording.requests})
    assert store.stats()["speculative_wasted"] == 0


async def test_a_trusted_cache_that_is_stale_asks_all(places: Places) -> None:
    store = places.store("a", "b", discovery=DiscoveryPolicy(trust_cache=True))
    await store.save("a/x", 1)
    await places.registry("a").delete("x")
    await places.registry("b").save("x", 2)
    assert await store.load("x") == 2


async def test_a_trusted_mount_that_fails_is_no_miss() -> None:
    found = await watched_mounts(2)
    store = store_of(found, discovery=DiscoveryPolicy(trust_cache=True))
    await store.save("a/x", 1)
    found["a"].faulty.add(Fault("error", times=None))
    with pytest.raises(StoreDiscoveryIncomplete):
        await store.load("x")


async def test_a_trusted_mount_that_hangs_is_waited_for_once() -> None:
    found = await watched_mounts(2)
    policy = DiscoveryPolicy(trust_cache=True, probe_timeout=0.05)
    store = store_of(found, discovery=policy)
    await store.save("a/x", 1)
    await store.save("b/x", 2)
    store.clear_location_cache()
    store.cache_update_location("x", "a")
    found["a"].slow.hang()
    with pytest.raises(StoreDiscoveryIncomplete) as caught:
        await store.load("x")
    assert caught.value.hits == ["b"]
    assert isinstance(caught.value.errors["a"], BackendTimeout)
    assert store.stats()["probes"] == 2


# --- time


async def test_a_probe_that_takes_too_long_is_an_error_of_its_mount() -> None:
    found = await watched_mounts()
    store = store_of(found, discovery=HASTY)
    await store.save("a/x", 1)
    found["b"].slow.hang()
    with pytest.raises(StoreDiscoveryIncomplete) as caught:
        await store.load("x")
    assert isinstance(caught.value.errors["b"], BackendTimeout)
    assert caught.value.hits == ["a"]
    assert found["b"].slow.waiting == 0


async def test_the_time_of_a_probe_starts_when_it_is_sent() -> None:
    found = await watched_mounts(4, delay=0.03)
    store = store_of(found, discovery=DiscoveryPolicy(probe_timeout=0.1), max_concurrency=1)
    await store.save("d/x", 1)
    assert await store.load("x@1.0.0") == 1  # the last one waits for its slot for 90 ms


async def test_the_load_itself_is_not_under_the_probes_timeout() -> None:
    found = await watched_mounts(2)
    store = store_of(found, discovery=HASTY)
    await store.save("a/x", b"1" * 200_000)
    await store.load("x")
    gate = asyncio.Event()
    passing = found["a"].slow.passing

    async def late(method: str, keys: Any, send: Any) -> Any:
        if keys[0].startswith("d/"):
            await gate.wait()
        return await passing(method, keys, send)

    found["a"].slow.passing = late  # type: ignore[method-assign, assignment]
    loading = asyncio.create_task(store.load("x"))
    asyncio.get_running_loop().call_later(0.15, gate.set)
    assert await loading == b"1" * 200_000

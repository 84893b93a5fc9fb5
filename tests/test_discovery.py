"""Unqualified reads through a store: who is asked, and what the answers mean."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    BackendError,
    DegradedDiscoveryWarning,
    DiscoveryPolicy,
    IntegrityError,
    RegistryObjectNotFound,
    StoreAmbiguousObjectError,
    StoreDiscoveryIncomplete,
    StoreMount,
)
from asyncstore.testing import Fault
from tests.support import (
    Places,
    store_of,
    watched,
    watched_mounts,
)

pytestmark = pytest.mark.asyncio

FIRST = DiscoveryPolicy(mode="first")
NEWEST = DiscoveryPolicy(mode="unsafe-newest")
HASTY = DiscoveryPolicy(probe_timeout=0.05)


# --- unique


async def test_one_hit_is_loaded(places: Places) -> None:
    store = places.store("a", "b", "c")
    await store.save("b/x", "value")
    record = await store.load_record("x")
    assert (record.value, record.location, record.key) == ("value", "b", "b/x@1.0.0")


async def test_no_hit_is_not_found_and_names_the_mounts_asked(places: Places) -> None:
    store = places.store("a", "b")
    with pytest.raises(RegistryObjectNotFound) as caught:
        await store.load("x@1.0.0")
    error = caught.value
    assert (error.name, error.version, error.locations) == ("x", "1.0.0", ["a", "b"])
    assert "a, b" in str(error)


async def test_two_hits_are_ambiguous(places: Places) -> None:
    store = places.store("c", "a", "b")
    await store.save(["a/x", "c/x"], [1, 2])
    with pytest.raises(StoreAmbiguousObjectError) as caught:
        await store.load("x")
    error = caught.value
    assert (error.name, error.locations) == ("x", ["c", "a"])
    assert error.suggested_keys == ["c/x", "a/x"]
    assert "'c/x'" in str(error)
    assert await store.load(error.suggested_keys[0]) == 2


async def test_an_ambiguous_name_tells_who_did_not_answer() -> None:
    found = await watched_mounts()
    store = store_of(found)
    await store.save(["a/x", "b/x"], [1, 2])
    found["c"].faulty.add(Fault("error", times=None))
    with pytest.raises(StoreAmbiguousObjectError) as caught:
        await store.load("x")
    assert list(caught.value.errors) == ["c"]
    assert "no answer from c" in str(caught.value)


async def test_a_pinned_version_is_ambiguous_where_two_mounts_have_it(places: Places) -> None:
    store = places.store("a", "b")
    await store.save(["a/x@1", "a/x@2", "b/x@2", "b/x@3"], ["a1", "a2", "b2", "b3"])
    assert await store.load("x@1.0.0") == "a1"
    assert await store.load("x", "3") == "b3"
    with pytest.raises(StoreAmbiguousObjectError) as caught:
        await store.load("x@2.0.0")
    assert caught.value.suggested_keys == ["a/x@2.0.0", "b/x@2.0.0"]


async def test_latest_is_ambiguous_where_two_mounts_have_the_name(places: Places) -> None:
    store = places.store("a", "b")
    await store.save(["a/x@1", "b/x@2"], [1, 2])
    for key in ("x", "x@latest"):
        with pytest.raises(StoreAmbiguousObjectError) as caught:
            await store.load(key)
        assert caught.value.suggested_keys == ["a/x", "b/x"]


async def test_a_version_that_a_mount_cannot_express_is_a_miss_there(places: Places) -> None:
    store = AsyncStore(
        {
            "one": places.registry("one", version_digits=1),
            "four": places.registry("four", version_digits=4),
        }
    )
    await store.save(["one/y", "four/x@1.2.3.4"], ["y", "value"])
    assert await store.load("x@1.2.3.4") == "value"
    assert await store.locate("x", "1.2.3.4") == ["four"]


async def test_a_deleted_object_is_a_miss(places: Places) -> None:
    store = places.store("a", "b")
    await store.save(["a/x", "b/x"], [1, 2])
    await store.delete("a/x")
    assert await store.load("x") == 2


async def test_a_mount_that_is_not_discoverable_is_reached_by_name_only() -> None:
    hidden, shown = watched(), watched()
    store = AsyncStore(
        [StoreMount("hidden", hidden.registry, discoverable=False), StoreMount("a", shown.registry)]
    )
    await store.save("hidden/x", 1)
    hidden.recording.clear()
    with pytest.raises(RegistryObjectNotFound) as caught:
        await store.load("x")
    assert caught.value.locations == ["a"]
    assert await store.has_object("x") is False
    assert hidden.recording.requests == []
    assert await store.load("hidden/x") == 1


# --- errors are never a miss


@pytest.mark.parametrize("mode", ["error", "timeout"])
@pytest.mark.parametrize("key", ["x", "x@1.0.0"])
@pytest.mark.parametrize("policy", [DiscoveryPolicy(), NEWEST, FIRST])
async def test_a_failing_mount_hides_neither_a_hit_nor_a_miss(
    mode: Any, key: str, policy: DiscoveryPolicy
) -> None:
    found = await watched_mounts()
    store = store_of(found, discovery=policy)
    found["a"].faulty.add(Fault(mode, times=None))
    for hits in ([], ["b"]):
        with pytest.raises(StoreDiscoveryIncomplete) as caught:
            await store.load(key)
        assert list(caught.value.errors) == ["a"]
        assert isinstance(caught.value.errors["a"], BackendError)
        assert caught.value.hits in ([], hits)
        await store.save("b/x", 1)
        store.clear_location_cache()
    assert found["a"].faulty.injected[mode]


async def test_an_incomplete_discovery_names_the_lone_hit_and_the_reason() -> None:
    found = await watched_mounts()
    store = store_of(found)
    await store.save("b/x", 1)
    found["c"].faulty.add(Fault("error", times=None))
    with pytest.raises(StoreDiscoveryIncomplete, match="injected error") as caught:
        await store.load("x")
    assert (caught.value.name, caught.value.hits) == ("x", ["b"])
    assert not isinstance(caught.value, LookupError)


async def test_a_corrupt_record_is_an_error_and_no_miss() -> None:
    found = await watched_mounts()
    store = store_of(found)
    await store.save(["a/x", "b/x"], [1, 2])
    found["a"].faulty.add(Fault("corrupt", method="get", key="m/*", times=None))
    with pytest.raises(StoreDiscoveryIncomplete) as caught:
        await store.load("x@1.0.0")
    assert isinstance(caught.value.errors["a"], IntegrityError)
    assert caught.value.hits == ["b"]


async def test_settings_that_contradict_are_an_error_of_that_mount() -> None:
    there = watched()
    await there.registry.save("x", 1)
    store = AsyncStore({"a": AsyncRegistry(there.recording, mutable=True), "b": watched().registry})
    await store.save("b/x", 2)
    with pytest.raises(StoreDiscoveryIncomplete) as caught:
        await store.load("x")
    assert list(caught.value.errors) == ["a"]


async def test_an_error_that_is_not_ours_is_wrapped() -> None:
    found = await watched_mounts(2)

    async def broken(*args: object, **options: object) -> None:
        raise ZeroDivisionError("a bug in a backend")

    found["a"].slow.passing = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(StoreDiscoveryIncomplete) as caught:
        await store_of(found).load("x")
    assert "ZeroDivisionError" in str(caught.value.errors["a"])
    assert isinstance(caught.value.errors["a"], BackendError)


async def test_several_failing_mounts_are_all_named_and_cancel_nobody() -> None:
    found = await watched_mounts(4)
    store = store_of(found, discovery=HASTY)
    await store.save("d/x", 1)
    found["a"].faulty.add(Fault("error", times=None))
    found["b"].faulty.add(Fault("error", times=None))
    found["c"].slow.hang()
    with pytest.raises(StoreDiscoveryIncomplete) as caught:
        await store.load("x")
    assert list(caught.value.errors) == ["a", "b", "c"]
    assert caught.value.hits == ["d"]


# --- mounts that may fail


async def test_an_optional_mount_that_fails_is_a_miss_with_a_warning() -> None:
    found = await watched_mounts(2)
    store = AsyncStore(
        [
            StoreMount("a", found["a"].registry),
            StoreMount("b", found["b"].registry, optional=True),
        ]
    )
    await store.save("a/x", 1)
    found["b"].faulty.add(Fault("error", times=None))
    with pytest.warns(DegradedDiscoveryWarning, match=r"'b'.*'x'") as caught:
        assert await store.load("x") == 1
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(DegradedDiscoveryWarning):
        assert await store.has_object("y") is False
    with pytest.warns(DegradedDiscoveryWarning):
        assert await store.locate("x") == ["a"]


async def test_an_optional_mount_that_answers_is_a_mount_like_the_others(places: Places) -> None:
    store = AsyncStore(
        [
            StoreMount("a", places.registry("a")),
            StoreMount("b", places.registry("b"), optional=True),
        ]
    )
    await store.save(["a/x", "b/x"], [1, 2])
    with pytest.raises(StoreAmbiguousObjectError):
        await store.load("x")


async def test_errors_may_be_ignored_for_all_mounts() -> None:
    found = await watched_mounts()
    store = store_of(found, discovery=DiscoveryPolicy(on_error="ignore"))
    await store.save("b/x", 1)
    for at in "ac":
        found[at].faulty.add(Fault("error", times=None))
    with pytest.warns(DegradedDiscoveryWarning) as caught:
        assert await store.load("x") == 1
    assert len(caught) == 2
    found["b"].faulty.add(Fault("error", times=None))
    with pytest.warns(DegradedDiscoveryWarning), pytest.raises(RegistryObjectNotFound):
        await store.load("x")


# --- first


async def test_first_takes_the_first_in_mount_order(places: Places) -> None:
    store = places.store("b", "a", "c", discovery=FIRST)
    await store.save(["a/x", "c/x", "c/y"], ["a's", "c's", "c's y"])
    assert await store.load("x") == "a's"
    assert await store.load("y") == "c's y"


async def test_first_asks_for_the_name_and_then_for_the_version(places: Places) -> None:
    store = places.store("a", "b", discovery=FIRST)
    await store.save(["a/x@1", "b/x@2"], [1, 2])
    with pytest.raises(RegistryObjectNotFound) as caught:
        await store.load("x@2.0.0")
    assert caught.value.locations == ["a"]


async def test_first_minds_an_error_only_before_the_winner() -> None:
    found = await watched_mounts()
    store = store_of(found, discovery=FIRST)
    await store.save("b/x", 1)
    found["c"].faulty.add(Fault("error", times=None))
    assert await store.load("x") == 1
    found["a"].faulty.add(Fault("error", times=None))
    with pytest.raises(StoreDiscoveryIncomplete):
        await store.load("x")


async def test_first_waits_for_nobody_after_the_winner() -> None:
    found = await watched_mounts()
    store = store_of(found, discovery=FIRST)
    await store.save("a/x", 1)
    found["b"].slow.hang()
    found["c"].slow.hang()
    async with asyncio.timeout(5):
        assert await store.load("x") == 1
    assert found["b"].slow.waiting == found["c"].slow.waiting == 0  # cancelled


# --- unsafe-newest


async def test_newest_takes_the_highest_version(places: Places) -> None:
    store = places.store("a", "b", "c", discovery=NEWEST)
    await store.save(["a/x@1.9.0", "b/x@1.10.0", "c/x@1.2.0"], ["a's", "b's", "c's"])
    assert await store.load("x") == "b's"


async def test_newest_refuses_a_tie(places: Places) -> None:
    store = AsyncStore(
        {"a": places.registry("a", version_digits=2), "b": places.registry("b", version_digits=3)},
        discovery=NEWEST,
    )
    await store.save(["a/x@2.0", "b/x@2.0.0"], [1, 2])
    with pytest.raises(StoreAmbiguousObjectError) as caught:
        await store.load("x")
    assert caught.value.locations == ["a", "b"]


# --- asking


async def test_has_object(places: Places) -> None:
    store = places.store("a", "b")
    await store.save(["a/x", "b/x"], [1, 2])
    assert await store.has_object("x")
    assert await store.has_object("x", "1")
    assert not await store.has_object("x", "2")
    assert not await store.has_object("y")


async def test_has_object_is_certain_with_one_hit_whoever_fails_or_hangs() -> None:
    found = await watched_mounts()
    store = store_of(found)
    await store.save("b/x", 1)
    found["a"].faulty.add(Fault("error", times=None))
    found["c"].slow.hang()
    async with asyncio.timeout(5):
        assert await store.has_object("x")
    assert found["c"].slow.waiting == 0


async def test_has_object_without_a_hit_needs_every_answer() -> None:
    found = await watched_mounts()
    store = store_of(found)
    found["a"].faulty.add(Fault("error", times=None))
    with pytest.raises(StoreDiscoveryIncomplete):
        await store.has_object("x")
    with pytest.raises(StoreDiscoveryIncomplete):
        await store.contains("x")


async def test_locate_lists_all_in_mount_order(places: Places) -> None:
    store = places.store("c", "a", "b")
    await store.save(["a/x", "c/x", "b/y"], [1, 2, 3])
    assert await store.locate("x") == ["c", "a"]
    assert await store.locate("x", "2") == []
    assert await store.locate("z") == []


async def test_locate_needs_every_answer() -> None:
    found = await watched_mounts()
    store = store_of(found)
    await store.save("a/x", 1)
    found["c"].faulty.add(Fault("error", times=None))
    with pytest.raises(StoreDiscoveryIncomplete) as caught:
        await store.locate("x")
    assert caught.value.hits == ["a"]

"""The operations of a store on objects: batches, listings, the dict calls, cache and statistics."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncstore import (
    AsyncStore,
    DegradedDiscoveryWarning,
    MaterializationError,
    RegistryObjectNotFound,
    RegistryVersionConflict,
    StoreAmbiguousObjectError,
    StoreDiscoveryIncomplete,
    StoreKeyFormatError,
    StoreMount,
)
from asyncstore.testing import Fault
from tests.support import Places, watched

pytestmark = pytest.mark.asyncio


# --- batches


async def test_a_batch_goes_over_several_mounts(places: Places) -> None:
    store = places.store("a", "b")
    done = await store.save(["a/x", "b/y", "a/z"], [1, 2, 3])
    assert done.results == ["1.0.0"] * 3
    assert list(await store.load(["z", "b/y", "x@1"])) == [3, 2, 1]


async def test_one_bad_key_or_failing_mount_stops_no_other(places: Places) -> None:
    broken = watched()
    broken.faulty.add(Fault("error", times=None))
    store = AsyncStore({"a": places.registry("a"), "broken": broken.registry})
    done = await store.save(["a/x", "x", "broken/x", "a/y"], [1, 2, 3, 4])
    assert done.succeeded == ["a/x", "a/y"]
    assert isinstance(done.errors[1], StoreKeyFormatError)
    assert isinstance(done.errors[2], OSError)
    loaded = await store.load(["a/x", "broken/x", "y"])
    assert loaded[0] == 1
    assert isinstance(loaded.errors[2], StoreDiscoveryIncomplete)


async def test_batch_lengths_are_checked_before_anything_is_written(places: Places) -> None:
    store = places.store("a")
    with pytest.raises(ValueError):
        await store.save(["a/x", "a/y"], [1])
    assert await places.keys("a") == set()


async def test_duplicates_in_a_batch_keep_their_places(places: Places) -> None:
    store = places.store("a", "b")
    done = await store.save(["a/x", "b/x", "a/x"], ["1", "2", "3"])
    assert done.results == ["1.0.0", "1.0.0", "1.0.1"]
    assert list(await store.load(["a/x@1.0.0", "b/x", "a/x", "a/x"])) == ["1", "2", "3", "3"]


async def test_a_batch_of_ambiguous_and_missing_names(places: Places) -> None:
    store = places.store("a", "b")
    await store.save(["a/x", "b/x", "b/y"], [1, 2, 3])
    loaded = await store.load(["x", "missing", "y"])
    assert isinstance(loaded.errors[0], StoreAmbiguousObjectError)
    assert isinstance(loaded.errors[1], RegistryObjectNotFound)
    assert loaded[2] == 3


async def test_a_batch_with_one_slot_does_not_deadlock() -> None:
    mounts = {at: watched() for at in "abc"}
    store = AsyncStore({at: one.registry for at, one in mounts.items()}, max_concurrency=1)
    keys = [f"{at}/{number}" for at in "abc" for number in range(10)]
    (await store.save(keys, keys)).raise_for_errors()
    with pytest.raises(ExceptionGroup):
        (await store.load([str(number) for number in range(10)])).raise_for_errors()
    assert max(one.recording.peak for one in mounts.values()) == 1


# --- listings


async def test_listings_give_qualified_keys_in_mount_order_then_sorted(places: Places) -> None:
    store = places.store("b", "a")
    await store.save(["a/y", "b/z", "b/x", "a/x", "a/x"], [1, 2, 3, 4, 5])
    assert await store.list_objects() == ["b/x", "b/z", "a/x", "a/y"]
    assert await store.list_objects("a") == ["a/x", "a/y"]
    assert await store.list_objects_and_versions() == {
        "b/x": ["1.0.0"],
        "b/z": ["1.0.0"],
        "a/x": ["1.0.0", "1.0.1"],
        "a/y": ["1.0.0"],
    }
    assert list(await store.list_objects_and_versions()) == await store.list_objects()


async def test_iterating_goes_mount_by_mount(places: Places) -> None:
    store = places.store("b", "a")
    await store.save(["a/x/1", "a/y", "b/x/2"], [1, 2, 3])
    assert [key async for key in store.iter_objects()] == ["b/x/2", "a/x/1", "a/y"]
    assert [key async for key in store.iter_objects(prefix="x/")] == ["b/x/2", "a/x/1"]
    assert [key async for key in store.iter_objects("a", prefix="x/")] == ["a/x/1"]


async def test_a_mount_that_cannot_be_listed_does_not_look_empty(places: Places) -> None:
    broken = watched()
    broken.faulty.add(Fault("error", times=None))
    store = AsyncStore({"a": places.registry("a"), "broken": broken.registry})
    with pytest.raises(StoreDiscoveryIncomplete) as caught:
        await store.list_objects()
    assert list(caught.value.errors) == ["broken"]


async def test_an_optional_mount_that_cannot_be_listed_is_left_out_with_a_warning(
    places: Places,
) -> None:
    broken = watched()
    broken.faulty.add(Fault("error", times=None))
    store = AsyncStore(
        [StoreMount("a", places.registry("a")), StoreMount("b", broken.registry, optional=True)]
    )
    await store.save("a/x", 1)
    with pytest.warns(DegradedDiscoveryWarning, match="'b'"):
        assert await store.list_objects() == ["a/x"]


async def test_versions_of_an_unqualified_name_are_resolved_as_a_load_is(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("b/x", 1)
    await store.save("b/x", 1)
    assert await store.list_versions("x") == ["1.0.0", "1.0.1"]
    await store.save("a/x", 1)
    with pytest.raises(StoreAmbiguousObjectError):
        await store.list_versions("x")


# --- as a dict


async def test_the_dict_calls(places: Places) -> None:
    store = places.store("a", "b")
    assert await store.setdefault("a/x", 1) == 1
    assert await store.setdefault("a/x", 2) == 1
    await store.update({"a/y": 2, "b/z": 3})
    assert await store.count() == 3
    assert {key async for key in store.keys()}  # noqa: SIM118 == {"a/x", "a/y", "b/z"}
    assert {key: value async for key, value in store.items()} == {"a/x": 1, "a/y": 2, "b/z": 3}
    assert sorted([value async for value in store.values()]) == [1, 2, 3]
    assert await store.pop("a/x") == 1
    assert await store.pop("a/x", None) is None
    assert await store.get("x", "default") == "default"
    with pytest.raises(RegistryObjectNotFound):
        await store.pop("a/x")


async def test_get_takes_no_ambiguous_name_for_a_missing_one(places: Places) -> None:
    store = places.store("a", "b")
    await store.save(["a/x", "b/x"], [1, 2])
    with pytest.raises(StoreAmbiguousObjectError):
        await store.get("x", "default")


async def test_equal_names_in_two_mounts_are_two_objects(places: Places) -> None:
    store = places.store("a", "b")
    await store.save(["a/x", "b/x"], ["a's", "b's"])
    assert {key: value async for key, value in store.items()} == {"a/x": "a's", "b/x": "b's"}
    await store.delete("a/x")
    assert await store.load("x") == "b's"


async def test_update_from_a_store_keeps_mounts_and_versions(places: Places) -> None:
    source, target = (
        places.store("a", "b"),
        AsyncStore({"a": places.registry("target a"), "b": places.registry("target b")}),
    )
    await source.save("a/x", "old", version="2.0.0")
    await source.save("a/x", "new", version="3.0.0")
    await source.save("b/x", "other")
    await target.update(source)
    assert await target.list_objects_and_versions() == await source.list_objects_and_versions()
    assert await target.load("a/x@2") == "old"
    await target.update(source)  # identical content is no conflict


async def test_update_from_a_store_writes_nothing_where_a_mount_is_missing(places: Places) -> None:
    source = places.store("a", "b")
    target = AsyncStore({"a": places.registry("target a")})
    await source.save(["a/x", "b/x"], [1, 2])
    with pytest.raises(StoreKeyFormatError):
        await target.update(source)
    assert await places.keys("target a") == set()


async def test_twenty_pops_have_one_winner(places: Places) -> None:
    store = places.store("a")
    await store.save("a/x", "prize")
    got = await asyncio.gather(*(store.pop("a/x", None) for _ in range(20)))
    assert got.count("prize") == 1
    assert got.count(None) == 19


async def test_output_dir_changes_nothing_for_what_is_no_file(
    places: Places, tmp_path: Path
) -> None:
    store = places.store("a", "b")
    await store.save("a/x", 1)
    before = sorted(tmp_path.iterdir())
    for key in ("a/x", "x"):
        assert await store.load(key, output_dir=tmp_path / "out") == 1
    assert sorted(tmp_path.iterdir()) == before


async def test_conflict_policies_pass_through(places: Places) -> None:
    store = places.store("a")
    await store.save("a/x", 1, version="1")
    with pytest.raises(RegistryVersionConflict):
        await store.save("a/x@1", 2)
    assert await store.save("a/x@1", 2, on_conflict="skip") == "1.0.0"
    assert await store.load("x") == 1


async def test_streams_through_a_store(places: Places) -> None:
    store = places.store("a", "b")
    async with store.open_writer("b/x", metadata={"a": 1}) as writer:
        await writer.write(b"data")
    async with store.open_reader("x") as reader:
        assert await reader.read() == b"data"
    await store.save("a/x", 1)
    with pytest.raises(StoreAmbiguousObjectError):
        async with store.open_reader("x"):
            pass


async def test_not_found_raised_by_the_body_of_a_reader_is_left_alone(places: Places) -> None:
    store = places.store("a")
    await store.save("a/x", b"1")
    mine = RegistryObjectNotFound("mine", name="y")
    with pytest.raises(RegistryObjectNotFound) as caught:
        async with store.open_reader("a/x"):
            raise mine
    assert caught.value is mine


# --- location cache


async def test_saves_and_loads_fill_the_location_cache(places: Places) -> None:
    await places.registry("b").save("y", 1)
    store = places.store("a", "b")
    await store.save("a/x", 1)
    await store.load("y")
    assert store.cache_lookup_locations("x") == ["a"]
    assert store.cache_lookup_locations("y") == ["b"]
    assert store.cache_lookup_locations("z") == []


async def test_the_cache_can_be_told_and_made_to_forget() -> None:
    store = AsyncStore({"a": "memory://", "b": "memory://"})
    store.cache_update_location("x", "a")
    store.cache_update_location("x", "b")
    assert store.cache_lookup_locations("x") == ["b", "a"]
    store.cache_evict_name("x")
    assert store.cache_lookup_locations("x") == []
    store.cache_update_location("x", "a")
    store.clear_location_cache()
    assert store.cache_lookup_locations("x") == []


async def test_deleting_and_unmounting_take_a_location_out_of_the_cache(places: Places) -> None:
    store = places.store("a", "b")
    await store.save(["a/x", "b/y"], [1, 2])
    await store.delete("a/x")
    store.remove_mount("b")
    assert store.cache_lookup_locations("x") == store.cache_lookup_locations("y") == []


async def test_the_cache_is_bounded() -> None:
    store = AsyncStore({"a": "memory://"}, location_cache_size=3)
    for at in range(10):
        store.cache_update_location(str(at), "a")
    assert [at for at in range(10) if store.cache_lookup_locations(str(at))] == [7, 8, 9]


@pytest.mark.parametrize(
    "options",
    [{"enable_location_cache": False}, {"location_cache_size": 0}, {"location_cache_ttl": 0}],
)
async def test_the_cache_can_be_off(options: dict[str, float]) -> None:
    store = AsyncStore({"a": "memory://"}, **options)  # type: ignore[arg-type]
    await store.save("a/x", 1)
    assert await store.load("x") == 1
    assert store.cache_lookup_locations("x") == []


# --- statistics


async def test_stats_count_probes_and_their_outcomes() -> None:
    broken = watched()
    broken.faulty.add(Fault("error", times=None))
    store = AsyncStore(
        [
            StoreMount("a", watched().registry),
            StoreMount("b", watched().registry),
            StoreMount("c", broken.registry, optional=True),
        ]
    )
    await store.save("a/x", 1)
    with pytest.warns(DegradedDiscoveryWarning):
        await store.load("x")
    stats = store.stats()
    counted = {name: stats[name] for name in ("probes", "hits", "misses", "errors", "cache_hits")}
    assert counted == {"probes": 3, "hits": 1, "misses": 1, "errors": 1, "cache_hits": 1}
    assert (stats["speculative_used"], stats["speculative_wasted"]) == (1, 0)
    assert {at: one["count"] for at, one in stats["latency"].items()} == {"a": 1, "b": 1, "c": 1}


async def test_stats_are_a_copy() -> None:
    store = AsyncStore({"a": "memory://"})
    store.stats()["probes"] = 99
    assert store.stats()["probes"] == 0


async def test_update_writes_nothing_where_a_value_cannot_be_stored(places: Places) -> None:
    store = places.store("a")
    with pytest.raises(MaterializationError):
        await store.update({"a/x": 1, "a/y": object()})
    assert await store.list_objects() == []


@pytest.mark.parametrize("other", [5, [("a/x", 1)], None, "a/x"])
async def test_update_takes_a_mapping_or_a_store(places: Places, other: Any) -> None:
    store = places.store("a")
    with pytest.raises(StoreKeyFormatError, match="mapping"):
        await store.update(other)
    assert await store.list_objects() == []


async def test_get_takes_one_key(places: Places) -> None:
    with pytest.raises(StoreKeyFormatError):
        await places.store("a").get(["a/x"], 1)  # type: ignore[arg-type]

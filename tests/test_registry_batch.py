"""Batches: one answer or one error for every item, in the order of the input."""

from __future__ import annotations

import pytest

from asyncstore import (
    BatchResult,
    MaterializationError,
    RegistryObjectNotFound,
    RegistryVersionConflict,
    StoreKeyFormatError,
)
from tests.support import Places, watched

pytestmark = pytest.mark.asyncio


async def test_a_batch_answers_in_the_order_of_the_input(places: Places) -> None:
    registry = places.registry()
    keys = [f"name-{at}" for at in range(20)]
    saved = await registry.save(keys, list(range(20)))
    assert isinstance(saved, BatchResult)
    assert saved.results == ["1.0.0"] * 20
    loaded = await registry.load(keys[::-1])
    assert list(loaded) == list(range(20))[::-1]


async def test_one_bad_item_stops_no_other(places: Places) -> None:
    registry = places.registry()
    done = await registry.save(["a", " bad ", "c", "d"], [1, 2, object(), 4])
    assert done.results == ["1.0.0", None, None, "1.0.0"]
    assert {at: type(error) for at, error in done.errors.items()} == {
        1: StoreKeyFormatError,
        2: MaterializationError,
    }
    assert (done.succeeded, done.failed) == (["a", "d"], [" bad ", "c"])
    assert await registry.list_objects() == ["a", "d"]


async def test_indexing_and_iterating_give_the_result_or_raise_its_error(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    loaded = await registry.load(["x", "missing"])
    assert len(loaded) == 2
    assert loaded[0] == 1
    with pytest.raises(RegistryObjectNotFound, match="missing"):
        loaded[1]
    with pytest.raises(RegistryObjectNotFound):
        list(loaded)
    with pytest.raises(IndexError):
        loaded[2]


async def test_raise_for_errors_raises_all_of_them_as_a_group(places: Places) -> None:
    loaded = await places.registry().load(["x", "y"])
    assert not loaded.all_succeeded
    with pytest.raises(ExceptionGroup) as caught:
        loaded.raise_for_errors()
    assert [error.name for error in caught.value.exceptions] == ["x", "y"]  # type: ignore[attr-defined]


async def test_raise_for_errors_is_quiet_where_there_are_none(places: Places) -> None:
    done = await places.registry().save(["x"], [1])
    assert done.all_succeeded
    done.raise_for_errors()


async def test_a_skip_is_listed_and_counts_as_success(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "first", version="1.0.0")
    done = await registry.save(["x", "y"], ["second", "new"], version="1.0.0", on_conflict="skip")
    assert done.skipped == ["x"]
    assert done.succeeded == ["x", "y"]
    assert done.all_succeeded
    assert done.results == ["1.0.0", "1.0.0"]
    assert await registry.load("x") == "first"


async def test_a_conflict_is_the_items_own(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    done = await registry.save(["x@1.0.0", "y@1.0.0"], [2, 2])
    assert isinstance(done.errors[0], RegistryVersionConflict)
    assert done.results[1] == "1.0.0"


async def test_the_same_name_twice_is_saved_twice_in_order(places: Places) -> None:
    registry = places.registry()
    done = await registry.save(["x", "y", "x", "x"], ["a", "b", "c", "d"])
    assert done.results == ["1.0.0", "1.0.0", "1.0.1", "1.0.2"]
    assert list(await registry.load(["x@1.0.0", "x@1.0.1", "x@1.0.2"])) == ["a", "c", "d"]


async def test_the_same_name_may_be_loaded_twice(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    assert list(await registry.load(["x", "x", "x@1.0.0"])) == [1, 1, 1]


async def test_a_version_holds_for_every_item(places: Places) -> None:
    registry = places.registry()
    await registry.save(["x", "y"], [1, 2], version="3")
    assert list(await registry.load(["x", "y"], version="3.0.0")) == [1, 2]


async def test_deleting_a_batch(places: Places) -> None:
    registry = places.registry()
    await registry.save(["x", "y"], [1, 2])
    done = await registry.delete(["x", "missing", "y"])
    assert list(done.errors) == [1]
    assert await registry.list_objects() == []


@pytest.mark.parametrize(
    ("keys", "objects"),
    [(["x", "y"], [1]), (["x"], [1, 2]), ([], [1]), (["x"], "1"), (["x"], 1), (["x"], None)],
)
async def test_lengths_are_checked_before_anything_is_written(
    places: Places, keys: list[str], objects: object
) -> None:
    with pytest.raises(ValueError):
        await places.registry().save(keys, objects)  # type: ignore[call-overload]
    assert await places.keys() == set()


@pytest.mark.parametrize("keys", [{"x"}, 5, None, b"x", iter(["x"])])
async def test_what_is_neither_a_key_nor_a_list_is_refused(places: Places, keys: object) -> None:
    registry = places.registry()
    with pytest.raises(StoreKeyFormatError):
        await registry.load(keys)  # type: ignore[arg-type]


async def test_an_empty_batch_is_a_success(places: Places) -> None:
    registry = places.registry()
    for done in (
        await registry.save([], []),
        await registry.load([]),
        await registry.delete([]),
    ):
        assert (len(done), done.all_succeeded, done.succeeded) == (0, True, [])


async def test_a_large_batch_keeps_to_the_bound_on_requests() -> None:
    there = watched(max_concurrency=5)
    keys = [f"name-{at}" for at in range(300)]
    (await there.registry.save(keys, keys)).raise_for_errors()
    assert list(await there.registry.load(keys)) == keys
    assert there.recording.peak == 5

"""A registry as a dict: ``get``, ``pop``, ``setdefault``, ``update``, and the iterators."""

from __future__ import annotations

import asyncio

import pytest

from asyncstore import (
    BackendError,
    IntegrityError,
    MaterializationError,
    RegistryObjectNotFound,
    RegistryVersionConflict,
    StoreKeyFormatError,
)
from asyncstore.testing import Fault
from tests.support import Places, watched

pytestmark = pytest.mark.asyncio


async def test_get_answers_the_object(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "value")
    assert await registry.get("x", "default") == "value"
    assert await registry.get("x@1.0.0") == "value"


async def test_get_answers_the_default_for_what_is_not_there(places: Places) -> None:
    registry = places.registry()
    assert await registry.get("x") is None
    assert await registry.get("x", 5) == 5


async def test_get_tells_a_stored_none_from_nothing(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", None)
    assert await registry.get("x", "default") is None


@pytest.mark.parametrize("mode", ["error", "timeout"])
async def test_an_error_is_never_a_default(mode: str) -> None:
    there = watched()
    await there.registry.save("x", 1)
    there.faulty.add(Fault(mode, method="list", times=None))  # type: ignore[arg-type]
    for use in (
        there.registry.get("x", "default"),
        there.registry.pop("x", "default"),
        there.registry.setdefault("x", "default"),
        there.registry.contains("x"),
    ):
        with pytest.raises(BackendError):
            await use
    there.faulty.clear()
    assert await there.registry.load("x") == 1


async def test_a_damaged_object_is_never_a_default(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "value")
    [key] = [key for key in await places.keys() if key.startswith("m/")]
    await places.change(key, lambda data: data[:-3] + b"???")
    with pytest.raises(IntegrityError):
        await places.registry().setdefault("x", "default")


async def test_contains_and_count(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    await registry.save("x", 2)
    await registry.save("y", 1)
    assert await registry.contains("x")
    assert await registry.contains("x@1.0.1")
    assert not await registry.contains("z")
    assert await registry.count() == 2


async def test_keys_values_and_items(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "old")
    await registry.save("x", "new")
    await registry.save("y", None)
    assert {key async for key in registry.keys()} == {"x", "y"}  # noqa: SIM118
    assert {value async for value in registry.values()} == {"new", None}
    assert {key: value async for key, value in registry.items()} == {"x": "new", "y": None}


# --- pop


async def test_pop_answers_the_newest_and_deletes_exactly_that(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "old")
    await registry.save("x", "new")
    assert await registry.pop("x") == "new"
    assert await registry.list_versions("x") == ["1.0.0"]


async def test_pop_may_name_a_version(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "old")
    await registry.save("x", "new")
    assert await registry.pop("x@1.0.0") == "old"
    assert await registry.load("x") == "new"


async def test_pop_of_what_is_not_there(places: Places) -> None:
    registry = places.registry()
    with pytest.raises(RegistryObjectNotFound):
        await registry.pop("x")
    assert await registry.pop("x", None) is None
    assert await registry.pop("x", "default") == "default"


async def test_of_many_pops_one_wins_each_version(places: Places) -> None:
    openers = [places.registry() for _ in range(4)]
    for at in range(3):
        await openers[0].save("x", at)
    popped = await asyncio.gather(*(openers[at % 4].pop("x", "lost") for at in range(20)))
    assert sorted(map(str, popped)) == ["0", "1", "2"] + ["lost"] * 17


async def test_pop_leaves_an_object_that_cannot_be_loaded(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", b"1" * 200_000)
    [payload] = await places.payloads()
    await places.change(payload, lambda data: b"2" * len(data))
    with pytest.raises(IntegrityError):
        await registry.pop("x", "default")
    assert await registry.list_versions("x") == ["1.0.0"]


# --- setdefault


async def test_setdefault_stores_what_is_not_there(places: Places) -> None:
    registry = places.registry()
    assert await registry.setdefault("x", "value") == "value"
    assert await registry.load("x") == "value"


async def test_setdefault_answers_what_is_there(places: Places) -> None:
    registry = places.registry(mutable=True)
    await registry.save("x", "first")
    assert await registry.setdefault("x", "second") == "first"
    assert await registry.list_versions("x") == ["1.0.0"]


async def test_setdefault_counts_none_as_an_object(places: Places) -> None:
    registry = places.registry()
    assert await registry.setdefault("x", None) is None
    assert await registry.setdefault("x", "second") is None


@pytest.mark.parametrize("mutable", [False, True])
@pytest.mark.parametrize("versioned", [False, True])
async def test_of_many_setdefaults_all_get_the_winners(
    places: Places, mutable: bool, versioned: bool
) -> None:
    settings = {"mutable": mutable, "version_objects": versioned}
    openers = [places.registry(**settings) for _ in range(8)]
    got = await asyncio.gather(
        *(opener.setdefault("x", at) for at, opener in enumerate(openers * 2))
    )
    assert len(set(got)) == 1
    assert await openers[0].list_versions("x") == ["1.0.0"]
    assert await openers[0].load("x") == got[0]


async def test_setdefault_after_a_deletion_takes_the_next_number(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    await registry.delete("x")
    assert await registry.setdefault("x", 2) == 2
    assert await registry.list_versions("x") == ["1.0.1"]


async def test_setdefault_of_a_deleted_version_is_a_conflict(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    await registry.delete("x")
    with pytest.raises(RegistryVersionConflict):
        await registry.setdefault("x@1.0.0", 2)


# --- update


async def test_update_saves_every_item(places: Places) -> None:
    registry = places.registry()
    await registry.update({"x": 1, "y": 2})
    assert {key: value async for key, value in registry.items()} == {"x": 1, "y": 2}


async def test_update_from_a_registry_copies_every_version(places: Places) -> None:
    source, target = places.registry("source"), places.registry("target")
    for at in range(3):
        await source.save("x", at, metadata={"at": at})
    await source.save("y", "y", version="7.0.0")
    await target.update(source)
    assert await target.list_objects_and_versions() == {
        "x": ["1.0.0", "1.0.1", "1.0.2"],
        "y": ["7.0.0"],
    }
    assert (await target.load_record("x", "1.0.1")).metadata == {"at": 1}


async def test_an_update_that_fails_raises_the_error_itself(places: Places) -> None:
    registry = places.registry()
    with pytest.raises(TypeError, match="no materializer"):
        await registry.update({"x": object(), "y": 2})


async def test_update_checks_every_value_before_it_writes_one(places: Places) -> None:
    registry = places.registry()
    with pytest.raises(MaterializationError):
        await registry.update({"x": 1, "y": object()})
    with pytest.raises(StoreKeyFormatError):
        await registry.update({"x": 1, "@": 2})
    with pytest.raises(StoreKeyFormatError, match="mapping"):
        await registry.update(5)  # type: ignore[arg-type]
    assert await registry.list_objects() == []
    await registry.update({"x": 1, "y": 2})
    assert await registry.list_objects() == ["x", "y"]

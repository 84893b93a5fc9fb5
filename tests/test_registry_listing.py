"""Listings and ``info``: every name comes back as it was given, and costs no request of its own."""

from __future__ import annotations

import asyncio

import pytest

from asyncstore import RegistryObjectNotFound
from tests.support import Places, watched

pytestmark = pytest.mark.asyncio

NAMES = ["a", "b/c", "b/c/d", "B", "é", "model:resnet", "..", "/etc/passwd", "con", "x" * 300]


async def test_names_are_sorted(places: Places) -> None:
    registry = places.registry()
    await registry.save(NAMES, NAMES)
    assert await registry.list_objects() == sorted(NAMES)


async def test_each_name_is_listed_once_however_many_versions_it_has(places: Places) -> None:
    registry = places.registry()
    for at in range(3):
        await registry.save("x", at)
    assert await registry.list_objects() == ["x"]


async def test_names_with_versions_oldest_first(places: Places) -> None:
    registry = places.registry()
    for version in ["2.0.0", "10.0.0", "1.0.0"]:
        await registry.save("x", 1, version=version)
    await registry.save("x" * 300, 1)
    assert await registry.list_objects_and_versions() == {
        "x": ["1.0.0", "2.0.0", "10.0.0"],
        "x" * 300: ["1.0.0"],
    }


async def test_deleted_names_and_versions_are_not_listed(places: Places) -> None:
    registry = places.registry()
    for name in ["gone", "x" * 300, "stays"]:
        await registry.save(name, 1)
        await registry.save(name, 2)
    await registry.delete(["gone", "x" * 300, "stays@1.0.0"])
    assert await registry.list_objects() == ["stays"]
    assert await registry.list_objects_and_versions() == {"stays": ["1.0.1"]}
    assert await registry.count() == 1


async def test_another_opener_sees_deletions(places: Places) -> None:
    first, second = places.registry(), places.registry()
    await first.save("x", 1)
    assert await second.list_objects() == ["x"]
    await first.delete("x")
    assert await second.list_objects() == []


async def test_a_name_that_is_saved_again_is_listed_again(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    await registry.delete("x")
    await registry.save("x", 2)
    assert await registry.list_objects() == ["x"]


async def test_iterating_by_prefix(places: Places) -> None:
    registry = places.registry()
    await registry.save(NAMES, NAMES)
    assert {name async for name in registry.iter_objects(prefix="b/")} == {"b/c", "b/c/d"}
    assert {name async for name in registry.iter_objects()} == set(NAMES)


async def test_more_names_than_a_page_holds(places: Places) -> None:
    registry = places.registry()
    names = [f"name-{at:04}" for at in range(1100)]
    (await registry.save(names, names)).raise_for_errors()
    await registry.delete(names[500])
    listed = await registry.list_objects()
    assert listed == names[:500] + names[501:]


async def test_versions_of_what_is_not_there_are_none(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    assert await registry.list_versions("y") == []


async def test_foreign_files_are_no_objects(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    backend = places.backend()
    for key in ["m/x/readme.txt", "m/x/z9_1.0.0.bak", "m/not%20a%20name/z8z9z9_1.0.0", "m/note"]:
        await backend.put(key, b"foreign")
    assert await registry.list_objects() == ["x"]
    assert await registry.list_versions("x") == ["1.0.0"]
    for key in ["m/z8z9z9_1.0.0", "m/y/below/z8z9z9_1.0.0"]:  # not where records are
        await backend.put(key, b"foreign" * 50)
    assert await registry.list_objects_and_versions() == {"x": ["1.0.0"]}
    assert await registry.save("x", 2) == "1.0.1"


# --- info


async def test_info_of_an_object_is_its_manifest(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", b"12345", metadata={"lr": (1, 2)})
    info = await registry.info("x")
    assert (info["name"], info["version"], info["size"]) == ("x", "1.0.0", 5)
    assert info["metadata"] == {"lr": (1, 2)}
    assert info["hash"] == (await registry.load_record("x")).hash


async def test_info_of_one_version(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", b"1")
    await registry.save("x", b"12")
    assert (await registry.info("x", "1.0.0"))["size"] == 1
    assert (await registry.info("x@1.0.1"))["size"] == 2


async def test_info_of_what_is_not_there(places: Places) -> None:
    with pytest.raises(RegistryObjectNotFound):
        await places.registry().info("x")


async def test_info_of_the_registry(places: Places) -> None:
    registry = places.registry(version_digits=2)
    assert await registry.info() == {"uri": registry.uri, "exists": False, "settings": None}
    await registry.save("x", 1)
    info = await registry.info()
    assert info["exists"] is True
    assert info["settings"]["version_digits"] == 2


async def test_a_record_says_where_an_object_came_from(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", {"acc": 0.9}, metadata={"run": 7})
    record = await registry.load_record("x")
    assert record.value == {"acc": 0.9}
    assert (record.key, record.location, record.name) == ("x@1.0.0", None, "x")
    assert (record.version, dict(record.metadata)) == ("1.0.0", {"run": 7})
    assert len(record.hash) == 64
    assert record.created.utcoffset() is not None


async def test_metadata_that_cannot_be_stored_is_refused(places: Places) -> None:
    registry = places.registry()
    for metadata in ({"x": object()}, [1], "text", {"x": "y" * 2_000_000}):
        with pytest.raises(TypeError):
            await registry.save("x", 1, metadata=metadata)  # type: ignore[arg-type]
    assert await places.keys() == set()


# --- cost


async def test_listing_names_costs_no_request_a_name() -> None:
    there = watched()
    names = [f"name-{at}" for at in range(500)]
    await there.registry.save(names, names)
    there.recording.clear()
    assert len(await there.registry.list_objects()) == 500
    assert there.recording.count() <= 2
    assert len(await there.registry.list_objects_and_versions()) == 500
    assert there.recording.count() <= 3


async def test_a_mark_holds_where_a_page_ends_between_a_name_and_its_longer_one(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncstore.registry.listing._PAGE", 2)
    registry = places.registry()
    names = ["0", "a-b", "a", "z"]  # in the order of keys, for '-' sorts before '/'
    await registry.save(names, names)
    await registry.delete("a")
    assert await registry.list_objects() == ["0", "a-b", "z"]


async def test_foreign_files_among_the_marks_do_not_stop_a_listing(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncstore.registry.listing._PAGE", 2)
    registry, backend = places.registry(), places.backend()
    await registry.save("zz", 1)
    for number in range(5):
        await backend.put(f"g/{number}", b"")
    async with asyncio.timeout(10):
        assert await registry.list_objects() == ["zz"]

"""Copy and move: bytes and manifest, never the decoded object; nothing lost, nothing torn."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    BackendError,
    IntegrityError,
    MaterializationError,
    RegistryObjectNotFound,
    RegistryVersionConflict,
    StoreAmbiguousObjectError,
    StoreKeyFormatError,
)
from asyncstore.materializers.pickled import PickleMaterializer
from asyncstore.testing import Fault
from tests.support import Places, until, watched

pytestmark = pytest.mark.asyncio

LARGE = bytes(range(256)) * 40_000


# --- copy


@pytest.mark.parametrize("value", [{"acc": 0.9}, b"small", LARGE, ""])
async def test_a_copy_is_the_same_object(places: Places, value: object) -> None:
    store = places.store("a", "b")
    await store.save("a/x", value, metadata={"run": (1, 2)})
    assert await store.copy("a/x", target="b/y") == "1.0.0"
    source, target = await store.load_record("a/x"), await store.load_record("b/y")
    assert target.value == source.value == value
    assert (target.hash, target.metadata) == (source.hash, source.metadata)
    assert target.created == source.created
    assert await store.load("a/x") == value


async def test_a_copy_keeps_the_sources_number(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("a/x", 1, version="3.2.1")
    assert await store.copy("a/x", target="b/x") == "3.2.1"


async def test_a_copy_may_have_another_number(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("a/x", "old")
    await store.save("a/x", "new")
    assert await store.copy("a/x", target="b/x", source_version="1", target_version="9") == "9.0.0"
    assert await store.copy("a/x@1.0.1", target="b/x@10") == "10.0.0"
    assert [await store.load("b/x@9"), await store.load("b/x@10")] == ["old", "new"]


async def test_a_copy_fits_the_number_to_the_target(places: Places) -> None:
    store = AsyncStore({"a": places.registry("a", version_digits=3),
                        "b": places.registry("b", version_digits=4),
                        "c": places.registry("c", version_objects=False)})  # fmt: skip
    await store.save("a/x", 1, version="2.0.0")
    assert await store.copy("a/x", target="b/x") == "2.0.0.0"
    assert await store.copy("a/x", target="c/x") == "1.0.0"
    with pytest.raises(StoreKeyFormatError, match="target_version"):
        await store.copy("b/x", target="a/x")


async def test_identical_content_at_the_target_is_success(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("a/x", LARGE)
    await store.save("b/x", LARGE)
    before = await places.keys("b")
    assert await store.copy("a/x", target="b/x") == "1.0.0"
    assert await places.keys("b") == before


async def test_other_content_at_the_target_is_a_conflict(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("a/x", LARGE)
    await store.save("b/x", "other")
    before = await places.keys("b")
    with pytest.raises(RegistryVersionConflict):
        await store.copy("a/x", target="b/x")
    assert await store.load("b/x") == "other"
    assert await places.keys("b") == before


async def test_a_copy_may_overwrite_where_the_target_is_mutable(places: Places) -> None:
    store = AsyncStore({"a": places.registry("a"), "b": places.registry("b", mutable=True)})
    await store.save("a/x", "new")
    await store.save("b/x", "old")
    with pytest.raises(RegistryVersionConflict):
        await store.copy("a/x", target="b/x", on_conflict="error")
    assert await store.copy("a/x", target="b/x", on_conflict="skip") == "1.0.0"
    assert await store.load("b/x") == "old"
    await store.copy("a/x", target="b/x")
    assert await store.load("b/x") == "new"


async def test_a_copy_onto_itself_does_nothing(places: Places) -> None:
    store = AsyncStore({"a": places.registry("a", mutable=True)})
    await store.save("a/x", LARGE)
    before = await places.keys("a")
    assert await store.copy("a/x", target="a/x") == "1.0.0"
    assert await places.keys("a") == before


async def test_a_copy_of_what_is_not_there(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("b/y", 1)
    for source in ("a/x", "x", "b/y@2.0.0"):
        with pytest.raises(RegistryObjectNotFound):
            await store.copy(source, target="a/z")
    assert await places.keys("a") == set()


async def test_the_source_may_be_unqualified(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("b/x", 1)
    assert await store.copy("x", target="a/x") == "1.0.0"
    with pytest.raises(StoreAmbiguousObjectError):
        await store.copy("x", target="a/y")


async def test_the_target_must_be_qualified(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("a/x", 1)
    with pytest.raises(StoreKeyFormatError, match="'b/x'"):
        await store.copy("a/x", target="x")


async def test_a_copy_decodes_nothing(places: Places) -> None:
    picklers = [PickleMaterializer()]
    trusting = places.registry("a", allow_pickle=True, materializers=picklers)
    await trusting.save("x", {"pickled"}, materializer="pickle")
    store = places.store("a", "b")
    assert await store.copy("a/x", target="b/x") == "1.0.0"
    with pytest.raises(MaterializationError, match="allow_pickle"):
        await store.load("b/x")
    back = places.registry("b", allow_pickle=True, materializers=picklers)
    assert await back.load("x") == {"pickled"}


async def test_damaged_bytes_are_not_copied(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("a/x", LARGE)
    [key] = await places.payloads("a")
    await places.change(key, lambda data: data[:-1] + b"?", "a")
    with pytest.raises(IntegrityError):
        await store.copy("a/x", target="b/x")
    assert await places.keys("b") == set()


async def test_a_copy_that_fails_half_way_leaves_nothing(places: Places) -> None:
    there = watched()
    store = AsyncStore({"a": places.registry("a"), "b": there.registry})
    await store.save("a/x", LARGE)
    there.faulty.add(Fault("error", method="put_if", key="m/*", times=None))
    with pytest.raises(BackendError):
        await store.copy("a/x", target="b/x")
    page = await there.faulty.inner.list("d/", deep=True)
    assert page.entries == ()


async def test_a_copy_to_a_copied_folder_is_no_copy_onto_itself(tmp_path: Path) -> None:
    async with AsyncRegistry(tmp_path / "a", durability="fast") as original:
        await original.save("x", 1)
        await asyncio.to_thread(shutil.copytree, tmp_path / "a", tmp_path / "b")
        await original.save("x", 2)
    async with AsyncStore({"a": tmp_path / "a", "b": tmp_path / "b"}) as store:
        assert await store.copy("a/x", target="b/x") == "1.0.1"
        assert await store.load("b/x") == 2


async def test_one_folder_under_two_paths_is_one_place(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    async with AsyncStore({"a": tmp_path / "a", "b": tmp_path / "link"}) as store:
        await store.save("a/x", LARGE)
        await store.move("a/x", target="b/x")
        assert await store.load("a/x") == LARGE


# --- move


@pytest.mark.parametrize("value", ["small", LARGE])
async def test_a_move_takes_the_object_with_it(places: Places, value: object) -> None:
    store = places.store("a", "b")
    await store.save("a/x", value, metadata={"run": 1})
    assert await store.move("a/x", target="b/y") == "1.0.0"
    record = await store.load_record("b/y")
    assert (record.value, dict(record.metadata)) == (value, {"run": 1})
    assert await store.has_object("a/x") is False


async def test_a_move_within_a_mount_renames(places: Places) -> None:
    store = places.store("a")
    await store.save("a/x", 1)
    await store.move("a/x", target="a/y")
    assert await store.list_objects() == ["a/y"]


async def test_a_move_onto_itself_does_nothing(places: Places) -> None:
    store = places.store("a")
    await store.save("a/x", 1)
    assert await store.move("a/x", target="a/x") == "1.0.0"
    assert await store.load("a/x") == 1


async def test_a_move_takes_one_version(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("a/x", "old")
    await store.save("a/x", "new")
    await store.move("a/x", target="b/x")
    assert await store.list_versions("a/x") == ["1.0.0"]
    assert await store.list_versions("b/x") == ["1.0.1"]


async def test_a_move_that_was_cut_off_is_ended_by_a_second_one(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("a/x", LARGE)
    await store.copy("a/x", target="b/x")  # as after a crash before the deletion
    await store.move("a/x", target="b/x")
    assert await store.list_objects() == ["b/x"]


async def test_a_refused_move_leaves_both_as_they_were(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("a/x", "mine")
    await store.save("b/x", "theirs")
    with pytest.raises(RegistryVersionConflict):
        await store.move("a/x", target="b/x")
    assert [await store.load("a/x"), await store.load("b/x")] == ["mine", "theirs"]


async def test_both_ends_of_a_move_must_be_qualified(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("a/x", 1)
    with pytest.raises(StoreKeyFormatError, match="'a/x'"):
        await store.move("x", target="b/x")
    with pytest.raises(StoreKeyFormatError):
        await store.move("a/x", target="x")
    assert await store.list_objects() == ["a/x"]


async def test_a_move_of_what_is_not_there(places: Places) -> None:
    store = places.store("a", "b")
    with pytest.raises(RegistryObjectNotFound):
        await store.move("a/x", target="b/x")
    assert await places.keys("b") == set()


async def test_an_overwrite_during_a_move_is_not_deleted(places: Places) -> None:
    there = watched()
    store = AsyncStore({"a": places.registry("a", mutable=True), "b": there.registry})
    await store.save("a/x", "copied")
    await store.save("b/other", 1)
    there.slow.hang()
    moving = asyncio.create_task(store.move("a/x", target="b/x"))
    await until(lambda: there.slow.waiting)
    await store.save("a/x", "written meanwhile", version="1.0.0")
    there.slow.resume()
    with pytest.raises(RegistryVersionConflict, match="changed"):
        await moving
    assert await store.load("a/x") == "written meanwhile"
    assert await store.load("b/x") == "copied"


# --- on a registry itself


async def test_a_registry_copies_and_moves_within_itself(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", LARGE)
    assert await registry.copy("x", target="y", target_version="2") == "2.0.0"
    assert await registry.move("x", target="z") == "1.0.0"
    assert await registry.list_objects_and_versions() == {"y": ["2.0.0"], "z": ["1.0.0"]}
    assert await registry.load("z") == LARGE


@pytest.mark.parametrize("slots", [1, 3])
async def test_copies_do_not_wait_for_each_others_slots(places: Places, slots: int) -> None:
    registry = places.registry(max_concurrency=slots)
    await registry.save("x", LARGE)
    async with asyncio.timeout(20):
        await asyncio.gather(*(registry.copy("x", target=f"y{at}") for at in range(8)))
    assert await registry.load("y7") == LARGE


async def test_a_move_that_skips_leaves_the_source(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "precious")
    await registry.save("y", "another")
    await registry.move("x", target="y", on_conflict="skip")
    assert await registry.load("x") == "precious"
    assert await registry.load("y") == "another"


async def test_a_move_onto_the_same_bytes_with_other_metadata_is_a_conflict(
    places: Places,
) -> None:
    registry = places.registry()
    await registry.save("x", "same", metadata={"run": 1})
    await registry.save("y", "same")
    with pytest.raises(RegistryVersionConflict):
        await registry.move("x", target="y")
    assert (await registry.load_record("x")).metadata == {"run": 1}


async def test_a_full_copy_is_read_back_at_the_target(places: Places) -> None:
    there = watched()
    store = AsyncStore({"a": places.registry("a"), "b": there.registry})
    await store.save("a/x", LARGE)
    there.faulty.add(Fault("truncate", method="get", key="d/*", times=None))
    assert await store.copy("a/x", target="b/x") == "1.0.0"  # what arrived is not looked at
    await there.registry.delete("x")
    with pytest.raises(IntegrityError):
        await store.copy("a/x", target="b/x", target_version="2", verify="full")
    with pytest.raises(IntegrityError):
        await store.move("a/x", target="b/x", target_version="3")
    assert await store.load("a/x") == LARGE

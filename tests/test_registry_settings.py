"""Opening a registry: its settings are stored with it, checked, and reading creates nothing."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from asyncstore import (
    AsyncRegistry,
    BackendError,
    IntegrityError,
    MaterializationError,
    RegistryObjectNotFound,
    RegistrySettingsConflict,
)
from asyncstore.testing import Fault
from tests.support import Places, fresh_name, tree_of, watched

pytestmark = pytest.mark.asyncio


async def settings_of(registry: AsyncRegistry) -> dict[str, object]:
    return (await registry.info())["settings"]  # type: ignore[no-any-return]


# --- stored and checked


async def test_defaults(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    stored = await settings_of(registry)
    assert stored["version_objects"] is True
    assert stored["mutable"] is False
    assert stored["version_digits"] == 3


async def test_settings_left_out_come_from_the_registry(places: Places) -> None:
    await places.registry(mutable=True, version_digits=2).save("x", 1)
    again = places.registry()
    assert await again.save("x", 2) == "1.1"
    assert await again.save("x", 3, version="1.1") == "1.1"  # mutable


@pytest.mark.parametrize(
    ("setting", "stored", "asked"),
    [
        ("version_objects", True, False),
        ("mutable", False, True),
        ("version_digits", 3, 2),
        ("inline_max", 100, 200),
    ],
)
async def test_settings_that_contradict_the_stored_ones_are_refused(
    places: Places, setting: str, stored: object, asked: object
) -> None:
    await places.registry(**{setting: stored}).save("x", 1)
    other = places.registry(**{setting: asked})
    for use in (other.load("x"), other.save("x", 2), other.has_object("x"), other.list_objects()):
        with pytest.raises(RegistrySettingsConflict, match=setting):
            await use
    assert await places.registry().list_versions("x") == ["1.0.0"]


async def test_the_same_settings_may_be_asked_for_again(places: Places) -> None:
    await places.registry(mutable=True).save("x", 1)
    assert await places.registry(mutable=True, version_digits=3).load("x") == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("version_objects", "yes"),
        ("mutable", 1),
        ("version_digits", 0),
        ("version_digits", 8),
        ("version_digits", True),
        ("inline_max", -1),
        ("durability", "quick"),
        ("operation_timeout", 0),
        ("request_timeout", "1"),
        ("max_concurrency", 0),
    ],
)
async def test_settings_that_are_none_are_refused(
    tmp_path: Path, setting: str, value: object
) -> None:
    with pytest.raises(RegistrySettingsConflict, match=setting):
        AsyncRegistry(tmp_path, **{setting: value})  # type: ignore[arg-type]


async def test_two_that_create_a_registry_at_once_agree(places: Places) -> None:
    openers = [places.registry(version_digits=digits) for digits in (1, 2, 3, 4)]
    outcomes = await asyncio.gather(
        *(opener.save("x", 1) for opener in openers), return_exceptions=True
    )
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, RegistrySettingsConflict) for outcome in outcomes) == 3


async def test_a_place_that_lost_its_settings_is_damaged_and_not_empty(places: Places) -> None:
    await places.registry().save("x", 1)
    await places.backend().delete(["asv.json"])
    lost = places.registry()
    for use in (lost.load("x"), lost.list_objects(), lost.save("y", 2)):
        with pytest.raises(IntegrityError, match=r"asv\.json"):
            await use


# --- reading creates nothing


async def test_a_place_without_a_registry_reads_as_empty(places: Places) -> None:
    registry = places.registry()
    assert await registry.list_objects() == []
    assert await registry.list_versions("x") == []
    assert await registry.list_objects_and_versions() == {}
    assert [key async for key in registry.iter_objects()] == []
    assert await registry.has_object("x") is False
    assert await registry.count() == 0
    assert (await registry.info())["exists"] is False
    with pytest.raises(RegistryObjectNotFound):
        await registry.load("x")


async def test_reading_and_deleting_create_nothing(tmp_path: Path) -> None:
    async with AsyncRegistry(tmp_path / "registry") as registry:
        await registry.list_objects()
        await registry.get("x")
        await registry.info()
        with pytest.raises(RegistryObjectNotFound):
            await registry.delete("x")
        with pytest.raises(RegistryObjectNotFound):
            async with registry.open_reader("x"):
                pass
    assert tree_of(tmp_path) == {}


async def test_a_refused_save_creates_nothing(tmp_path: Path) -> None:
    async with AsyncRegistry(tmp_path / "registry") as registry:
        with pytest.raises(MaterializationError):
            await registry.save("x", object())
    assert tree_of(tmp_path) == {}


async def test_with_create_false_a_missing_registry_is_an_error(places: Places) -> None:
    registry = places.registry(create=False)
    for use in (
        registry.load("x"),
        registry.get("x"),
        registry.has_object("x"),
        registry.list_objects(),
        registry.save("x", 1),
        registry.setdefault("x", 1),
        registry.delete("x"),
    ):
        with pytest.raises(BackendError, match="create=False"):
            await use
    assert await places.keys() == set()


async def test_with_create_false_a_registry_that_is_there_is_used(places: Places) -> None:
    await places.registry().save("x", 1)
    registry = places.registry(create=False)
    assert await registry.load("x") == 1
    assert await registry.save("x", 2) == "1.0.1"


async def test_the_first_use_takes_no_round_trip_more_than_the_next() -> None:
    there = watched()
    await there.registry.save("x", 1)
    cold = AsyncRegistry(there.recording)
    there.recording.clear()
    assert await cold.load("x", "1.0.0") == 1
    assert there.recording.depth() == 1
    assert there.recording.count() == 2  # the settings, beside the record


async def test_settings_that_cannot_be_read_are_an_error_and_not_a_miss() -> None:
    there = watched()
    await there.registry.save("x", 1)
    there.faulty.add(Fault("error", method="get", key="asv.json", times=None))
    with pytest.raises(BackendError):
        await AsyncRegistry(there.recording).has_object("x")


# --- places


async def test_memory_registries_share_by_name() -> None:
    name = fresh_name()
    first, second = AsyncRegistry(f"memory://{name}"), AsyncRegistry(f"memory://{name}")
    await first.save("x", 1)
    assert await second.load("x") == 1


async def test_a_memory_registry_is_gone_with_its_last_user() -> None:
    name = fresh_name()
    await AsyncRegistry(f"memory://{name}").save("x", 1)
    assert await AsyncRegistry(f"memory://{name}").list_objects() == []


async def test_nameless_memory_registries_are_private() -> None:
    first, second = AsyncRegistry("memory://"), AsyncRegistry("memory://")
    await first.save("x", 1)
    assert await second.has_object("x") is False


async def test_a_path_and_its_uri_are_one_place(tmp_path: Path) -> None:
    async with AsyncRegistry(str(tmp_path / "a place")) as by_path:
        await by_path.save("x", 1)
    async with AsyncRegistry((tmp_path / "a place").as_uri()) as by_uri:
        assert await by_uri.load("x") == 1


@pytest.mark.parametrize("target", ["", "nonsense://x", None, 5, b"bytes"])
async def test_what_is_no_place_is_refused(target: object) -> None:
    with pytest.raises(RegistrySettingsConflict):
        AsyncRegistry(target)  # type: ignore[arg-type]


async def test_no_error_or_repr_shows_what_a_uri_may_hold() -> None:
    with pytest.raises(RegistrySettingsConflict) as caught:
        AsyncRegistry("nonsense://key:secret@host/x")
    assert "secret" not in str(caught.value)


async def test_two_loops_one_after_the_other(tmp_path: Path) -> None:
    registry = AsyncRegistry(tmp_path)

    def in_a_loop_of_its_own(at: int) -> list[str]:
        async def use() -> list[str]:
            await asyncio.gather(*(registry.save("x", at) for _ in range(4)))
            return await registry.list_versions("x")

        return asyncio.run(use())

    assert len(await asyncio.to_thread(in_a_loop_of_its_own, 1)) == 4
    assert len(await asyncio.to_thread(in_a_loop_of_its_own, 2)) == 8
    await registry.aclose()


async def test_closing_ends_the_threads_and_the_next_use_opens_again(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    registry = AsyncRegistry(tmp_path)
    await registry.save("x", 1)
    await registry.aclose()
    for thread in set(threading.enumerate()) - before:
        await asyncio.to_thread(thread.join, 5)
    alive = [one.name for one in set(threading.enumerate()) - before if "local" in one.name]
    assert alive == []
    assert await registry.load("x") == 1
    await registry.aclose()


async def test_a_backend_that_was_handed_in_is_left_open(places: Places) -> None:
    async with places.registry() as registry:
        await registry.save("x", 1)
    assert await registry.load("x") == 1


@pytest.mark.parametrize(
    "setting",
    [{"allow_pickle": "false"}, {"create": "no"}, {"durability": "slow"}],
    ids=lambda setting: next(iter(setting)),
)
async def test_a_setting_that_only_looks_true_is_refused(setting: dict[str, Any]) -> None:
    """``allow_pickle="false"`` must not open the gate."""
    with pytest.raises(RegistrySettingsConflict, match=next(iter(setting))):
        AsyncRegistry("memory://", **setting)

"""The mounts of a store: what may be mounted, how, and for how long it is open."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    DiscoveryPolicy,
    RegistryObjectNotFound,
    RegistrySettingsConflict,
    Settings,
    StoreKeyFormatError,
    StoreLocationNotFound,
    StoreMount,
)
from asyncstore.settings import MountSettings
from tests.support import Places, fresh_name, tree_of

pytestmark = pytest.mark.asyncio


def three() -> AsyncStore:
    return AsyncStore({"c": "memory://", "a": "memory://", "b": "memory://"})


# --- mounting


async def test_mounts_keep_their_order() -> None:
    store = three()
    store.add_mount("0", "memory://")
    assert store.list_mounts() == ["c", "a", "b", "0"]


async def test_a_mount_is_a_registry_a_mount_a_path_or_a_uri(tmp_path: Path) -> None:
    async with AsyncStore(
        {
            "registry": AsyncRegistry("memory://"),
            "mount": StoreMount("mount", AsyncRegistry("memory://"), optional=True),
            "text": str(tmp_path / "text"),
            "path": tmp_path / "path",
            "uri": (tmp_path / "uri").as_uri(),
        }
    ) as store:
        for location in store.list_mounts():
            await store.save(f"{location}/x", location)
        assert [await store.load(f"{at}/x") for at in store.list_mounts()] == store.list_mounts()
        assert store.get_mount("mount").optional
    assert sorted(path.name for path in tmp_path.iterdir()) == ["path", "text", "uri"]


@pytest.mark.parametrize("mounts", ["memory://", {"a": 5}, ["memory://"], 5, {"a": None}])
async def test_what_cannot_be_mounted_is_refused(mounts: object) -> None:
    with pytest.raises(RegistrySettingsConflict):
        AsyncStore(mounts)  # type: ignore[arg-type]


@pytest.mark.parametrize("location", ["", " a", "a ", "a/b", "a@b", None, 5])
async def test_a_location_must_be_a_name(location: object) -> None:
    with pytest.raises(StoreKeyFormatError):
        AsyncStore({location: "memory://"})  # type: ignore[dict-item]
    with pytest.raises(StoreKeyFormatError):
        three().add_mount(location, "memory://")  # type: ignore[arg-type]


async def test_a_location_is_mounted_once() -> None:
    store = three()
    with pytest.raises(StoreKeyFormatError, match="remove_mount"):
        store.add_mount("a", "memory://")
    with pytest.raises(StoreKeyFormatError):
        AsyncStore([StoreMount("a", "memory://"), StoreMount("a", "memory://")])  # type: ignore[arg-type]


async def test_a_removed_mount_is_asked_no_more_and_keeps_its_objects() -> None:
    registry = AsyncRegistry("memory://")
    store = AsyncStore({"a": registry, "b": "memory://"})
    await store.save("a/x", 1)
    store.remove_mount("a")
    assert not store.has_mount("a")
    with pytest.raises(RegistryObjectNotFound) as caught:
        await store.load("x")
    assert caught.value.locations == ["b"]
    assert await registry.load("x") == 1


@pytest.mark.parametrize("method", ["get_mount", "remove_mount", "set_default_location"])
async def test_an_unknown_mount_is_not_found_and_close_names_are_shown(method: str) -> None:
    store = AsyncStore({"models": "memory://"})
    with pytest.raises(StoreLocationNotFound, match="did you mean 'models'"):
        getattr(store, method)("model")


async def test_listings_of_an_unknown_mount_are_an_error() -> None:
    store = three()
    with pytest.raises(StoreLocationNotFound):
        await store.list_objects("nowhere")
    with pytest.raises(StoreLocationNotFound):
        [key async for key in store.iter_objects("nowhere")]


async def test_mount_info() -> None:
    store = AsyncStore([StoreMount("a", AsyncRegistry("memory://"), True, False, True, "backup")])
    info = store.list_mount_info()["a"]
    assert (info["read_only"], info["discoverable"], info["optional"]) == (True, False, True)
    assert info["description"] == "backup"
    assert (await store.info())["mounts"] == store.list_mount_info()


async def test_a_mount_is_frozen() -> None:
    mount = StoreMount("a", AsyncRegistry("memory://"))
    with pytest.raises(AttributeError):
        mount.read_only = True  # type: ignore[misc]


async def test_resolving_the_registry_of_a_key_or_location() -> None:
    registry = AsyncRegistry("memory://")
    store = AsyncStore({"a": registry, "b": "memory://"})
    assert store.resolve_registry("a") is store.resolve_registry("a/x@1") is registry
    with pytest.raises(StoreLocationNotFound):
        store.resolve_registry("c/x")


# --- the default mount


async def test_the_default_location_is_the_first_mount_or_the_one_that_is_named() -> None:
    assert three().default_location == "c"
    store = AsyncStore({"a": "memory://", "b": "memory://"}, default_location="b")
    assert store.default_location == "b"
    store.set_default_location("a")
    assert store.default_location == "a"
    with pytest.raises(StoreLocationNotFound):
        AsyncStore({"a": "memory://"}, default_location="b")


async def test_a_store_without_mounts_has_one_at_the_configured_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCSTORE_STORE_DIR", str(tmp_path / "store"))
    async with AsyncStore() as store:
        assert (store.list_mounts(), store.default_location) == (["default"], "default")
        await store.save("default/demo:item", {"ok": True})
        assert await store.load("demo:item") == {"ok": True}
    assert (tmp_path / "store" / "asv.json").exists()


async def test_settings_say_where_the_default_mount_is(tmp_path: Path) -> None:
    async with AsyncStore(settings=Settings.load(store_dir=tmp_path / "here")) as store:
        await store.save("default/x", 1)
    assert (tmp_path / "here" / "asv.json").exists()


async def test_a_store_may_have_no_mount_at_all() -> None:
    store = AsyncStore(create_default_local_mount=False)
    assert (store.list_mounts(), store.default_location) == ([], None)
    assert await store.list_objects() == []
    with pytest.raises(RegistryObjectNotFound):
        await store.load("x")


async def test_from_config(tmp_path: Path) -> None:
    file = tmp_path / "asyncstore.toml"
    file.write_text(
        f"""
        default_location = "two"
        [mounts]
        one = "memory://{fresh_name()}"
        [mounts.two]
        uri = "{tmp_path}/two"
        read_only = true
        optional = true
        [discovery]
        mode = "first"
        """
    )
    store = await asyncio.to_thread(AsyncStore.from_config, file)
    assert store.list_mounts() == ["one", "two"]
    assert store.default_location == "two"
    assert store.get_mount("two").read_only
    assert store.get_mount("two").optional
    await store.save("one/x", 1)
    assert await store.load("x") == 1
    await store.aclose()


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrency": 0},
        {"location_cache_size": -1},
        {"location_cache_ttl": "5"},
        {"discovery": "first"},
    ],
)
async def test_options_that_are_none_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(RegistrySettingsConflict):
        AsyncStore({"a": "memory://"}, **options)  # type: ignore[arg-type]


async def test_a_policy_is_checked() -> None:
    for wrong in ({"mode": "any"}, {"probe_timeout": 0}, {"on_error": "warn"}, {"trust_cache": 1}):
        with pytest.raises(RegistrySettingsConflict):
            DiscoveryPolicy(**wrong)  # type: ignore[arg-type]


# --- open and closed


def _workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "asyncstore-local" in thread.name}


async def _all_end(threads: set[threading.Thread]) -> bool:
    for thread in threads:
        await asyncio.to_thread(thread.join, 5)
    return not any(thread.is_alive() for thread in threads)


async def test_a_store_works_without_async_with_and_reopens_after_closing(tmp_path: Path) -> None:
    before = _workers()
    store = AsyncStore({"a": tmp_path})
    for at in range(3):
        await store.save("a/x", at)
        await store.aclose()
        assert await _all_end(_workers() - before)
    assert await store.load("x") == 2
    await store.aclose()
    assert await _all_end(_workers() - before)


async def test_closing_twice_is_no_error(tmp_path: Path) -> None:
    store = AsyncStore({"a": tmp_path})
    await store.aclose()
    await store.save("a/x", 1)
    await store.aclose()
    await store.aclose()


async def test_a_registry_in_two_stores_is_closed_with_the_last(tmp_path: Path) -> None:
    before = _workers()
    registry = AsyncRegistry(tmp_path)
    one, other = AsyncStore({"a": registry}), AsyncStore({"b": registry})
    await one.save("a/x", 1)
    assert await other.load("b/x") == 1
    await one.aclose()
    assert _workers() - before  # the other store still has it
    await other.aclose()
    assert await _all_end(_workers() - before)


async def test_a_closed_store_that_is_used_again_counts_again(tmp_path: Path) -> None:
    before = _workers()
    registry = AsyncRegistry(tmp_path)
    one, other = AsyncStore({"a": registry}), AsyncStore({"b": registry})
    await one.aclose()
    await one.save("a/x", 1)
    await other.aclose()
    assert _workers() - before
    await one.aclose()
    assert await _all_end(_workers() - before)


async def test_a_store_that_was_dropped_keeps_nothing_open(tmp_path: Path) -> None:
    before = _workers()
    registry = AsyncRegistry(tmp_path)
    dropped = AsyncStore({"a": registry})
    other = AsyncStore({"b": registry})
    await dropped.save("a/x", 1)
    del dropped
    gc.collect()
    await other.aclose()
    assert await _all_end(_workers() - before)


async def test_making_a_store_touches_nothing(tmp_path: Path) -> None:
    before = tree_of(tmp_path), os.getcwd(), asyncio.all_tasks(), threading.active_count()
    async with AsyncStore({"a": tmp_path / "a"}):
        assert (tree_of(tmp_path), os.getcwd(), asyncio.all_tasks(), threading.active_count()) == (
            before
        )


async def test_opening_leaves_no_task_behind(places: Places) -> None:
    tasks = asyncio.all_tasks()
    store = places.store("a", "b")
    await store.save("a/x", 1)
    await store.load("x")
    assert asyncio.all_tasks() == tasks


async def test_the_repr_names_the_mounts() -> None:
    store = AsyncStore({"a": "memory://named"})
    assert "'a': 'memory://named'" in repr(store)


async def test_settings_give_the_mounts_where_no_others_are_given() -> None:
    settings = Settings(
        mounts={
            "a": MountSettings(uri="memory://"),
            "b": MountSettings(uri="memory://", read_only=True),
        },
        default_location="b",
    )
    store = AsyncStore(settings=settings)
    assert (store.list_mounts(), store.default_location) == (["a", "b"], "b")
    assert store.get_mount("b").read_only
    assert AsyncStore({"b": "memory://"}, settings=settings).list_mounts() == ["b"]


@pytest.mark.parametrize("flag", ["read_only", "discoverable", "optional"])
@pytest.mark.parametrize("value", ["false", 1, None])
async def test_the_flags_of_a_mount_are_bools(flag: str, value: object) -> None:
    given: dict[str, Any] = {flag: value}
    with pytest.raises(RegistrySettingsConflict, match=f"{flag}=.* of the mount 'a'"):
        StoreMount("a", AsyncRegistry("memory://"), **given)
    store = AsyncStore(create_default_local_mount=False)
    with pytest.raises(RegistrySettingsConflict):
        store.add_mount("a", "memory://", **given)
    assert store.list_mounts() == []


@pytest.mark.parametrize(
    "wrong",
    [{"mounts": ""}, {"mounts": 0}, {"settings": 5}, {"settings": {}}, {"discovery": {}}],
)
async def test_what_a_store_is_given_is_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(RegistrySettingsConflict):
        AsyncStore(**wrong)


@pytest.mark.parametrize("location", [[], {}, None, 5, "", "zz"])
async def test_what_names_no_mount_is_no_mount(location: Any) -> None:
    store = three()
    assert not store.has_mount(location)
    for call in (
        store.get_mount, store.remove_mount, store.set_default_location,
        lambda given: store.cache_update_location("x", given),
        lambda given: store.build_key(given, "x"),
    ):  # fmt: skip
        with pytest.raises(StoreLocationNotFound):
            call(location)
    with pytest.raises((StoreLocationNotFound, StoreKeyFormatError)):
        store.resolve_registry(location)
    if location is not None:
        with pytest.raises(StoreLocationNotFound):
            await store.list_objects(location)


async def test_the_default_location_can_be_set_like_an_attribute(places: Places) -> None:
    store = places.store("a", "b")
    store.default_location = "b"
    assert store.default_location == "b"
    with pytest.raises(StoreLocationNotFound):
        store.default_location = "c"


async def test_the_environment_says_how_to_discover(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCSTORE_DISCOVERY__MODE", "first")
    store = places.store("a", "b")
    await store.save("a/x", 1)
    await store.save("b/x", 2)
    assert await store.load("x") == 1

"""Keys of a store: what names its mount, and what writes refuse."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from asyncstore import (
    AsyncStore,
    RegistryObjectNotFound,
    StoreKeyFormatError,
    StoreLocationNotFound,
    StoreMount,
    StoreReadOnlyError,
)
from tests.support import Places, watched

pytestmark = pytest.mark.asyncio

Write = Callable[[AsyncStore, str], Awaitable[object]]


async def _write(store: AsyncStore, key: str) -> None:
    async with store.open_writer(key) as writer:
        await writer.write(b"1")


WRITES: dict[str, Write] = {
    "save": lambda store, key: store.save(key, 1),
    "delete": lambda store, key: store.delete(key),
    "pop": lambda store, key: store.pop(key),
    "pop with a default": lambda store, key: store.pop(key, None),
    "setdefault": lambda store, key: store.setdefault(key, 1),
    "update": lambda store, key: store.update({key: 1}),
    "copy": lambda store, key: store.copy("a/x", target=key),
    "move to": lambda store, key: store.move("a/x", target=key),
    "move from": lambda store, key: store.move(key, target="a/z"),
    "open_writer": _write,
}


@pytest.fixture(params=sorted(WRITES))
def write(request: pytest.FixtureRequest) -> Write:
    return WRITES[request.param]


# --- parsing


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("a/x", ("a", "x", None)),
        ("a/x@1.0.0", ("a", "x", "1.0.0")),
        ("x", (None, "x", None)),
        ("x@v2", (None, "x", "v2")),
        ("a/b/x", ("a", "b/x", None)),
        ("c/x", (None, "c/x", None)),
        ("A/x", (None, "A/x", None)),
        ("a", (None, "a", None)),
        ("model:resnet", (None, "model:resnet", None)),
        ("a/model:resnet@latest", ("a", "model:resnet", "latest")),
        ("a//x", ("a", "/x", None)),
        ("/a/x", (None, "/a/x", None)),
    ],
)
async def test_the_first_segment_qualifies_exactly_where_it_is_mounted(
    key: str, parts: tuple[str | None, str, str | None]
) -> None:
    store = AsyncStore({"a": "memory://", "b": "memory://"})
    assert store.parse_key(key) == parts


@pytest.mark.parametrize(
    "key", ["", "a/", "@1", "a/@1", "a/ x", "x ", "x@", "a/x@y", "x\0", "\ud800"]
)
async def test_malformed_keys_are_refused(key: str) -> None:
    store = AsyncStore({"a": "memory://"})
    with pytest.raises(StoreKeyFormatError):
        store.parse_key(key)
    with pytest.raises(StoreKeyFormatError):
        await store.load(key)


@pytest.mark.parametrize("key", [None, 5, b"a/x"])
async def test_a_key_that_is_no_text_is_refused(key: object) -> None:
    store = AsyncStore({"a": "memory://"})
    with pytest.raises(StoreKeyFormatError):
        store.parse_key(key)  # type: ignore[arg-type]


async def test_build_key_is_the_inverse_of_parse_key() -> None:
    store = AsyncStore({"a": "memory://"})
    for parts in [("a", "x", None), ("a", "b/x", "1.0.0"), ("a", "a/a", None)]:
        assert store.parse_key(store.build_key(*parts)) == parts


async def test_build_key_needs_a_mount_that_is_there() -> None:
    store = AsyncStore({"alpha": "memory://"})
    with pytest.raises(StoreLocationNotFound, match="'alpha'"):
        store.build_key("alpah", "x")
    with pytest.raises(StoreKeyFormatError):
        store.build_key("alpha", " x")


async def test_a_mount_changes_what_a_key_means_and_the_error_says_so() -> None:
    store = AsyncStore({"a": "memory://"})
    await store.save("a/vision/detector", 1)
    assert await store.load("vision/detector") == 1
    store.add_mount("vision", "memory://")
    with pytest.raises(RegistryObjectNotFound, match=r"mount 'vision'") as caught:
        await store.load("vision/detector")
    assert caught.value.locations == ["vision"]


# --- writes take only qualified keys


async def test_a_write_needs_a_qualified_key(places: Places, write: Write) -> None:
    store = places.store("a", "b")
    await store.save("a/x", 1)
    with pytest.raises(StoreKeyFormatError) as caught:
        await write(store, "x")
    assert "'a/x'" in str(caught.value)
    assert "'b/x'" in str(caught.value)
    assert await store.list_objects_and_versions() == {"a/x": ["1.0.0"]}


async def test_the_keys_that_would_work_name_the_default_mount_first(write: Write) -> None:
    store = AsyncStore({"a": "memory://", "b": "memory://"}, default_location="b")
    with pytest.raises(StoreKeyFormatError, match=r"'b/x@1\.0\.0' or 'a/x@1\.0\.0'"):
        await write(store, "x@1.0.0")


async def test_a_near_miss_of_a_mount_is_named(write: Write) -> None:
    store = AsyncStore({"models": "memory://", "a": "memory://"})
    with pytest.raises(StoreKeyFormatError, match="did you mean 'models/x'") as caught:
        await write(store, "model/x")
    assert "'model'" in str(caught.value)


async def test_an_unknown_mount_is_named(write: Write) -> None:
    store = AsyncStore({"a": "memory://"})
    with pytest.raises(StoreKeyFormatError, match="no mount is named 'elsewhere'"):
        await write(store, "elsewhere/x")


async def test_without_a_writable_mount_the_error_says_so() -> None:
    store = AsyncStore([StoreMount("a", "memory://", read_only=True)])  # type: ignore[arg-type]
    with pytest.raises(StoreKeyFormatError, match="no writable"):
        await store.save("x", 1)


# --- reads take both


async def test_reads_take_both_forms(places: Places) -> None:
    store = places.store("a", "b")
    await store.save("b/x", "value")
    for key in ("x", "b/x", "x@1.0.0", "b/x@1"):
        assert await store.load(key) == "value"
        assert (await store.load_record(key)).location == "b"
        assert (await store.info(key))["location"] == "b"
        assert await store.has_object(key)
        assert await store.contains(key)
        assert await store.get(key) == "value"
        assert await store.list_versions(key) == ["1.0.0"]
        async with store.open_reader(key) as reader:
            assert reader.version == "1.0.0"


async def test_a_qualified_read_asks_only_its_mount() -> None:
    here, there = watched(), watched()
    store = AsyncStore({"here": here.registry, "there": there.registry})
    await store.save("here/x", 1)
    there.recording.clear()
    await store.load("here/x")
    await store.has_object("here/x")
    await store.load_record("here/x")
    assert there.recording.requests == []


# --- read-only mounts


def half_read_only(places: Places) -> AsyncStore:
    """A store with a mount ``a`` and a mount ``ro`` that is read-only."""
    read_only = StoreMount("ro", places.registry("ro"), read_only=True)
    return AsyncStore([StoreMount("a", places.registry("a")), read_only])


async def test_a_read_only_mount_refuses_every_write_before_anything_is_sent(write: Write) -> None:
    there = watched()
    await there.registry.save("x", 1)
    source = watched()
    await source.registry.save("x", 2)
    store = AsyncStore(
        [StoreMount("a", source.registry), StoreMount("ro", there.registry, read_only=True)]
    )
    there.recording.clear()
    source.recording.clear()
    with pytest.raises(StoreReadOnlyError) as caught:
        await write(store, "ro/x")
    assert caught.value.location == "ro"
    assert isinstance(caught.value, PermissionError)
    assert there.recording.requests == []
    assert source.recording.requests == []
    assert await store.load("ro/x") == 1


async def test_a_read_only_mount_may_be_the_source_of_a_copy(places: Places) -> None:
    await places.registry("ro").save("x", 1)
    store = half_read_only(places)
    await store.copy("ro/x", target="a/x")
    assert await store.load("a/x") == 1


async def test_in_a_batch_only_the_items_of_a_read_only_mount_fail(places: Places) -> None:
    store = half_read_only(places)
    saved = await store.save(["ro/x", "a/x"], [1, 1])
    deleted = await store.delete(["a/x", "ro/x"])
    assert [type(error) for error in saved.errors.values()] == [StoreReadOnlyError]
    assert [type(error) for error in deleted.errors.values()] == [StoreReadOnlyError]
    assert await places.keys("ro") == set()


async def test_an_update_writes_nothing_where_one_key_may_not_be_written(places: Places) -> None:
    store = half_read_only(places)
    with pytest.raises(StoreReadOnlyError):
        await store.update({"a/x": 1, "ro/x": 1})
    with pytest.raises(StoreKeyFormatError):
        await store.update({"a/x": 1, "unqualified": 1})
    assert await store.list_objects() == []


async def test_not_found_names_the_mount_that_was_nearly_written(places: Places) -> None:
    store = places.store("models", "data")
    with pytest.raises(RegistryObjectNotFound, match=r"did you mean 'models/x@1\.0\.0'"):
        await store.load("model/x@1.0.0")
    with pytest.raises(RegistryObjectNotFound) as caught:
        await store.load("elsewhere/x")
    assert "did you mean" not in str(caught.value)

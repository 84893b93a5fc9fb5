"""The lessons about names: whatever a name is, it stays in its place and comes back unchanged."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore import AsyncRegistry, AsyncStore, RegistryObjectNotFound
from asyncstore.names import check_name
from tests.support import Places, tree_of

HOSTILE = [
    "../../x", "..", ".", "../x", "/etc/passwd", "/", "//x", "a/../../b", "~", "~root/x", "./x",
    "C:\\x", "..\\..\\x", "con", "nul.txt", "com1", "x/", "/x", ".hidden", "t", "l", "m/x",
    "asv.json", "t/x", "%2e%2e", "..%2f", "a\nb", "\u202e", "x" * 1024, "é" * 500, "-rf", "$HOME",
    "`x`", "*",
]  # fmt: skip

ALIKE = [
    "a", "a/1.0.0", "a/b", "a:b", "a_b", "a%3Ab", "%3A", ":", "a*", "a?", "[a]", "[!a]", "{a,b}",
    "A", "É", "é", "e\u0301", "a b", "a  b", "a.b", "a,b", "a=b", "a!b", "a(b)", "a!2fb", "ﬀ", "ff",
    "1.0.0", "a/1.0.0/x", "model:resnet", "模型", "İ", "i̇",
]  # fmt: skip


def _is_name(text: str) -> bool:
    try:
        check_name(text)
    except ValueError:
        return False
    return True


NAMES = st.text(min_size=1, max_size=60).filter(_is_name)


@pytest.mark.asyncio
async def test_n1_names_with_slashes_are_listed_and_versioned(places: Places) -> None:
    store = places.store("a")
    for name in ("vision/detector", "vision/detector/head", "vision"):
        assert await store.save(f"a/{name}", 1) == "1.0.0"
        assert await store.save(f"a/{name}", 2) == "1.0.1"
    assert await store.list_objects_and_versions() == {
        "a/vision": ["1.0.0", "1.0.1"],
        "a/vision/detector": ["1.0.0", "1.0.1"],
        "a/vision/detector/head": ["1.0.0", "1.0.1"],
    }


@pytest.mark.asyncio
async def test_n2_names_that_look_alike_are_kept_apart(places: Places) -> None:
    registry = places.registry()
    (await registry.save(ALIKE, ALIKE)).raise_for_errors()
    assert await registry.list_objects() == sorted(ALIKE)
    assert list(await registry.load(ALIKE)) == ALIKE
    await registry.delete("a")
    await registry.delete("a*")
    assert await registry.list_objects() == sorted(set(ALIKE) - {"a", "a*"})


@pytest.mark.asyncio
async def test_n2_keys_are_apart_even_where_the_file_system_folds_case(places: Places) -> None:
    registry = places.registry()
    await registry.save(ALIKE, ALIKE)
    keys = await places.keys()
    assert len({key.casefold() for key in keys}) == len(keys) == len(ALIKE)
    assert all(key.isascii() for key in keys)


@pytest.mark.asyncio
async def test_n3_nothing_outside_the_mounts_folder_is_ever_touched(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "x").mkdir(parents=True)
    (outside / "x" / "precious").write_bytes(b"precious")
    before = tree_of(outside)
    root = outside / "x" / "deep" / "registry"
    async with AsyncStore({"a": AsyncRegistry(root, durability="fast", mutable=True)}) as store:
        names = [f"a/{name}" for name in HOSTILE if _is_name(name)]
        pinned = [f"{name}@1.0.0" for name in names]
        (await store.save(names, names)).raise_for_errors()
        (await store.save(pinned, [b"2" * 99_999] * len(names))).raise_for_errors()
        (await store.load(names)).raise_for_errors()
        assert sorted(await store.list_objects()) == sorted(names)
        for name in (name for name in names if len(name) < 1000):
            await store.copy(name, target=f"{name}-copied")
            await store.move(f"{name}-copied", target=f"{name}-moved")
        (await store.delete(names, purge=True)).raise_for_errors()
    inside = {path for path in tree_of(outside) if path.startswith("x/deep")}
    assert {path: data for path, data in tree_of(outside).items() if path not in inside} == before
    assert {path.split("/")[3] for path in inside if path.count("/") > 2} <= {
        "asv.json", "m", "d", "g", "l", "t",
    }  # fmt: skip


@pytest.mark.asyncio
async def test_n3_a_link_that_somebody_planted_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    async with AsyncRegistry(tmp_path / "r", mutable=True) as registry:
        await registry.save("x", b"1" * 99_999, version="1.0.0")
        [payload] = [path for path in (tmp_path / "r" / "d").rglob("*") if path.is_file()]
        payload.unlink()
        payload.symlink_to(precious)
        with pytest.raises((OSError, ValueError)):
            await registry.load("x", verify="none")
        await registry.delete("x", purge=True)
    assert precious.read_bytes() == b"precious"


@pytest.mark.asyncio
async def test_n4_adding_a_mount_changes_a_keys_meaning_and_the_error_says_so() -> None:
    store = AsyncStore({"a": "memory://"})
    await store.save("a/team/model", 1)
    assert await store.load("team/model") == 1
    store.add_mount("team", "memory://")
    with pytest.raises(RegistryObjectNotFound, match="the mount 'team'"):
        await store.load("team/model")
    assert await store.load("a/team/model") == 1


@settings(max_examples=60, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=12, unique=True))
def test_any_names_are_listed_unchanged_and_stay_apart(names: list[str]) -> None:
    async def use(registry: AsyncRegistry) -> None:
        async with registry:
            (await registry.save(names, names)).raise_for_errors()
            assert await registry.list_objects() == sorted(names)
            assert set(await registry.list_objects_and_versions()) == set(names)
            assert list(await registry.load(names)) == names
            await registry.delete(names[0])
            assert await registry.list_objects() == sorted(names[1:])

    asyncio.run(use(AsyncRegistry("memory://")))
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(use(AsyncRegistry(Path(folder) / "r", durability="fast")))
        assert [path.name for path in Path(folder).iterdir()] == ["r"]


@settings(max_examples=200, deadline=None)
@given(name=NAMES, version=st.sampled_from([None, "1.0.0", "latest"]))
def test_any_name_makes_a_key_that_is_taken_apart_again(name: str, version: str | None) -> None:
    store = AsyncStore({"a": "memory://", "b": "memory://"})
    assert store.parse_key(store.build_key("a", name, version)) == ("a", name, version)

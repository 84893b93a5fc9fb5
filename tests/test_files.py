"""Files and folders as objects: every byte, executable bit and empty folder, or a clear refusal."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncstore import (
    AsyncRegistry,
    IntegrityError,
    MaterializationError,
    RegistryObjectNotFound,
)
from asyncstore.materializers import PathMaterializer
from tests.support import Places, tree_of

pytestmark = pytest.mark.asyncio

LARGE = 20 * 1024 * 1024


def folder_of(folder: Path, *, many: int = 0, large: int = 0) -> Path:
    """A folder with something of everything."""
    made = folder / "model"
    (made / "sub" / "empty").mkdir(parents=True)
    (made / "config.json").write_text('{"a": 1}')
    (made / "nothing").write_bytes(b"")
    (made / "run.sh").write_text("#!/bin/sh\n")
    (made / "run.sh").chmod(0o755)
    (made / "sub" / "ü, [x] %20.bin").write_bytes(os.urandom(200_000))
    for number in range(many):
        (made / "sub" / f"{number:04}").write_bytes(os.urandom(1_000 + number))
    if large:
        (made / "weights.bin").write_bytes(os.urandom(large))
    return made


def modes_of(folder: Path) -> dict[str, bool]:
    return {
        str(path.relative_to(folder)): bool(path.stat().st_mode & stat.S_IXUSR)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(("many", "large"), [(0, 0), (300, 0), (20, LARGE)])
async def test_a_folder_comes_back_whole(
    places: Places, tmp_path: Path, many: int, large: int
) -> None:
    source = folder_of(tmp_path, many=many, large=large)
    registry = places.registry()
    assert await registry.save("model", source, metadata={"acc": 0.9}) == "1.0.0"
    record = await registry.load_record("model", output_dir=tmp_path / "out")
    assert record.value == tmp_path / "out"
    assert record.metadata == {"acc": 0.9}
    assert tree_of(record.value) == tree_of(source)
    assert modes_of(record.value) == modes_of(source)
    await registry.verify("model")


async def test_many_small_files_share_a_few_objects(places: Places, tmp_path: Path) -> None:
    registry = places.registry()
    await registry.save("model", folder_of(tmp_path, many=300))
    assert len(await places.payloads()) == 1


@pytest.mark.parametrize("size", [0, 10, 200_000, LARGE + 1])
async def test_a_file_comes_back_under_its_name(places: Places, tmp_path: Path, size: int) -> None:
    source = tmp_path / "weights.bin"
    source.write_bytes(os.urandom(size))
    registry = places.registry()
    await registry.save("weights", source)
    there = await registry.load("weights", output_dir=tmp_path / "new" / "out")
    assert there == tmp_path / "new" / "out" / "weights.bin"
    assert there.read_bytes() == source.read_bytes()
    assert os.listdir(there.parent) == ["weights.bin"]
    async with registry.open_reader("weights") as reader:
        assert await reader.read() == source.read_bytes()


async def test_a_file_replaces_one_of_its_name_and_leaves_the_others(
    places: Places, tmp_path: Path
) -> None:
    source, out = tmp_path / "a.txt", tmp_path / "out"
    source.write_text("new")
    out.mkdir()
    (out / "a.txt").write_text("old")
    (out / "b.txt").write_text("other")
    registry = places.registry()
    await registry.save("a", source)
    await registry.load("a", output_dir=out)
    assert tree_of(out) == {"a.txt": b"new", "b.txt": b"other"}


async def test_a_folder_takes_no_place_that_is_taken(places: Places, tmp_path: Path) -> None:
    registry = places.registry()
    source = folder_of(tmp_path)
    await registry.save("model", source)
    (tmp_path / "empty").mkdir()
    assert tree_of(await registry.load("model", output_dir=tmp_path / "empty")) == tree_of(source)
    before = tree_of(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for taken in ("empty", "file", "link"):
        with pytest.raises(MaterializationError, match="no empty folder"):
            await registry.load("model", output_dir=tmp_path / taken)
    after = tree_of(tmp_path)
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {"file", "link"}


async def test_files_need_a_place_to_go_to(places: Places, tmp_path: Path) -> None:
    registry = places.registry()
    await registry.save("model", folder_of(tmp_path))
    for read in (registry.load("model"), registry.get("model"), registry.pop("model")):
        with pytest.raises(MaterializationError, match="output_dir"):
            await read
    with pytest.raises(MaterializationError, match="output_dir=7"):
        await registry.load("model", output_dir=7)  # type: ignore[arg-type]
    assert await registry.has_object("model")


async def test_links_are_refused_or_followed_as_told(places: Places, tmp_path: Path) -> None:
    source = folder_of(tmp_path)
    (tmp_path / "elsewhere").write_text("linked")
    (source / "link").symlink_to(tmp_path / "elsewhere")
    registry = places.registry()
    with pytest.raises(MaterializationError, match="link is a link"):
        await registry.save("model", source)
    follow = PathMaterializer(links="follow")
    await registry.save("model", source, materializer=follow)
    out = await registry.load("model", output_dir=tmp_path / "out")
    assert (out / "link").read_text() == "linked"
    assert not (out / "link").is_symlink()
    (source / "loop").symlink_to(source)
    with pytest.raises(MaterializationError, match="leads back"):
        await registry.save("model", source, materializer=follow)
    with pytest.raises(MaterializationError, match="'refuse' or 'follow'"):
        PathMaterializer(links="maybe")  # type: ignore[arg-type]


async def test_what_is_no_file_or_folder_is_refused_by_name(tmp_path: Path) -> None:
    registry = AsyncRegistry("memory://")
    source = folder_of(tmp_path)
    os.mkfifo(source / "pipe")
    with pytest.raises(MaterializationError, match="pipe is neither"):
        await registry.save("x", source)
    (source / "pipe").unlink()
    (source / "bad\nname").write_text("x")
    with pytest.raises(MaterializationError, match="control character"):
        await registry.save("x", source)
    with pytest.raises(MaterializationError, match="No such file"):
        await registry.save("x", tmp_path / "nowhere")
    assert await registry.list_objects() == []


class Restless(PathMaterializer):
    """Writes to a file of the folder after it was looked at."""

    id = "path"

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    def encode(self, obj: Path) -> Any:
        encoded = super().encode(obj)
        change, self.change = self.change, lambda path: None
        change(obj)
        return encoded


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "config.json").write_text("other"),
        lambda folder: (folder / "sub" / "0001").write_bytes(os.urandom(1_001)),
        lambda folder: (folder / "more").write_text("x"),
        lambda folder: (folder / "run.sh").unlink(),
        lambda folder: (folder / "sub" / "empty").rmdir(),
        lambda folder: (folder / "run.sh").chmod(0o644),
    ],
)
@pytest.mark.parametrize("many", [0, 20])
async def test_a_folder_that_changes_meanwhile_is_not_stored(
    places: Places, tmp_path: Path, change: Any, many: int
) -> None:
    source = folder_of(tmp_path, many=max(many, 2))
    registry = places.registry()
    with pytest.raises(MaterializationError, match="changed while"):
        await registry.save("model", source, materializer=Restless(change))
    assert await registry.list_objects() == []
    assert await places.payloads() == set()


async def test_every_damaged_file_is_found_and_nothing_is_left(
    places: Places, tmp_path: Path
) -> None:
    registry = places.registry()
    await registry.save("model", folder_of(tmp_path, many=20))
    [key] = await places.payloads()
    for at in (0, 100_000, 205_000):
        await places.change(key, lambda data, at=at: _flipped(data, at))  # type: ignore[misc]
        with pytest.raises(IntegrityError):
            await registry.load("model", output_dir=tmp_path / "out")
        await places.change(key, lambda data, at=at: _flipped(data, at))  # type: ignore[misc]
        assert sorted(os.listdir(tmp_path)) == sorted({*os.listdir(tmp_path)} - {"out"})
        assert not [name for name in os.listdir(tmp_path) if name.startswith(".asyncstore")]
    await registry.load("model", output_dir=tmp_path / "out")


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


async def test_a_cancelled_load_leaves_nothing(places: Places, tmp_path: Path) -> None:
    registry = places.registry()
    await registry.save("model", folder_of(tmp_path, many=50, large=LARGE))
    before = sorted(os.listdir(tmp_path))
    turns = 0
    while True:
        load = asyncio.create_task(registry.load("model", output_dir=tmp_path / "out"))
        for _ in range(turns):
            await asyncio.sleep(0)
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
        if (tmp_path / "out").exists():
            break
        assert sorted(os.listdir(tmp_path)) == before
        turns = turns * 2 + 1
        if turns > 4_000:
            break
    names = sorted({*os.listdir(tmp_path)} - {"out"})
    assert names == before


async def test_copies_and_moves_keep_files(places: Places, tmp_path: Path) -> None:
    source = folder_of(tmp_path, many=30)
    store = places.store("a", "b")
    await store.save("a/model", source)
    await store.copy("a/model", target="b/model")
    assert tree_of(await store.load("b/model", output_dir=tmp_path / "1")) == tree_of(source)
    await store.move("a/model", target="b/moved")
    out = await store.load("moved", output_dir=tmp_path / "2")  # discovered
    assert tree_of(out) == tree_of(source)
    assert modes_of(out) == modes_of(source)
    with pytest.raises(RegistryObjectNotFound):
        await store.load("a/model", output_dir=tmp_path / "3")
    await store.aclose()


async def test_an_asynchronous_iterable_is_saved_piece_by_piece(places: Places) -> None:
    async def pieces(*given: Any) -> AsyncIterator[Any]:
        for piece in given:
            yield piece

    registry = places.registry()
    assert await registry.save("x", pieces(b"ab", bytearray(b"cd"), memoryview(b"ef"))) == "1.0.0"
    assert await registry.load("x") == b"abcdef"
    assert await registry.save("x", pieces()) == "1.0.1"
    assert await registry.load("x") == b""
    large = [os.urandom(1024 * 1024)] * 10
    await registry.save("large", pieces(*large))
    assert await registry.load("large") == b"".join(large)
    with pytest.raises(MaterializationError, match="one brought"):
        await registry.save("y", pieces(b"a", "b"))
    assert not await registry.has_object("y")

"""What ``on_progress`` is told, and that nothing it does costs an object."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncstore import (
    BackendError,
    ProgressEvent,
    RegistryObjectNotFound,
    RegistrySettingsConflict,
    RegistryVersionConflict,
)
from asyncstore.bars import ProgressBars
from asyncstore.sync import Store
from asyncstore.testing import Fault
from tests.support import Places, watched

SIZES = [0, 10, 200_000, 20 * 1024 * 1024 + 3]


def content(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def whole(events: list[ProgressEvent], operation: str, key: str, size: int, files: int = 1) -> int:
    """Check the events of one operation that succeeded; how many there were."""
    assert {(event.operation, event.object) for event in events} == {(operation, key)}
    assert {event.files for event in events} == {files}
    assert {event.total for event in events} == {size}
    counts = [event.bytes for event in events]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, size)
    assert [event.done for event in events] == [False] * (len(events) - 1) + [True]
    return len(events)


@pytest.mark.asyncio
@pytest.mark.parametrize("size", SIZES)
async def test_save_load_copy_and_move_tell_how_far_they_are(places: Places, size: int) -> None:
    registry, other, data = places.registry(), places.registry("other"), content(size)
    seen: list[ProgressEvent] = []
    large = size > 16 * 1024 * 1024
    steps = 5 if large else 2  # the beginning, three pieces of up to 8 MiB, the end

    await registry.save("x", data, on_progress=seen.append)
    assert whole(seen, "save", "x", size) >= steps
    seen.clear()
    assert await registry.load("x", on_progress=seen.append) == data
    assert whole(seen, "load", "x", size) >= steps
    seen.clear()
    record = await registry.load_record("x", on_progress=seen.append)
    assert record.value == data
    assert whole(seen, "load", "x", size) >= steps
    seen.clear()
    await registry.copy("x", target="y", on_progress=seen.append)
    assert whole(seen, "copy", "x", size) >= steps
    seen.clear()
    await registry.copy("x", target="y", on_progress=seen.append)  # is there already
    assert whole(seen, "copy", "x", size) == 2
    seen.clear()
    await registry.move("y", target="z", on_progress=seen.append)
    assert whole(seen, "move", "y", size) >= steps
    seen.clear()
    await other.update(registry, on_progress=seen.append)
    for key in ("x@1.0.0", "z@1.0.0"):
        assert whole([event for event in seen if event.object == key], "copy", key, size) >= steps
    assert await other.load("z") == data


@pytest.mark.asyncio
async def test_files_and_folders(places: Places, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for at in range(12):
        (folder / f"{at}.bin").write_bytes(content(30_000 * at))
    size = sum(path.stat().st_size for path in folder.iterdir())
    registry, seen = places.registry(), list[ProgressEvent]()
    await registry.save("x", folder, on_progress=seen.append)
    assert whole(seen, "save", "x", size, files=12) > 2
    seen.clear()
    await registry.load("x", output_dir=tmp_path / "out", on_progress=seen.append)
    assert whole(seen, "load", "x", size, files=12) > 2


@pytest.mark.asyncio
async def test_streams(places: Places) -> None:
    registry, seen, data = places.registry(), list[ProgressEvent](), content(300_000)
    async with registry.open_writer("x", on_progress=seen.append) as writer:
        for at in range(0, 300_000, 100_000):
            await writer.write(data[at : at + 100_000])
    assert [event.bytes for event in seen] == [0, 100_000, 200_000, 300_000, 300_000]
    assert [event.total for event in seen] == [None] * 4 + [300_000]
    assert [event.done for event in seen] == [False] * 4 + [True]
    assert {(event.operation, event.object) for event in seen} == {("write", "x")}
    seen.clear()
    async with registry.open_reader("x", on_progress=seen.append) as reader:
        async for _ in reader.iter_chunks(100_000):
            pass
    assert whole(seen, "read", "x", 300_000) == 5
    seen.clear()
    async with registry.open_reader("x", on_progress=seen.append) as reader:
        for _ in range(3):
            await reader.read_range(0, 150_000)
    # No further than the end, and done with what was asked for.
    assert [event.bytes for event in seen] == [0, 150_000, 300_000, 300_000, 300_000]
    assert seen[-1].done

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"abc"

    seen.clear()
    await registry.save("y", pieces(), on_progress=seen.append)
    assert [event.bytes for event in seen] == [0, 3, 6, 9, 9]


@pytest.mark.asyncio
async def test_a_store_names_the_mount(places: Places) -> None:
    store, seen = places.store("a", "b"), list[ProgressEvent]()
    await store.save("b/x", b"1234", on_progress=seen.append)
    whole(seen, "save", "b/x", 4)
    for key in ("b/x", "x", "x@1.0.0"):
        seen.clear()
        assert await store.load(key, on_progress=seen.append) == b"1234"
        whole(seen, "load", "b/x@1.0.0" if "@" in key else "b/x", 4)
    seen.clear()
    assert (await store.load_record("x", on_progress=seen.append)).value == b"1234"
    whole(seen, "load", "b/x", 4)
    seen.clear()
    await store.copy("x", target="a/x", on_progress=seen.append)
    whole(seen, "copy", "b/x", 4)
    seen.clear()
    await store.move("a/x", target="b/y", on_progress=seen.append)
    whole(seen, "move", "a/x", 4)
    seen.clear()
    async with store.open_reader("y", on_progress=seen.append) as reader:
        await reader.read()
    whole(seen, "read", "b/y", 4)
    seen.clear()
    async with store.open_writer("a/z", on_progress=seen.append) as writer:
        await writer.write(b"12")
    assert [(event.object, event.bytes) for event in seen] == [("a/z", 0), ("a/z", 2), ("a/z", 2)]
    seen.clear()
    await store.update({"a/u": b"1", "b/v": b"22"}, on_progress=seen.append)
    assert {event.object: event.bytes for event in seen if event.done} == {"a/u": 1, "b/v": 2}
    seen.clear()
    done = await store.load(["a/u", "a/none", "v"], on_progress=seen.append)
    assert done.failed == ["a/none"]
    assert {event.object: event.bytes for event in seen if event.done} == {"a/u": 1, "b/v": 2}


@pytest.mark.asyncio
async def test_what_fails_is_never_reported_as_done(places: Places) -> None:
    registry, seen = places.registry(), list[ProgressEvent]()
    await registry.save("x", b"1")
    with pytest.raises(RegistryVersionConflict):
        await registry.save("x", b"2", version="1", on_progress=seen.append)
    with pytest.raises(RegistryObjectNotFound):
        await registry.load("none", on_progress=seen.append)
    assert not any(event.done for event in seen)


@pytest.mark.asyncio
async def test_only_what_is_stored_counts() -> None:
    there, seen = watched(), list[ProgressEvent]()
    there.faulty.add(Fault("error", method="put", key="d/*", times=1))
    with pytest.raises(BackendError):
        await there.registry.save("x", content(200_000), on_progress=seen.append)
    assert [event.bytes for event in seen] == [0]
    seen.clear()
    await there.registry.save("x", content(200_000), on_progress=seen.append)
    assert [event.bytes for event in seen] == [0, 200_000, 200_000]


@pytest.mark.asyncio
async def test_a_callback_that_fails_costs_no_object(places: Places) -> None:
    loop, reported = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    registry, called = places.registry(), list[ProgressEvent]()

    def broken(event: ProgressEvent) -> None:
        called.append(event)
        raise ValueError("no terminal")

    for size in (10, 200_000):
        called.clear()
        reported.clear()
        await registry.save(f"x{size}", content(size), on_progress=broken)
        assert await registry.load(f"x{size}") == content(size)
        assert [str(context["exception"]) for context in reported] == ["no terminal"]
        assert len(called) == 1


@pytest.mark.asyncio
async def test_what_cannot_be_called_is_refused_before_anything_is_done(places: Places) -> None:
    registry = places.registry()
    wrong: Any = "yes"
    with pytest.raises(RegistrySettingsConflict, match="ProgressEvent"):
        await registry.save("x", 1, on_progress=wrong)
    assert await places.keys() == set()


# -- bars ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_bars_show_every_operation_and_go_with_it(places: Places) -> None:
    registry, screen = places.registry(), io.StringIO()
    with ProgressBars(file=screen, mininterval=0) as bars:
        await registry.save("x", content(200_000), on_progress=bars)
        async with registry.open_writer("y", on_progress=bars) as writer:
            await writer.write(b"123")
        with pytest.raises(RegistryVersionConflict):
            await registry.save("x", b"2", version="1", on_progress=bars)
    shown = screen.getvalue()
    assert "save x: 100%" in shown
    assert "195k/195k" in shown
    assert "write y" in shown
    assert "save x:   0%" in shown.rpartition("write y")[2]


def test_without_tqdm_the_extra_is_named() -> None:
    code = "import sys; sys.modules['tqdm'] = None; import asyncstore.bars"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'asyncstore[progress]'" in done.stderr


def test_the_synchronous_face_tells_it_too(tmp_path: Path) -> None:
    seen: list[ProgressEvent] = []
    with Store({"a": tmp_path / "a"}) as store:
        store.save("a/x", b"1234", on_progress=seen.append)
        whole(seen, "save", "a/x", 4)
        seen.clear()
        store.update({"a/y": b"12"}, on_progress=seen.append)
        whole(seen, "save", "a/y", 2)

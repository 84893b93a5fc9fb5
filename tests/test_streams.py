"""Raw bytes in and out: verified, all or nothing, in memory that does not grow with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncstore import (
    BackendError,
    IntegrityError,
    MaterializationError,
    RegistryObjectNotFound,
    RegistryVersionConflict,
)
from asyncstore.testing import Fault
from tests.support import Places, watched

pytestmark = pytest.mark.asyncio

SIZES = [0, 1, 64 * 1024, 64 * 1024 + 1, 9 * 1024 * 1024 + 5]


def content(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_written_is_what_is_read_and_loaded(places: Places, size: int) -> None:
    registry, data = places.registry(), content(size)
    async with registry.open_writer("x") as writer:
        for at in range(0, size, 1_000_000):
            await writer.write(data[at : at + 1_000_000])
    assert writer.version == "1.0.0"
    async with registry.open_reader("x") as reader:
        assert reader.size == size
        assert await reader.read() == data
    assert await registry.load("x") == data


async def test_a_stream_and_a_save_of_the_same_bytes_have_one_hash(places: Places) -> None:
    registry, data = places.registry(), content(9_000_000)
    await registry.save("saved", data)
    async with registry.open_writer("written") as writer:
        await writer.write(data)
    saved, written = await registry.load_record("saved"), await registry.load_record("written")
    assert saved.hash == written.hash


async def test_reading_piece_by_piece(places: Places) -> None:
    registry, data = places.registry(), content(300_000)
    await registry.save("x", data)
    async with registry.open_reader("x") as reader:
        assert await reader.read(10) == data[:10]
        assert reader.tell() == 10
        assert await reader.read(100_000) == data[10:100_010]
        assert await reader.read() == data[100_010:]
        assert await reader.read(10) == b""


async def test_reading_a_range(places: Places) -> None:
    registry, data = places.registry(), content(9_000_000)
    await registry.save("x", data)
    async with registry.open_reader("x") as reader:
        assert await reader.read_range(8_388_600, 8_388_700) == data[8_388_600:8_388_700]
        assert await reader.read_range(0, 5) == data[:5]
        assert await reader.read_range(len(data) - 3, len(data) + 100) == data[-3:]
        assert await reader.read_range(5, 2) == b""


async def test_a_range_reads_no_more_than_its_chunks() -> None:
    there = watched()
    await there.registry.save("x", content(20_000_000))
    async with there.registry.open_reader("x") as reader:
        there.recording.clear()
        await reader.read_range(10_000_000, 10_000_100)
        assert there.recording.count() == 1


async def test_seeking(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", b"0123456789")
    async with registry.open_reader("x") as reader:
        assert reader.seek(7) == 7
        assert await reader.read() == b"789"
        assert reader.seek(99) == 10
        with pytest.raises(ValueError):
            reader.seek(-1)


@pytest.mark.parametrize("size", [1, 7, 100_000, 10_000_000])
async def test_iterating_in_chunks(places: Places, size: int) -> None:
    registry, data = places.registry(), content(1000 if size < 100 else 9_000_000)
    await registry.save("x", data)
    async with registry.open_reader("x") as reader:
        chunks = [chunk async for chunk in reader.iter_chunks(size)]
    assert b"".join(chunks) == data
    assert all(len(chunk) <= size for chunk in chunks)


async def test_a_reader_shows_what_it_reads(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", b"data", metadata={"pair": (1, 2)})
    async with registry.open_reader("x", "1.0.0") as reader:
        assert (reader.name, reader.version, reader.size) == ("x", "1.0.0", 4)
        assert reader.metadata == {"pair": (1, 2)}
        assert reader.hash == (await registry.load_record("x")).hash


async def test_opening_what_is_not_there(places: Places) -> None:
    registry = places.registry()
    with pytest.raises(RegistryObjectNotFound):
        async with registry.open_reader("x"):
            pass
    await registry.save("x", 1)
    with pytest.raises(RegistryObjectNotFound):
        async with registry.open_reader("x", "2.0.0"):
            pass


async def test_damaged_bytes_are_not_handed_over(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", content(9_000_000))
    [key] = await places.payloads()
    await places.change(key, lambda data: data[:-1] + b"?")
    async with registry.open_reader("x") as reader:
        assert await reader.read(1000) == content(1000)  # its chunk is intact
        with pytest.raises(IntegrityError):
            await reader.read()


async def test_a_reader_never_goes_on_with_other_bytes(places: Places) -> None:
    registry = places.registry(mutable=True)
    await registry.save("x", b"1" * 9_000_000, version="1.0.0")
    async with registry.open_reader("x") as reader:
        await reader.read(10)
        await registry.save("x", b"2" * 9_000_000, version="1.0.0")
        assert set(await reader.read()) == set(b"1")  # kept for readers under way


async def test_a_reader_of_a_purged_object_says_so(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", b"1" * 9_000_000)
    async with registry.open_reader("x") as reader:
        await registry.delete("x", purge=True)
        with pytest.raises(BackendError, match="deleted"):
            await reader.read()


# --- writing


async def test_nothing_is_visible_before_the_end(places: Places) -> None:
    registry = places.registry()
    async with registry.open_writer("x") as writer:
        await writer.write(content(200_000))
        assert writer.version is None
        assert await registry.has_object("x") is False
    assert await registry.has_object("x")


@pytest.mark.parametrize("size", [10, 9_000_000])
async def test_an_error_in_the_body_leaves_nothing(places: Places, size: int) -> None:
    registry = places.registry()

    async def fail() -> None:
        async with registry.open_writer("x") as writer:
            await writer.write(content(size))
            raise RuntimeError("of the body")

    with pytest.raises(RuntimeError, match="of the body"):
        await fail()
    assert await registry.has_object("x") is False
    assert await places.keys() == set()


@pytest.mark.parametrize("size", [10, 9_000_000])
async def test_a_cancelled_writer_leaves_nothing(places: Places, size: int) -> None:
    registry, written = places.registry(), asyncio.Event()

    async def write() -> None:
        async with registry.open_writer("x") as writer:
            await writer.write(content(size))
            written.set()
            await asyncio.Event().wait()

    writing = asyncio.create_task(write())
    await written.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await places.keys() == set()


async def test_a_writer_takes_a_version_metadata_and_a_policy(places: Places) -> None:
    registry = places.registry()
    async with registry.open_writer("x", version="4", metadata={"a": 1}) as writer:
        await writer.write(b"first")
    assert writer.version == "4.0.0"
    async with registry.open_writer("x", version="4", on_conflict="skip") as writer:
        await writer.write(b"second")
    record = await registry.load_record("x")
    assert (record.value, dict(record.metadata)) == (b"first", {"a": 1})


@pytest.mark.parametrize("size", [10, 9_000_000])
async def test_a_conflict_leaves_no_payload(places: Places, size: int) -> None:
    registry = places.registry()
    await registry.save("x", b"first")
    before = await places.keys()
    with pytest.raises(RegistryVersionConflict):
        async with registry.open_writer("x", version="1.0.0") as writer:
            await writer.write(content(size))
    assert await places.keys() == before


async def test_a_failed_upload_raises_and_leaves_nothing() -> None:
    there = watched()
    await there.registry.save("y", 1)
    there.faulty.add(Fault("error", method="put", key="d/*", times=None))

    async def write() -> None:
        async with there.registry.open_writer("x") as writer:
            for _ in range(20):
                await writer.write(content(1_000_000))

    with pytest.raises(BackendError, match="injected"):
        await write()
    assert await there.registry.list_objects() == ["y"]


async def test_two_writers_of_one_name_both_succeed(places: Places) -> None:
    registry = places.registry()

    async def write(byte: bytes) -> str | None:
        async with registry.open_writer("x") as writer:
            await writer.write(byte * 200_000)
        return writer.version

    versions = await asyncio.gather(write(b"1"), write(b"2"))
    assert sorted(map(str, versions)) == ["1.0.0", "1.0.1"]


async def test_a_reader_of_several_files_is_refused() -> None:
    from asyncstore.materializers import Encoded

    class TwoFiles:
        id = "two"
        types = (complex,)

        def accepts(self, kind: type) -> bool:
            return False

        def is_large(self, obj: object) -> bool:
            return False

        def encode(self, obj: complex) -> Encoded:
            return Encoded({"re": str(obj.real).encode(), "im": str(obj.imag).encode()})

        def decode(self, encoded: Encoded, as_type: type | None) -> complex:
            return complex(float(encoded.files["re"]), float(encoded.files["im"]))

    there = watched(materializers=[TwoFiles()])
    await there.registry.save("x", 1 + 2j)
    assert await there.registry.load("x") == 1 + 2j
    with pytest.raises(MaterializationError, match="2 files"):
        async with there.registry.open_reader("x"):
            pass


async def test_a_generator_that_holds_a_reader_open_between_its_items(places: Places) -> None:
    registry, data = places.registry(), content(3_000_000)
    await registry.save("x", data)

    async def pieces() -> AsyncIterator[bytes]:
        async with registry.open_reader("x") as reader:
            async for chunk in reader.iter_chunks(1_000_000):
                yield chunk

    generator = pieces()
    first = await asyncio.create_task(anext(generator))  # each item in a task of its own
    second = await asyncio.create_task(anext(generator))
    await generator.aclose()  # type: ignore[attr-defined]
    assert first + second == data[:2_000_000]


async def test_a_buffer_may_be_used_again_after_each_write(places: Places) -> None:
    registry, buffer = places.registry(), bytearray(200_000)
    async with registry.open_writer("x") as writer:
        for number in range(20):
            buffer[:] = bytes([number]) * len(buffer)
            await writer.write(buffer)
    assert await registry.load("x") == b"".join(bytes([n]) * 200_000 for n in range(20))


@pytest.mark.parametrize("size", [200_000, 20_000_000])
async def test_after_a_write_that_was_cut_off_nothing_is_committed(size: int) -> None:
    here = watched()
    await here.registry.save("other", 1)
    with pytest.raises(BackendError, match="cut off"):  # noqa: PT012  # it is the exit that raises
        async with here.registry.open_writer("x") as writer:
            here.slow.hang()
            await writer.write(content(100_000))
            writing = asyncio.ensure_future(writer.write(content(size)))
            await asyncio.sleep(0)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            here.slow.resume()
    assert not await here.registry.has_object("x")
    assert not (await here.recording.list("d/", deep=True)).entries


async def test_a_payload_cut_short_ends_even_an_unverified_read(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", content(100_000))
    (payload,) = await places.payloads()
    for left in (0, 10):
        await places.change(payload, lambda data, left=left: data[:left])  # type: ignore[misc]
        async with registry.open_reader("x", verify="none") as reader:
            with pytest.raises(IntegrityError):
                await reader.read()


@pytest.mark.parametrize("settings", [{"max_concurrency": 1}, {}])
async def test_a_writer_that_is_open_holds_up_no_other_request(
    places: Places, settings: dict[str, Any]
) -> None:
    registry = places.registry(**settings)
    await registry.save("x", 1)
    async with asyncio.timeout(10), registry.open_writer("y") as writer:
        await writer.write(content(100_000))
        await writer.write(content(100_000))
        assert await registry.load("x") == 1
    assert len(await registry.load("y")) == 200_000

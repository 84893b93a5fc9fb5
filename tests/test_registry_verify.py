"""Nothing unverified is handed out: damage of every stored byte is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asyncstore import (
    IntegrityError,
    RegistryObjectNotFound,
    RegistrySettingsConflict,
    UnsupportedFormatError,
)
from asyncstore.registry import reading, transfer
from asyncstore.testing import Fault
from tests.support import Places, watched

pytestmark = pytest.mark.asyncio

SMALL = b"small object"
LARGE = bytes(range(256)) * 1000


def flipped(at: int) -> Callable[[bytes], bytes]:
    """Flips one bit of the byte at a position."""

    def flip(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[at] ^= 1
        return bytes(changed)

    return flip


@pytest.mark.parametrize("verify", ["none", "integrity", "full"])
@pytest.mark.parametrize("value", [SMALL, LARGE])
async def test_what_is_intact_loads(places: Places, verify: str, value: bytes) -> None:
    registry = places.registry()
    await registry.save("x", value)
    assert await registry.load("x", verify=verify) == value  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [0, 1000, -1])
@pytest.mark.parametrize("verify", ["integrity", "full"])
async def test_a_flipped_bit_of_a_payload_is_found(places: Places, verify: str, at: int) -> None:
    registry = places.registry()
    await registry.save("x", LARGE)
    [key] = await places.payloads()
    await places.change(key, flipped(at))
    with pytest.raises(IntegrityError):
        await registry.load("x", verify=verify)  # type: ignore[arg-type]


async def test_a_payload_of_the_right_size_and_the_wrong_bytes_is_found(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", LARGE)
    [key] = await places.payloads()
    await places.change(key, lambda data: b"\0" * len(data))
    with pytest.raises(IntegrityError, match="SHA-256"):
        await registry.load("x")


async def test_a_short_payload_is_found(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", LARGE)
    [key] = await places.payloads()
    await places.change(key, lambda data: data[:-1])
    with pytest.raises(IntegrityError):
        await registry.load("x")


async def test_a_missing_payload_is_no_missing_object(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", LARGE)
    await places.backend().delete(list(await places.payloads()))
    with pytest.raises(IntegrityError, match="missing"):
        await registry.load("x")
    with pytest.raises(IntegrityError):
        await registry.get("x", "default")


async def test_every_flipped_byte_of_a_record_is_found(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", SMALL)
    [key] = await places.keys()
    blob = await places.backend().get(key)
    assert blob is not None
    for at in range(0, blob.size, 17 if places.remote else 1):
        await places.change(key, flipped(at))
        with pytest.raises((IntegrityError, UnsupportedFormatError)):  # "asv0" is another format
            await places.registry().load("x")
        await places.change(key, flipped(at))
    assert await places.registry().load("x") == SMALL


async def test_a_truncated_record_is_found(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", SMALL)
    [key] = await places.keys()
    await places.change(key, lambda data: data[: len(data) // 2])
    with pytest.raises(IntegrityError):
        await places.registry().load("x")


async def test_a_record_under_another_objects_key_is_found(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "x's")
    await registry.save("y", "y's")
    backend = places.backend()
    keys = sorted(await places.keys())
    blob = await backend.get(keys[0])
    assert blob is not None
    await backend.put(keys[1], blob.data)
    with pytest.raises(IntegrityError):
        await places.registry().load("y")


async def test_none_hands_over_what_is_there(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", LARGE)
    [key] = await places.payloads()
    await places.change(key, flipped(5))
    assert await registry.load("x", verify="none") == flipped(5)(LARGE)


async def test_an_unknown_way_to_verify_is_refused(places: Places) -> None:
    with pytest.raises(RegistrySettingsConflict, match="'integrity'"):
        await places.registry().load("x", verify="maybe")  # type: ignore[arg-type]


async def test_full_asks_the_backend_again() -> None:
    there = watched()
    await there.registry.save("x", "value")
    await there.registry.load("x")
    there.recording.clear()
    await there.registry.load("x")
    assert there.recording.count("get") == 0  # the listing vouches for the record that is kept
    await there.registry.load("x", verify="full")
    assert there.recording.count("get") == 1


async def test_verify_reads_everything_and_decodes_nothing(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", LARGE)
    await registry.verify("x")
    [key] = await places.payloads()
    await places.change(key, flipped(-1))
    with pytest.raises(IntegrityError):
        await registry.verify("x")


async def test_verify_of_what_is_not_there(places: Places) -> None:
    with pytest.raises(RegistryObjectNotFound):
        await places.registry().verify("x")


@pytest.mark.parametrize("mode", ["truncate", "corrupt"])
@pytest.mark.parametrize("value", [SMALL, LARGE])
async def test_bytes_that_are_damaged_on_the_way_are_found(mode: str, value: bytes) -> None:
    there = watched()
    await there.registry.save("x", value)
    there.faulty.add(Fault(mode, method="get", times=None))  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        await there.registry.load("x", "1.0.0")
    assert there.faulty.injected[mode]


@pytest.mark.parametrize("size", [0, 100, 179, 180, 200, 255])
async def test_a_newest_record_that_was_cut_short_is_not_passed_over(
    places: Places, size: int
) -> None:
    if places.remote and size >= 180:
        pytest.skip("listed over a network, a tombstone is told by its size; nothing is cut there")
    registry = places.registry()
    await registry.save("x", "old")
    await registry.save("x", "new")
    newest = min(key for key in await places.keys() if key.startswith("m/"))
    await places.change(newest, lambda data: data[:size])
    for read in (registry.load, registry.has_object, registry.load_record):
        with pytest.raises(IntegrityError):
            await read("x")
    assert await registry.list_objects() == ["x"]
    assert await registry.save("x", "next") == "1.0.2"
    assert await registry.load("x", "1.0.0") == "old"
    with pytest.raises(IntegrityError):
        await registry.load("x", "1.0.1")


async def test_verifying_what_is_overwritten_meanwhile_verifies_the_new(places: Places) -> None:
    registry = places.registry(mutable=True)
    await registry.save("x", LARGE, version="1.0.0")
    (old,) = await places.payloads()
    found = await registry.probe("x", "1.0.0")
    await registry.save("x", LARGE[::-1], version="1.0.0")
    await places.backend().delete([old])
    o = await registry.open_to_read()
    assert o is not None
    answers = iter([found])

    async def find(*args: Any) -> Any:
        return next(answers, None) or await reading.find(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "find", find)
        await transfer.verify_stored(o, "x", (1, 0, 0))
    assert next(answers, None) is None

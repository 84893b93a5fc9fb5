"""The lessons about lost, wrong and stale data, each in one short test that is named after it.

The full tests of the same behaviour stand with the module they belong to.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    BackendError,
    DiscoveryPolicy,
    IntegrityError,
    MaterializationError,
    RegistryObjectNotFound,
)
from asyncstore.testing import Fault
from tests.support import (
    Files,
    Places,
    until,
    watched,
)

pytestmark = pytest.mark.asyncio

LARGE = bytes(range(256)) * 1000


# --- lost or wrong data


async def test_l1_a_lost_reply_after_the_commit_loses_nothing() -> None:
    there = watched()
    await there.registry.save("other", 1)
    for at, mode in enumerate(["lost", "refused-after-own-write"]):
        there.faulty.add(Fault(mode, method="put_if", key="m/*"))  # type: ignore[arg-type]
        assert await there.registry.save("x", LARGE) == f"1.0.{at}"
        assert await there.registry.load("x", f"1.0.{at}") == LARGE
        assert there.faulty.injected[mode] == 1


async def test_l2_auto_increment_never_starts_from_a_stale_list(places: Places) -> None:
    stale, other = places.registry(mutable=True), places.registry()
    await stale.save("x", "first")
    await stale.list_versions("x")
    await other.save("x", "second")
    assert await stale.save("x", "third") == "1.0.2"
    assert await stale.load("x", "1.0.1") == "second"


_SAVER = """
import asyncio, sys
from asyncstore import AsyncRegistry

async def main():
    async with AsyncRegistry(sys.argv[1], durability="fast") as registry:
        await registry.has_object("x")
        print("ready", flush=True)
        sys.stdin.readline()
        for at in range(10):
            print(await registry.save("x", at), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("mutable", [True, False])
async def test_l3_six_processes_saving_one_name_all_succeed(tmp_path: Path, mutable: bool) -> None:
    async with AsyncRegistry(tmp_path, mutable=mutable) as registry:
        await registry.save("other", 1)
        pipe = asyncio.subprocess.PIPE
        savers = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", _SAVER, str(tmp_path), stdin=pipe, stdout=pipe
            )
            for _ in range(6)
        ]
        for saver in savers:
            assert saver.stdout is not None
            assert await saver.stdout.readline() == b"ready\n"
        outputs = await asyncio.gather(*(saver.communicate(b"\n") for saver in savers))
        versions = [line for out, _ in outputs for line in out.decode().split()]
        assert sorted(int(text.split(".")[2]) for text in versions) == list(range(60))
        assert len(await registry.list_versions("x")) == 60


_DYING = """
import asyncio, sys
from asyncstore import AsyncRegistry

async def main():
    registry = AsyncRegistry(sys.argv[1])
    for at in range(1000):
        await registry.save("x", bytes([at % 256]) * 300_000, version="1.0.0")
        print(at, flush=True)

asyncio.run(main())
"""


@pytest.mark.leaves_staging
async def test_l4_a_writer_that_is_killed_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    await AsyncRegistry(tmp_path, mutable=True).save("other", 1)
    for kill_after in (1, 2, 3):
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _DYING, str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        assert writer.stdout is not None
        for _ in range(kill_after):
            acknowledged = int(await writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest = await writer.stdout.read()
        acknowledged = int(rest.split()[-1]) if rest.split() else acknowledged
        await writer.wait()
        async with AsyncRegistry(tmp_path) as registry:
            value = await registry.load("x", "1.0.0")
        assert len(set(value)) == 1
        assert len(value) == 300_000
        assert value[0] in (acknowledged, acknowledged + 1)


@pytest.mark.parametrize("mode", ["error", "timeout"])
async def test_l5_a_503_is_never_not_found(mode: str) -> None:
    there = watched(mutable=True)
    await there.registry.save("x", "live data", version="1.0.0")
    there.faulty.add(Fault(mode, method="list", times=None))  # type: ignore[arg-type]
    there.faulty.add(Fault(mode, method="get", times=None))  # type: ignore[arg-type]
    for key in ("x", "x@1.0.0"):
        with pytest.raises(BackendError):
            await there.registry.setdefault(key, "default")
    there.faulty.clear()
    assert await there.registry.load("x") == "live data"


async def test_l6_a_move_onto_itself_keeps_the_object(places: Places) -> None:
    store = places.store("a")
    await store.save("a/x", LARGE)
    await store.move("a/x", target="a/x")
    await store.move("a/x@latest", target="a/x@1.0.0")
    assert await store.load("a/x") == LARGE


async def test_l6_a_move_deletes_only_what_it_copied(places: Places) -> None:
    there = watched()
    store = AsyncStore({"a": places.registry("a"), "b": there.registry})
    await store.save(["a/x", "b/other"], ["moved", 1])
    there.slow.hang()
    moving = asyncio.create_task(store.move("a/x", target="b/x"))
    await until(lambda: there.slow.waiting)
    await store.save("a/x", "saved in between")
    there.slow.resume()
    assert await moving == "1.0.0"
    assert await store.load("a/x") == "saved in between"
    assert await store.load("b/x") == "moved"


async def test_l7_copies_keep_the_manifest_and_decode_nothing(places: Places) -> None:
    materializer = Files({"data": LARGE})
    source = places.registry("a", materializers=[materializer])
    await source.save("x", 1j, metadata={"run": 7})
    store = places.store("a", "b")  # these registries know no such materializer
    await store.copy("a/x", target="b/x")
    before, after = await store.info("a/x"), await store.info("b/x")
    for part in ("hash", "metadata", "materializer", "class", "created"):
        assert before[part] == after[part]


async def test_l8_update_keeps_equal_names_of_two_mounts_apart(places: Places) -> None:
    source = places.store("a", "b")
    target = AsyncStore({"a": places.registry("target a"), "b": places.registry("target b")})
    await source.save(["a/x@5", "b/x@5", "b/x@7"], ["a's", "b's", "b's newest"])
    await target.update(source)
    assert await target.list_objects_and_versions() == {"a/x": ["5.0.0"], "b/x": ["5.0.0", "7.0.0"]}
    assert [await target.load("a/x"), await target.load("b/x")] == ["a's", "b's newest"]


async def test_l9_twenty_concurrent_pops_have_one_winner(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "prize")
    popped = await asyncio.gather(*(registry.pop("x", "nothing") for _ in range(20)))
    assert popped.count("prize") == 1


async def test_l10_a_load_during_overwrites_gets_one_whole_object(places: Places) -> None:
    writer, reader = places.registry(mutable=True), places.registry()
    values = [bytes([at]) * 200_000 for at in range(12)]
    await writer.save("x", values[0], version="1.0.0")

    async def overwrite() -> None:
        for value in values[1:]:
            await writer.save("x", value, version="1.0.0")

    writing = asyncio.create_task(overwrite())
    loads = 0
    while not writing.done():
        assert await reader.load("x") in values
        loads += 1
    await writing
    assert loads > 3
    assert await reader.load("x") == values[-1]


async def test_l11_different_files_have_different_hashes(places: Places) -> None:
    registry = places.registry(materializers=[Files({"ab": b"c"}, {"a": b"bc"}, {"abc": b""})])
    for name in ("one", "two", "three"):
        await registry.save(name, 1j)
    hashes = {(await registry.load_record(name)).hash for name in ("one", "two", "three")}
    assert len(hashes) == 3


async def test_l11_streamed_uploads_are_hashed_too(places: Places) -> None:
    registry = places.registry()
    async with registry.open_writer("x") as writer:
        await writer.write(LARGE)
    [key] = await places.payloads()
    await places.change(key, lambda data: data[:-1] + b"?")
    with pytest.raises(IntegrityError):
        await registry.load("x")


@pytest.mark.parametrize(
    "value",
    [(1, (2,)), {1, 2}, {1: "int", "1": "str"}, {"b": b"bytes"}, [float("inf")], {(1, 2): None}],
)
async def test_l12_containers_come_back_as_they_were(places: Places, value: object) -> None:
    registry = places.registry()
    await registry.save("x", value)
    loaded = await registry.load("x")
    assert loaded == value
    assert repr(loaded) == repr(value)


@pytest.mark.parametrize("value", [object(), [lambda: 1], {"x": iter([])}, (i for i in ())])
async def test_l12_what_would_not_come_back_is_refused_at_save(
    places: Places, value: object
) -> None:
    with pytest.raises(MaterializationError):
        await places.registry().save("x", value)
    assert await places.keys() == set()


async def test_l13_duplicates_and_bad_keys_leave_a_batch_aligned(places: Places) -> None:
    registry = places.registry()
    done = await registry.save(["x", "", "x", "y"], ["1", "2", "3", "4"])
    assert done.results == ["1.0.0", None, "1.0.1", "1.0.0"]
    loaded = await registry.load(["y", "nothing", "x@1.0.0", "x", "x"])
    assert loaded.results == ["4", None, "1", "3", "3"]


async def test_l14_the_right_size_with_the_wrong_bytes_is_damage(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", LARGE)
    assert await registry.load("x") == LARGE
    [key] = await places.payloads()
    await places.change(key, lambda data: b"?" * len(data))
    with pytest.raises(IntegrityError):
        await registry.load("x")


# --- stale answers


async def test_s1_latest_is_never_cached_and_nor_is_not_there(places: Places) -> None:
    reader, writer = places.registry(), places.registry()
    assert await reader.get("x", "nothing") == "nothing"
    for value in ("first", "second"):
        await writer.save("x", value)
        assert await reader.load("x") == value
    await writer.delete("x", "latest")
    assert await reader.load("x") == "first"
    await writer.delete("x")
    assert await reader.has_object("x") is False


async def test_s2_the_location_cache_is_bounded_and_saves_a_round_trip_only_when_trusted() -> None:
    one, other = watched(), watched()
    trusting = AsyncStore(
        {"a": one.registry, "b": other.registry},
        location_cache_size=10,
        discovery=DiscoveryPolicy(trust_cache=True),
    )
    for at in range(50):
        await trusting.save(f"b/{at}", at)
    assert sum(bool(trusting.cache_lookup_locations(str(at))) for at in range(50)) == 10
    one.recording.clear()
    assert await trusting.load("49") == 49
    assert one.recording.count() == 0


async def test_s3_two_places_that_look_alike_share_nothing() -> None:
    one, other = watched(), watched()
    assert one.registry.uri == other.registry.uri
    await one.registry.save("x", "one's")
    await other.registry.save("x", "other's")
    for _ in range(2):
        assert await one.registry.load("x") == "one's"
        assert await other.registry.load("x") == "other's"


async def test_s4_what_was_overwritten_or_deleted_is_not_answered(places: Places) -> None:
    reader, writer = places.registry(), places.registry(mutable=True)
    await writer.save("x", "old", version="1.0.0")
    assert await reader.load("x") == await reader.load("x", "1.0.0") == "old"
    await writer.save("x", "new", version="1.0.0")
    assert await reader.load("x") == await reader.load("x", "1.0.0") == "new"
    await writer.delete("x", purge=True)
    with pytest.raises(RegistryObjectNotFound):
        await reader.load("x", "1.0.0")

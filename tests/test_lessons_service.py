"""The lessons about security, availability, cost and async traps, each in one short test."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from blockbuster import BlockBuster, BlockingError

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    DiscoveryPolicy,
    IntegrityError,
    MaterializationError,
    StoreDiscoveryIncomplete,
    StoreMount,
    StoreReadOnlyError,
)
from asyncstore.record import LINE_SIZE, content_hash, read_record
from asyncstore.testing import Fault
from tests.support import (
    Files,
    Places,
    watched,
)

pytestmark = pytest.mark.asyncio

LARGE = bytes(range(256)) * 1000


# --- security


async def test_x1_loading_imports_nothing_that_the_stored_metadata_names(places: Places) -> None:
    evil = Files({"data": b"1"}, id="tests.support.evil")
    await places.registry(materializers=[evil]).save("x", 1j, materializer=evil)
    loaded = set(sys.modules)
    with pytest.raises(MaterializationError, match=r"tests\.support\.evil"):
        await places.registry().load("x")
    assert set(sys.modules) == loaded


async def test_x1_pickle_is_refused_unless_the_registry_allows_it(places: Places) -> None:
    with pytest.raises(MaterializationError, match="allow_pickle=True"):
        await places.registry().save("x", {1}, materializer="pickle")
    await places.registry(allow_pickle=True).save("x", {1}, materializer="pickle")
    with pytest.raises(MaterializationError, match="allow_pickle=True"):
        await places.registry().load("x")


@pytest.mark.parametrize(
    "path", ["../evil", "/evil", "a/../../evil", "", ".", "a//b", "a\0b", "a\\..\\b", "C:evil"]
)
async def test_x2_file_paths_that_escape_are_refused(places: Places, path: str) -> None:
    registry = places.registry(materializers=[Files({path: b"1"})])
    with pytest.raises((MaterializationError, IntegrityError)):
        await registry.save("x", 1j)
    assert await registry.has_object("x") is False


@pytest.mark.parametrize("path", [b"../a.bin", b"/tmp/bin", b"a/../bin"])
async def test_x2_a_stored_record_whose_paths_escape_is_corrupt(
    places: Places, path: bytes
) -> None:
    """The forger has made all digests fit: only the path is wrong."""
    registry = places.registry()
    await registry.save("x", b"1")
    [key] = await places.keys()

    def forged(data: bytes) -> bytes:
        record = read_record(data, key)
        assert record.manifest is not None
        files = [msgspec.structs.replace(record.manifest.files[0], p=path.decode())]
        line, header = data[:LINE_SIZE], data[LINE_SIZE:]
        header = header.replace(b"data.bin", path, 1)
        header = header.replace(record.manifest.hash.encode(), content_hash(files).encode())
        size = int(line[7:15])
        blank = line[:16] + b"0" * 64 + line[80:]
        digest = hashlib.sha256(blank + header[:size]).hexdigest()
        return line[:16] + digest.encode() + line[80:] + header

    await places.change(key, forged)
    with pytest.raises(IntegrityError, match="path"):
        await places.registry().load("x")


async def test_x4_no_operation_forgets_the_read_only_flag() -> None:
    there = watched()
    await there.registry.save("x", 1)
    store = AsyncStore(
        [StoreMount("ro", there.registry, read_only=True), StoreMount("a", watched().registry)]
    )
    there.recording.clear()
    calls = [
        store.save("ro/x", 1),
        store.delete("ro/x"),
        store.pop("ro/x", None),
        store.setdefault("ro/x", 1),
        store.update({"ro/x": 1}),
        store.copy("a/x", target="ro/x"),
        store.move("ro/x", target="a/x"),
        store.move("a/x", target="ro/x"),
        store.open_writer("ro/x").__aenter__(),
    ]
    for call in calls:
        with pytest.raises(StoreReadOnlyError):
            await call
    assert there.recording.requests == []


# --- availability and cost


async def test_a1_one_down_mount_is_said_to_be_down_and_may_be_left_out() -> None:
    up, down = watched(), watched()
    store = AsyncStore(
        {"up": up.registry, "down": down.registry}, discovery=DiscoveryPolicy(probe_timeout=0.1)
    )
    await store.save("up/x", 1)
    down.slow.hang()
    with pytest.raises(StoreDiscoveryIncomplete, match="down"):
        await store.load("x")
    assert await store.load("up/x") == 1


async def test_a2_probes_go_out_at_once_and_their_work_is_used() -> None:
    found = [watched() for _ in range(32)]
    store = AsyncStore({f"m{at}": there.registry for at, there in enumerate(found)})
    for at in range(32):
        await store.save(f"m{at}/{at}", at)
    for there in found:
        there.recording.clear()
    assert await store.load("17@1.0.0") == 17
    assert [there.recording.count() for there in found] == [1] * 32


_HOLDING = """
import fcntl, os, sys
os.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True)
held = open(sys.argv[1], "w")
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


async def test_a3_the_lock_of_a_dead_process_blocks_nobody(tmp_path: Path) -> None:
    async with AsyncRegistry(tmp_path, mutable=True) as registry:
        await registry.save("x", 1, version="1.0.0")
        pipe = asyncio.subprocess.PIPE
        holder = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _HOLDING, str(tmp_path / "l" / "x"), stdin=pipe, stdout=pipe
        )
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"held\n"
        holder.kill()
        await holder.wait()
        await holder.communicate()
        async with asyncio.timeout(2):
            await registry.save("x", 2, version="1.0.0")
            assert await registry.load("x") == 2


async def test_a5_listing_1000_names_with_versions_takes_a_few_requests() -> None:
    there = watched()
    names = [f"name-{at}" for at in range(1000)]
    (await there.registry.save(names, names)).raise_for_errors()
    there.recording.clear()
    assert len(await there.registry.list_objects_and_versions()) == 1000
    assert there.recording.count() <= 2


@pytest.mark.parametrize(("value", "files"), [(b"small", 0), (LARGE, 1)])
async def test_a6_every_operation_has_its_number_of_requests(value: bytes, files: int) -> None:
    there = watched()
    await there.registry.save("other", 1)

    async def cost(call: object) -> tuple[int, int]:
        there.recording.clear()
        await call  # type: ignore[misc]
        return there.recording.count(), there.recording.depth()

    deeper = 1 if files else 0
    registry = there.registry
    assert await cost(registry.save("x", value, version="1.0.0")) == (1 + files, 1 + deeper)
    assert await cost(registry.save("x", value)) == (2 + files, 2)
    cold = AsyncRegistry(there.recording)
    await cold.has_object("other")
    assert await cost(cold.load("x")) == (2 + files, 2 + deeper)
    assert await cost(cold.load("x")) == (1 + files, 1 + deeper)  # warm
    assert await cost(cold.load("x", "1.0.0")) == (1 + files, 1 + deeper)
    assert await cost(cold.has_object("x")) == (1, 1)
    assert await cost(cold.has_object("x", "1.0.0")) == (1, 1)
    assert await cost(cold.list_versions("x")) == (1, 1)
    assert await cost(cold.delete("x", "1.0.0")) == (3, 2)


async def write_and_fail(registry: AsyncRegistry) -> None:
    async with registry.open_writer("y") as writer:
        await writer.write(LARGE * 10)
        raise RuntimeError


async def test_a7_nothing_is_left_in_temporary_or_staging_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    async with AsyncRegistry(tmp_path / "r", mutable=True) as registry:
        await registry.save("x", LARGE, version="1.0.0")
        await registry.save("x", LARGE * 2, version="1.0.0")
        with pytest.raises(RuntimeError):
            await write_and_fail(registry)
        await registry.load("x")
        await registry.delete("x", purge=True)
    assert list(temporary.iterdir()) == []
    assert list((tmp_path / "r" / "t").iterdir()) == []
    assert not any("y" in path.name for path in (tmp_path / "r" / "d").rglob("*"))


async def test_a8_a_blocking_call_on_the_loop_would_be_found(blockbuster: BlockBuster) -> None:
    from asyncstore.backends import scanning

    with pytest.raises(BlockingError):
        scanning.names(".")  # what the local backend does in a worker only


# --- async traps


async def test_t1_one_mounts_timeout_does_not_cancel_its_siblings() -> None:
    late, hung = watched(0.05), watched()
    store = AsyncStore(
        {"late": late.registry, "hung": hung.registry},
        discovery=DiscoveryPolicy(probe_timeout=0.2, on_error="ignore"),
    )
    await store.save("late/x", 1)
    hung.faulty.add(Fault("error", times=None))  # fails at once, long before the other answers
    with pytest.warns(UserWarning, match="hung"):
        assert await store.load("x") == 1


async def test_t2_nothing_of_a_store_is_bound_to_the_task_that_opened_it(places: Places) -> None:
    store = places.store("a", "b")
    await asyncio.create_task(store.__aenter__())
    await asyncio.create_task(store.save("a/x", LARGE))
    reading = store.open_reader("x")
    reader = await asyncio.create_task(reading.__aenter__())
    assert await asyncio.create_task(reader.read()) == LARGE
    await asyncio.create_task(reading.__aexit__(None, None, None))
    await asyncio.create_task(store.__aexit__(None, None, None))


@pytest.mark.parametrize("inline_max", [1000, 0])
async def test_t3_a_cancelled_save_is_wholly_there_or_not_at_all(inline_max: int) -> None:
    value, outcomes = b"small", set()
    for turns in range(1, 200):
        there = watched(inline_max=inline_max)
        await there.registry.save("other", 1)
        saving = asyncio.create_task(there.registry.save("x", value))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not saving.cancel():
            break
        await asyncio.wait([saving])
        assert asyncio.all_tasks() == {asyncio.current_task()}
        there_now = await there.registry.has_object("x")
        outcomes.add(there_now)
        page = await there.faulty.inner.list("d/x/", deep=True)
        if there_now:
            assert await there.registry.load("x") == value
        else:
            assert page.entries == ()
    assert outcomes == {True, False}


def _in_a_loop_of_its_own(store: AsyncStore) -> list[str]:
    async def use() -> list[str]:
        await asyncio.gather(*(store.save("a/x", at) for at in range(8)))
        await store.load("x")
        versions = await store.list_versions("x")
        await store.aclose()
        return versions

    return asyncio.run(use())


async def test_t7_two_loops_one_after_the_other(tmp_path: Path) -> None:
    store = AsyncStore({"a": tmp_path / "a", "b": "memory://"}, max_concurrency=2)
    assert len(await asyncio.to_thread(_in_a_loop_of_its_own, store)) == 8
    assert len(await asyncio.to_thread(_in_a_loop_of_its_own, store)) == 16

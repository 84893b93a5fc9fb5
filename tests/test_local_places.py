"""The local backend's places: roots that vanish, foreign files in them, and other processes."""

from __future__ import annotations

import asyncio
import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any, TypeVar

import pytest

from asyncstore.backends.base import PutReply, PutStatus
from asyncstore.backends.local import LocalBackend
from asyncstore.backends.posix import Busy, Directory
from asyncstore.errors import BackendError
from tests.support import tree_of

T = TypeVar("T")

PROCESSES = 8
ROUNDS = 15
SPAWN = multiprocessing.get_context("spawn")


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await work

    return asyncio.run(bounded())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def backend(root: Path) -> Iterator[LocalBackend]:
    backend = LocalBackend(root)
    yield backend
    run(backend.aclose())


async def stored(backend: LocalBackend, key: str) -> bytes | None:
    blob = await backend.get(key)
    return blob.data if blob else None


# --- roots


def reads(backend: LocalBackend) -> list[Callable[[], Coroutine[Any, Any, object]]]:
    return [
        lambda: backend.get("m/n/1"),
        lambda: backend.head("m/n/1"),
        lambda: backend.list("m/n/"),
        lambda: backend.list("m/", deep=True),
        lambda: backend.delete(["m/n/1"]),
    ]


def test_reading_creates_nothing(backend: LocalBackend, root: Path) -> None:
    for read in reads(backend):
        run(read())
    assert not root.exists()


def test_deleting_leaves_an_empty_root_alone(backend: LocalBackend, root: Path) -> None:
    root.mkdir()
    run(backend.delete(["a", "b/c"]))
    (root / "a").touch()
    run(backend.delete(["a"]))
    assert root.is_dir()


def test_hostile_keys_create_nothing(backend: LocalBackend, root: Path) -> None:
    for key in ("../x", "/abs", "a\\b", "a/..", "a\0"):
        with pytest.raises(BackendError):
            run(backend.put(key, b"1"))
        assert run(backend.put_if(key, b"1", tag=None)).status is PutStatus.FAILED
    assert list(root.parent.iterdir()) == []


def test_a_root_that_is_a_file_is_an_error(backend: LocalBackend, root: Path) -> None:
    root.write_bytes(b"a file")
    for read in reads(backend):
        with pytest.raises(BackendError, match="is a file"):
            run(read())
    with pytest.raises(BackendError):
        run(backend.put("m/n/1", b"1"))
    assert run(backend.put_if("m/n/1", b"1", tag=None)).status is PutStatus.FAILED


@pytest.mark.parametrize("left", ["nothing", "an empty directory", "another registry"])
@pytest.mark.parametrize("used", ["read", "missed", "wrote", "created"])
def test_an_unmounted_root_is_an_error_and_not_an_absence(root: Path, used: str, left: str) -> None:
    run(LocalBackend(root).put("m/n/1", b"1"))
    backend = LocalBackend(root)
    if used == "created":
        backend = LocalBackend(root / "new")
        root = root / "new"
    uses: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "read": lambda: backend.get("m/n/1"),
        "missed": lambda: backend.get("m/n/2"),
        "wrote": lambda: backend.put("m/n/1", b"1"),
        "created": lambda: backend.put_if("m/n/1", b"1", tag=None),
    }
    run(uses[used]())
    root.rename(root.with_name("away"))
    if left != "nothing":
        root.mkdir()
    if left == "another registry":
        run(LocalBackend(root).put("m/n/0", b"1"))
    before = sorted(root.rglob("*"))
    for read in reads(backend):
        with pytest.raises(BackendError, match="unmounted"):
            run(read())
    with pytest.raises(BackendError):
        run(backend.put("m/n/3", b"1"))
    for tag in (None, "tag"):
        assert run(backend.put_if("m/n/3", b"1", tag=tag)).status is PutStatus.FAILED
    assert sorted(root.rglob("*")) == before, "nothing is written beneath a mount point"
    if root.exists():
        root.rename(root.with_name("wrong"))
    root.with_name("away").rename(root)
    assert run(backend.head("m/n/1")) is not None, "mounted again"


# --- foreign files


def test_a_planted_link_is_not_followed(backend: LocalBackend, root: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(b"secret bytes")
        await backend.put("m/n/0", b"0")
        (root / "m/n/1").symlink_to(secret)
        with pytest.raises(BackendError):
            await backend.get("m/n/1")
        for peek in (None, 10_000):
            page = await backend.list("m/n/", peek=peek)
            assert [entry.key for entry in page.entries] == ["m/n/0", "m/n/1"]
            assert page.entries[1].data is None, "and one link does not spoil the listing"
        assert (await backend.put_if("m/n/1", b"1", tag=None)).status is PutStatus.REFUSED
        assert (await backend.put_if("m/n/1", b"1", tag="tag")).status is PutStatus.FAILED
        await backend.put("m/n/1", b"1")
        assert await stored(backend, "m/n/1") == b"1"
        (root / "m/n/2").symlink_to(secret)
        await backend.delete(["m/n/2"])
        assert secret.read_bytes() == b"secret bytes"

    run(scenario())


@pytest.mark.parametrize("planted", ["m/n", "m", "d/n", "d/n/c", "g/n", "t", "l"])
def test_nothing_is_written_or_removed_through_a_planted_link(
    backend: LocalBackend, root: Path, tmp_path: Path, planted: str
) -> None:
    async def scenario() -> None:
        await backend.put("m/other/0", b"0")
        outside = tmp_path / "outside"
        for folder in (".", "c", "n", "n/c"):
            (outside / folder).mkdir(exist_ok=True)
            (outside / folder / "0").write_bytes(b"precious")
            os.utime(outside / folder / "0", (0, 0))
        before = tree_of(outside)
        if (root / planted).is_dir():
            shutil.rmtree(root / planted)
        (root / planted).parent.mkdir(parents=True, exist_ok=True)
        (root / planted).symlink_to(outside)
        fresh = LocalBackend(root)
        for key in ("m/n/1", "d/n/c/1", "g/n/_"):
            with suppress(BackendError):
                reply = await fresh.put_if(key, b"1", tag=None)
                assert reply.status in (PutStatus.DONE, PutStatus.FAILED), "settled at once"
                blob = await fresh.get(key)
                await fresh.put_if(key, b"2", tag=blob.tag if blob else "none")
            with suppress(BackendError):
                await fresh.put(key, b"2")
            with suppress(BackendError):
                await fresh.delete([key.rpartition("/")[0] + "/0"])
        await fresh.aclose()
        assert tree_of(outside) == before

    run(scenario())


def test_a_file_system_that_counts_no_directories_is_listed_all_the_same(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(backend.put("m/n/1", b"1"))
    real = os.stat

    def stat(path: Any, **named: Any) -> os.stat_result:  # as CIFS without Unix extensions
        found = list(real(path, **named))
        found[3] = 2
        return os.stat_result(found)

    monkeypatch.setattr(os, "stat", stat)
    assert run(backend.list("m/", limit=9)).prefixes == ("m/n/",)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_was_forked_under_a_lock_does_not_keep_it(root: Path) -> None:
    directory = Directory(str(root), durable=False)
    assert directory.create("m/n/1", b"1").status is PutStatus.DONE
    path = directory.path("m/n/1")
    told, tell = os.pipe()
    with warnings.catch_warnings(), directory.locked(path, fcntl.LOCK_EX):
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: the point
        child = os.fork()
        if not child:
            os.close(tell)
            os.read(told, 1)  # until the parent has looked
            os._exit(0)
    try:
        with directory.locked(path, fcntl.LOCK_EX):
            pass
    finally:
        os.close(tell)
        os.close(told)
        os.waitpid(child, 0)


def test_a_planted_pipe_does_not_hang(backend: LocalBackend, root: Path) -> None:
    run(backend.put("m/n/0", b"0"))
    (root / "l").mkdir(exist_ok=True)
    os.mkfifo(root / "l/n")
    os.mkfifo(root / "m/n/1")
    with pytest.raises(BackendError):
        run(backend.get("m/n/1"))
    assert len(run(backend.list("m/n/", peek=1000)).entries) == 2


def test_empty_directories_of_the_dead_do_not_stop_a_listing(
    backend: LocalBackend, root: Path
) -> None:
    run(backend.put("m/z/1", b"1"))
    for name in "abcde":
        (root / "m" / name / "deeper").mkdir(parents=True)
    page = run(backend.list("m/", limit=1))
    assert page.prefixes == ("m/z/",)


def test_the_lock_of_the_root_does_not_depend_on_its_name(
    backend: LocalBackend, root: Path, tmp_path: Path
) -> None:
    run(backend.put("asv.json", b"1"))
    (tmp_path / "alias").symlink_to(root)
    here, there = (Directory(str(path), durable=False) for path in (root, tmp_path / "alias"))
    with here.locked(here.path("asv.json"), fcntl.LOCK_EX), pytest.raises(Busy):
        there.replace("asv.json", b"2", "tag")


# --- threads and processes


def winners(replies: list[PutReply]) -> list[int]:
    statuses = [reply.status for reply in replies]
    assert set(statuses) <= {PutStatus.DONE, PutStatus.REFUSED}
    return [n for n, status in enumerate(statuses) if status is PutStatus.DONE]


def test_sixteen_threads_race_and_one_wins(root: Path) -> None:
    directory = Directory(str(root), durable=True)
    barrier = threading.Barrier(16)

    def write(key: str, data: bytes, tag: str | None) -> PutReply:
        barrier.wait()
        while True:
            with suppress(Busy):
                if tag is None:
                    return directory.create(key, data)
                return directory.replace(key, data, tag)

    def race(pool: ThreadPoolExecutor, key: str, tag: str | None) -> str:
        """One race; the tag of what is there after it."""
        jobs = [pool.submit(write, key, b"%d %d" % (n, tag is None), tag) for n in range(16)]
        told = winners([job.result() for job in jobs])
        blob = directory.get(key, 0, None)
        assert blob is not None
        assert told == [int(blob.data.split()[0])]
        return blob.tag

    with ThreadPoolExecutor(16) as pool:
        for n in range(ROUNDS):
            race(pool, f"m/{n}/1", race(pool, f"m/{n}/1", None))


def racer(root: str, index: int, barrier: Barrier, told: Queue[tuple[str, int, str]]) -> None:
    """One process of the race below."""

    async def race() -> None:
        backend = LocalBackend(root)
        for n in range(ROUNDS):
            key = f"m/{n % 4}/{n}"
            barrier.wait()
            reply = await backend.put_if(key, b"%d" % index, tag=None)
            told.put((f"create {n}", index, reply.status.value))
            barrier.wait()
            blob = await backend.get(key)
            assert blob is not None
            barrier.wait()
            reply = await backend.put_if(key, b"%d of %s" % (index, blob.data), tag=blob.tag)
            told.put((f"replace {n}", index, reply.status.value))
        await backend.aclose()

    asyncio.run(race())


def test_eight_processes_race_and_one_wins(root: Path) -> None:
    barrier, told = SPAWN.Barrier(PROCESSES), SPAWN.Queue()
    processes = [
        SPAWN.Process(target=racer, args=(str(root), index, barrier, told), daemon=True)
        for index in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    results = [told.get(timeout=60) for _ in range(PROCESSES * ROUNDS * 2)]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert {status for _, _, status in results} == {"done", "refused"}
    won = {what: index for what, index, status in results if status == "done"}
    assert len(won) == len([status for _, _, status in results if status == "done"]) == 2 * ROUNDS
    for n in range(ROUNDS):
        data = (root / f"m/{n % 4}/{n}").read_bytes()
        assert data == b"%d of %d" % (won[f"replace {n}"], won[f"create {n}"])
    assert list((root / "t").iterdir()) == []


def churner(root: str, started: Event, stop: Event) -> None:
    """The process that replaces records while the test below lists them."""

    async def churn() -> None:
        backend = LocalBackend(root, durability="fast")
        tags: dict[str, str] = {}
        n = 0
        while not stop.is_set():
            n += 1
            key = f"m/n/{n % 40:03}"
            reply = await backend.put_if(key, b"%d" % n, tag=tags.get(key))
            assert reply.status is PutStatus.DONE
            blob = await backend.get(key)
            tags[key] = blob.tag if blob else ""
            if n == 40:
                started.set()
        await backend.aclose()

    asyncio.run(churn())


def test_a_listing_never_loses_what_another_process_replaces(
    backend: LocalBackend, root: Path
) -> None:
    started, stop = SPAWN.Event(), SPAWN.Event()
    process = SPAWN.Process(target=churner, args=(str(root), started, stop), daemon=True)
    process.start()
    assert started.wait(30)
    every = [f"m/n/{n:03}" for n in range(40)]

    async def scenario() -> None:
        for n in range(300):
            deep, peek = n % 2 == 1, 9 if n % 3 else None
            page = await backend.list("m/" if deep else "m/n/", deep=deep, peek=peek)
            assert [entry.key for entry in page.entries] == every

    try:
        run(scenario())
    finally:
        stop.set()
        process.join(30)
    assert process.exitcode == 0


def test_a_forked_child_can_use_the_backend(backend: LocalBackend) -> None:
    run(backend.put("m/n/1", b"parent"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: the point
        child = os.fork()
    if child == 0:
        code = 1
        try:
            if run(stored(backend, "m/n/1")) == b"parent":
                run(backend.put("m/n/2", b"child"))
                code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert run(stored(backend, "m/n/2")) == b"child"


HOLD = """
import fcntl, sys, time
from asyncstore.backends.posix import Directory
directory = Directory(sys.argv[1], durable=False)
with directory.locked(directory.path("m/n/1"), fcntl.LOCK_EX):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_process_leaves_no_lock_behind(backend: LocalBackend, root: Path) -> None:
    async def scenario(holder: subprocess.Popen[bytes]) -> None:
        await backend.put("m/n/1", b"1")
        blob = await backend.get("m/n/1")
        assert blob is not None
        with pytest.raises(Busy):
            Directory(str(root), durable=False).replace("m/n/1", b"2", blob.tag)
        waiting = asyncio.ensure_future(backend.put_if("m/n/1", b"2", tag=blob.tag))
        await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done(), "it waits for its turn"
        holder.send_signal(signal.SIGKILL)
        assert (await waiting).status is PutStatus.DONE

    run(backend.put("m/n/1", b"1"))
    command = [sys.executable, "-c", HOLD, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        run(scenario(holder))

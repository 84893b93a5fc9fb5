"""The local backend's own promises: order of flushing, crashes, foreign files, vanished disks."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import itertools
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from io import FileIO
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest

from asyncstore import AsyncRegistry, CommitUnknown
from asyncstore.backends import local, posix
from asyncstore.backends.base import PutStatus
from asyncstore.backends.local import LocalBackend
from asyncstore.backends.posix import Directory
from asyncstore.errors import BackendError, BackendTimeout, RegistrySettingsConflict

T = TypeVar("T")

NEW = ["write t/*", "fsync t/*"]


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


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def create(backend: LocalBackend, key: str, data: bytes = b"1") -> PutStatus:
    return (await backend.put_if(key, data, tag=None)).status


async def replace(backend: LocalBackend, key: str, data: bytes) -> PutStatus:
    blob = await backend.get(key)
    return (await backend.put_if(key, data, tag=blob.tag if blob else "none")).status


async def stored(backend: LocalBackend, key: str) -> bytes | None:
    blob = await backend.get(key)
    return blob.data if blob else None


def staged(root: Path) -> list[Path]:
    return list((root / "t").iterdir()) if (root / "t").exists() else []


# --- what is flushed, and in which order


class Trace:
    """The calls that matter to a disk, with the paths below the root that they are about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.calls: list[str] = []
        self._root = root
        self._paths: dict[int, str] = {}
        real_open = os.open

        def opened(path: Any, *args: Any, **named: Any) -> int:
            fd = real_open(path, *args, **named)
            self._paths[fd] = os.fspath(path)
            return fd

        monkeypatch.setattr(os, "open", opened)
        for name, subject in (("write", 0), ("fsync", 0), ("link", 1), ("rename", 1), ("mkdir", 0)):
            monkeypatch.setattr(os, name, self._traced(name, getattr(os, name), subject))
        monkeypatch.setattr(fcntl, "flock", self._traced("flock", fcntl.flock, 0))

    def _traced(self, name: str, real: Callable[..., T], subject: int) -> Callable[..., T]:
        def call(*args: Any, **named: Any) -> T:
            result = real(*args, **named)
            path = self._paths.get(args[subject], "?") if name not in PATHS else args[subject]
            if str(path).startswith(str(self._root.parent)):
                shown = os.path.relpath(path, self._root)
                self.calls.append(f"{name} {re.sub('^t/.+', 't/*', shown)}")
            return result

        return call

    def taken(self) -> list[str]:
        taken, self.calls = self.calls, []
        return taken


PATHS = {"link", "rename", "mkdir"}


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch, root: Path) -> Trace:
    return Trace(monkeypatch, root)


def test_everything_is_flushed_before_it_is_acknowledged(
    backend: LocalBackend, trace: Trace
) -> None:
    async def scenario() -> None:
        await create(backend, "m/n/1")
        root = ["mkdir .", "fsync ..", "mkdir t", "fsync ."]
        parents = ["mkdir m", "fsync .", "mkdir m/n", "fsync m"]
        assert trace.taken() == [*root, *NEW, *parents, "link m/n/1", "fsync m/n"]
        await create(backend, "m/n/2")
        assert trace.taken() == [*NEW, "link m/n/2", "fsync m/n"]
        assert await create(backend, "m/n/2") is PutStatus.REFUSED
        assert trace.taken() == [*NEW, "fsync m/n"], "what is said to be there is flushed as well"
        await replace(backend, "m/n/2", b"2")
        lock = ["mkdir l", "fsync .", "flock l/n"]
        unlock = "flock l/n"
        assert trace.taken() == [*NEW, *lock, "rename m/n/2", unlock, "fsync m/n"]
        await replace(backend, "m/n/2", b"3")
        assert trace.taken() == [*NEW, "flock l/n", "rename m/n/2", unlock, "fsync m/n"]
        await backend.put("d/n/c/0", b"4")
        parents = ["mkdir d", "fsync .", "mkdir d/n", "fsync d", "mkdir d/n/c", "fsync d/n"]
        assert trace.taken() == [*NEW, *parents, "rename d/n/c/0", "fsync d/n/c"]
        await backend.put("d/n/c/1", pieces(b"5", b"6"))
        assert trace.taken()[-2:] == ["rename d/n/c/1", "fsync d/n/c"]

    run(scenario())


def test_a_stream_is_flushed_before_it_is_renamed(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(fd: int) -> None:
        calls.append("fsync")
        fsync(fd)

    def note_rename(source: str, target: str) -> None:
        calls.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    run(create(backend, "d/first"))
    calls.clear()
    run(backend.put("d/a", pieces(b"1", b"2")))
    assert calls == ["fsync", "rename", "fsync"]


def test_another_process_flushes_the_directories_that_it_finds(
    backend: LocalBackend, root: Path, trace: Trace
) -> None:
    run(create(backend, "m/n/1"))
    trace.taken()
    other = LocalBackend(root)
    run(create(other, "m/n/2"))
    found = ["fsync ..", "fsync ."]
    assert trace.taken() == [*found, *NEW, "fsync .", "fsync m", "link m/n/2", "fsync m/n"]
    run(other.aclose())


def test_a_directory_that_could_not_be_flushed_fails_the_write_at_once(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(create(backend, "m/n/1"))
    fsync = os.fsync

    def failing(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}") == str(root / "m"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", failing)
    # Not "unknown": trying again would find the directory made, and its flush would "succeed".
    assert run(create(backend, "m/new/1")) is PutStatus.FAILED
    assert run(stored(backend, "m/new/1")) is None


def test_fast_flushes_nothing(root: Path, trace: Trace) -> None:
    async def scenario() -> None:
        backend = LocalBackend(root, durability="fast")
        await create(backend, "m/n/1")
        await replace(backend, "m/n/1", b"2")
        await backend.put("d/a", b"3")
        await backend.put("d/b", pieces(b"4"))
        assert await create(backend, "m/n/1") is PutStatus.REFUSED
        await backend.aclose()

    run(scenario())
    assert not [call for call in trace.taken() if call.startswith("fsync")]


def test_durability_is_full_or_fast(root: Path) -> None:
    nonsense: Any = "quick"
    with pytest.raises(RegistrySettingsConflict, match="'full' or 'fast'"):
        LocalBackend(root, durability=nonsense)


# --- errors of the disk


class Failing:
    """The ``nth`` call of one function of ``os`` fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, nth: int, code: int) -> None:
        self.hit = False
        real, numbers = getattr(os, name), itertools.count(1)

        def call(*args: Any, **named: Any) -> Any:
            if next(numbers) == nth:
                self.hit = True
                raise OSError(code, os.strerror(code))
            return real(*args, **named)

        monkeypatch.setattr(os, name, call)


WRITES: dict[str, Callable[[LocalBackend], Coroutine[Any, Any, PutStatus | None]]] = {
    "create": lambda backend: create(backend, "m/new/1", b"new"),
    "replace": lambda backend: replace(backend, "m/old/1", b"new"),
    "put": lambda backend: backend.put("m/old/1", b"new"),
    "put in a new place": lambda backend: backend.put("d/new/1", b"new"),
    "stream": lambda backend: backend.put("m/old/1", pieces(b"n", b"ew")),
}


@pytest.mark.parametrize("name", ["write", "fsync", "link", "rename"])
@pytest.mark.parametrize("write", WRITES)
def test_a_failing_disk_leaves_old_or_new_and_nothing_staged(
    tmp_path: Path, name: Literal["write", "fsync", "link", "rename"], write: str
) -> None:
    seen: list[PutStatus | None] = []
    for nth in itertools.count(1):
        root = tmp_path / str(nth)
        backend = LocalBackend(root)
        run(backend.put("m/old/1", b"old"))
        with pytest.MonkeyPatch.context() as patch:
            failing = Failing(patch, name, nth, errno.ENOSPC)
            try:
                seen.append(run(WRITES[write](LocalBackend(root))))
            except BackendError:
                seen.append(PutStatus.FAILED)
        assert staged(root) == []
        old, new = run(stored(backend, "m/old/1")), run(stored(backend, "m/new/1"))
        if seen[-1] is PutStatus.FAILED and write in ("create", "replace"):
            assert (old, new) == (b"old", None), "FAILED is provably not applied"
        assert old in (b"old", b"new")
        assert new in (None, b"new")
        run(backend.aclose())
        if not failing.hit:
            break
    assert seen[-1] in (PutStatus.DONE, None)
    assert set(seen[:-1]) <= {PutStatus.FAILED, PutStatus.NOT_DURABLE}
    if name == "fsync":
        assert len(seen) > 3
        last = PutStatus.NOT_DURABLE if write in ("create", "replace") else PutStatus.FAILED
        assert seen[-2] is last, "the last flush is that of the directory"


def test_a_link_that_fails_for_another_reason_is_in_doubt(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    Failing(monkeypatch, "link", 1, errno.EIO)
    assert run(create(backend, "m/n/1")) is PutStatus.UNKNOWN
    Failing(monkeypatch, "link", 1, errno.ETIMEDOUT)
    reply = run(backend.put_if("m/n/1", b"1", tag=None))
    assert isinstance(reply.error, BackendTimeout)


def test_what_was_applied_is_never_called_failed(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    Failing(monkeypatch, "unlink", 1, errno.EIO)  # of the staged file, once it is linked
    assert run(create(backend, "m/n/1")) is PutStatus.DONE


def test_a_full_disk_under_a_stream(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(FileIO):
        def write(self, data: Any, /) -> int:
            if self.tell():
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    run(backend.put("d/a", b"old"))
    monkeypatch.setattr(local, "FileIO", Full)
    with pytest.raises(BackendError, match="ENOSPC"):
        run(backend.put("d/a", pieces(b"new", b"er")))
    assert run(stored(backend, "d/a")) == b"old"
    assert staged(root) == []


def test_an_error_of_the_stream_itself_stays_what_it_is(backend: LocalBackend, root: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"1"
        raise ConnectionResetError("the source is gone")

    with pytest.raises(ConnectionResetError):
        run(backend.put("d/a", broken()))
    assert staged(root) == []


LOOKS: dict[str, Callable[[Directory], object]] = {
    "open": lambda directory: directory.get("m/n/1", 0, None),
    "stat": lambda directory: directory.head("m/n/1"),
    "listdir": lambda directory: directory.list("m/n/", "", 10, None, False),
}


@pytest.mark.parametrize("name", LOOKS)
def test_no_permission_is_an_error_and_not_an_absence(root: Path, name: str) -> None:
    directory = Directory(str(root), durable=False)
    directory.write("m/n/1", b"1")
    with pytest.MonkeyPatch.context() as patch:
        Failing(patch, name, 1, errno.EACCES)
        with pytest.raises(PermissionError) as caught:
            LOOKS[name](directory)
    assert "EACCES" in str(posix.mapped(caught.value, "reading"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_for_real(backend: LocalBackend, root: Path) -> None:
    run(backend.put("m/n/1", b"1"))
    (root / "m/n").chmod(0)
    try:
        for call in (backend.get("m/n/1"), backend.head("m/n/1"), backend.list("m/n/")):
            with pytest.raises(BackendError, match="EACCES"):
                run(call)
        assert run(create(backend, "m/n/2")) is PutStatus.FAILED
    finally:
        (root / "m/n").chmod(0o700)


# --- staged files


def test_staged_files_of_the_dead_are_swept_and_those_of_the_living_kept(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "t").mkdir(parents=True)
    old, young = root / "t/old", root / "t/young"
    old.touch()
    young.touch()
    while young.stat().st_ctime <= old.stat().st_ctime:
        young.touch()
    middle = (old.stat().st_ctime + young.stat().st_ctime) / 2
    monkeypatch.setattr(time, "time", lambda: middle + posix.STALE_STAGING)
    run(backend.get("m/n/1"))
    assert old.exists(), "reading sweeps nothing"
    run(create(backend, "m/n/1"))
    assert staged(root) == [young]


def test_a_staging_directory_that_was_removed_is_made_again(
    backend: LocalBackend, root: Path
) -> None:
    run(create(backend, "m/n/1"))
    (root / "t").rmdir()
    assert run(create(backend, "m/n/2")) is PutStatus.DONE


def test_cancelled_and_failed_work_leaves_no_descriptor_open(
    backend: LocalBackend, root: Path
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(10_000)
            await asyncio.sleep(0)

    async def scenario() -> None:
        await backend.put("m/n/1", bytes(1_000_000))
        before = len(os.listdir("/proc/self/fd"))
        for n in range(60):
            tasks = [
                asyncio.ensure_future(backend.put("m/n/1", endless())),
                asyncio.ensure_future(backend.get("m/n/1")),
                asyncio.ensure_future(backend.list("m/n/", peek=1)),
                asyncio.ensure_future(replace(backend, "m/n/1", bytes(100_000))),
            ]
            await asyncio.wait(tasks, timeout=0.0002 * (n % 10))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await backend.put("m/n/1", b"2")
        await backend.aclose()
        for _ in range(1000):  # reads that were left alone end by themselves
            if len(os.listdir("/proc/self/fd")) <= before:
                break
            await asyncio.sleep(0.005)
        assert len(os.listdir("/proc/self/fd")) <= before
        assert staged(root) == []

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not list a process's descriptors")
    run(scenario())


def test_a_flush_that_fails_after_its_time_was_up_is_not_acknowledged(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is there to be read back by then, but nobody knows whether it is on the disk."""
    timed_out, fsync = threading.Event(), os.fsync

    def late(fd: int) -> None:
        if os.path.samestat(os.fstat(fd), os.stat(root / "m/x")):
            assert timed_out.wait(10)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    async def scenario() -> None:
        registry = AsyncRegistry(root, request_timeout=0.1, operation_timeout=5)
        await registry.save("x", 1)
        monkeypatch.setattr(os, "fsync", late)
        asyncio.get_running_loop().call_later(0.2, timed_out.set)
        with pytest.raises(CommitUnknown, match="flushed"):
            await registry.save("x", 2)
        await registry.aclose()

    run(scenario())

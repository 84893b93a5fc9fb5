"""The backends for testing do what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, get_args

import pytest

import asyncstore.testing
from asyncstore.backends.base import Backend, PutStatus
from asyncstore.backends.bounded import BoundedBackend
from asyncstore.backends.memory import MemoryBackend
from asyncstore.errors import BackendError, BackendTimeout
from asyncstore.testing import (
    CheatingBackend,
    Fault,
    FaultyBackend,
    Mode,
    RecordingBackend,
    SlowBackend,
)
from asyncstore.testing.faults import MODES


def run(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    asyncio.run(bounded())


async def stored(backend: Backend, key: str = "c/a") -> bytes | None:
    blob = await backend.get(key)
    return blob.data if blob else None


def test_what_is_exported_is_sorted_and_there() -> None:
    names = asyncstore.testing.__all__
    assert names == sorted(names)
    assert all(hasattr(asyncstore.testing, name) for name in names)


def test_wrappers_are_backends_and_show_what_is_inside() -> None:
    inner = MemoryBackend("inside")
    for wrapper in (SlowBackend, RecordingBackend, FaultyBackend, CheatingBackend):
        assert isinstance(wrapper(inner), Backend)
        assert wrapper(inner).uri == "memory://inside"
        assert wrapper(inner).capabilities == inner.capabilities


# --- slow


def test_slow_waits_before_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds:
            slept.append(seconds)
        await real(0)

    async def scenario() -> None:
        slow = SlowBackend(MemoryBackend(), 1000)
        await slow.put("c/a", b"1")
        await slow.put_if("c/b", b"1", tag=None)
        await slow.get("c/a")
        await slow.head("c/a")
        await slow.list("c/")
        await slow.delete(["c/a", "c/b"])

    monkeypatch.setattr(asyncio, "sleep", sleep)
    run(scenario())
    assert slept == [1000] * 6


@pytest.mark.parametrize("peeks", [False, True])
def test_slow_passes_the_peek_on_only_if_told(peeks: bool) -> None:
    async def scenario() -> None:
        slow = SlowBackend(MemoryBackend(), peeks=peeks)
        await slow.put("c/a", b"1")
        page = await slow.list("c/", peek=10)
        assert page.entries[0].data == (b"1" if peeks else None)

    run(scenario())


def test_slow_hangs_until_it_is_resumed_or_cancelled() -> None:
    async def scenario() -> None:
        slow = SlowBackend(MemoryBackend(), hang=True)
        first, second = (asyncio.ensure_future(slow.put(f"c/{n}", b"1")) for n in "12")
        await asyncio.sleep(0)
        assert slow.waiting == 2
        second.cancel()
        await asyncio.wait([second])
        assert slow.waiting == 1
        slow.resume()
        await first
        assert await stored(slow, "c/1") == b"1"
        assert await stored(slow, "c/2") is None
        slow.hang()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await slow.get("c/1")
        assert slow.waiting == 0

    run(scenario())


def test_what_hangs_is_a_timeout_once_it_is_bounded() -> None:
    async def scenario() -> None:
        bounded = BoundedBackend(SlowBackend(MemoryBackend(), hang=True), timeout=0.01)
        for call in (bounded.head("c/a"), bounded.list("c/"), bounded.put("c/a", b"1")):
            with pytest.raises(BackendTimeout):
                await call
        reply = await bounded.put_if("c/a", b"1", tag=None)
        assert reply.status is PutStatus.UNKNOWN
        assert isinstance(reply.error, BackendTimeout)

    run(scenario())


# --- recording


def test_recording_writes_down_every_request() -> None:
    async def scenario() -> None:
        recording = RecordingBackend(FaultyBackend(MemoryBackend(), Fault("error", "head")))
        await recording.put("c/a", b"1")
        await recording.put_if("c/a", b"2", tag=None)
        await recording.get("c/none")
        await recording.list("c/")
        await recording.delete(["c/a", "c/b"])
        with pytest.raises(BackendError):
            await recording.head("c/a")
        seen = [(r.method, r.key, r.outcome) for r in recording.requests]
        assert seen == [
            ("put", "c/a", "ok"),
            ("put_if", "c/a", "refused"),
            ("get", "c/none", "absent"),
            ("list", "c/", "ok"),
            ("delete", "c/a c/b", "ok"),
            ("head", "c/a", ""),
        ]
        assert isinstance(recording.requests[-1].error, BackendError)
        assert all(r.start < r.end for r in recording.requests)
        assert recording.count() == recording.depth() == 6
        assert recording.count("put") == 1
        recording.clear()
        assert (recording.count(), recording.depth(), recording.peak) == (0, 0, 0)

    run(scenario())


def test_recording_tells_the_serial_depth_and_the_peak() -> None:
    async def scenario() -> None:
        recording = RecordingBackend(MemoryBackend())
        await asyncio.gather(*(recording.get(f"c/{n}") for n in range(10)))
        assert (recording.count(), recording.depth(), recording.peak) == (10, 1, 10)
        recording.clear()

        async def chain() -> None:
            for n in range(3):
                await recording.get(f"c/{n}")

        await asyncio.gather(chain(), chain(), recording.list("c/"))
        assert (recording.count(), recording.depth(), recording.in_flight) == (7, 3, 0)

    run(scenario())


def test_recording_writes_down_what_was_cancelled() -> None:
    async def scenario() -> None:
        recording = RecordingBackend(SlowBackend(MemoryBackend(), hang=True))
        task = asyncio.ensure_future(recording.get("c/a"))
        await asyncio.sleep(0)
        assert recording.in_flight == 1
        task.cancel()
        await asyncio.wait([task])
        assert recording.in_flight == 0
        assert isinstance(recording.requests[0].error, asyncio.CancelledError)

    run(scenario())


# --- faulty

PUT_IF: dict[Mode, tuple[PutStatus, bool]] = {
    "error": (PutStatus.FAILED, False),
    "no-space": (PutStatus.FAILED, False),
    "timeout": (PutStatus.UNKNOWN, False),
    "unknown": (PutStatus.UNKNOWN, False),
    "conflict": (PutStatus.UNKNOWN, False),
    "zombie": (PutStatus.UNKNOWN, False),
    "lost": (PutStatus.UNKNOWN, True),
    "refused-after-own-write": (PutStatus.REFUSED, True),
    "not-durable": (PutStatus.NOT_DURABLE, True),
}


@pytest.mark.parametrize("mode", PUT_IF)
def test_faulty_fails_a_conditional_write(mode: Mode) -> None:
    async def scenario() -> None:
        faulty = FaultyBackend(MemoryBackend(), Fault(mode))
        assert not faulty.injected
        reply = await faulty.put_if("c/a", b"1", tag=None)
        status, applied = PUT_IF[mode]
        assert reply.status is status
        assert (reply.error is None) == (status is PutStatus.REFUSED)
        assert isinstance(reply.error, BackendTimeout) == (mode == "timeout")
        assert await stored(faulty) == (b"1" if applied else None)
        assert faulty.injected == {mode: 1}
        reply = await faulty.put_if("c/b", b"1", tag=None)
        assert reply.status is PutStatus.DONE, "once is once"

    run(scenario())


def test_faulty_releases_its_zombies() -> None:
    async def scenario() -> None:
        faulty = FaultyBackend(MemoryBackend(), Fault("zombie", times=2))
        buffer = bytearray(b"undead")
        await faulty.put_if("c/a", buffer, tag=None)
        await faulty.put_if("c/a", b"second", tag=None)
        buffer[:] = b"XXXXXX"
        assert await stored(faulty) is None
        replies = await faulty.release()
        assert [reply.status for reply in replies] == [PutStatus.DONE, PutStatus.REFUSED]
        assert await stored(faulty) == b"undead"
        assert await faulty.release() == []

    run(scenario())


@pytest.mark.parametrize(
    ("mode", "error", "applied"),
    [
        ("error", BackendError, False),
        ("timeout", BackendTimeout, False),
        ("no-space", BackendError, False),
        ("lost", BackendError, True),
    ],
)
def test_faulty_fails_a_put(mode: Mode, error: type[Exception], applied: bool) -> None:
    async def scenario() -> None:
        faulty = FaultyBackend(MemoryBackend(), Fault(mode))
        with pytest.raises(error):
            await faulty.put("c/a", b"1")
        assert await stored(faulty) == (b"1" if applied else None)

    run(scenario())


def test_faulty_loses_the_reply_of_a_deletion() -> None:
    async def scenario() -> None:
        faulty = FaultyBackend(MemoryBackend(), Fault("lost", "delete", "c/b"))
        await faulty.put("c/a", b"1")
        with pytest.raises(BackendError):
            await faulty.delete(["c/a", "c/b"])
        assert await stored(faulty) is None

    run(scenario())


def test_faulty_spoils_what_is_read() -> None:
    async def scenario() -> None:
        faulty = FaultyBackend(MemoryBackend(), Fault("truncate"), Fault("corrupt", nth=2))
        await faulty.put("c/a", bytes(100))
        blob = await faulty.get("c/a")
        assert blob is not None
        assert (len(blob.data), blob.size) == (50, 100)
        blob = await faulty.get("c/a")
        assert blob is not None
        assert sum(byte != 0 for byte in blob.data) == 1
        assert await stored(faulty) == bytes(100)
        assert faulty.injected == {"truncate": 1, "corrupt": 1}

    run(scenario())


def test_faulty_hangs() -> None:
    async def scenario() -> None:
        faulty = FaultyBackend(MemoryBackend(), Fault("hang", "list"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await faulty.list("c/")
        assert (await faulty.list("c/")).entries == ()

    run(scenario())


def test_faulty_chooses_by_method_key_and_number() -> None:
    async def scenario() -> None:
        faulty = FaultyBackend(
            MemoryBackend(),
            Fault("error", "get", "m/*", nth=2, times=2),
            Fault("error", "h*", "d/*"),
        )
        faulty.add(Fault("timeout", "list", times=None))

        async def fails(call: Callable[[], Coroutine[Any, Any, object]]) -> bool:
            try:
                await call()
            except BackendError:
                return True
            return False

        assert [await fails(lambda: faulty.get("m/a")) for _ in range(5)] == [0, 1, 1, 0, 0]
        assert not await fails(lambda: faulty.get("d/a"))
        assert not await fails(lambda: faulty.head("m/a"))
        assert await fails(lambda: faulty.head("d/a"))
        assert all([await fails(lambda: faulty.list("m/")) for _ in range(3)])
        assert faulty.injected.total() == 6
        faulty.clear()
        assert not await fails(lambda: faulty.list("m/"))

    run(scenario())


def test_a_fault_that_can_never_happen_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        Fault("zombie", "get")
    with pytest.raises(ValueError, match="expected one of"):
        Fault("gremlins")  # type: ignore[arg-type]
    assert set(MODES) == set(get_args(Mode))


def test_random_faults_are_the_same_for_the_same_seed() -> None:
    async def told(seed: int) -> list[PutStatus]:
        faulty = FaultyBackend.random(MemoryBackend(), seed=seed, rate=0.3)
        told = [(await faulty.put_if(f"c/{n}", b"1", tag=None)).status for n in range(100)]
        assert 10 < faulty.injected.total() < 60
        return told

    async def scenario() -> None:
        assert await told(1) == await told(1)
        assert await told(1) != await told(2)
        faulty = FaultyBackend.random(MemoryBackend(), seed=1, rate=1, modes=["zombie"])
        assert (await faulty.list("c/")).entries == ()
        assert not faulty.injected, "a mode that does not fit is not injected"

    run(scenario())

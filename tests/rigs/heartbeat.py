"""How long the event loop stands still while something runs."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

_PIECE = 8 * 1024 * 1024


async def longest_gap(
    work: Awaitable[Any], clock: Callable[[], float] = time.perf_counter
) -> tuple[float, Any]:
    """The longest time in seconds between two turns of the loop while ``work`` ran; its answer."""
    longest = 0.0
    running = True

    async def beat() -> None:
        nonlocal longest
        last = clock()
        while running:
            await asyncio.sleep(0)
            now = clock()
            longest, last = max(longest, now - last), now

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0)
    answer = await work
    running = False
    await beating
    return longest, answer


class ClockWithoutCollections:
    """A clock in seconds that stands still while garbage is collected.

    A full collection holds up every thread for as long as the program has objects, 20 to 30 ms
    with the modules of S3. That is the interpreter's doing, and a test of our own pauses leaves it
    out.
    """

    def __init__(self) -> None:
        self.collecting = 0.0
        self._began: float | None = None

    def __enter__(self) -> ClockWithoutCollections:
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *failure: object) -> None:
        gc.callbacks.remove(self._note)

    def __call__(self) -> float:
        return (self._began or time.perf_counter()) - self.collecting

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        elif self._began is not None:
            self.collecting += time.perf_counter() - self._began
            self._began = None


def bare_write(path: Path, data: bytes) -> None:
    """What saving costs at the least: the control, without a line of asyncstore."""
    hashlib.sha256(data).digest()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        view = memoryview(data)
        while view.nbytes:
            view = view[os.write(fd, view[:_PIECE]) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def bare_read(path: Path) -> bytes:
    """What loading costs at the least."""
    data = path.read_bytes()
    hashlib.sha256(data).digest()
    return data

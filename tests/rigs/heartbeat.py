"""How long the event loop stands still while something runs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

_PIECE = 8 * 1024 * 1024


async def longest_gap(work: Awaitable[Any]) -> tuple[float, Any]:
    """The longest time in seconds between two turns of the loop while ``work`` ran; its answer."""
    longest = 0.0
    running = True

    async def beat() -> None:
        nonlocal longest
        last = time.perf_counter()
        while running:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0)
    answer = await work
    running = False
    await beating
    return longest, answer


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

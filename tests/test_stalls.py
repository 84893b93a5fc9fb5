"""Large values never hold up the event loop (lesson A8): 10 ms is the most."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from asyncstore import AsyncRegistry
from tests.rigs.heartbeat import bare_read, bare_write, longest_gap

SIZE = 100_000_000
MOST = 0.010
ATTEMPTS = 5
"""Other programs can only add to a gap, so the shortest of a few is the nearest to the truth."""


@pytest.fixture(scope="module")
def value() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture(params=["full", "fast", "memory"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncRegistry:
    if request.param == "memory":
        return AsyncRegistry("memory://", mutable=True)
    return AsyncRegistry(tmp_path / "registry", durability=request.param, mutable=True)


async def shortest(work: Callable[[], Awaitable[Any]], enough: float) -> tuple[float, Any]:
    """The shortest longest gap of a few attempts, and the last answer."""
    best, answer = float("inf"), None
    for _ in range(ATTEMPTS):
        answer = None  # freeing 100 MB takes milliseconds, which are not the library's
        gap, answer = await longest_gap(work())
        best = min(best, gap)
        if best < enough:
            break
    return best, answer


@pytest.mark.asyncio
async def test_a8_saving_and_loading_100_mb_never_stalls_the_loop(
    registry: AsyncRegistry, value: bytes, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    written, _ = await longest_gap(asyncio.to_thread(bare_write, bare, value))
    read, _ = await longest_gap(asyncio.to_thread(bare_read, bare))
    bare.unlink()
    async with registry:
        await registry.save("small", 1)  # creates the registry
        saving, version = await shortest(lambda: registry.save("x", value), MOST)
        loading, loaded = await shortest(lambda: registry.load("x", version), MOST)
    assert loaded == value
    print(
        f"{registry.uri.partition(':')[0]}: longest stall saving {saving * 1e3:.1f} ms (a bare "
        f"thread {written * 1e3:.1f}), loading {loading * 1e3:.1f} ms (a bare thread "
        f"{read * 1e3:.1f})"
    )
    assert saving < MOST
    assert loading < MOST

"""One small object in a directory: load and save, each beside the least that it could cost.

The floor of a load is one hop to a worker thread that opens a file, reads it and decodes the same
JSON. The floor of a save is one hop that writes a file, flushes it, links it to its name and
flushes the directory, which is what it takes for a new file to survive a power failure.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import tempfile
from pathlib import Path

from asyncstore import AsyncRegistry
from benchmarks.harness import Measure, compare

VALUE = {"acc": 0.92, "epochs": 40, "labels": ["cat", "dog", "bird"], "lr": 0.001}

NAMES = [f"saved-{number}" for number in range(20)]
"""Saved in turn: listing a directory takes longer the more is in it, and most have few versions."""


def read_and_decode(path: str) -> object:
    """The floor of a load, on a worker thread."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return json.loads(os.read(fd, 65536))
    finally:
        os.close(fd)


def write_durably(folder: str, name: str, data: bytes) -> None:
    """The floor of a save, on a worker thread."""
    staged = f"{folder}/staged"
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.link(staged, f"{folder}/{name}")
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    os.unlink(staged)


async def measure() -> list[Measure]:
    """Load latest, load pinned, save the next version."""
    with tempfile.TemporaryDirectory(prefix="asyncstore-bench-") as made:
        folder = Path(made)
        async with AsyncRegistry(folder / "registry") as registry:
            return await _measure(folder, registry)


async def _measure(folder: Path, registry: AsyncRegistry) -> list[Measure]:
    encoded = json.dumps(VALUE).encode()
    plain = folder / "plain"
    plain.mkdir()
    (plain / "value.json").write_bytes(encoded)
    await registry.save("value", VALUE)
    record = next(iter((folder / "registry" / "m" / "value").iterdir())).read_bytes()
    for name in NAMES:
        await registry.save(name, VALUE)
    numbers, turns = itertools.count(), itertools.cycle(NAMES)

    async def load_floor() -> None:
        await asyncio.to_thread(read_and_decode, f"{plain}/value.json")

    async def save_floor() -> None:
        await asyncio.to_thread(write_durably, str(plain), f"v{next(numbers)}", record)

    return [
        await compare("load latest", lambda: registry.load("value"), load_floor, bar=2.0),
        await compare("load pinned", lambda: registry.load("value@1.0.0"), load_floor, bar=2.0),
        await compare(
            "save next version",
            lambda: registry.save(next(turns), VALUE),
            save_floor,
            bar=1.5,
            calls=60,
        ),
    ]

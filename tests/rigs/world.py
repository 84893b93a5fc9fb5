"""A small world of registries to operate on, and the audit of what an operation left in it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from asyncstore import AsyncRegistry, AsyncStore
from asyncstore.backends.base import Backend
from asyncstore.backends.local import LocalBackend
from asyncstore.backends.memory import MemoryBackend
from asyncstore.names import unescape_name
from asyncstore.record import read_line, read_record

LOCATIONS = ("a", "b", "c")

Versions = dict[str, Any]
"""What is listed and loads: ``location/name@version`` -> value."""


class World:
    """Three registries ``a``, ``b`` and ``c``, and a store that has them mounted."""

    def __init__(self, root: Path | None, *, mutable: bool) -> None:
        self.roots = [root / location for location in LOCATIONS] if root is not None else []
        self.backends: dict[str, Backend] = {
            location: MemoryBackend()
            if root is None
            else LocalBackend(root / location, durability="fast")
            for location in LOCATIONS
        }
        self.registries = {
            location: AsyncRegistry(backend, mutable=mutable)
            for location, backend in self.backends.items()
        }
        self.a, self.b, self.c = self.registries.values()
        self.store = AsyncStore(self.registries)

    def fresh(self) -> AsyncRegistry:
        """Another registry on the backend of ``a``, which has not been opened yet."""
        return AsyncRegistry(self.backends["a"])

    async def aclose(self) -> None:
        await self.store.aclose()
        for backend in self.backends.values():
            await backend.aclose()

    async def versions(self) -> Versions:
        """Everything that is listed, loaded through registries that know nothing yet."""
        found: Versions = {}
        for location in LOCATIONS:
            registry = AsyncRegistry(self.backends[location])
            for name, versions in (await registry.list_objects_and_versions()).items():
                for version in versions:
                    value = await registry.load(name, version, verify="full")
                    found[f"{location}/{name}@{version}"] = value
            names = await registry.list_objects()
            assert {f"{location}/{name}" for name in names} == {
                key.partition("@")[0] for key in found if key.startswith(f"{location}/")
            }
        return found

    async def audit(self, *, orphans: bool = False) -> None:
        """Nothing is left behind: no payload that no record knows (``orphans``), nothing staged."""
        for location in () if orphans else LOCATIONS:
            backend = self.backends[location]
            known: set[tuple[str, str]] = set()
            for entry in (await backend.list("m/", deep=True)).entries:
                blob = await backend.get(entry.key)
                assert blob is not None
                name = entry.key.split("/")[1]
                record = read_record(blob.data, entry.key)
                assert unescape_name(name) is not None
                known |= {(name, commit) for commit in read_line(blob.data, entry.key).commits}
                if record.manifest is not None:
                    known |= {(name, commit) for commit, _ in record.manifest.trash}
            for entry in (await backend.list("d/", deep=True)).entries:
                _, name, commit, _ = entry.key.split("/")
                assert (name, commit) in known, f"no record knows the payload {entry.key}"
        for root in self.roots:
            staging = root / "t"
            left = os.listdir(staging) if staging.exists() else []
            assert not left, f"staged files were left in {root}: {left}"


def open_files() -> int:
    """How many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


async def files_closed(before: int) -> None:
    """Wait until no more files are open than before: a read that was left alone ends by itself."""
    for _ in range(1000):
        if open_files() <= before:
            return
        await asyncio.sleep(0.001)
    raise AssertionError(f"{open_files() - before} files were left open")


def no_tasks() -> None:
    """No task is running but this one."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, f"tasks were left running: {others}"

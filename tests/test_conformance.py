"""The conformance suite over every backend that needs no server, and over what wraps them."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

import pytest

from asyncstore.backends.base import Backend
from asyncstore.backends.bounded import BoundedBackend, Slots
from asyncstore.backends.local import LocalBackend
from asyncstore.backends.memory import MemoryBackend
from asyncstore.testing import BackendConformance, FaultyBackend, RecordingBackend, SlowBackend


class TestMemory(BackendConformance):
    async def open(self) -> Backend:
        return MemoryBackend()


class TestNamedMemory(BackendConformance):
    numbers = itertools.count()

    async def open(self) -> Backend:
        return MemoryBackend(f"conformance-{next(self.numbers)}")

    async def reopen(self, backend: Backend) -> Backend | None:
        return MemoryBackend(backend.uri.removeprefix("memory://"))


class TestLocal(BackendConformance):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.root = tmp_path / "not yet" / "there"

    async def open(self) -> Backend:
        return LocalBackend(self.root)

    async def reopen(self, backend: Backend) -> Backend | None:
        return LocalBackend(self.root)


class TestLocalFast(TestLocal):
    async def open(self) -> Backend:
        return LocalBackend(self.root, durability="fast")


class TestLocalWithoutHardLinks(TestLocal):
    """A file system such as exFAT: creation goes through the lock."""

    @pytest.fixture(autouse=True)
    def _no_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def link(source: str, target: str) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", link)


class TestBounded(BackendConformance):
    async def open(self) -> Backend:
        return BoundedBackend(MemoryBackend(), timeout=30, slots=Slots(3))


class TestSlow(BackendConformance):
    async def open(self) -> Backend:
        return SlowBackend(MemoryBackend(), 0.001)


class TestRecording(BackendConformance):
    async def open(self) -> Backend:
        return RecordingBackend(MemoryBackend())


class TestFaultyWithoutFaults(BackendConformance):
    async def open(self) -> Backend:
        return FaultyBackend(MemoryBackend())

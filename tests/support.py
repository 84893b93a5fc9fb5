"""What the tests of registries and stores share: places to keep objects in, and looks at them."""

from __future__ import annotations

import asyncio
import itertools
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncstore import AsyncRegistry, AsyncStore, StoreMount
from asyncstore.backends.base import Backend
from asyncstore.backends.local import LocalBackend
from asyncstore.backends.memory import MemoryBackend
from asyncstore.backends.s3 import S3Backend
from asyncstore.materializers import Encoded
from asyncstore.testing import FaultyBackend, RecordingBackend, SlowBackend

_NUMBERS: Iterator[int] = itertools.count()


@dataclass
class Places:
    """Where the registries of one test are: a fresh place for each name, on one kind of backend.

    To run every test on one more backend, add a line to :data:`KINDS`.
    """

    make: Callable[[Path, str], Backend]
    folder: Path
    remote: bool = False
    """Whether every request travels: the widest sweeps take larger steps there."""
    backends: list[Backend] = field(default_factory=list[Backend])

    def backend(self, place: str = "place") -> Backend:
        """A backend on the place of that name: every call opens it anew."""
        backend = self.make(self.folder, place)
        self.backends.append(backend)  # what is in memory lives as long as a backend
        return backend

    def registry(self, place: str = "place", **settings: Any) -> AsyncRegistry:
        """A registry on the place of that name."""
        return AsyncRegistry(self.backend(place), **settings)

    def store(self, *places: str, **options: Any) -> AsyncStore:
        """A store that mounts a registry for each of these places, under the place's name."""
        mounts = [StoreMount(place, self.registry(place)) for place in places]
        return AsyncStore(mounts, **options)

    async def keys(self, place: str = "place") -> set[str]:
        """All keys of a place, but for its settings and lock files."""
        backend = self.backend(place)
        pages = [await backend.list(prefix, deep=True) for prefix in ("m/", "d/", "g/", "t/")]
        assert not any(page.more for page in pages)
        return {entry.key for page in pages for entry in page.entries}

    async def payloads(self, place: str = "place") -> set[str]:
        """The keys of the payload objects of a place."""
        return {key for key in await self.keys(place) if key.startswith("d/")}

    async def change(
        self, key: str, change: Callable[[bytes], bytes], place: str = "place"
    ) -> None:
        """Change stored bytes behind the library's back."""
        backend = self.backend(place)
        blob = await backend.get(key)
        assert blob is not None
        await backend.put(key, change(blob.data))

    async def aclose(self) -> None:
        """Let everything go."""
        for backend in self.backends:
            await backend.aclose()


def _memory(folder: Path, place: str) -> Backend:
    return MemoryBackend(f"{folder.name}-{place}")


def _local(folder: Path, place: str) -> Backend:
    return LocalBackend(folder / place, durability="fast")


KINDS: dict[str, Callable[[Path, str], Backend]] = {"memory": _memory, "local": _local}
"""The kinds that need no server; ``places`` in ``conftest.py`` adds those that do."""


def on_s3(url: str, **options: Any) -> Callable[[Path, str], Backend]:
    """Places in a bucket on the S3 that answers there: a prefix for each."""
    given = {"access_key_id": "test", "secret_access_key": "test", **options}

    def make(folder: Path, place: str) -> Backend:
        return S3Backend.from_uri(
            s3_uri(url, f"{folder.parent.name}/{folder.name}-{place}"), **given
        )

    return make


@dataclass
class Watched:
    """A registry in memory whose requests are recorded, and may fail, take time or hang."""

    recording: RecordingBackend
    faulty: FaultyBackend
    slow: SlowBackend
    registry: AsyncRegistry


def watched(delay: float = 0.0, *, peeks: bool = False, **settings: Any) -> Watched:
    """A registry in memory that is watched; its listings attach no bytes unless ``peeks``.

    The recording is outermost, so that its times include the delay.
    """
    faulty = FaultyBackend(MemoryBackend())
    slow = SlowBackend(faulty, delay, peeks=peeks)
    recording = RecordingBackend(slow)
    return Watched(recording, faulty, slow, AsyncRegistry(recording, **settings))


async def watched_mounts(count: int = 3, **settings: Any) -> dict[str, Watched]:
    """Watched mounts a, b, c, each with a registry that holds something else."""
    found = {location: watched(**settings) for location in "abcdefgh"[:count]}
    for there in found.values():
        await there.registry.save("something else", 1)
    return found


def store_of(found: dict[str, Watched], **options: Any) -> AsyncStore:
    return AsyncStore({location: one.registry for location, one in found.items()}, **options)


BUCKET = "asyncstore-tests"


def make_bucket(url: str) -> None:
    """Make the bucket of the tests, on a server that checks no signatures."""
    request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
    with urllib.request.urlopen(request, timeout=10):
        pass


def s3_uri(url: str, prefix: str) -> str:
    """The URI of a prefix in the bucket of the tests, on the S3 that answers there."""
    return f"s3://{BUCKET}/{prefix}?endpoint_url={url}&region=us-east-1"


def fresh_name() -> str:
    """A name that no other test in this process uses."""
    return f"fresh-{next(_NUMBERS)}"


class Files:
    """A materializer for complex numbers that stores whatever files it is told to."""

    types = (complex,)

    def __init__(self, *files: dict[str, bytes], id: str = "files") -> None:
        self.id = id
        self.files = iter(files)

    def accepts(self, kind: type) -> bool:
        return False

    def is_large(self, obj: object) -> bool:
        return False

    def encode(self, obj: complex) -> Encoded:
        return Encoded(next(self.files))

    def decode(self, encoded: Encoded, as_type: type | None) -> complex:
        return 1j


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # no event tells of it
            await asyncio.sleep(0)


def tree_of(folder: Path) -> dict[str, bytes | None]:
    """All paths below a folder, with the bytes of files; links and folders have None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }

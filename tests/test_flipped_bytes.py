"""Each flipped byte of each stored file is caught by ``load``, by ``open_reader`` and by ``copy``.

Every byte of the settings, the records and the payload of small objects is changed in turn, and
those of a large object at the ends of its chunks and at random places. Whoever asks is told so, by
IntegrityError (or that the format is unknown, where the byte says which it is), or is answered
exactly as before, which is so where the byte was not looked at or has no meaning. Nobody is ever
answered anything else.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from asyncstore import AsyncRegistry, AsyncStore, IntegrityError, UnsupportedFormatError
from asyncstore.backends.local import LocalBackend
from asyncstore.digests import CHUNK_SIZE
from asyncstore.record import LINE_SIZE
from tests.support import tree_of

pytestmark = pytest.mark.asyncio

METADATA = {"stage": "dev", "acc": 0.9, "tags": ("a", 1)}
CAUGHT = "caught"
NOT_IN_PLACE = {"info"}
"""The ways that do not look at payload, and so neither catch what is damaged in it."""

Answers = dict[str, Any]
Place = tuple[Path, int, int]
"""A file, an offset in it, and a byte of the object to ask for: the same one, if it is payload."""


@dataclass
class Stored:
    """An object ``x`` in a directory, and how it answers."""

    folder: Path
    backend: LocalBackend
    seed: int = field(default_factory=lambda: random.SystemRandom().randrange(10**6))
    raw: bytes | None = None
    """Its bytes, if they are one file."""
    loads: int = 0

    @property
    def root(self) -> Path:
        return self.folder / "registry"

    def registry(self, **settings: Any) -> AsyncRegistry:
        """The registry, with nothing remembered."""
        return AsyncRegistry(self.backend, **settings)

    def files(self, folder: str) -> list[Path]:
        """The stored files that have bytes, in a folder of the registry."""
        found = sorted(path for path in (self.root / folder).rglob("*") if path.is_file())
        return [path for path in found if path.stat().st_size]

    def every_byte(self) -> Iterator[Place]:
        """Each byte of each stored file; those of payload are asked for."""
        assert {path.name for path in self.root.iterdir()} <= {"asv.json", "m", "d", "g", "l", "t"}
        for path in (self.root / "asv.json", *self.files("m"), *self.files("d")):
            size = path.stat().st_size
            payload = self.payload_of(path)
            for at in range(size):
                yield path, at, max(0, at - payload)

    def payload_of(self, path: Path) -> int:
        """Where in a stored file the bytes of the object begin; its end if there are none."""
        data = path.read_bytes()
        if path.name == "asv.json":
            return len(data)
        return LINE_SIZE + int(data[7:15]) if data[:5] == b"asv1 " else 0

    async def answers(self, registry: AsyncRegistry, at: int = 0) -> Answers:
        """What each way to read it answers, or that it caught the damage."""
        store = AsyncStore({"a": registry, "b": AsyncRegistry("memory://")})
        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            "load": lambda: self._loaded(store),
            "copy": lambda: self._copied(store),
            "info": lambda: store.info("a/x"),
        }
        if self.raw is not None:
            at = min(at, len(self.raw) - 1)
            ways |= {
                "read": lambda: self._read(store, 0, len(self.raw or b"")),
                "seek": lambda: self._read(store, at, at + 1),
                "range": lambda: self._read(store, max(0, at - 3), at + 4),
            }
        found: Answers = {}
        for way, ask in ways.items():
            try:
                found[way] = await ask()
            except (IntegrityError, UnsupportedFormatError):
                found[way] = CAUGHT
        return found

    async def _loaded(self, store: AsyncStore) -> Any:
        self.loads += 1
        out = self.folder / f"out-{self.loads}"
        record = await store.load_record("a/x", output_dir=out)
        value = record.value
        if isinstance(value, Path):
            value = tree_of(out)
        elif hasattr(value, "tobytes"):
            value = value.tobytes(), value.dtype, value.shape
        return value, type(value), record.metadata, record.created, record.hash, record.version

    async def _copied(self, store: AsyncStore) -> Any:
        await store.copy("a/x", target="b/x")
        about = await store.info("b/x")
        return {key: value for key, value in about.items() if key not in ("files", "committed")}

    async def _read(self, store: AsyncStore, start: int, end: int) -> bool:
        """Whether these bytes are the right ones, the metadata too."""
        async with store.open_reader("a/x") as reader:
            reader.seek(start)
            data = await reader.read(end - start)
            assert reader.metadata == METADATA
        assert self.raw is not None
        return data == self.raw[start:end]


@contextmanager
def flipped(path: Path, at: int, mask: int) -> Iterator[None]:
    """A byte of a file is another one while this is entered."""
    fd = os.open(path, os.O_RDWR)
    try:
        byte = os.pread(fd, 1, at)
        os.pwrite(fd, bytes([byte[0] ^ mask]), at)
        yield
        os.pwrite(fd, byte, at)
    finally:
        os.close(fd)


@pytest_asyncio.fixture
async def stored(tmp_path: Path) -> AsyncIterator[Stored]:
    backend = LocalBackend(tmp_path / "registry", durability="fast")
    yield Stored(tmp_path, backend)
    await backend.aclose()


async def swept(
    stored: Stored, places: Iterable[Place], warm: AsyncRegistry | None = None
) -> dict[tuple[str, int], set[str]]:
    """Flip each of these bytes in turn; where one was not caught, the ways that did not.

    ``warm`` is a registry that has seen it all before; else each is asked of one that has not.
    """
    print(f"seed {stored.seed}")
    chance = random.Random(stored.seed)
    right = await stored.answers(warm or stored.registry())
    assert CAUGHT not in right.values()
    missed: dict[tuple[str, int], set[str]] = {}
    for path, at, byte in places:
        where, mask = str(path.relative_to(stored.root)), chance.randrange(1, 256)
        before = sorted(os.listdir(stored.folder))
        with flipped(path, at, mask):
            found = await stored.answers(warm or stored.registry(), byte)
        for way in [way for way, answer in found.items() if answer != CAUGHT]:
            assert found[way] == right[way], f"{way} with byte {at} of {where} ^ {mask}"
            missed.setdefault((where, at), set()).add(way)
        if found["load"] == CAUGHT:
            assert sorted(os.listdir(stored.folder)) == before, f"left by byte {at} of {where}"
    return missed


def check_missed(
    stored: Stored, missed: dict[tuple[str, int], set[str]], places: Iterable[Place]
) -> None:
    """All was caught but by who did not look at payload, and for the line end of the settings."""
    for path, at, _ in places:
        ways = missed.pop((str(path.relative_to(stored.root)), at), set())
        if path.name == "asv.json" and at == path.stat().st_size - 1:
            continue  # the line end: spaces may stand for it, which mean nothing
        expected = NOT_IN_PLACE if at >= stored.payload_of(path) else set[str]()
        assert ways == expected, f"byte {at} of {path}: not caught by {ways}"
    assert not missed


def folder_of_files(place: Path, count: int = 1) -> Path:
    """Some files and an empty folder."""
    made = place / "source"
    (made / "sub" / "empty").mkdir(parents=True)
    for number in range(count):
        (made / "sub" / f"{number}.bin").write_bytes(bytes([number]) * (20 + number))
    (made / "run.sh").write_text("#!/bin/sh\n")
    (made / "run.sh").chmod(0o755)
    return made


def folder_of_many(place: Path) -> Path:
    """More small files than get an object each, so that they share one."""
    return folder_of_files(place, 9)


VALUES: dict[str, tuple[Any, int]] = {
    "bytes of their own": (bytes(range(100)), 0),
    "a value in the record": ({"a": [1, (2, 3)], "text": "é"}, 64 * 1024),
    "files in the record": (folder_of_files, 64 * 1024),
    "files that share an object": (folder_of_many, 0),
}


async def _save(stored: Stored, value: Any, inline_max: int) -> None:
    obj = value(stored.folder) if callable(value) else value
    await stored.registry(inline_max=inline_max).save("x", obj, metadata=METADATA)
    if not callable(value):
        async with stored.registry().open_reader("x") as reader:
            stored.raw = await reader.read()


@pytest.mark.parametrize("kind", VALUES)
async def test_every_flipped_byte_of_every_file_is_caught(stored: Stored, kind: str) -> None:
    await _save(stored, *VALUES[kind])
    assert bool(stored.files("d")) == (VALUES[kind][1] == 0)
    places = list(stored.every_byte())
    check_missed(stored, await swept(stored, places), places)


async def test_every_flipped_byte_of_an_array_is_caught(stored: Stored) -> None:
    np: Any = pytest.importorskip("numpy", reason="numpy is not installed")
    await _save(stored, np.arange(24, dtype="<i4").reshape(2, 3, 4), 64 * 1024)
    places = list(stored.every_byte())
    check_missed(stored, await swept(stored, places), places)


async def test_whoever_has_read_it_before_catches_it_as_well(stored: Stored) -> None:
    await _save(stored, *VALUES["bytes of their own"])
    places = [place for place in stored.every_byte() if place[0].name != "asv.json"]
    check_missed(stored, await swept(stored, places, stored.registry()), places)


async def test_a_flipped_byte_does_not_bring_back_what_was_deleted_or_hide_what_was_not(
    stored: Stored,
) -> None:
    await _save(stored, b"the newest that is left", 64 * 1024)
    registry = stored.registry()
    await registry.save("x", b"deleted")
    await registry.delete("x", "1.0.1")
    [tombstone, live] = stored.files("m")
    assert tombstone.stat().st_size == LINE_SIZE
    missed = await swept(stored, [(tombstone, at, 0) for at in range(LINE_SIZE)])
    assert missed == {}
    with flipped(tombstone, 5, 8):  # "D" is "L" now
        assert await stored.registry().load("x", "1.0.0") == b"the newest that is left"
    with flipped(live, 5, 8), pytest.raises(IntegrityError):
        await stored.registry().load("x")


async def test_flipped_bytes_of_every_chunk_of_a_large_object_are_caught(stored: Stored) -> None:
    size = CHUNK_SIZE + 64 * 1024
    await _save(stored, random.Random(1).randbytes(size), 64 * 1024)
    [payload] = stored.files("d")
    entry = (await stored.registry().info("x"))["files"][0]
    assert len(entry["c"]) == 2 * 64, "it was to be of more than one chunk"
    chance = random.Random(stored.seed)
    ends = [0, CHUNK_SIZE - 1, CHUNK_SIZE, size - 1]
    inside = [chance.randrange(start, end) for start, end in
              ((0, CHUNK_SIZE), (CHUNK_SIZE, size)) for _ in range(60)]  # fmt: skip
    places = [(payload, at, at) for at in (*ends, *inside)]
    check_missed(stored, await swept(stored, places), places)


async def test_every_flipped_byte_of_the_table_of_chunks_is_caught(stored: Stored) -> None:
    await _save(stored, bytes(CHUNK_SIZE + 1), 64 * 1024)
    [record] = stored.files("m")
    places = [(record, at, 0) for at in range(record.stat().st_size)]
    check_missed(stored, await swept(stored, places), places)

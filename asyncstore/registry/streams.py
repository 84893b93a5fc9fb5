"""Reading and writing an object's raw bytes as a stream, in memory that does not grow with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from asyncstore.backends.base import Buffer
from asyncstore.concurrency import SMALL, ended, maybe_in_worker, task_of, to_the_end
from asyncstore.digests import Hasher
from asyncstore.errors import BackendError, MaterializationError, RegistrySettingsConflict
from asyncstore.progress import UNWATCHED, Meter
from asyncstore.record import FileEntry, Record, file_entry, new_commit
from asyncstore.registry.base import metadata_of
from asyncstore.registry.chunks import Chunk
from asyncstore.registry.drafting import EMPTY, Draft, manifest_of
from asyncstore.registry.fetching import AHEAD, chunk_of
from asyncstore.registry.opened import Opened
from asyncstore.registry.reading import Found, Moved, Verify, fetch_record, find
from asyncstore.registry.writing import OnConflict, Payload, Saved, save
from asyncstore.versions import Version, format_version

_UPLOAD_GRACE = 60.0
_PIECE = 1024 * 1024


class ObjectReader:
    """The raw bytes of one stored object. Only verified bytes are handed over.

    It stays with the version that it was opened on: where that is overwritten or deleted and its
    bytes are gone, reading raises BackendError instead of going on with other bytes.
    """

    def __init__(
        self, o: Opened, found: Found, record: Record, verify: Verify, meter: Meter = UNWATCHED
    ) -> None:
        manifest = record.manifest
        if manifest is None or len(manifest.files) != 1:
            count = len(manifest.files) if manifest else 0
            raise MaterializationError(
                f"{found.name!r} is stored as {count} files, and a reader takes one: load it"
            )
        self._o, self._found, self._record = o, found, record
        self._verify: Verify = verify
        self._meter = meter
        self._entry: FileEntry = manifest.files[0]
        self._position = 0
        self._kept: tuple[int, Chunk] | None = None
        self._ahead: dict[int, asyncio.Task[Chunk]] = {}
        self.name = found.name
        self.version = format_version(found.version)
        self.size = self._entry.n
        """Bytes in all."""
        meter.begin(self.size, 1)
        self.hash = manifest.hash
        self.metadata: Mapping[str, Any] = metadata_of(manifest.metadata)
        self.immutable = o.descriptor.version_objects and not o.descriptor.mutable
        """Whether this version's number will never stand for other bytes."""

    def tell(self) -> int:
        """The position of the next byte."""
        return self._position

    def seek(self, position: int) -> int:
        """Go to a byte position, at most the end; nothing is read for it."""
        if position < 0:
            raise RegistrySettingsConflict(f"a position is 0 or more, got {position}")
        self._position = min(position, self.size)
        return self._position

    async def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes (-1: all that are left), fewer at the end, then none."""
        end = self.size if size < 0 else min(self._position + size, self.size)
        parts: list[bytes] = []
        while self._position < end:
            part = await self._part(self._position, end)
            parts.append(part)
            self._position += len(part)
            self._meter.moved(len(part))
        if len(parts) == 1:
            return parts[0]
        return await maybe_in_worker(sum(map(len, parts)) > SMALL, b"".join, parts)

    async def read_range(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` up to ``end``; the position goes to where they end."""
        self.seek(start)
        return await self.read(max(0, end - start))

    async def iter_chunks(self, size: int = 1024 * 1024) -> AsyncIterator[bytes]:
        """The bytes from the position on, ``size`` at a time."""
        if size < 1:
            raise RegistrySettingsConflict(f"a chunk has 1 byte or more, got {size}")
        while self._position < self.size:
            yield await self.read(size)

    async def _part(self, start: int, end: int) -> bytes:
        """Verified bytes from ``start``: up to ``end``, or the end of its chunk."""
        at = start // self._entry.s
        chunk = (await self._chunk(at)).data
        offset = start - at * self._entry.s
        return chunk[offset : offset + end - start]

    async def _chunk(self, at: int) -> Chunk:
        if self._kept is not None and self._kept[0] == at:
            return self._kept[1]
        in_order = self._kept is not None and self._kept[0] == at - 1
        self._kept = None
        if in_order and self._o.io.capabilities.remote:
            await self._look_ahead(at)
        try:
            chunk = await (self._ahead.pop(at, None) or self._fetch(at))
        except Moved:
            raise BackendError(
                f"{self.name!r} version {self.version} was overwritten or deleted while it was "
                "being read, and its bytes are gone: open it again"
            ) from None
        self._kept = (at, chunk)
        return chunk

    async def _look_ahead(self, at: int) -> None:
        """Have this chunk and the next ones under way, and no others."""
        wanted = range(at, min(at + 1 + AHEAD, len(self._entry.chunks)))
        passed = [self._ahead.pop(known) for known in list(self._ahead) if known not in wanted]
        await ended(passed)
        for number in wanted:
            if number not in self._ahead:
                work = self._fetch(number)
                self._ahead[number] = task_of(work, f"chunk {number} of {self.name}")

    async def _fetch(self, at: int) -> Chunk:
        fetch = partial(chunk_of, self._o, self._found, self._record, self._entry, at, self._verify)
        if self._verify != "integrity":  # "full" asks again, "none" has not been checked
            return Chunk(await fetch())
        key = (self._found.name, self._record.line.commit, at)
        return await self._o.shared.chunks.get(key, fetch)

    async def aclose(self) -> None:
        """Stop what is being read ahead. Leaving ``open_reader`` does it."""
        tasks, self._ahead = list(self._ahead.values()), {}
        await ended(tasks)


async def open_object(
    o: Opened, found: Found, verify: Verify, meter: Meter = UNWATCHED
) -> ObjectReader:
    """A reader on the version that was found; on the newest one now, where that is gone."""
    current: Found | None = found
    for _ in range(5):
        if current is None:
            raise o.not_found(found.name, found.version if found.pinned else None)
        try:
            return ObjectReader(o, current, await fetch_record(o, current, verify), verify, meter)
        except Moved:
            current = await find(o, found.name, found.version if found.pinned else None)
    raise BackendError(f"{found.name!r} was overwritten faster than it could be opened")


class ObjectWriter:
    """Takes the bytes of a new object. Nothing of it is visible before it is committed.

    ``version`` is None until then.
    """

    def __init__(self, o: Opened, name: str, metadata: dict[str, Any]) -> None:
        self._o = o
        self._name = name
        self._metadata = metadata
        self._commit = new_commit()
        self._hasher = Hasher()
        self._head: list[bytes] = []
        self._size = 0
        self._whole = True
        self._pieces: asyncio.Queue[Buffer | None] = asyncio.Queue(1)
        self._upload: asyncio.Task[None] | None = None
        o.meter.begin(None, 1)
        self.version: str | None = None
        self.skipped = False
        """Whether that version was there already, and was left as it is."""

    async def write(self, data: Buffer) -> None:
        """Take the next bytes; returns when there is room for more (back-pressure).

        The buffer may be changed afterwards. A write that was cancelled or failed may have been
        taken in part, so the object can no longer be written: going on raises BackendError.
        """
        self._check_whole()
        self._whole = False
        if isinstance(data, bytes):
            await self._take(data)
        else:  # the upload gets to it when the caller may have changed it already
            view = memoryview(data).cast("B")
            for at in range(0, view.nbytes, _PIECE):
                await self._take(bytes(view[at : at + _PIECE]))
        self._whole = True

    def _check_whole(self) -> None:
        if not self._whole:
            raise BackendError(
                f"a write to {self._name!r} was cut off or is still under way, so what is there "
                "has gaps: nothing was stored"
            )

    async def _take(self, data: bytes) -> None:
        await maybe_in_worker(len(data) > SMALL, self._hasher.update, data)
        self._size += len(data)
        self._o.meter.moved(len(data))
        if self._upload is None and self._size <= self._o.descriptor.inline_max:
            self._head.append(data)
            return
        await self._feed(data)

    async def _feed(self, data: Buffer | None) -> None:
        if self._upload is None:
            key = self._o.payload_key(self._name, self._commit, 0)
            self._upload = task_of(self._o.io.put(key, self._stream()), f"upload {key}")
        putting = asyncio.ensure_future(self._pieces.put(data))
        try:
            await asyncio.wait([putting, self._upload], return_when=asyncio.FIRST_COMPLETED)
            if putting.done():
                putting.result()  # cancelled alone, it has dropped its piece
            else:
                await self._upload  # raises what went wrong
        finally:
            putting.cancel()

    async def _stream(self) -> AsyncIterator[Buffer]:
        for head in self._head:
            yield head
        while (piece := await self._pieces.get()) is not None:
            yield piece

    async def commit(self, version: Version | None, policy: OnConflict) -> Saved:
        """Make what was written visible, all of it, or raise and leave nothing."""
        self._check_whole()
        inline = self._upload is None
        if self._upload is not None:
            await self._feed(None)
            await asyncio.wait([self._upload])
        digest = self._hasher.digest()
        entry = file_entry(
            "data.bin", digest, inline=0 if inline else None, payload=None if inline else 0
        )
        manifest = manifest_of(
            self._name,
            [entry],
            kind="builtins.bytes",
            materializer="bytes",
            params={},
            metadata=self._metadata,
        )
        draft = Draft(self._name, self._commit, manifest, payload_count=0 if inline else 1)
        if inline:
            draft = replace(draft, inline=b"".join(self._head))
        else:
            await _ended(self._upload)
        self._upload = None  # from here on the save takes care of the payload
        saved = await save(self._o, draft, version, policy)
        self.version, self.skipped = format_version(saved.version), saved.skipped
        self._o.meter.end()
        return saved

    async def abandon(self) -> None:
        """Stop, and leave nothing behind."""
        upload, self._upload = self._upload, None
        if upload is None:
            return
        upload.cancel()
        # A task of its own, because whoever is cancelled once more would not get past the wait.
        cleaning = task_of(self._clean_up_after(upload), f"abandon {upload.get_name()}")
        await to_the_end(cleaning, grace=_UPLOAD_GRACE)

    async def _clean_up_after(self, upload: asyncio.Task[None]) -> None:
        # However it ended, the payload may be there: a write under way is seen through first.
        await asyncio.wait([upload])
        if not upload.cancelled():
            upload.exception()  # else asyncio reports that nobody asked
        draft = Draft(self._name, self._commit, EMPTY, payload_count=1)
        await Payload(self._o, draft).end()


async def _ended(upload: asyncio.Task[None] | None) -> None:
    if upload is not None:
        await upload

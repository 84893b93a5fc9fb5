"""A directory as a backend: each small job is one hop to a worker thread, streams are aiofiles."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Callable, Sequence
from contextlib import suppress
from functools import partial
from io import FileIO
from typing import Any, Final, Literal, TypeVar

import aiofiles.threadpool

from asyncstore.backends.base import Blob, Buffer, Capabilities, Entry, Page, PutReply
from asyncstore.backends.posix import Busy, Directory, mapped
from asyncstore.backends.workers import Workers
from asyncstore.concurrency import backoff, to_the_end
from asyncstore.errors import BackendError, RegistrySettingsConflict

T = TypeVar("T")

Durability = Literal["full", "fast"]

_WORKERS: Final = 16
_WRITE_GRACE: Final = 60.0
"""Seconds that a cancelled caller waits for the file system to end what it began."""


class LocalBackend:
    """A backend in a directory of a local file system with POSIX semantics.

    With ``durability="full"`` (the default) whatever was acknowledged survives a power failure:
    every file and every directory entry is flushed first. ``"fast"`` leaves out every fsync: it
    survives a crash of the process, but after a power failure recent objects may be gone, and a
    file may be there with missing bytes, which reading then reports as an IntegrityError.

    Each backend has threads of its own, so that a hung disk holds up nobody else.
    """

    def __init__(self, root: str | os.PathLike[str], *, durability: Durability = "full") -> None:
        if durability not in ("full", "fast"):
            raise RegistrySettingsConflict(f"durability={durability!r}: expected 'full' or 'fast'")
        path = os.path.expanduser(os.fspath(root))
        path = os.path.normpath(path if os.path.isabs(path) else os.path.join(os.getcwd(), path))
        self._directory = Directory(path, durable=durability == "full")
        self._executor: Workers | None = None
        self._owner = 0

    @property
    def uri(self) -> str:
        """``file:///path``."""
        return f"file://{self._directory.root}"

    @property
    def capabilities(self) -> Capabilities:
        """All of them."""
        return Capabilities()

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> Blob | None:
        """Read, in one hop."""
        return await self._read(f"reading {key}", self._directory.get, key, start, length)

    async def head(self, key: str) -> Entry | None:
        """Size, in one hop."""
        return await self._read(f"asking for {key}", self._directory.head, key)

    async def list(
        self,
        prefix: str,
        *,
        start_after: str = "",
        limit: int = 1000,
        peek: int | None = None,
        deep: bool = False,
    ) -> Page:
        """List one directory, in one hop, peeking included."""
        what = f"listing {prefix}"
        return await self._read(what, self._directory.list, prefix, start_after, limit, peek, deep)

    async def put(self, key: str, data: Buffer | AsyncIterable[Buffer]) -> None:
        """Store all or nothing; a stream is written piece by piece as it comes."""
        if isinstance(data, (bytes, bytearray, memoryview)):
            await self._write(f"writing {key}", self._directory.write, key, data)
        else:
            await self._put_stream(key, data)

    async def put_if(self, key: str, data: Buffer, *, tag: str | None) -> PutReply:
        """Create with link(2), or compare and rename under the lock; one hop."""
        if tag is None:
            return await self._write(f"creating {key}", self._directory.create, key, data)
        return await self._write(f"replacing {key}", self._directory.replace, key, data, tag)

    async def put_next(self, key: str, data: Buffer, *, newest: str) -> PutReply:
        """Look at the directory and create, in one hop."""
        what = f"creating {key}"
        return await self._write(what, self._directory.create_next, key, data, newest)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove, in one hop."""
        await self._write(f"removing {len(keys)} files", self._directory.delete, keys)

    async def aclose(self) -> None:
        """Let the threads go; the next use starts new ones."""
        executor, self._executor = self._executor, None
        if executor is not None and self._owner == os.getpid():
            executor.shutdown(wait=False)

    async def _put_stream(self, key: str, pieces: AsyncIterable[Buffer]) -> None:
        what = f"writing {key}"
        await self._write(what, self._directory.path, key)  # before anything of the stream is read
        staged = await self._write(what, self._directory.stage)
        try:
            await self._fill(what, staged, pieces)
            await self._write(what, self._directory.publish, staged, key)
        finally:
            await self._write(what, self._directory.discard, staged)

    async def _fill(self, what: str, staged: str, pieces: AsyncIterable[Buffer]) -> None:
        # The list holds the file even where the caller is cancelled while it is being opened.
        files: list[FileIO] = []
        try:
            await self._write(what, lambda: files.append(FileIO(staged, "xb")))
            stream = aiofiles.threadpool.wrap(files[0], executor=self._pool())
            async for piece in pieces:
                view = memoryview(piece).cast("B")
                while view.nbytes:  # one write may take less than it is given
                    try:
                        written = await to_the_end(stream.write(view), grace=_WRITE_GRACE)
                    except OSError as error:  # what the stream itself raises stays as it is
                        raise mapped(error, what) from error
                    view = view[written:]
            await self._write(what, self._directory.flush_file, files[0].fileno())
        finally:
            for file in files:
                await self._write(what, file.close)

    async def _read(self, what: str, job: Callable[..., T], *args: object) -> T:
        """One hop that may be left alone when the caller is cancelled: it changes nothing."""
        attempt = 0
        while True:
            try:
                return await self._hop(job, *args)
            except Busy:
                await backoff(attempt)
                attempt += 1
            except BackendError:
                raise
            except OSError as error:
                raise mapped(error, what) from error

    async def _write(self, what: str, job: Callable[..., T], *args: object) -> T:
        """One hop that is seen through, so that nothing goes on behind a cancelled caller."""
        attempt = 0
        while True:
            try:
                return await to_the_end(self._hop(job, *args), grace=_WRITE_GRACE)
            except Busy:
                await backoff(attempt)
                attempt += 1
            except BackendError:
                raise
            except OSError as error:
                raise mapped(error, what) from error

    def _hop(self, job: Callable[..., T], *args: object) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._pool().hand(partial(_run, loop, future, job, args))
        return future

    def _pool(self) -> Workers:
        # A forked child has the object but not its threads.
        if self._executor is None or self._owner != os.getpid():
            self._owner = os.getpid()
            self._executor = Workers(_WORKERS, "asyncstore-local")
        return self._executor


def _run(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[T],
    job: Callable[..., T],
    args: tuple[object, ...],
) -> None:
    """On a worker thread: do the job, and hand its result or error over to the event loop."""
    handover: Callable[[], None]
    try:
        result = job(*args)
    except BaseException as error:
        handover = partial(_settle, future, future.set_exception, error)
    else:
        handover = partial(_settle, future, future.set_result, result)
    with suppress(RuntimeError):  # the loop was closed meanwhile: nobody is waiting any more
        loop.call_soon_threadsafe(handover)


def _settle(future: asyncio.Future[T], set_to: Callable[[Any], None], value: object) -> None:
    if not future.done():  # else its waiter was cancelled
        set_to(value)

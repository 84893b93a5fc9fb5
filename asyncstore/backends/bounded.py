"""Every request of a registry passes here: it waits for a slot, and its time is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from typing import Final, TypeVar

from asyncstore.backends.base import (
    Backend,
    Blob,
    Buffer,
    Capabilities,
    CreatesNext,
    Entry,
    Page,
    PutReply,
    PutStatus,
)
from asyncstore.concurrency import late_result
from asyncstore.errors import BackendCapabilityError, BackendTimeout

T = TypeVar("T")

_SLOTS: Final = 64

_SLOWEST: Final = 512 * 1024
"""Bytes a second below which a transfer counts as hung."""


class Slots:
    """So many requests at once, in whatever event loop is running."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._loop: asyncio.AbstractEventLoop | None = None
        self._semaphore = asyncio.Semaphore(count)

    def taken(self) -> asyncio.Semaphore:
        """To be entered for the time of one request; waiters are served in order."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a semaphore belongs to the loop that first waits for it
            self._loop, self._semaphore = loop, asyncio.Semaphore(self._count)
        return self._semaphore


class _Turn:
    """A slot that may be given back and taken again."""

    def __init__(self, semaphore: asyncio.Semaphore) -> None:
        self._semaphore = semaphore
        self._held = False

    async def take(self) -> None:
        await self._semaphore.acquire()
        self._held = True

    def give(self) -> None:
        if self._held:
            self._held = False
            self._semaphore.release()


class _Lending:
    """The pieces of a stream, with its slot given back while the next one is awaited.

    Who makes it may need a slot for it: a copy reads what it writes, and whoever writes piece by
    piece may load something in between.
    """

    def __init__(self, turn: _Turn, pieces: AsyncIterable[Buffer]) -> None:
        self._turn = turn
        self._pieces = aiter(pieces)

    def __aiter__(self) -> _Lending:
        return self

    async def __anext__(self) -> Buffer:
        self._turn.give()
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            await self._turn.take()
            raise
        await self._turn.take()
        return piece


class BoundedBackend:
    """A backend whose requests are bounded in time and, where ``slots`` are given, in number.

    ``timeout`` is in seconds and for a small request; a large one has the time that its size
    takes at 512 KiB a second on top. A slot is held for one request only, never while another (or
    the next piece of a stream) is awaited, so no batch can deadlock on it. ``on_send`` is called
    when a request got its slot.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        timeout: float,
        slots: Slots | None = None,
        on_send: Callable[[], None] | None = None,
    ) -> None:
        self.inner = inner
        self._timeout = timeout
        self._slots = slots or Slots(_SLOTS)
        self._on_send = on_send

    def within(self, slots: Slots, on_send: Callable[[], None] | None = None) -> BoundedBackend:
        """The same backend, with its requests counted by ``slots``."""
        return BoundedBackend(self.inner, timeout=self._timeout, slots=slots, on_send=on_send)

    @property
    def uri(self) -> str:
        """Where the bytes are."""
        return self.inner.uri

    @property
    def capabilities(self) -> Capabilities:
        """What the backend keeps."""
        return self.inner.capabilities

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> Blob | None:
        """Read; the time allows for ``length``, or for any size where that is None."""
        return await self._send(
            "reading", key, length, lambda: self.inner.get(key, start=start, length=length)
        )

    async def head(self, key: str) -> Entry | None:
        """Size and tag."""
        return await self._send("asking for", key, 0, lambda: self.inner.head(key))

    async def list(
        self,
        prefix: str,
        *,
        start_after: str = "",
        limit: int = 1000,
        peek: int | None = None,
        deep: bool = False,
    ) -> Page:
        """One page."""
        return await self._send(
            "listing",
            prefix,
            0,
            lambda: self.inner.list(
                prefix, start_after=start_after, limit=limit, peek=peek, deep=deep
            ),
        )

    async def put(self, key: str, data: Buffer | AsyncIterable[Buffer]) -> None:
        """Store unconditionally; a stream is bounded by whoever feeds it."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            return await self._put_stream(key, data)
        size = memoryview(data).nbytes
        return await self._send("writing", key, size, lambda: self.inner.put(key, data))

    async def _put_stream(self, key: str, pieces: AsyncIterable[Buffer]) -> None:
        turn = _Turn(self._slots.taken())
        await turn.take()
        try:
            if self._on_send is not None:
                self._on_send()
            await self.inner.put(key, _Lending(turn, pieces))
        finally:
            turn.give()

    async def put_if(self, key: str, data: Buffer, *, tag: str | None) -> PutReply:
        """Write conditionally; a timeout is an answer that tells nothing."""
        try:
            return await self._send(
                "writing",
                key,
                memoryview(data).nbytes,
                lambda: self.inner.put_if(key, data, tag=tag),
            )
        except BackendTimeout as error:
            return _late_reply(error)

    @property
    def creates_next(self) -> bool:
        """Whether :meth:`put_next` may be asked."""
        return isinstance(self.inner, CreatesNext)

    async def put_next(self, key: str, data: Buffer, *, newest: str) -> PutReply:
        """Look at the listing and create, in one request of a backend that can."""
        inner = self.inner
        if not isinstance(inner, CreatesNext):
            raise BackendCapabilityError(f"{self.uri} cannot list and create in one request")
        try:
            return await self._send(
                "writing",
                key,
                memoryview(data).nbytes,
                lambda: inner.put_next(key, data, newest=newest),
            )
        except BackendTimeout as error:
            return _late_reply(error)

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove."""
        await self._send("removing", f"{len(keys)} keys", 0, lambda: self.inner.delete(keys))

    async def aclose(self) -> None:
        """Close the backend itself."""
        await self.inner.aclose()

    async def _send(
        self, doing: str, what: str, size: int | None, request: Callable[[], Awaitable[T]]
    ) -> T:
        """Make one request, in a slot and in time. Every load passes here, so it is kept lean."""
        async with self._slots.taken():
            if self._on_send is not None:
                self._on_send()
            seconds = None if size is None else self._timeout + size / _SLOWEST
            timer = asyncio.timeout(seconds)
            try:
                async with timer:
                    return await request()
            except TimeoutError as error:
                if not timer.expired():
                    raise
                raise BackendTimeout(
                    f"{self.uri} gave no answer within {seconds:.1f} s while {doing} {what}"
                ) from error


def _late_reply(error: BackendTimeout) -> PutReply:
    """The answer to a conditional write whose time was up.

    A backend that sees a write through may know the answer by then. It must not be lost: a flush
    that fails late cannot be seen by reading the record back.
    """
    late = late_result(error)
    return late if isinstance(late, PutReply) else PutReply(PutStatus.UNKNOWN, error=error)

"""Every request of a registry passes here: it has its turn, its time and its second try."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Final, TypeVar

from asyncstore.backends.base import (
    Backend,
    Blob,
    Buffer,
    Capabilities,
    CopiesWithin,
    CreatesNext,
    Entry,
    Multipart,
    Page,
    PutReply,
    PutStatus,
)
from asyncstore.backends.multipart import parts_of, put_in_parts
from asyncstore.backends.retries import Budget, RetryPolicy
from asyncstore.concurrency import first_of, late_result
from asyncstore.errors import BackendCapabilityError, BackendError, BackendTimeout

T = TypeVar("T")

_SLOTS: Final = 64
_PIECE: Final = 8 * 1024 * 1024

SLOWEST: Final = 512 * 1024
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

    def __init__(
        self,
        turn: _Turn,
        pieces: AsyncIterable[Buffer],
        on_stored: Callable[[int], None] | None,
    ) -> None:
        self._turn = turn
        self._pieces = aiter(pieces)
        self._on_stored = on_stored
        self._given = 0

    def __aiter__(self) -> _Lending:
        return self

    async def __anext__(self) -> Buffer:
        if self._on_stored is not None and self._given:  # who asks for more has stored that
            self._on_stored(self._given)
        self._given = 0
        self._turn.give()
        try:
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            await self._turn.take()
            raise
        await self._turn.take()
        self._given = memoryview(piece).nbytes
        return piece


class BoundedBackend:
    """A backend whose requests are bounded in time and, where ``slots`` are given, in number.

    ``timeout`` is in seconds and for one attempt at a small request; a large one has the time
    that its size takes at 512 KiB a second on top. A slot is held for one attempt only, never
    while another (or the next piece of a stream) is awaited, so no batch can deadlock on it.
    ``on_send`` is called when a request got its slot.

    Over a network, requests that may be repeated (all but conditional writes, which only their
    commit may send again) are repeated as ``retries`` says, for ``patience`` seconds at most.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        timeout: float,
        patience: float = 60.0,
        retries: RetryPolicy | None = None,
        slots: Slots | None = None,
    ) -> None:
        self.inner = inner
        self._timeout = timeout
        self._patience = patience
        self._slots = slots or Slots(_SLOTS)
        self._on_send: Callable[[], None] | None = None
        self._on_stored: Callable[[int], None] | None = None
        self._deadline: float | None = None
        # Asked for once: to see whether an object fits a protocol takes microseconds.
        self._remote = inner.capabilities.remote
        self._multipart = inner if isinstance(inner, Multipart) else None
        self._next = inner if isinstance(inner, CreatesNext) else None
        self._retries = retries or RetryPolicy()
        self._budget = Budget(self._retries.budget)
        self._hedges = Budget(self._retries.hedge_budget)

    def within(self, slots: Slots, on_send: Callable[[], None] | None = None) -> BoundedBackend:
        """The same backend, with its requests counted by ``slots``."""
        view = self._view()
        view._slots, view._on_send = slots, on_send
        return view

    def until(self, deadline: float | None) -> BoundedBackend:
        """The same backend for one operation, which ends by ``deadline`` (of the loop's clock).

        None takes the deadline away again.
        """
        view = self._view()
        view._deadline = deadline
        return view

    def watched(self, on_stored: Callable[[int], None]) -> BoundedBackend:
        """The same backend, which says how many bytes of a ``put`` were stored, piece by piece."""
        view = self._view()
        view._on_stored = on_stored
        return view

    def _view(self) -> BoundedBackend:
        view = BoundedBackend.__new__(BoundedBackend)
        view.__dict__.update(self.__dict__)
        return view

    @property
    def uri(self) -> str:
        """Where the bytes are."""
        return self.inner.uri

    @property
    def capabilities(self) -> Capabilities:
        """What the backend keeps."""
        return self.inner.capabilities

    async def get(
        self, key: str, *, start: int = 0, length: int | None = None, likely: int | None = None
    ) -> Blob | None:
        """Read; the time allows for ``length``, or for any size where that is None.

        ``likely`` is how many bytes will come in all likelihood, where ``length`` is only a bound:
        then the time allows for so many.
        """
        size = length if likely is None else likely
        return await self._read(
            "reading", key, size, lambda: self.inner.get(key, start=start, length=length)
        )

    async def head(self, key: str) -> Entry | None:
        """Size and tag."""
        return await self._read("asking for", key, 0, lambda: self.inner.head(key))

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
        return await self._read(
            "listing",
            prefix,
            0,
            lambda: self.inner.list(
                prefix, start_after=start_after, limit=limit, peek=peek, deep=deep
            ),
        )

    async def put(self, key: str, data: Buffer | AsyncIterable[Buffer]) -> None:
        """Store unconditionally; a stream is bounded by whoever feeds it."""
        if self._multipart is not None:
            return await put_in_parts(self, key, data)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            return await self._put_stream(key, data)
        size = memoryview(data).nbytes
        if self._on_stored is not None and size > _PIECE and not self._remote:
            async with aclosing(parts_of(data, _PIECE)) as pieces:
                return await self._put_stream(key, pieces)
        await self._repeat("writing", key, size, lambda: self.inner.put(key, data))
        return self._stored(size)

    def _stored(self, size: int) -> None:
        if self._on_stored is not None:
            self._on_stored(size)

    def copies_from(self, source: BoundedBackend, size: int) -> bool:
        """Whether the service can copy objects of so many bytes by itself."""
        copier = self.inner
        return isinstance(copier, CopiesWithin) and copier.copies_from(source.inner, size)

    async def copy_object(
        self, source: BoundedBackend, source_key: str, key: str, size: int
    ) -> None:
        """Have the service copy an object of ``size`` bytes."""
        copier = self.inner
        if not isinstance(copier, CopiesWithin):
            raise BackendCapabilityError(f"{self.uri} does not copy objects by itself")
        await self._repeat(
            "copying to", key, size, lambda: copier.copy_object(source.inner, source_key, key)
        )

    # -- parts: what put_in_parts asks for; only where the backend has them ------------------

    @property
    def part_size(self) -> int:
        """Bytes of a part."""
        return self._parts.part_size

    @property
    def _parts(self) -> Multipart:
        if self._multipart is None:
            raise BackendCapabilityError(f"{self.uri} does not store objects in parts")
        return self._multipart

    async def put_whole(self, key: str, data: Buffer) -> None:
        """Store in one request."""
        size = memoryview(data).nbytes
        await self._repeat("writing", key, size, lambda: self._parts.put_whole(key, data))
        self._stored(size)

    async def begin_parts(self, key: str) -> str:
        """Start an upload."""
        return await self._repeat("starting to write", key, 0, lambda: self._parts.begin_parts(key))

    async def put_part(self, key: str, upload: str, number: int, data: Buffer) -> str:
        """Store a part."""
        size = memoryview(data).nbytes
        tag = await self._repeat(
            f"writing part {number} of",
            key,
            size,
            lambda: self._parts.put_part(key, upload, number, data),
        )
        self._stored(size)
        return tag

    async def finish_parts(self, key: str, upload: str, tags: Sequence[str], size: int) -> None:
        """Make the object visible; putting it together may take the service a while."""
        await self._repeat(
            "ending to write",
            key,
            size // 16,
            lambda: self._parts.finish_parts(key, upload, tags, size),
        )

    async def abandon_parts(self, key: str, upload: str) -> None:
        """Drop an upload."""
        await self._repeat(
            "no longer writing", key, 0, lambda: self._parts.abandon_parts(key, upload)
        )

    async def _put_stream(self, key: str, pieces: AsyncIterable[Buffer]) -> None:
        turn = _Turn(self._slots.taken())
        await turn.take()
        try:
            if self._on_send is not None:
                self._on_send()
            await self.inner.put(key, _Lending(turn, pieces, self._on_stored))
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
        return self._next is not None

    async def put_next(self, key: str, data: Buffer, *, newest: str) -> PutReply:
        """Look at the listing and create, in one request of a backend that can."""
        inner = self._next
        if inner is None:
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
        await self._repeat("removing", f"{len(keys)} keys", 0, lambda: self.inner.delete(keys))

    async def aclose(self) -> None:
        """Close the backend itself."""
        await self.inner.aclose()

    async def _read(
        self, doing: str, what: str, size: int | None, request: Callable[[], Awaitable[T]]
    ) -> T:
        """A request that changes nothing: it may be repeated, and even made twice at once."""
        if not self._remote:
            return await self._send(doing, what, size, request)
        after = self._retries.hedge_after
        if after is None:
            return await self._repeat(doing, what, size, request)
        self._hedges.pay()
        return await self._repeat(
            doing,
            what,
            size,
            request,
            lambda send: first_of(send, after=after, again=self._hedges.take),
        )

    async def _repeat(
        self,
        doing: str,
        what: str,
        size: int | None,
        request: Callable[[], Awaitable[T]],
        hedged: Callable[[Callable[[], Coroutine[Any, Any, T]]], Awaitable[T]] | None = None,
    ) -> T:
        """A request that does the same when it is made again: if it fails, it may be."""
        give_up = self._deadline or asyncio.get_running_loop().time() + self._patience
        send = (self if self._deadline or not self._remote else self.until(give_up))._send
        self._budget.pay()
        attempt = 1
        while True:
            try:
                if hedged is None:
                    return await send(doing, what, size, request)
                return await hedged(lambda: send(doing, what, size, request))
            except BackendError as error:
                delay = self._retries.delay(attempt)
                late = asyncio.get_running_loop().time() + delay >= give_up
                if (
                    not (self._remote and error.transient)
                    or late
                    or attempt >= self._retries.attempts
                    or not self._budget.take()
                ):
                    raise
            await asyncio.sleep(delay)
            attempt += 1

    async def _send(
        self, doing: str, what: str, size: int | None, request: Callable[[], Awaitable[T]]
    ) -> T:
        """Make one request, in a slot and in time. Every load passes here, so it is kept lean."""
        async with self._slots.taken():
            if self._on_send is not None:
                self._on_send()
            seconds = self._seconds(size)
            timer = asyncio.timeout(seconds)
            try:
                async with timer:
                    return await request()
            except TimeoutError as error:
                if not timer.expired():
                    raise
                raise BackendTimeout(
                    f"{self.uri} gave no answer within {seconds:.1f} s while {doing} {what}",
                    transient=self._remote,
                ) from error

    def _seconds(self, size: int | None) -> float | None:
        """How long one attempt may take; None for what is bounded by whoever reads it."""
        if size is None:
            return None
        small = self._timeout
        if self._deadline is not None:
            small = min(small, self._deadline - asyncio.get_running_loop().time())
        return max(0.0, small) + size / SLOWEST


def _late_reply(error: BackendTimeout) -> PutReply:
    """The answer to a conditional write whose time was up.

    A backend that sees a write through may know the answer by then. It must not be lost: a flush
    that fails late cannot be seen by reading the record back.
    """
    late = late_result(error)
    return late if isinstance(late, PutReply) else PutReply(PutStatus.UNKNOWN, error=error)

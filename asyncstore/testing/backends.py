"""Backends that are slow, that count, and that cheat: each of them around any other backend."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from asyncstore.backends.base import Backend, Buffer, Page, PutReply, PutStatus
from asyncstore.backends.wrapper import Wrapper
from asyncstore.testing.faults import Fault, FaultyBackend, Mode

__all__ = [
    "CheatingBackend",
    "Fault",
    "FaultyBackend",
    "Mode",
    "RecordingBackend",
    "Request",
    "SlowBackend",
]

T = TypeVar("T")


class SlowBackend(Wrapper):
    """A backend whose every request takes ``delay`` seconds longer, or hangs.

    Listings attach no bytes unless ``peeks``: an object store never does. While it hangs
    (``hang=True`` or :meth:`hang`), each request waits until :meth:`resume`, or for ever.
    """

    def __init__(
        self, inner: Backend, delay: float = 0.0, *, peeks: bool = False, hang: bool = False
    ) -> None:
        super().__init__(inner)
        self.delay = delay
        self.peeks = peeks
        self._hangs = hang
        self._waiting: set[asyncio.Future[None]] = set()

    def hang(self) -> None:
        """From now on no request is answered."""
        self._hangs = True

    def resume(self) -> None:
        """Requests are passed on again, those that wait first. To be called in their loop."""
        self._hangs = False
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def waiting(self) -> int:
        """How many requests hang right now."""
        return len(self._waiting)

    async def list(
        self,
        prefix: str,
        *,
        start_after: str = "",
        limit: int = 1000,
        peek: int | None = None,
        deep: bool = False,
    ) -> Page:
        """One page; without the hint to peek, unless this backend does."""
        peek = peek if self.peeks else None
        return await super().list(
            prefix, start_after=start_after, limit=limit, peek=peek, deep=deep
        )

    async def passing(
        self, method: str, keys: Sequence[str], send: Callable[[], Awaitable[T]]
    ) -> T:
        """Wait, then pass the request on."""
        while self._hangs:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)
        await asyncio.sleep(self.delay)
        return await send()


@dataclass(frozen=True, slots=True)
class Request:
    """One request that has ended.

    ``start`` and ``end`` are seconds of a clock that never shows the same time twice. ``outcome``
    is the :class:`PutStatus` value of a ``put_if``, "absent" for a None, else "ok"; it is empty
    where ``error`` says what was raised. A deletion's ``key`` is its keys with spaces between.
    """

    method: str
    key: str
    start: float
    end: float
    outcome: str = ""
    error: BaseException | None = None


class RecordingBackend(Wrapper):
    """A backend that writes down every request, in the order in which they ended.

    ``in_flight`` requests are under way now, ``peak`` were at most since the last :meth:`clear`.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.requests: list[Request] = []
        self.in_flight = 0
        self.peak = 0
        self._now = 0.0

    def count(self, method: str | None = None) -> int:
        """How many requests ended, of one method or of all."""
        return sum(1 for request in self.requests if method in (None, request.method))

    def depth(self) -> int:
        """The longest chain of requests of which each began after the one before had ended.

        With a round trip of one second this many seconds pass at least, however many requests
        there are: the number to hold down.
        """
        length, ended = 0, -math.inf
        for request in sorted(self.requests, key=lambda request: request.end):
            if request.start > ended:
                length, ended = length + 1, request.end
        return length

    def clear(self) -> None:
        """Forget what was recorded so far."""
        self.requests.clear()
        self.peak = self.in_flight

    async def passing(
        self, method: str, keys: Sequence[str], send: Callable[[], Awaitable[T]]
    ) -> T:
        """Pass the request on, and record how it ended."""
        key, start = " ".join(keys), self._clock()
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        outcome, raised = "", None
        try:
            answer = await send()
            outcome = _outcome(method, answer)
        except BaseException as error:
            raised = error
            raise
        finally:
            self.in_flight -= 1
            self.requests.append(Request(method, key, start, self._clock(), outcome, raised))
        return answer

    def _clock(self) -> float:
        # Of two requests in the same tick of a coarse clock one still comes first.
        self._now = max(time.perf_counter(), math.nextafter(self._now, math.inf))
        return self._now


def _outcome(method: str, answer: object) -> str:
    if isinstance(answer, PutReply):
        return answer.status.value
    return "absent" if answer is None and method in ("get", "head") else "ok"


class CheatingBackend(Wrapper):
    """A backend that claims conditional writes and does not keep them: what a check must catch.

    With ``ignores_create`` or ``ignores_replace`` that condition is not even looked at. With
    ``races``, looking and writing are two steps, so that of several writers at once all may win.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        ignores_create: bool = False,
        ignores_replace: bool = False,
        races: bool = True,
    ) -> None:
        super().__init__(inner)
        self.ignores_create = ignores_create
        self.ignores_replace = ignores_replace
        self.races = races

    async def put_if(self, key: str, data: Buffer, *, tag: str | None) -> PutReply:
        """Write, whatever is there, or whatever got there since it was looked at."""
        ignores = self.ignores_create if tag is None else self.ignores_replace
        if not ignores and not self.races:
            return await self.inner.put_if(key, data, tag=tag)
        if not ignores:
            found = await self.inner.get(key)
            if (found.tag if found else None) != tag:
                return PutReply(PutStatus.REFUSED)
            await asyncio.sleep(0.001)  # the others look now
        await self.inner.put(key, data)
        return PutReply(PutStatus.DONE)

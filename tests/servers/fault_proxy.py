"""A reverse proxy that breaks what passes through it, in a thread of the test's own process.

It passes on the method, the target, the headers (the Host too) and the body just as they came, so
that signatures stay valid, and the answer likewise. :class:`Faults` says what goes wrong instead::

    with FaultProxy(server.url) as proxy:
        proxy.faults.add(Fault.LOSE, method="PUT", match="/m/", times=1)
        ...  # a client of proxy.url
        assert proxy.faults.applied[Fault.LOSE] == 1

A client on aiohttp, such as aiobotocore, repeats GET, HEAD, PUT and DELETE once by itself when a
connection breaks before the answer. So ``times=1`` shows what such a repetition leads to, and it
takes ``times=2`` for an error to be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, web
from multidict import CIMultiDict
from yarl import URL

from tests.servers.serving import error_xml, listen, reset_connection, take_body

# They concern one connection, and here are two. Expect was answered when the body was taken.
_ONE_CONNECTION = ("Connection", "Keep-Alive", "Transfer-Encoding", "Expect", "Proxy-Connection")

# aiohttp adds these where the client sent none, and a request is passed on as it came.
_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Fault(StrEnum):
    """What can go wrong with a request."""

    DELAY = "delay"
    """It is passed on, ``seconds`` later."""

    HANG = "hang"
    """Nothing happens until the faults are cleared; then it is passed on."""

    RESET = "reset"
    """The connection is reset, and nothing is passed on."""

    LOSE = "lose"
    """It is passed on and the server acts, but the connection is reset instead of an answer."""

    TRUNCATE = "truncate"
    """The answer promises its whole length, and ends with the connection after half of it."""

    BUSY = "busy"
    """It is answered with 503 SlowDown, and nothing is passed on."""

    FORBID = "forbid"
    """It is answered with 403 AccessDenied, and nothing is passed on."""

    GARBAGE = "garbage"
    """It is passed on, and answered with 200 and the first half of the XML of an answer."""


@dataclass(slots=True)
class Rule:
    """To which requests a fault happens: see :meth:`Faults.add`."""

    fault: Fault
    method: str
    match: str
    times: int | None
    chance: float
    seconds: float


class Faults:
    """The rules, and a count of what happened. Every method may be called from any thread.

    Args:
        seed: of the chances; the same requests in the same order meet the same faults.
    """

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._rules: list[Rule] = []
        self._requests = 0
        self._applied: Counter[Fault] = Counter()
        self.on_clear: Callable[[], None] = lambda: None  # how the proxy hears of it

    def add(
        self,
        fault: Fault,
        *,
        method: str = "",
        match: str = "",
        times: int | None = None,
        chance: float = 1.0,
        seconds: float = 0.0,
    ) -> None:
        """Let a fault happen from now on.

        Of several that apply to a request, delays add up and the first of the others counts.

        Args:
            fault: what happens.
            method: only to this method; empty is any.
            match: only where the path and query contain this.
            times: only so often; None is no limit.
            chance: with this probability.
            seconds: how long a delay is.
        """
        with self._lock:
            self._rules.append(Rule(fault, method, match, times, chance, seconds))

    def clear(self) -> None:
        """Take all rules away; requests that hang go on. The counts stay."""
        with self._lock:
            self._rules.clear()
        self.on_clear()

    @property
    def requests(self) -> int:
        """How many requests came, with and without faults."""
        with self._lock:
            return self._requests

    @property
    def applied(self) -> Counter[Fault]:
        """How often each fault happened."""
        with self._lock:
            return self._applied.copy()

    def meet(self, method: str, target: str) -> tuple[float, Fault | None]:
        """What happens to this request: how long it is delayed, and another fault."""
        delay, found = 0.0, None
        with self._lock:
            self._requests += 1
            for rule in self._rules:
                if rule.method not in ("", method) or rule.match not in target or rule.times == 0:
                    continue
                if rule.fault is not Fault.DELAY and found is not None:
                    continue
                if rule.chance < 1.0 and self._random.random() >= rule.chance:
                    continue
                if rule.times is not None:
                    rule.times -= 1
                self._applied[rule.fault] += 1
                if rule.fault is Fault.DELAY:
                    delay += rule.seconds
                else:
                    found = rule.fault
        return delay, found


class FaultProxy:
    """Passes requests on to ``upstream``, a URL without a path, in a thread of its own.

    When it is closed, its thread has ended, every connection is broken, and requests that hang too.
    """

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        self.faults = Faults(seed)
        self.url = ""
        self._upstream = upstream.rstrip("/")
        self._thread: threading.Thread | None = None
        self._started: Future[str] = Future()
        self._loop: asyncio.AbstractEventLoop
        self._session: ClientSession
        self._cleared: asyncio.Event
        self._closing: asyncio.Event

    def start(self) -> None:
        """Begin to listen; ``url`` says where."""
        self._thread = threading.Thread(target=self._work, name="fault-proxy", daemon=True)
        self._thread.start()
        self.url = self._started.result(30)

    def close(self) -> None:
        """Stop, breaking every connection; does nothing the second time."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._closing.set)
        thread.join(30)
        assert not thread.is_alive(), "the proxy does not end"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _work(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._cleared, self._closing = asyncio.Event(), asyncio.Event()
        self.faults.on_clear = self._let_go
        connector = TCPConnector(limit=0)
        timeout = ClientTimeout(total=None, sock_connect=10)
        async with ClientSession(
            connector=connector, timeout=timeout, auto_decompress=False
        ) as self._session:
            # aiohttp would repeat what is idempotent when a connection breaks, and there is no
            # public switch against it: the server would see two requests where one was made.
            self._session._retry_connection = False
            runner, port = await listen(self._handle)
            try:
                self._started.set_result(f"http://127.0.0.1:{port}")
                await self._closing.wait()
            finally:
                await runner.cleanup()

    def _let_go(self) -> None:
        """Let requests that hang go on; from any thread."""

        def wake() -> None:
            self._cleared.set()
            self._cleared = asyncio.Event()

        with contextlib.suppress(RuntimeError):  # the proxy is closed already
            self._loop.call_soon_threadsafe(wake)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        cleared = self._cleared
        delay, fault = self.faults.meet(request.method, request.raw_path)
        if fault is Fault.RESET:
            return reset_connection(request)
        body = await take_body(request)
        if delay:
            await asyncio.sleep(delay)
        if fault is Fault.BUSY:
            return _error(503, "SlowDown")
        if fault is Fault.FORBID:
            return _error(403, "AccessDenied")
        if fault is Fault.HANG:
            await cleared.wait()
        try:
            answer = await self._pass_on(request, body)
        except (ClientError, TimeoutError, OSError):
            return reset_connection(request)  # as the server did
        if fault is Fault.LOSE:
            return reset_connection(request)
        if fault is Fault.GARBAGE:
            return _garbage()
        if fault is Fault.TRUNCATE:
            return await _truncate(request, answer)
        return answer

    async def _pass_on(self, request: web.BaseRequest, body: bytes) -> web.Response:
        headers = CIMultiDict(request.headers)
        for name in _ONE_CONNECTION:
            headers.popall(name, None)
        async with self._session.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers=headers,
            data=io.BytesIO(body) if body else None,
            allow_redirects=False,
            skip_auto_headers=_ADDED,
        ) as answer:
            content = await answer.read()
            passed = CIMultiDict(answer.headers)
            for name in _ONE_CONNECTION:
                passed.popall(name, None)
            if request.method != "HEAD":
                passed.popall("Content-Length", None)  # it may be another after Transfer-Encoding
                return web.Response(status=answer.status, headers=passed, body=content)
            return web.Response(status=answer.status, headers=passed)


def _error(status: int, code: str) -> web.Response:
    return web.Response(status=status, body=error_xml(code), content_type="application/xml")


def _garbage() -> web.Response:
    text = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>photos</Name><Cont'
    return web.Response(text=text, content_type="application/xml")


async def _truncate(request: web.BaseRequest, answer: web.Response) -> web.StreamResponse:
    body = answer.body
    assert body is None or isinstance(body, bytes)
    if not body:
        return reset_connection(request)  # half of nothing is not even the headers
    half = web.StreamResponse(status=answer.status, headers=answer.headers)
    half.content_length = len(body)
    await half.prepare(request)
    await half.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()  # after what was written, so that the half arrives
    return half

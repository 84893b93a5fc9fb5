"""A small S3 in memory that logs every request, takes as long as it is told, and fails on command.

``python -m tests.servers.counting_s3 [--delay-ms 20]`` prints ``ready PORT``. It is for counting
requests, for their depth (the time something takes, divided by the delay), and for what a client
does when the service is slow, refuses, or is not quite an S3. :mod:`tests.servers.protocol` says
which requests it knows. One event loop, and no wait between a check and a write: conditional writes
are exact.

**A bad S3** is had in two ways. A bucket whose name begins with the name of a quirk has it, and
names can be chained: ``unquoted-race-500-photos`` behaves like Ceph. Or ``be`` gives a quirk to
every bucket, until ``reset``. :class:`tests.servers.objects.Quirk` has the quirks: ``missing``,
``ignores-if-none-match``, ``ignores-if-match``, ``no-conditions``, ``unquoted``, ``race-500``,
``unordered``, ``encrypting``.

**Commands** are GET requests to ``/__control__/``, sent by :class:`tests.servers.control.Control`.
Where they take ``match``, they hold for requests whose ``METHOD key`` contains it; the key of a
listing is ``?`` and its prefix. None of them is logged.

- ``log``: ``{"requests": [[seconds, method, kind, key], ...], "peak": n}``; the kind is the method,
  or LIST, PART, UPLOAD (what else concerns multipart uploads), COPY or BUCKET, and the peak is how
  many requests there were at once.
- ``reset``: forgets the log and every command; hanging requests go on. Objects stay.
- ``delay?ms=20``: every request takes that much longer.
- ``fail?n=3&status=503&match=PUT``: the next n are answered with that status and do nothing.
- ``hang?match=PUT``: such requests get no answer; ``release``: they go on.
- ``lose?n=1&match=PUT``: the next n are carried out, and then the connection breaks.
- ``conflict?n=1&match=``: the next n conditional writes get 409 ConditionalRequestConflict.
- ``be?quirk=unordered&on=1``: every bucket has this quirk, or with 0 no longer.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from tests.servers.objects import Quirk, Refused
from tests.servers.protocol import S3, Call, without_chunks
from tests.servers.serving import error_xml, reset_connection, serve_forever, take_body

CONTROL = "/__control__/"

_CODES = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}


@dataclass(slots=True)
class Countdown:
    """Something that happens to the next requests that match."""

    left: int = 0
    match: str = ""

    def happens(self, name: str) -> bool:
        """Whether it happens to this request, which then counts."""
        if self.left <= 0 or self.match not in name:
            return False
        self.left -= 1
        return True


@dataclass
class Commands:
    """What the server was told to do, and what it has seen since."""

    log: list[tuple[float, str, str, str]] = field(default_factory=list)
    delay: float = 0.0
    status: int = 503
    fail: Countdown = field(default_factory=Countdown)
    lose: Countdown = field(default_factory=Countdown)
    conflict: Countdown = field(default_factory=Countdown)
    hang: str | None = None
    released: asyncio.Event = field(default_factory=asyncio.Event)


class CountingS3:
    """Answers the requests of S3, and the commands."""

    def __init__(self, delay: float = 0.0) -> None:
        self._s3 = S3()
        self._commands = Commands(delay=delay)
        self._under_way = 0
        self._peak = 0

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        path, _, raw_query = request.raw_path.partition("?")
        query = dict(parse_qsl(raw_query, keep_blank_values=True)) if raw_query else {}
        if path.startswith(CONTROL):
            return self._control(path.removeprefix(CONTROL), query)
        bucket, _, key = (unquote(path) if "%" in path else path)[1:].partition("/")
        method = request.method
        shown = key or "?" + query.get("prefix", "")
        kind = _kind(method, key, query, request)
        self._commands.log.append((time.monotonic(), method, kind, shown))
        self._under_way += 1
        self._peak = max(self._peak, self._under_way)
        try:
            return await self._answer(
                request, Call(method, bucket, key, query, request.headers, b"")
            )
        except Refused as refusal:
            return _error(refusal.status, refusal.code)
        finally:
            self._under_way -= 1

    async def _answer(self, request: web.BaseRequest, call: Call) -> web.Response:
        commands = self._commands
        body = await take_body(request)
        if body and call.headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
            body = without_chunks(body)
        call.body = body
        name = f"{call.method} {call.key or '?' + call.query.get('prefix', '')}"
        if commands.hang is not None and commands.hang in name:
            await commands.released.wait()
        if commands.delay:
            await asyncio.sleep(commands.delay)
        if commands.fail.happens(name):
            code = _CODES.get(commands.status, HTTPStatus(commands.status).phrase.replace(" ", ""))
            raise Refused(commands.status, code)
        if commands.conflict.left and call.conditional_write and commands.conflict.happens(name):
            raise Refused(409, "ConditionalRequestConflict")
        reply = self._s3.answer(call)
        if commands.lose.happens(name):
            return reset_connection(request)
        headers = reply.headers
        if not reply.body:  # aiohttp leaves the length of nothing out where the method is HEAD
            headers = {**headers, "Content-Length": "0"}
        return web.Response(status=reply.status, body=reply.body, headers=headers)

    def _control(self, verb: str, query: dict[str, str]) -> web.Response:
        commands = self._commands
        n, match = int(query.get("n", 1)), query.get("match", "")
        if verb == "reset":
            commands.released.set()
            self._commands, self._peak = Commands(), 0
            self._s3.quirks.clear()
        elif verb == "delay":
            commands.delay = float(query["ms"]) / 1000
        elif verb == "fail":
            commands.status = int(query.get("status", 503))
            commands.fail = Countdown(n, match)
        elif verb == "lose":
            commands.lose = Countdown(n, match)
        elif verb == "conflict":
            commands.conflict = Countdown(n, match)
        elif verb == "hang":
            commands.hang = match
            commands.released = asyncio.Event()
        elif verb == "release":
            commands.hang = None
            commands.released.set()
        elif verb == "be":
            change = self._s3.quirks.add if query.get("on", "1") == "1" else self._s3.quirks.discard
            change(Quirk(query["quirk"]))
        elif verb != "log":
            return _error(404, "NoSuchCommand")
        return web.json_response(
            {"requests": commands.log, "peak": self._peak} if verb == "log" else {}
        )


def _kind(method: str, key: str, query: dict[str, str], request: web.BaseRequest) -> str:
    if not key:
        if method == "GET":
            return "UPLOAD" if "uploads" in query else "LIST"
        return "DELETE" if "delete" in query else "BUCKET"
    if query:
        if "partNumber" in query:
            return "PART"
        if "uploadId" in query or "uploads" in query:
            return "UPLOAD"
    if method == "PUT" and "x-amz-copy-source" in request.headers:
        return "COPY"
    return method


def _error(status: int, code: str) -> web.Response:
    return web.Response(status=status, body=error_xml(code), content_type="application/xml")


def main() -> None:
    """Serve until it is ended."""
    parser = argparse.ArgumentParser(description="A small S3 in memory that counts requests.")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="added to every request")
    serve_forever(CountingS3(parser.parse_args().delay_ms / 1000))


if __name__ == "__main__":
    main()

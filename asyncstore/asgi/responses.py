"""The response that streams a stored object."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from starlette.background import BackgroundTask
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from asyncstore.asgi.pacing import pace_of_loop
from asyncstore.asgi.rules import Answer, disposition, is_media_type, judge
from asyncstore.concurrency import ended, task_of, to_the_end
from asyncstore.errors import RegistrySettingsConflict
from asyncstore.keys import split_name
from asyncstore.registry import AsyncRegistry, ObjectReader
from asyncstore.store import AsyncStore
from asyncstore.versions import LATEST

_PIECE: Final = 64 * 1024
"""Bytes handed to the server at a time. Small, so that no turn of the loop gets long when very many
clients are ready at once; the server's own buffer holds about as much."""

_FIRST: Final = 1024
"""Bytes of the first piece of many: little work, for many may wait for the same chunk."""

_GRACE: Final = 60.0
"""Seconds that what is being ended may take; reading is abandoned at once, so it never does."""

_ONE_LINE: Final = frozenset("\r\n\0")
_OURS: Final = frozenset(
    {"accept-ranges", "content-length", "content-range", "etag", "transfer-encoding"}
)
_FOREVER: Final = "private, max-age=31536000, immutable"
_NO_BODY: Final = frozenset({"content-type", "content-disposition", "content-security-policy"})


class ObjectResponse(Response):
    """Streams the bytes of one stored object; only verified bytes are ever sent.

    Answers ``If-None-Match`` (304) and ``If-Match`` (412) by the object's hash, which is its
    ``ETag``, without touching the payload, and ``Range`` under ``If-Range`` with 206 or 416; a
    request for several ranges gets the whole. ``HEAD`` gets the same headers and no body. One chunk
    (8 MiB; a few more over a network) is in memory at a time, and the next is read when the client
    has taken it. When the client goes away or the server ends the request, reading stops at once,
    and by the end of the call everything is released.

    ``key`` and ``version`` mean what they mean for ``open_reader``, which takes objects that are
    stored as one file. ``content_type`` is by default the object's ``metadata["content_type"]``
    where that is a valid one, else ``application/octet-stream``. A type from the metadata was
    chosen by whoever saved the object, so a browser is told to run nothing of it
    (``Content-Security-Policy: sandbox``). ``filename`` is offered for saving; ``inline=True``
    lets a browser show what has a file name. ``headers`` are added, and replace all but those that
    describe what is sent.

    ``Cache-Control`` is ``no-cache`` (ask each time; 304 is cheap), but for what can never change,
    a version of a mount that were both named, in a registry that never uses a number again: this
    may be kept for a year by the client itself.

    What goes wrong before the first byte is raised before anything was sent, for an exception
    handler to answer (:data:`~asyncstore.asgi.exception_handlers`): the first chunk is read
    first. Later on the connection is broken off, and the length that was announced tells the client
    that the body is not whole.

    Raises RegistrySettingsConflict, a ValueError, for a ``content_type`` or headers that are none.
    """

    def __init__(
        self,
        store: AsyncStore | AsyncRegistry,
        key: str,
        version: str | None = None,
        *,
        content_type: str | None = None,
        filename: str | None = None,
        inline: bool = False,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        if content_type is not None and not is_media_type(content_type):
            raise RegistrySettingsConflict(
                f"content_type={content_type!r:.80}: expected a media type such as 'image/png'"
            )
        self._store = store
        self._key = key
        self._version = version
        self._content_type = content_type
        self._disposition = "inline" if inline or filename is None else "attachment"
        self._filename = filename
        super().__init__(headers=headers, background=background)
        del self.headers["content-length"]  # of the empty body that the base class thinks of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; raises what ``open_reader`` and reading raise."""
        await _while_connected(self._answer(scope, _checked(send)), receive)
        if self.background is not None:
            await self.background()

    async def _answer(self, scope: Scope, send: Send) -> None:
        pace = pace_of_loop()
        await pace.turn()
        async with self._store.open_reader(self._key, self._version) as reader:
            tag = f'"{reader.hash}"'
            method = scope["method"]
            answer = judge(method, _combined(Headers(scope=scope)), tag, reader.size)
            self.status_code = answer.status
            start: Message = {
                "type": "http.response.start",
                "status": answer.status,
                "headers": self._head(reader, answer, tag),
            }
            left = 0 if method == "HEAD" else answer.span.end - answer.span.start
            if left:
                reader.seek(answer.span.start)
                # Before anything is promised: it is part of a chunk, and all of that is verified.
                piece = await reader.read(left if left <= _PIECE else _FIRST)
                await pace.turn()
                await send(start)
                await self._send_rest(reader, piece, left, send)
            else:
                await send(start)
        # The reader is closed by now: a client that has everything finds nothing of it left.
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_rest(self, reader: ObjectReader, piece: bytes, left: int, send: Send) -> None:
        pace = pace_of_loop()
        while True:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            left -= len(piece)
            if not left:
                return
            # A server waits for its client before it takes the next message, whatever is in it.
            # This one is empty, so that those whose clients are ready take turns after it.
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            await pace.turn()
            # Up to a multiple of the size: so no piece has to be put together from two chunks.
            piece = await reader.read(min(_PIECE - reader.tell() % _PIECE, left))

    def _head(self, reader: ObjectReader, answer: Answer, tag: str) -> list[tuple[bytes, bytes]]:
        ours = {"etag": tag, "accept-ranges": "bytes"}
        offered = {"cache-control": _FOREVER if self._is_final(reader) else "no-cache"}
        if answer.status in (200, 206):
            offered |= self._described(reader)
            ours["content-length"] = str(answer.span.end - answer.span.start)
        elif answer.status != 304:
            ours["content-length"] = "0"
            offered["cache-control"] = "no-cache"
        if answer.status == 206:
            ours["content-range"] = f"bytes {answer.span.start}-{answer.span.end - 1}/{reader.size}"
        elif answer.status == 416:
            ours["content-range"] = f"bytes */{reader.size}"
        given = [
            (name, value)
            for name, value in self.headers.items()
            if name not in _OURS and (answer.status in (200, 206) or name not in _NO_BODY)
        ]
        named = {name for name, _ in given}
        given += [(name, value) for name, value in offered.items() if name not in named]
        return [_line(name, value) for name, value in (*given, *ours.items())]

    def _described(self, reader: ObjectReader) -> dict[str, str]:
        """The headers that describe a body."""
        described = {"x-content-type-options": "nosniff"}
        stored = reader.metadata.get("content_type")
        if self._content_type is not None:
            described["content-type"] = self._content_type
        elif is_media_type(stored):
            described["content-type"] = str(stored)
            described["content-security-policy"] = "sandbox"
        else:
            described["content-type"] = "application/octet-stream"
        if self._filename is not None:
            described["content-disposition"] = disposition(self._disposition, self._filename)
        return described

    def _is_final(self, reader: ObjectReader) -> bool:
        """Whether this request can never be answered with other bytes."""
        if isinstance(self._store, AsyncStore):
            location, _, version = self._store.parse_key(self._key)
        else:
            location, version = "", split_name(self._key)[1]
        pinned = (self._version or version or LATEST) != LATEST
        # A bare name may be found in another mount tomorrow.
        return pinned and location is not None and reader.immutable


def _combined(headers: Headers) -> dict[str, str]:
    """A request's headers by lower-case name; those that were sent several times are one list."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _line(name: str, value: str) -> tuple[bytes, bytes]:
    if not _ONE_LINE.isdisjoint(name + value):  # not every server looks
        raise RegistrySettingsConflict(f"the header {name!r} would be more than one line")
    return name.encode("latin-1"), value.encode("latin-1")


class _Gone(Exception):
    """The client went away: a server by version 2.4 of ASGI's HTTP says so when it is sent to."""


def _checked(send: Send) -> Send:
    async def checked(message: Message) -> None:
        try:
            await send(message)
        except OSError as error:  # the backend's errors are OSErrors too, but not from here
            raise _Gone from error

    return checked


async def _while_connected(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Do the work, unless the client goes away first: then it is cancelled. Nothing goes on after.

    Servers before version 2.4 of ASGI's HTTP (uvicorn) take what is sent to nobody without a word,
    so somebody has to listen. Two tasks and no task group: a cancelled task group would end
    in the middle of whatever middleware does around ``receive`` and ``send``.
    """
    working = task_of(work, "object response")
    listening = task_of(_departure(receive), "client of an object response")
    try:
        await asyncio.wait([working, listening], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await to_the_end(ended([working, listening]), grace=_GRACE)
    for task in (working, listening):
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, _Gone):
            raise error


async def _departure(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass

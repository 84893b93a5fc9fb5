"""What the servers on aiohttp share: listening, taking a body, breaking a connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import web

from tests.servers.process import end_with_parent, say_ready

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


async def listen(handler: Handler) -> tuple[web.ServerRunner, int]:
    """Let ``handler`` answer on a free port of 127.0.0.1; what to clean up, and the port.

    There is no application and no router, which would cost more than the requests themselves.
    Bodies arrive as they were sent, also those that say they are compressed.
    """
    server = web.Server(handler, access_log=None, auto_decompress=False)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    return runner, int(runner.addresses[0][1])


async def take_body(request: web.BaseRequest) -> bytes:
    """The whole body of a request, of any size, after asking for it where the client waits."""
    if not request.can_read_body:
        return b""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return await request.content.read()


def reset_connection(request: web.BaseRequest) -> web.Response:
    """Break the connection with a reset; the answer that it gives has nowhere to go any more."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    return web.Response()


def error_xml(code: str) -> bytes:
    """The body of an S3 error."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f"<Error><Code>{code}</Code><Message>{code} (from a test server)</Message></Error>"
    ).encode()


def serve_forever(handler: Handler) -> None:
    """Run a server as the whole of a process: it says its port and ends with its parent."""
    end_with_parent()
    run_fast(_serve(handler))


async def _serve(handler: Handler) -> None:
    _, port = await listen(handler)
    say_ready(port)
    await asyncio.Event().wait()


def run_fast(main: Coroutine[Any, Any, None]) -> None:
    """Run it with uvloop where that is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)

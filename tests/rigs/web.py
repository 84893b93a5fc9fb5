"""The example application under uvicorn, with a view from inside for tests.

``python -m tests.rigs.web FOLDER_OR_URI`` prints ``ready PORT``. What the example itself does not
have, and this adds: ``/_state`` tells the tasks and descriptors of the process, and the longest
time between two turns of its event loop since ``/_watch`` was asked for.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import time
from contextlib import suppress

import uvicorn
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asyncstore import AsyncRegistry, AsyncStore
from examples.web import application
from tests.servers.process import end_with_parent, say_ready


class Watch:
    """Beats all the time, and remembers the longest gaps between two beats."""

    def __init__(self) -> None:
        self.gaps: list[float] = []

    async def beat(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.gaps.append(now - last)
            last = now

    def worst(self) -> list[float]:
        return sorted(self.gaps, reverse=True)[:5]


def open_descriptors() -> list[str]:
    """What this process has open, the loop's own included; nothing on a system without /proc."""
    folder, found = "/proc/self/fd", []
    for fd in os.listdir(folder) if os.path.isdir(folder) else []:
        with suppress(OSError):  # the one that this listing itself had open
            found.append(os.readlink(f"{folder}/{fd}"))
    return found


async def serve(place: str, *options: str) -> None:
    registry = AsyncRegistry(place, **({} if "://" in place else {"durability": "fast"}))
    app = application(AsyncStore({"a": registry}))
    watch = Watch()

    async def state(request: Request) -> Response:
        gc.collect()
        opened = open_descriptors()
        names = sorted(task.get_name() for task in asyncio.all_tasks())
        return JSONResponse(
            {
                "tasks": names,
                "descriptors": len(opened),
                "sockets": sum(what.startswith("socket:") for what in opened),
                "gaps": watch.worst(),
            }
        )

    async def start_watch(request: Request) -> Response:
        watch.gaps.clear()
        return JSONResponse({})

    app.router.routes += [Route("/_state", state), Route("/_watch", start_watch)]
    if "middleware" in options:

        async def through(request: Request, call_next: RequestResponseEndpoint) -> Response:
            return await call_next(request)

        app.user_middleware.append(Middleware(BaseHTTPMiddleware, dispatch=through))

    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", backlog=512))
    beating = asyncio.create_task(watch.beat(), name="heartbeat")
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="server")
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    say_ready(listening.getsockname()[1])
    await serving
    beating.cancel()


if __name__ == "__main__":
    end_with_parent()
    asyncio.run(serve(*sys.argv[1:]))

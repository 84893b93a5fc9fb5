"""A small web service over a store: upload, download, list and delete.

    pip install 'asyncstore[asgi]' uvicorn
    uvicorn --factory examples.web:application

    curl -T photo.jpg -H 'Content-Type: image/jpeg' localhost:8000/objects/default/photo
    curl -O localhost:8000/objects/photo
    curl localhost:8000/objects?prefix=ph

The store is that of ``asyncstore.toml``, else one directory named ``default``. There is no
authentication: whoever reaches it may do everything.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asyncstore import AsyncStore
from asyncstore.asgi import ObjectResponse, exception_handlers, get_store, lifespan


async def download(request: Request) -> Response:
    store = await get_store(request)
    return ObjectResponse(store, request.path_params["key"], request.query_params.get("version"))


async def upload(request: Request) -> Response:
    """Store the body as it comes in; a client that leaves before its end leaves nothing."""
    store = await get_store(request)
    key = request.path_params["key"]
    metadata = {"content_type": request.headers.get("content-type", "application/octet-stream")}
    async with store.open_writer(key, metadata=metadata) as writer:
        async for piece in request.stream():
            await writer.write(piece)
    return JSONResponse({"key": key, "version": writer.version}, 201)


async def delete(request: Request) -> Response:
    store = await get_store(request)
    await store.delete(request.path_params["key"], request.query_params.get("version"))
    return Response(status_code=204)


async def listing(request: Request) -> Response:
    """The keys, at most a thousand of them."""
    store = await get_store(request)
    keys: list[str] = []
    async for key in store.iter_objects(prefix=request.query_params.get("prefix", "")):
        keys.append(key)
        if len(keys) == 1000:
            break
    return JSONResponse(keys)


async def left(request: Request, error: Exception) -> Response:
    """The answer to nobody: without it the log would call it an error of the server."""
    return Response(status_code=400)


def application(store: AsyncStore | None = None) -> Starlette:
    """The application, on this store or on the configured one."""

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncGenerator[dict[str, Any]]:
        async with lifespan(store or AsyncStore.from_config)(app) as state:
            # Else each full collection of garbage stops everything for some 10 ms, to find once
            # more that no imported module is any.
            gc.collect()
            gc.freeze()
            yield state

    return Starlette(
        routes=[
            Route("/objects", listing),
            Route("/objects/{key:path}", download),
            Route("/objects/{key:path}", upload, methods=["PUT"]),
            Route("/objects/{key:path}", delete, methods=["DELETE"]),
        ],
        lifespan=life,
        exception_handlers={**exception_handlers, ClientDisconnect: left},
    )

"""An application with a store, and a client of it without a server between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from asyncstore import AsyncStore
from asyncstore.asgi import ObjectResponse, exception_handlers, get_store, lifespan


async def download(request: Request) -> Response:
    return ObjectResponse(await get_store(request), request.path_params["key"])


def application(store: AsyncStore, *more: Route) -> Starlette:
    routes = [*more, Route("/{key:path}", download)]
    return Starlette(routes=routes, lifespan=lifespan(store), exception_handlers=exception_handlers)


@asynccontextmanager
async def client_of(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application whose lifespan runs, without a server between them."""
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(with_state, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client

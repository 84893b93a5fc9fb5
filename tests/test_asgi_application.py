"""A store in an application: its life, how handlers get it, and what its errors answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    BackendError,
    BackendTimeout,
    CommitUnknown,
    IntegrityError,
    RegistryVersionConflict,
    StoreLocationNotFound,
    StoreMount,
    StoreReadOnlyError,
)
from asyncstore.asgi import ObjectResponse, exception_handlers, get_store, lifespan, refusal
from asyncstore.backends.memory import MemoryBackend
from asyncstore.testing import SlowBackend
from tests.rigs.asgi import application, client_of, download
from tests.support import Files, Places

pytestmark = pytest.mark.asyncio

LARGE = bytes(range(251)) * 40_000
"""10 MB, which is two chunks."""
SMALL = b"0123456789"


@pytest_asyncio.fixture
async def store(places: Places) -> AsyncIterator[AsyncStore]:
    async with AsyncStore({"a": places.registry("a"), "b": places.registry("b")}) as store:
        yield store


@pytest_asyncio.fixture
async def client(store: AsyncStore) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(application(store)) as client:
        yield client


# -- errors --------------------------------------------------------------------------------------


async def test_errors_are_answered_before_anything_is_sent(
    store: AsyncStore, client: httpx.AsyncClient
) -> None:
    await store.save(["a/both", "b/both", "a/tree"], [SMALL, SMALL, 1])
    missing = await client.get("/a/nowhere@2")
    assert (missing.status_code, missing.json()["detail"]) == (
        404,
        "'nowhere' version 2 is not here",
    )
    ambiguous = await client.get("/both")
    assert ambiguous.status_code == 409
    assert ambiguous.json()["keys"] == ["a/both", "b/both"]
    assert (await client.get("/a/x@not-a-version")).status_code == 400
    for reply in (missing, ambiguous):
        assert "file://" not in reply.text
        assert "memory://" not in reply.text


async def test_a_mount_that_does_not_answer_is_503() -> None:
    slow = SlowBackend(MemoryBackend())
    mounts = [
        StoreMount("up", AsyncRegistry("memory://")),
        StoreMount("down", AsyncRegistry(slow, request_timeout=0.01, operation_timeout=0.02)),
    ]
    async with AsyncStore(mounts) as store:
        await store.save("up/x", SMALL)
        slow.hang()
        async with client_of(application(store)) as client:
            reply = await client.get("/x")
            named = await client.get("/down/x")
            assert (await client.get("/up/x")).status_code == 200
        slow.resume()
    for answer in (reply, named):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
    assert "down" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("error", "method", "status"),
    [
        (RegistryVersionConflict(name="x", version="1.0.0"), "PUT", 409),
        (StoreReadOnlyError(location="a"), "PUT", 403),
        (StoreLocationNotFound(location="a"), "GET", 404),
        (BackendTimeout("secret"), "GET", 503),
        (BackendError("secret", transient=True), "GET", 503),
    ],
)
async def test_statuses_of_errors(error: Exception, method: str, status: int) -> None:
    request = Request({"type": "http", "method": method, "headers": []})
    reply = await refusal(request, error)
    assert reply.status_code == status
    assert b"secret" not in reply.body


@pytest.mark.parametrize(
    "error", [IntegrityError("x"), CommitUnknown("x"), BackendError("x"), ValueError("x")]
)
async def test_what_is_the_servers_fault_is_left_to_it(error: Exception) -> None:
    with pytest.raises(type(error)):
        await refusal(Request({"type": "http", "method": "GET", "headers": []}), error)


async def test_an_object_of_several_files_is_not_acceptable() -> None:
    registry = AsyncRegistry("memory://", materializers=[Files({"a": b"1", "b": b"2"})])
    async with AsyncStore({"a": registry}) as store:
        await store.save("a/x", 1j)
        async with client_of(application(store)) as client:
            assert (await client.get("/x")).status_code == 406


# -- the application -----------------------------------------------------------------------------


async def test_the_store_lives_as_long_as_the_application() -> None:
    events: list[str] = []

    class Watched(AsyncStore):
        async def aclose(self) -> None:
            events.append("closed")
            await super().aclose()

    async def make() -> AsyncStore:
        events.append("made")
        return Watched({"a": "memory://"})

    for factory in (make, lambda: Watched({"a": "memory://"}), Watched({"a": "memory://"})):
        events.clear()
        provide = lifespan(factory)
        assert "made" not in events
        async with provide(Starlette()) as state:
            [opened] = state.values()
            assert isinstance(opened, Watched)
            assert "closed" not in events
        assert events[-1] == "closed"


async def test_beside_a_lifespan_of_ones_own_and_below_a_mount() -> None:
    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with lifespan(lambda: AsyncStore({"a": AsyncRegistry("memory://")}))(app) as state:
            [store] = state.values()
            await store.save("a/x", SMALL)
            yield {**state, "greeting": "hello"}

    async def greet(request: Request) -> Response:
        return Response(request.state.greeting)

    inner = Starlette(routes=[Route("/{key:path}", download)])
    app = Starlette(routes=[Route("/greet", greet), Mount("/inner", inner)], lifespan=own)
    async with client_of(app) as client:
        assert (await client.get("/greet")).text == "hello"
        assert (await client.get("/inner/x")).content == SMALL


async def test_without_a_lifespan_the_error_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="give it lifespan="):
        await get_store(HTTPConnection({"type": "http"}))


StoreOfApp = Annotated[AsyncStore, Depends(get_store)]


async def test_with_fastapi() -> None:
    app = FastAPI(
        lifespan=lifespan(lambda: AsyncStore({"a": AsyncRegistry("memory://")})),
        exception_handlers=exception_handlers,
    )

    @app.put("/{key:path}")
    async def upload(key: str, request: Request, store: StoreOfApp) -> dict[str, str]:
        return {"version": await store.save(key, await request.body())}

    @app.get("/{key:path}", response_class=ObjectResponse)
    async def fetch(key: str, store: StoreOfApp) -> ObjectResponse:
        return ObjectResponse(store, key)

    async with client_of(app) as client:
        assert (await client.put("/a/x", content=SMALL)).json() == {"version": "1.0.0"}
        assert (await client.get("/x")).content == SMALL
        assert (await client.get("/y")).status_code == 404
        assert (await client.put("/unqualified", content=SMALL)).status_code == 400


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


async def test_asyncstore_alone_imports_no_starlette_and_says_when_it_is_missing(
    tmp_path: Path,
) -> None:
    loaded = run("import asyncstore, sys; print('starlette' in sys.modules)")
    assert loaded.stdout.strip() == "False"
    missing = run("import sys; sys.modules['starlette'] = None; import asyncstore.asgi")
    assert missing.returncode
    assert "pip install 'asyncstore[asgi]'" in missing.stderr

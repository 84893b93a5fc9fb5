"""What a response answers, on every kind of backend, and what is left when a client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import anyio
import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    IntegrityError,
    RegistrySettingsConflict,
)
from asyncstore.asgi import ObjectResponse
from asyncstore.backends.memory import MemoryBackend
from asyncstore.testing import SlowBackend
from tests.rigs.asgi import application, client_of
from tests.support import Places, until

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


# -- what is answered ----------------------------------------------------------------------------


async def test_a_whole_object(store: AsyncStore, client: httpx.AsyncClient) -> None:
    await store.save("a/x", LARGE)
    reply = await client.get("/x")
    assert reply.status_code == 200
    assert reply.content == LARGE
    assert reply.headers["content-length"] == str(len(LARGE))
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["etag"] == f'"{(await store.info("x"))["hash"]}"'


async def test_nothing_at_all_is_an_object_too(
    store: AsyncStore, client: httpx.AsyncClient
) -> None:
    await store.save("a/x", b"")
    reply = await client.get("/x")
    assert (reply.status_code, reply.content, reply.headers["content-length"]) == (200, b"", "0")


async def test_head_has_the_headers_and_no_body(
    store: AsyncStore, client: httpx.AsyncClient
) -> None:
    await store.save("a/x", SMALL)
    got, head = await client.get("/x"), await client.head("/x", headers={"range": "bytes=0-1"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers == got.headers


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (8_388_600, 8_388_700), (9_000_000, 10_040_000)]
)
async def test_a_range(store: AsyncStore, client: httpx.AsyncClient, start: int, end: int) -> None:
    await store.save("a/x", LARGE)
    reply = await client.get("/x", headers={"range": f"bytes={start}-{end - 1}"})
    assert reply.status_code == 206
    assert reply.content == LARGE[start:end]
    assert reply.headers["content-range"] == f"bytes {start}-{end - 1}/{len(LARGE)}"
    assert reply.headers["content-length"] == str(end - start)


async def test_a_range_that_cannot_be_had(store: AsyncStore, client: httpx.AsyncClient) -> None:
    await store.save("a/x", SMALL)
    reply = await client.get("/x", headers={"range": "bytes=10-"})
    assert (reply.status_code, reply.content) == (416, b"")
    assert reply.headers["content-range"] == "bytes */10"


async def test_several_ranges_get_the_whole(store: AsyncStore, client: httpx.AsyncClient) -> None:
    await store.save("a/x", SMALL)
    reply = await client.get("/x", headers={"range": "bytes=0-1,4-5"})
    assert (reply.status_code, reply.content) == (200, SMALL)


async def test_a_download_goes_on_where_it_broke_off_unless_the_object_changed(
    store: AsyncStore, client: httpx.AsyncClient
) -> None:
    await store.save("a/x", SMALL)
    tag = (await client.get("/x")).headers["etag"]
    headers = {"range": "bytes=5-", "if-range": tag}
    assert (await client.get("/x", headers=headers)).content == SMALL[5:]
    await store.save("a/x", b"something else")
    assert (await client.get("/x", headers=headers)).content == b"something else"


async def test_what_the_client_has_is_not_sent_again(
    store: AsyncStore, client: httpx.AsyncClient
) -> None:
    await store.save("a/x", SMALL)
    first = await client.get("/x")
    tag = first.headers["etag"]
    reply = await client.get("/x", headers=[("if-none-match", '"y"'), ("if-none-match", tag)])
    assert (reply.status_code, reply.content) == (304, b"")
    assert reply.headers["etag"] == tag
    assert reply.headers["cache-control"] == first.headers["cache-control"]
    assert "content-length" not in reply.headers
    assert "content-type" not in reply.headers
    assert (await client.get("/x", headers={"if-match": '"other"'})).status_code == 412


async def test_304_and_head_read_no_payload(places: Places) -> None:
    async with AsyncStore({"a": places.registry("a")}) as store:
        await store.save("a/x", LARGE)
        [payload] = await places.payloads("a")
        await places.backend("a").delete([payload])
        async with client_of(application(store)) as client:
            head = await client.head("/x")
            tag = {"if-none-match": head.headers["etag"]}
            assert (await client.get("/x", headers=tag)).status_code == 304
            assert (await client.get("/x")).status_code == 500


@pytest.mark.parametrize(
    ("stored", "sent", "sandboxed"),
    [
        ("image/png", "image/png", True),
        ("text/html; charset=utf-8", "text/html; charset=utf-8", True),
        ("text/html\r\nSet-Cookie: evil=1", "application/octet-stream", False),
        (17, "application/octet-stream", False),
        (None, "application/octet-stream", False),
    ],
)
async def test_the_type_of_the_metadata_if_it_is_one(
    store: AsyncStore, client: httpx.AsyncClient, stored: Any, sent: str, sandboxed: bool
) -> None:
    await store.save("a/x", SMALL, metadata={"content_type": stored})
    reply = await client.get("/x")
    assert reply.headers["content-type"] == sent
    assert (reply.headers.get("content-security-policy") == "sandbox") is sandboxed
    assert "set-cookie" not in reply.headers


async def test_what_can_never_change_may_be_kept() -> None:
    registries = {
        "fixed": AsyncRegistry("memory://"),
        "mutable": AsyncRegistry("memory://", mutable=True),
        "single": AsyncRegistry("memory://", version_objects=False),
    }
    async with AsyncStore(registries) as store, client_of(application(store)) as client:
        for location in registries:
            await store.save(f"{location}/{location}", SMALL)
        kept = {
            key: "immutable" in (await client.get(f"/{key}")).headers["cache-control"]
            for key in (
                "fixed/fixed@1.0.0", "fixed/fixed", "fixed/fixed@latest", "fixed@1.0.0",
                "mutable/mutable@1.0.0", "single/single@1.0.0",
            )
        }  # fmt: skip
    assert [key for key in kept if kept[key]] == ["fixed/fixed@1.0.0"]


async def test_arguments_of_the_response() -> None:
    done: list[int] = []

    async def chosen(request: Request) -> Response:
        return ObjectResponse(
            registry,
            "x",
            "1.0.0",
            content_type="text/plain",
            filename="ü.txt",
            headers={
                "Cache-Control": "no-store",
                "X-Own": "1",
                "ETag": "none",
                "Content-Length": "3",
            },
            background=BackgroundTask(done.append, 1),
        )

    async with AsyncRegistry("memory://") as registry:
        await registry.save("x", SMALL, metadata={"content_type": "text/html"})
        async with client_of(Starlette(routes=[Route("/", chosen)])) as client:
            reply = await client.get("/")
            tag = reply.headers["etag"]
            again = await client.get("/", headers={"if-none-match": tag})
    assert reply.content == SMALL
    assert reply.headers["content-type"] == "text/plain"
    assert "content-security-policy" not in reply.headers
    assert reply.headers["content-disposition"].startswith("attachment; ")
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers.get_list("content-length") == ["10"]
    assert (reply.headers["x-own"], again.headers["x-own"]) == ("1", "1")
    assert tag != "none"
    assert done == [1, 1]


async def test_no_header_becomes_two() -> None:
    registry = AsyncRegistry("memory://")
    with pytest.raises(RegistrySettingsConflict):
        ObjectResponse(registry, "x", content_type="text/plain\r\nX: 1")

    async def split(request: Request) -> Response:
        return ObjectResponse(registry, "x", headers={"X-Own": "1\r\nX-Evil: 1"})

    async with registry:
        await registry.save("x", SMALL)
        async with client_of(Starlette(routes=[Route("/", split)])) as client:
            assert (await client.get("/")).status_code == 500


async def test_damage_in_the_first_chunk_is_500_and_later_breaks_the_connection_off(
    places: Places,
) -> None:
    async with AsyncStore({"a": places.registry("a")}) as store:
        await store.save("a/x", LARGE)
        [payload] = await places.payloads("a")
        for at, status in ((9_000_000, 200), (5, 500)):
            await places.change(payload, lambda data, at=at: data[:at] + b"?" + data[at + 1 :], "a")
            sent: list[Any] = []
            response = ObjectResponse(store, "x")
            scope = {"type": "http", "method": "GET", "headers": []}
            with pytest.raises(IntegrityError):
                await response(scope, asyncio.Event().wait, collecting(sent))
            bodies = b"".join(message.get("body", b"") for message in sent)
            assert bodies == (LARGE[: 8 * 1024 * 1024] if status == 200 else b"")
            assert not any(message.get("more_body") is False for message in sent)


def collecting(sent: list[Any]) -> Any:
    async def send(message: Any) -> None:
        sent.append(message)

    return send


# -- who leaves ----------------------------------------------------------------------------------


class SlowPayload(SlowBackend):
    """Hangs, when it is told to, only where payload is read."""

    async def passing(
        self, method: str, keys: Sequence[str], send: Callable[[], Awaitable[Any]]
    ) -> Any:
        if any(key.startswith("d/") for key in keys):
            return await super().passing(method, keys, send)
        return await send()


@pytest.mark.parametrize("at", ["opening", "reading", "sending", "send fails"])
async def test_a_client_that_leaves_ends_everything(at: str) -> None:
    kind = SlowBackend if at == "opening" else SlowPayload
    slow = kind(MemoryBackend())
    gone, reached = asyncio.Event(), asyncio.Event()
    async with AsyncRegistry(slow) as registry:
        await registry.save("x", LARGE)
        fresh = AsyncRegistry(slow)
        if at in ("opening", "reading"):
            slow.hang()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if at == "send fails" and message["type"] == "http.response.body":
                raise OSError("the other side has gone")
            if message["type"] == "http.response.body":
                reached.set()
                await asyncio.Event().wait()

        scope = {"type": "http", "method": "GET", "headers": []}
        answering = asyncio.create_task(ObjectResponse(fresh, "x")(scope, receive, send))
        if at != "send fails":
            await until(lambda: reached.is_set() or slow.waiting)
            assert not answering.done()
            gone.set()
        async with asyncio.timeout(5):
            await answering
        assert not slow.waiting
        slow.resume()
        await fresh.aclose()
    # The fixtures see that no task is left.


async def test_a_server_that_ends_the_request_ends_everything() -> None:
    slow = SlowPayload(MemoryBackend())
    async with AsyncRegistry(slow) as registry:
        await registry.save("x", LARGE)
        slow.hang()
        scope = {"type": "http", "method": "GET", "headers": []}
        answering = asyncio.create_task(
            ObjectResponse(registry, "x")(scope, asyncio.Event().wait, collecting([]))
        )
        await until(lambda: slow.waiting)
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
        assert not slow.waiting
        assert len(asyncio.all_tasks()) == 1
        with anyio.move_on_after(0.01) as scope_of_anyio:
            await ObjectResponse(registry, "x")(scope, asyncio.Event().wait, collecting([]))
        assert scope_of_anyio.cancelled_caught
        assert len(asyncio.all_tasks()) == 1
        slow.resume()

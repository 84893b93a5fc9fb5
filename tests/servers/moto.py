"""moto's S3 over HTTP: ``python -m tests.servers.moto`` prints ``ready PORT``.

It differs from moto's own server in three points:

- **Writes to one path take turns.** moto compares If-Match and If-None-Match, and then stores, with
  no lock in between: of two conditional writes of large bodies both could win.
- **Connections are kept alive.** moto's own server, werkzeug's, closes each after one answer.
- **A body is read to its end** before moto sees the request, so that an early refusal does not
  leave the rest of it to be taken for the next request.

It checks no signatures, and its times mean nothing.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from tests.servers.serving import serve_forever, take_body

_WRITES = {"PUT", "POST", "DELETE"}

# The connection is ours, not moto's; aiohttp counts the bytes and says so itself.
_NOT_PASSED_ON = {"connection", "transfer-encoding", "content-length", "date", "server"}


class Moto:
    """Answers requests with moto, one write to a path at a time."""

    def __init__(self) -> None:
        self._application = DomainDispatcherApplication(create_backend_app)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def warm_up(self) -> None:
        """Import what moto imports at the first request, so that no test waits for it."""
        self._call(_environment("GET", "/", {"Host": "127.0.0.1"}, b""))

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        body = await take_body(request)
        environment = _environment(request.method, request.raw_path, request.headers, body)
        if request.method not in _WRITES:
            return await asyncio.to_thread(self._call, environment)
        async with self._turns[environment["PATH_INFO"]]:
            return await asyncio.to_thread(self._call, environment)

    def _call(self, environment: dict[str, Any]) -> web.Response:
        answer = web.Response()

        def start(status: str, headers: list[tuple[str, str]], trouble: Any = None) -> None:
            answer.set_status(int(status.split(" ", 1)[0]))
            for name, value in headers:
                # What a HEAD says the length is has no body to be counted.
                counted = name.lower() in _NOT_PASSED_ON
                if not counted or (
                    environment["REQUEST_METHOD"] == "HEAD" and name.lower() == "content-length"
                ):
                    answer.headers.add(name, value)

        pieces: Iterable[bytes] = self._application(environment, start)
        try:
            body = b"".join(pieces)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
        if environment["REQUEST_METHOD"] != "HEAD":
            answer.body = body
        return answer


def _environment(method: str, target: str, headers: Any, body: bytes) -> dict[str, Any]:
    """A request as WSGI puts it (PEP 3333)."""
    path, _, query = target.partition("?")
    host, _, port = headers.get("Host", "127.0.0.1").partition(":")
    environment: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "RAW_URI": target,
        "REQUEST_URI": target,
        "SERVER_NAME": host,
        "SERVER_PORT": port or "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        if name.lower() not in {"transfer-encoding", "expect"}:
            environment["HTTP_" + name.upper().replace("-", "_")] = value
    environment["CONTENT_TYPE"] = environment.pop("HTTP_CONTENT_TYPE", "")
    environment.pop("HTTP_CONTENT_LENGTH", None)
    environment["CONTENT_LENGTH"] = str(len(body))
    return environment


def main() -> None:
    """Serve until it is ended."""
    moto = Moto()
    moto.warm_up()
    serve_forever(moto)


if __name__ == "__main__":
    main()

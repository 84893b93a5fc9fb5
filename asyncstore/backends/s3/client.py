"""One client for each event loop and service, shared, and closed with its last user.

aiobotocore is imported here and only when a client is first made.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
import threading
import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from asyncstore._version import __version__
from asyncstore.backends.s3.address import S3Options
from asyncstore.concurrency import in_worker


class S3Client(Protocol):
    """What is used of an aiobotocore client, which has no types of its own."""

    async def get_object(self, **parameters: Any) -> dict[str, Any]: ...
    async def head_object(self, **parameters: Any) -> dict[str, Any]: ...
    async def list_objects_v2(self, **parameters: Any) -> dict[str, Any]: ...
    async def put_object(self, **parameters: Any) -> dict[str, Any]: ...
    async def copy_object(self, **parameters: Any) -> dict[str, Any]: ...
    async def delete_object(self, **parameters: Any) -> dict[str, Any]: ...
    async def delete_objects(self, **parameters: Any) -> dict[str, Any]: ...
    async def create_multipart_upload(self, **parameters: Any) -> dict[str, Any]: ...
    async def upload_part(self, **parameters: Any) -> dict[str, Any]: ...
    async def complete_multipart_upload(self, **parameters: Any) -> dict[str, Any]: ...
    async def abort_multipart_upload(self, **parameters: Any) -> dict[str, Any]: ...


@dataclass(eq=False)
class _Shared:
    """A client with how many backends use it."""

    context: Any
    client: S3Client
    users: int = 0


class _OfLoop:
    """The clients of one event loop. They are made one at a time: the first loads the models."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.making = asyncio.Lock()
        self.clients: dict[S3Options, _Shared] = {}


_LOOPS: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _OfLoop]] = (
    weakref.WeakKeyDictionary()
)


class Lease:
    """The use of a shared client in one event loop of one process."""

    def __init__(self, options: S3Options, owner: _OfLoop, shared: _Shared) -> None:
        self._options = options
        self._owner = owner
        self._shared: _Shared | None = shared
        self.client: Final = shared.client
        self.loop: Final = asyncio.get_running_loop()
        self.process: Final = os.getpid()

    @property
    def is_valid(self) -> bool:
        """Whether it may be used here: a forked child or another loop needs a client of its own."""
        return self.loop is asyncio.get_running_loop() and self.process == os.getpid()

    async def release(self) -> None:
        """Give the client back; the last one to do so closes it."""
        shared, self._shared = self._shared, None
        if shared is None or not self.is_valid:
            return
        shared.users -= 1
        if not shared.users:
            self._owner.clients.pop(self._options, None)
            await shared.context.__aexit__(None, None, None)


async def lease(options: S3Options) -> Lease:
    """The client for these options in the running loop, made if nobody has one."""
    loop = asyncio.get_running_loop()
    owner = _LOOPS.get(loop)
    if owner is None or owner.process != os.getpid():
        owner = _LOOPS[loop] = _OfLoop()
    shared = owner.clients.get(options)
    if shared is None:
        async with owner.making:
            shared = owner.clients.get(options)
            if shared is None:
                shared = owner.clients[options] = await _make(options)
    shared.users += 1
    return Lease(options, owner, shared)


_OPERATIONS: Final = {
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "CopyObject",
    "CreateMultipartUpload",
    "DeleteObject",
    "DeleteObjects",
    "GetObject",
    "HeadObject",
    "ListObjectsV2",
    "PutObject",
    "UploadPart",
}

_SERVICES: Final = {"s3", "sts", "sso", "sso-oidc", "oidc", "portal.sso", "signin"}
"""What is asked of AWS: objects, and credentials for them."""

_LOADING: Final = threading.Lock()
_LOADED: Final[dict[str, Any]] = {}
"""The description of S3, read from the disk once for all sessions. Credentials are not shared."""


async def _make(options: S3Options) -> _Shared:
    # Importing the library, loading its description of S3 and making a client take some 300 ms.
    context, client = await in_worker(_opened, options)
    return _Shared(context, client)


def _opened(options: S3Options) -> tuple[Any, S3Client]:
    """An open client, made in a worker thread.

    Nothing of it belongs to an event loop yet: it makes its connections at its first request.
    With credentials at hand nothing is waited for, and no event loop is needed.
    """
    work = _open(options)
    with suppress(RuntimeError):  # one is needed after all
        try:
            work.send(None)
        except StopIteration as done:
            made: tuple[Any, S3Client] = done.value
            return made
    work.close()
    return asyncio.run(_open(options))


async def _open(options: S3Options) -> tuple[Any, S3Client]:
    import aiobotocore
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession
    from botocore import UNSIGNED
    from botocore.exceptions import NoCredentialsError

    session = AioSession(profile=options.profile)
    with _LOADING:
        if "loader" not in _LOADED:
            loader = session.get_component("data_loader")
            loader.file_loader = _quick_loader()
            _LOADED["loader"] = loader
    session.register_component("data_loader", _LOADED["loader"])
    # What nobody reads of every reply, and what is told of every request, costs a tenth of a
    # request's time: times stay the text that they are, and the agent is one constant.
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    searching = options.access_key_id is None and not options.anonymous
    # In the environment, in files, or by the machine's role. The session keeps what it found;
    # where it found nothing, it would search again with the first request.
    if searching and await session.get_credentials() is None:
        raise NoCredentialsError
    config = AioConfig(
        user_agent=f"asyncstore/{__version__} aiobotocore/{aiobotocore.__version__}",
        max_pool_connections=options.connections,
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        # What may be sent again, and when, is decided above: a commit never blindly.
        http_session_cls=_once_only(),
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3={
            "addressing_style": _addressing(options),
            # Hashing a large body for its signature would hold up the event loop, and over
            # plain HTTP botocore would do it. Every body carries a checksum that is signed.
            "payload_signing_enabled": False,
        },
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        signature_version=UNSIGNED if options.anonymous else None,
    )
    context: Any = session.create_client(
        "s3",
        region_name=_region(session, options),
        endpoint_url=options.endpoint_url,
        aws_access_key_id=options.access_key_id,
        aws_secret_access_key=options.secret_access_key,
        aws_session_token=options.session_token,
        config=config,
    )
    return context, await context.__aenter__()


def _once_only() -> Any:
    """The HTTP session of aiobotocore, but each request is sent once.

    aiohttp repeats what counts as idempotent when a connection breaks before the answer, without
    a word. A commit may have landed by then, and the answer to its repetition, a 403 for one,
    would count as proof that it has not; its payload would be removed.
    """
    from aiobotocore.httpsession import AIOHTTPSession

    class OnceOnly(AIOHTTPSession):  # type: ignore[misc]  # it has no types
        async def _get_session(self, proxy_url: Any) -> Any:
            session: Any = await super()._get_session(proxy_url)
            session._retry_connection = False  # there is no public switch against it
            return session

    return OnceOnly


def _quick_loader() -> Any:
    """What reads botocore's descriptions of services: megabytes of JSON.

    Its own takes up to 25 ms for one file without letting go of the interpreter lock, which holds
    up the event loop from whatever thread.
    """
    from botocore.loaders import JSONFileLoader

    class QuickLoader(JSONFileLoader):  # type: ignore[misc]  # it has no types
        def load_file(self, file_path: str) -> Any:
            for path, opened in ((f"{file_path}.json", open), (f"{file_path}.json.gz", gzip.open)):
                if os.path.isfile(path):
                    with opened(path, "rb") as file, _no_collection():
                        return _what_is_used(msgspec.json.decode(file.read()))
            return None

    return QuickLoader()


@contextmanager
def _no_collection() -> Generator[None]:
    """Without garbage collection, for milliseconds: there is none in what is being decoded.

    Many new objects set off a collection of all there are, which holds up every thread.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _what_is_used(description: Any) -> Any:
    """The description of S3 with the operations that are used here; any other as it is.

    All of it is some 100,000 objects, which garbage collection goes through again and again, and
    of which each client makes more. The same for the endpoints of all services of AWS.
    """
    if not isinstance(description, dict):
        return description
    found: dict[str, Any] = description
    if "partitions" in found and "version" in found:
        for partition in found["partitions"]:
            services = partition.get("services", {})
            partition["services"] = {
                name: service for name, service in services.items() if name in _SERVICES
            }
        return found
    if found.get("metadata", {}).get("serviceId") != "S3" or "operations" not in found:
        return found
    operations = {
        name: operation for name, operation in found["operations"].items() if name in _OPERATIONS
    }
    shapes: dict[str, Any] = {}
    _collect(operations, found["shapes"], shapes)
    return {**found, "operations": operations, "shapes": shapes}


def _collect(part: Any, known: dict[str, Any], shapes: dict[str, Any]) -> None:
    """Add the shapes that a part of the description refers to, and what those refer to."""
    if isinstance(part, list):
        for each in part:
            _collect(each, known, shapes)
    elif isinstance(part, dict):
        name = part.get("shape")
        if isinstance(name, str) and name in known and name not in shapes:
            shapes[name] = known[name]
            _collect(known[name], known, shapes)
        for each in part.values():
            _collect(each, known, shapes)


def _addressing(options: S3Options) -> str:
    if options.addressing == "auto" and options.endpoint_url is not None:
        return "path"  # what every compatible engine takes; bucket.localhost resolves nowhere
    return options.addressing


def _region(session: Any, options: S3Options) -> str | None:
    """The region; engines of one's own do not care which, but signing needs one."""
    found = session.get_config_variable("region")
    return options.region or found or ("us-east-1" if options.endpoint_url is not None else None)

"""A store in a web application: its life, how handlers get it, and what its errors answer."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, cast

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ExceptionHandler

from asyncstore.concurrency import in_worker
from asyncstore.errors import (
    AsyncStoreError,
    BackendError,
    BackendTimeout,
    MaterializationError,
    RegistryObjectNotFound,
    RegistryVersionConflict,
    StoreAmbiguousObjectError,
    StoreDiscoveryIncomplete,
    StoreKeyFormatError,
    StoreLocationNotFound,
    StoreReadOnlyError,
)
from asyncstore.store import AsyncStore

_STATE: Final = "asyncstore"
_RETRY_AFTER: Final = "1"

Lifespan = Callable[[Any], AbstractAsyncContextManager[dict[str, Any]]]


def lifespan(
    store: AsyncStore | Callable[[], AsyncStore] | Callable[[], Awaitable[AsyncStore]],
) -> Lifespan:
    """A lifespan for Starlette or FastAPI that provides a store and closes it at the end.

    ``store`` is a store, or makes one when the application starts (in a worker thread, where it
    is no ``async`` function). Nothing is connected to before
    it is first used, and nothing is held open across the application's life but the store: no task
    group and no cancel scope. An application with a lifespan of its own enters this one in it, and
    passes on what it gives::

        @asynccontextmanager
        async def own(app):
            async with lifespan(make_store)(app) as state:
                yield {**state, "more": "of its own"}
    """

    @asynccontextmanager
    async def provide(app: Any) -> AsyncGenerator[dict[str, Any]]:
        # In a worker, since a function that makes a store may read its configuration first.
        made = store if isinstance(store, AsyncStore) else await in_worker(store)
        opened: AsyncStore = cast(Any, await made if inspect.isawaitable(made) else made)
        try:
            yield {_STATE: opened}
        finally:
            await opened.aclose()

    return provide


async def get_store(connection: HTTPConnection) -> AsyncStore:
    """The application's store, for handlers; in FastAPI a dependency, ``Depends(get_store)``.

    Raises RuntimeError where the application runs without :func:`lifespan`.
    """
    store = getattr(connection.state, _STATE, None)
    if store is None:
        raise RuntimeError(
            "this application has no store: give it lifespan=asyncstore.asgi.lifespan(...), and "
            "in tests run its lifespan (with TestClient(app) as client: ...)"
        )
    return cast(AsyncStore, store)


async def refusal(request: Request, error: Exception) -> Response:
    """The response for an error of asyncstore, which says nothing of paths, URIs or causes.

    ====================================================  ====================================
    RegistryObjectNotFound, StoreLocationNotFound         404
    StoreKeyFormatError                                   400
    StoreAmbiguousObjectError                             409, with the qualified ``keys``
    RegistryVersionConflict                               409
    StoreReadOnlyError                                    403
    StoreDiscoveryIncomplete, BackendTimeout,             503 with ``Retry-After``
    BackendError that is transient
    MaterializationError                                  406 for GET and HEAD, else 415
    ====================================================  ====================================

    Anything else (IntegrityError, CommitUnknown, ...) is raised again: the server logs it and
    answers 500.
    """
    more: dict[str, Any] = {}
    headers: dict[str, str] = {}
    match error:
        case RegistryObjectNotFound():
            what = f"{error.name!r}" + (f" version {error.version}" if error.version else "")
            status, detail = 404, f"{what} is not here"
        case StoreLocationNotFound():
            status, detail = 404, f"there is no mount {error.location!r}"
        case StoreKeyFormatError():
            status, detail = 400, str(error)
        case StoreAmbiguousObjectError():
            status, more = 409, {"keys": error.suggested_keys}
            keys = " or ".join(map(repr, error.suggested_keys))
            detail = f"{error.name!r} is in {len(error.locations)} mounts: ask for {keys}"
        case RegistryVersionConflict():
            status, detail = 409, f"{error.name!r} version {error.version} is taken"
        case StoreReadOnlyError():
            status, detail = 403, f"the mount {error.location!r} is read-only"
        case StoreDiscoveryIncomplete():
            status, headers = 503, {"retry-after": _RETRY_AFTER}
            silent = ", ".join(error.errors) or "some mount"
            detail = f"no answer from {silent}, so whether the object is there is not known"
        case BackendError() if error.transient or isinstance(error, BackendTimeout):
            status, headers = 503, {"retry-after": _RETRY_AFTER}
            detail = "the storage gave no answer in time"
        case MaterializationError():
            status = 406 if request.method in ("GET", "HEAD") else 415
            detail = "the object cannot be had as plain bytes"
            if status == 415:
                detail = "objects of this kind cannot be stored"
        case _:
            raise error
    return JSONResponse({"detail": detail, **more}, status, headers)


exception_handlers: Final[dict[Any, ExceptionHandler]] = {
    AsyncStoreError: cast(ExceptionHandler, refusal)
}
"""For ``Starlette(exception_handlers=...)`` and ``FastAPI(exception_handlers=...)``."""

"""Serving stored objects over HTTP, with Starlette and everything built on it (FastAPI).

::

    app = Starlette(
        routes=[Route("/objects/{key:path}", download)],
        lifespan=lifespan(lambda: AsyncStore({"lab": "lab_store"})),
        exception_handlers=exception_handlers,
    )

    async def download(request):
        return ObjectResponse(await get_store(request), request.path_params["key"])

Needs ``pip install 'asyncstore[asgi]'``; ``import asyncstore`` alone never imports Starlette.
"""

try:
    from asyncstore.asgi.application import exception_handlers, get_store, lifespan, refusal
    from asyncstore.asgi.responses import ObjectResponse
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "starlette":
        raise
    raise ImportError("asyncstore.asgi needs Starlette: pip install 'asyncstore[asgi]'") from error

__all__ = ["ObjectResponse", "exception_handlers", "get_store", "lifespan", "refusal"]

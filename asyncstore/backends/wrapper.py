"""One backend around another, with a single place that every request passes."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from typing import TypeVar

from asyncstore.backends.base import Backend, Blob, Buffer, Capabilities, Entry, Page, PutReply

T = TypeVar("T")


class Wrapper:
    """A backend that answers exactly as ``inner`` does.

    Subclasses override :meth:`passing`, through which all six kinds of request go, and so need
    not write each of them again. ``uri``, ``capabilities`` and ``aclose`` are those of ``inner``.
    """

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    async def passing(
        self, method: str, keys: Sequence[str], send: Callable[[], Awaitable[T]]
    ) -> T:
        """Answer one request: ``send()`` passes it on, now, later, again or never.

        ``keys`` holds the one key or prefix that it is about; a deletion's may be several or none.
        """
        return await send()

    @property
    def uri(self) -> str:
        """Where ``inner`` has the bytes."""
        return self.inner.uri

    @property
    def capabilities(self) -> Capabilities:
        """What ``inner`` states of itself."""
        return self.inner.capabilities

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> Blob | None:
        """Read, as one request."""
        return await self.passing(
            "get", [key], lambda: self.inner.get(key, start=start, length=length)
        )

    async def head(self, key: str) -> Entry | None:
        """Size and tag, as one request."""
        return await self.passing("head", [key], lambda: self.inner.head(key))

    async def list(
        self,
        prefix: str,
        *,
        start_after: str = "",
        limit: int = 1000,
        peek: int | None = None,
        deep: bool = False,
    ) -> Page:
        """One page, as one request."""

        def send() -> Awaitable[Page]:
            return self.inner.list(
                prefix, start_after=start_after, limit=limit, peek=peek, deep=deep
            )

        return await self.passing("list", [prefix], send)

    async def put(self, key: str, data: Buffer | AsyncIterable[Buffer]) -> None:
        """Store, as one request."""
        await self.passing("put", [key], lambda: self.inner.put(key, data))

    async def put_if(self, key: str, data: Buffer, *, tag: str | None) -> PutReply:
        """Create or replace, as one request."""
        return await self.passing("put_if", [key], lambda: self.inner.put_if(key, data, tag=tag))

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove, as one request for all of them."""
        await self.passing("delete", keys, lambda: self.inner.delete(keys))

    async def aclose(self) -> None:
        """Close ``inner``."""
        await self.inner.aclose()

"""A backend without conditional writes, for a single writer: by looking first."""

from __future__ import annotations

import asyncio
import warnings

from asyncstore._warnings import level_outside
from asyncstore.backends.base import Backend, Buffer, PutReply, PutStatus
from asyncstore.backends.wrapper import Wrapper
from asyncstore.errors import BackendError


class UnsafeSingleWriterWarning(UserWarning):
    """A registry was opened with ``unsafe_single_writer=True``."""


class SingleWriterBackend(Wrapper):
    """Looks whether a condition holds, and then writes without it.

    Between the two somebody else may write, another process or another registry of this one, and
    one of the writes is lost without a word. Those of one registry are made one at a time. A lost
    reply cannot be told from a lost write here, so a commit may also be reported as a conflict
    with itself.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self._turn = asyncio.Lock()
        warnings.warn(
            f"{inner.uri} is written without conditions (unsafe_single_writer=True): a second "
            "process that writes there overwrites objects without a word",
            UnsafeSingleWriterWarning,
            stacklevel=level_outside(),
        )

    async def put_if(self, key: str, data: Buffer, *, tag: str | None) -> PutReply:
        """Look, and store if the condition held a moment ago."""
        async with self._turn:
            try:
                blob = await self.inner.get(key)
            except BackendError as error:
                return PutReply(PutStatus.FAILED, error=error)
            if (blob.tag if blob else None) != tag:
                return PutReply(PutStatus.REFUSED)
            try:
                await self.inner.put(key, data)
            except BackendError as error:
                status = PutStatus.UNKNOWN if error.transient else PutStatus.FAILED
                return PutReply(status, error=error)
            return PutReply(PutStatus.DONE)

"""The bytes of requests and replies: sent and taken without a copy of the whole, and their sums."""

from __future__ import annotations

import hashlib
import io
import zlib
from base64 import b64encode
from typing import Any, Final

from asyncstore.backends.base import Buffer
from asyncstore.errors import BackendError

_READ: Final = 256 * 1024
_ROOM: Final = 256 * 1024 * 1024


class Body(io.BytesIO):
    """Any buffer to be sent piece by piece, without a copy of the whole.

    A plain one copies what is not bytes, and all of it where aiohttp asks for its size.
    """

    def __init__(self, data: Buffer) -> None:
        super().__init__()
        self._data = memoryview(data).cast("B")
        self._at = 0

    def getbuffer(self) -> memoryview:
        return memoryview(self._data)

    def read(self, size: int | None = -1, /) -> bytes:
        start, end = self._at, len(self._data)
        self._at = end if size is None or size < 0 else min(start + size, end)
        return self._data[start : self._at].tobytes()

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(memoryview(buffer).cast("B")))
        memoryview(buffer).cast("B")[: len(data)] = data
        return len(data)

    def getvalue(self) -> bytes:
        return self._data.tobytes()

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = min(max(0, origin + offset), len(self._data))
        return self._at


async def read_body(body: Any, expected: int) -> bytes:
    """So many bytes of a body."""
    if expected <= _READ:
        data: bytes = await body.read(expected) if expected else b""
        if len(data) == expected:
            return data
    else:
        data = b""
    # Written into room that is there from the start, and handed over as it is: the bytes are in
    # memory once. Only a lying size has no room, and grows as it comes.
    whole = io.BytesIO(bytes(min(expected, _ROOM)))
    have = whole.write(data)
    while have < expected:
        piece: bytes = await body.read(min(_READ, expected - have))
        if not piece:
            raise BackendError(f"the body ends after {have} of {expected} bytes", transient=True)
        have += whole.write(piece)
    return whole.getvalue()


def md5(data: Buffer) -> str:
    """``Content-MD5`` of these bytes."""
    return b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def crc32(data: Buffer) -> str:
    """``x-amz-checksum-crc32`` of these bytes."""
    return b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()

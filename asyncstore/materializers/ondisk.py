"""A file on the disk that is to be stored, read chunk by chunk in worker threads."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

from asyncstore.buffers import buffer
from asyncstore.errors import MaterializationError


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on the disk as it was when it was looked at.

    ``identity`` is (device, inode, size, time of change in ns, of status change in ns): a file
    that was written to since has another one.
    """

    path: str
    size: int
    executable: bool
    identity: tuple[int, ...] = field(repr=False)

    def read(self, start: int, length: int) -> tuple[memoryview, bytes]:
        """Bytes and their SHA-256, in a worker thread.

        Raises MaterializationError if it is no longer the file that was looked at.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise changed(self.path) from error
        try:
            if identity_of(os.fstat(fd)) != self.identity:
                raise changed(self.path)
            data, have = buffer(length), 0
            while have < length:
                more = os.preadv(fd, [data[have:]], start + have)
                if not more:
                    raise changed(self.path)
                have += more
        finally:
            os.close(fd)
        return data, hashlib.sha256(data).digest()


def identity_of(status: os.stat_result) -> tuple[int, ...]:
    """What tells a file that was written to from what it was."""
    return (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )  # fmt: skip


def changed(path: str) -> MaterializationError:
    """The error for a file that is not what it was."""
    return MaterializationError(
        f"{path} changed while it was being saved: nothing was stored. Save it again when nothing "
        "writes to it"
    )

"""Memory for large pieces of payload."""

from __future__ import annotations

import mmap
from typing import Final

_LARGE: Final = 1024 * 1024
_PRIVATE: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


def buffer(size: int) -> memoryview:
    """``size`` writable bytes, which go back to the system with the last reference to them.

    What malloc gives, it may keep: each thread has an arena of its own, and an arena keeps the
    large blocks that were freed in it. With 8 MiB pieces made by several threads that is tens of
    MiB on top of what is in use.
    """
    return memoryview(mmap.mmap(-1, size, flags=_PRIVATE) if size >= _LARGE else bytearray(size))

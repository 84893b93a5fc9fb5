"""The hashes that vouch for stored bytes. Pure.

A file is hashed in chunks of 8 MiB, so that a range, a seek or an out-of-order part can be
verified before a byte of it is handed over. The digest of a file of one chunk is its plain
SHA-256; that of a longer one is the SHA-256 over its chunks' digests. At 4,096 chunks, pairs of
neighbours are joined (SHA-256 over both digests, an odd last one is carried up unchanged) and the
chunk size doubles, so the list stays short and a stream of unknown length needs no second pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

CHUNK_SIZE: Final = 8 * 1024 * 1024
MAX_CHUNKS: Final = 4096

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Digest:
    """What is known of a file's bytes: its size, its hash, and the hashes of its chunks.

    ``chunks`` is empty for a file of one chunk; all digests are 64 lower-case hex characters.
    """

    size: int
    hash: str
    chunk_size: int = CHUNK_SIZE
    chunks: tuple[str, ...] = ()


class Hasher:
    """Digests a file from pieces of any size that arrive in order."""

    def __init__(self) -> None:
        self._size = 0
        self._level = 0
        self._done: list[bytes] = []
        self._leaves: list[bytes] = []
        self._leaf = hashlib.sha256()
        self._last: bytes | None = None

    def update(self, data: Buffer) -> None:
        """Take the next bytes. Lets go of the interpreter lock while it hashes large pieces."""
        view = memoryview(data).cast("B") if not isinstance(data, bytes) else memoryview(data)
        while view.nbytes:
            room = CHUNK_SIZE - self._size % CHUNK_SIZE
            piece, view = view[:room], view[room:]
            self._leaf.update(piece)
            self._size += piece.nbytes
            if self._size % CHUNK_SIZE == 0:
                self._end_leaf(self._leaf.digest())
                self._leaf = hashlib.sha256()

    def add(self, leaf: bytes, size: int) -> None:
        """Take the next chunk by its SHA-256: 8 MiB of it, or fewer where it is the last."""
        self._size += size
        if size < CHUNK_SIZE:
            self._last = leaf
        else:
            self._end_leaf(leaf)

    def digest(self) -> Digest:
        """The digest of all bytes so far."""
        leaves = list(self._leaves)
        if self._size % CHUNK_SIZE or not self._size:
            leaves.append(self._last or self._leaf.digest())
        chunks = self._done + ([_joined(leaves)] if leaves else [])
        if self._size <= CHUNK_SIZE:
            return Digest(self._size, chunks[0].hex())
        whole = hashlib.sha256(b"".join(chunks)).hexdigest()
        size = CHUNK_SIZE << self._level
        return Digest(self._size, whole, size, tuple(chunk.hex() for chunk in chunks))

    def _end_leaf(self, leaf: bytes) -> None:
        self._leaves.append(leaf)
        if len(self._leaves) == 1 << self._level:
            self._done.append(_joined(self._leaves))
            self._leaves = []
        if len(self._done) == MAX_CHUNKS:
            pairs = zip(self._done[::2], self._done[1::2], strict=True)
            self._done = [_joined(list(pair)) for pair in pairs]
            self._level += 1


def digest_of(data: Buffer) -> Digest:
    """The digest of these bytes as one file."""
    hasher = Hasher()
    hasher.update(data)
    return hasher.digest()


def chunk_hash(data: Buffer) -> str:
    """The digest of one chunk, whatever power of two times 8 MiB it holds."""
    view = memoryview(data).cast("B")
    if view.nbytes <= CHUNK_SIZE:
        return hashlib.sha256(view).hexdigest()
    leaves = [
        hashlib.sha256(view[at : at + CHUNK_SIZE]).digest()
        for at in range(0, view.nbytes or 1, CHUNK_SIZE)
    ]
    return _joined(leaves).hex()


def combined_hash(chunks: Iterable[str]) -> str:
    """The hash of a file from its chunks' digests."""
    digests = [bytes.fromhex(chunk) for chunk in chunks]
    joined = b"".join(digests)
    return joined.hex() if len(digests) == 1 else hashlib.sha256(joined).hexdigest()


def _joined(digests: list[bytes]) -> bytes:
    while len(digests) > 1:
        pairs = [digests[i : i + 2] for i in range(0, len(digests), 2)]
        digests = [hashlib.sha256(b"".join(p)).digest() if len(p) == 2 else p[0] for p in pairs]
    return digests[0]

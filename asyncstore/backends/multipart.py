"""Large objects in parts: several on their way at once, few in memory, all of them or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, suppress
from itertools import count
from typing import Final

from asyncstore.backends.base import Buffer, Multipart
from asyncstore.concurrency import SMALL, first_error, maybe_in_worker, task_of, to_the_end
from asyncstore.errors import BackendError

AT_ONCE: Final = 4
"""Parts of one object that are being filled or on their way."""

_ABANDON_GRACE: Final = 5.0
_GROWTH: Final = 2000
"""Parts after which each is four times as large: 10,000 are the most, and 5 TiB must fit."""

_BUFFERS: Final = (bytes, bytearray, memoryview)
_NOTHING: Final = memoryview(b"")


async def put_in_parts(store: Multipart, key: str, data: Buffer | AsyncIterable[Buffer]) -> None:
    """Store an object in parts, or in one request where there is no second part.

    It shows when all of it is there. After an error or a cancellation the upload is abandoned,
    so that no parts are left, which would be invisible and yet paid for; where even that fails,
    the bucket's rule for unfinished uploads has them.
    """
    async with aclosing(parts_of(data, store.part_size)) as parts:
        first = await anext(parts, b"")
        second = await anext(parts, None)
        if second is None:
            await store.put_whole(key, first)
            return
        head = [second, first]
        del first, second  # else this frame keeps them until the last part is sent
        upload = await store.begin_parts(key)
        try:
            await _send(store, key, upload, _chained(head, parts))
        except BaseException:
            work = task_of(store.abandon_parts(key, upload), f"abandon {key}")
            with suppress(BackendError):
                await to_the_end(work, grace=_ABANDON_GRACE)
            raise


async def _send(
    store: Multipart,
    key: str,
    upload: str,
    parts: AsyncGenerator[Buffer],
) -> None:
    turns = asyncio.Semaphore(AT_ONCE)
    tags: dict[int, str] = {}
    size = 0

    async def send(number: int, part: Buffer) -> None:
        try:
            tags[number] = await store.put_part(key, upload, number, part)
        finally:
            turns.release()

    numbers = count(1)
    try:
        async with asyncio.TaskGroup() as group:
            while True:
                await turns.acquire()  # before the part is there: it takes memory
                part = await anext(parts, None)
                if part is None:
                    break
                size += memoryview(part).nbytes
                group.create_task(send(next(numbers), part))
                del part  # else this frame keeps it while the next one is being filled
    except BaseExceptionGroup as errors:
        error = first_error(errors)
        raise error from error.__cause__
    await store.finish_parts(key, upload, [tags[number] for number in sorted(tags)], size)


async def _chained(head: list[Buffer], rest: AsyncIterable[Buffer]) -> AsyncGenerator[Buffer]:
    """The parts of ``head``, the last one first, which forgets them, and then the others."""
    while head:
        yield head.pop()
    async for part in rest:
        yield part


async def parts_of(data: Buffer | AsyncIterable[Buffer], part_size: int) -> AsyncGenerator[Buffer]:
    """The bytes cut into parts of ``part_size``, growing once there are very many.

    What is in memory is not copied. Pieces of a stream are gathered until they fill a part.
    """
    number = 1
    held: list[Buffer] = []
    have = 0
    async for piece in _one(data) if isinstance(data, _BUFFERS) else data:
        view = memoryview(piece).cast("B")
        del piece  # nothing here keeps what was handed over while the next piece is awaited
        while view.nbytes:
            room = _size_of(number, part_size) - have
            held.append(view[:room])
            have += min(room, view.nbytes)
            view = view[room:] if view.nbytes > room else _NOTHING
            if have == _size_of(number, part_size):
                part = await _joined(held)
                held, have = [], 0
                number += 1
                yield part
                del part
    if have:
        yield await _joined(held)


def _size_of(number: int, part_size: int) -> int:
    return int(part_size * 4 ** ((number - 1) // _GROWTH))


async def _one(data: Buffer) -> AsyncGenerator[Buffer]:
    yield data


async def _joined(pieces: list[Buffer]) -> Buffer:
    if len(pieces) == 1:
        [piece] = pieces
        if isinstance(piece, memoryview) and isinstance(piece.obj, bytes):
            # A client takes bytes: where these are all of an object's, they need no copy.
            return piece.obj if piece.nbytes == len(piece.obj) else piece
        return piece
    return await maybe_in_worker(sum(map(len, pieces)) > SMALL, b"".join, pieces)

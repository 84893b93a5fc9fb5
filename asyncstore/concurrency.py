"""The few rules of waiting that everything above the backends keeps."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict, deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any, Generic, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")
U = TypeVar("U")

_LATE = "_asyncstore_late_result"

SMALL = 64 * 1024
"""Bytes that may be hashed or decoded on the event loop; more goes to a worker thread."""


async def in_worker(function: Callable[..., T], *args: Any) -> T:
    """Run a function without side effects in a worker thread; a cancelled caller does not wait."""
    return await anyio.to_thread.run_sync(function, *args, abandon_on_cancel=True)


async def maybe_in_worker(large: bool, function: Callable[..., T], *args: Any) -> T:
    """Run a function in a worker thread if its work is large, else right here."""
    return await in_worker(function, *args) if large else function(*args)


async def to_the_end(work: Awaitable[T], *, grace: float) -> T:
    """Await ``work`` even through cancellation, however often it comes.

    The first cancellation starts a clock of ``grace`` seconds; past it the work itself is
    cancelled and awaited. Either way ``CancelledError`` is raised once the work has ended, from
    whatever error it ended in. anyio's shielded scope alone does not hold off ``task.cancel()``
    or ``asyncio.wait_for``, and ``asyncio.shield`` alone leaves an orphan: hence the loop.
    """
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError as error:
        if future.cancelled():
            raise  # it was the work that was cancelled, not who awaits it
        cancelled = error
    loop = asyncio.get_running_loop()
    give_up = loop.time() + grace
    with anyio.CancelScope(shield=True):  # else anyio would cancel this loop on every turn
        while not future.done():
            left = give_up - loop.time()
            if left <= 0:
                future.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future], timeout=left if left > 0 else None)
    cause = None if future.cancelled() else future.exception()
    if future.done() and not future.cancelled() and cause is None:
        cancelled.__dict__[_LATE] = future.result()
    raise cancelled from cause


def late_result(error: BaseException | None) -> object:
    """What the work of :func:`to_the_end` answered after its caller had been cancelled, if it did.

    ``error`` is that cancellation, or what was raised from it.
    """
    while error is not None:
        if _LATE in error.__dict__:
            return error.__dict__[_LATE]
        error = error.__cause__
    return None


def task_of(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """A task of its own, for :func:`to_the_end` to own."""
    return asyncio.get_running_loop().create_task(work, name=name)


async def together(*work: Coroutine[Any, Any, T]) -> list[T]:
    """Run all at once and answer their results in order: all of them, or the first plain error.

    The others are cancelled and awaited first; no ExceptionGroup leaves here.
    """
    if len(work) == 1:
        return [await work[0]]
    tasks: list[asyncio.Task[T]] = []

    def end_others(ended: asyncio.Task[T]) -> None:
        # A task group goes on when one of its tasks is cancelled alone: the others, which may be
        # waiting for what it was to do, would hang.
        if ended.cancelled():
            for task in tasks:
                if not task.cancelling():
                    task.cancel()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
            for task in tasks:
                task.add_done_callback(end_others)
    except BaseExceptionGroup as errors:
        error = first_error(errors)
        raise error from error.__cause__
    return [task.result() for task in tasks]


async def both(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """:func:`together` for two whose results differ in type."""
    results: list[Any] = await together(one, other)
    return results[0], results[1]


async def some_at_once(most: int, calls: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
    """:func:`together`, with at most so many under way at once."""
    turns = asyncio.Semaphore(most)

    async def in_turn(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async with turns:
            return await call()

    return await together(*(in_turn(call) for call in calls))


async def by_turns(most: int, calls: Iterable[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Make all calls, at most so many at once, in tasks that do not grow with their number."""
    left = iter(calls)

    async def work() -> None:
        for call in left:  # whoever is free takes the next
            await call()

    await together(*(work() for _ in range(most)))


async def in_order(
    calls: Iterable[Callable[[], Coroutine[Any, Any, T]]], *, ahead: int
) -> AsyncGenerator[T]:
    """The results of calls, one after the other, while the next ``ahead`` are under way.

    They are tasks of this generator: whoever leaves it early closes it (``aclosing``), which
    cancels and awaits them.
    """
    left = iter(calls)
    tasks: deque[asyncio.Task[T]] = deque()
    try:
        while True:
            for call in islice(left, ahead + 1 - len(tasks)):
                tasks.append(task_of(call(), "ahead"))
            if not tasks:
                return
            result = await tasks[0]
            _ = tasks.popleft()
            for call in islice(left, ahead - len(tasks)):
                tasks.append(task_of(call(), "ahead"))
            yield result
            del result  # it may be large
    finally:
        await ended(tasks)


async def ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks whose results nobody wants, and wait until they are over."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # else asyncio reports that nobody asked


async def first_of(
    send: Callable[[], Coroutine[Any, Any, T]], *, after: float, again: Callable[[], bool]
) -> T:
    """The result of ``send()``, or of a second one that is sent if it takes ``after`` seconds.

    The first to succeed counts, and the other one is cancelled and awaited. ``again`` is asked
    before the second is sent. Where both fail, the first error is raised.
    """
    tasks = [task_of(send(), "first")]
    try:
        await asyncio.wait(tasks, timeout=after)
        if not tasks[0].done() and again():
            tasks.append(task_of(send(), "second"))
        left: set[asyncio.Task[T]] = set(tasks)
        while left:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled() and task.exception() is None:
                    return task.result()
        return await tasks[0]
    finally:
        await ended(tasks)


async def as_value(work: Callable[..., Awaitable[T]], *args: Any) -> T | Exception:
    """The result of ``work(*args)``, or its error as a value, so that it cancels nobody beside it.

    Takes the function, since a task that ends before it starts would leave a coroutine unawaited.
    """
    try:
        return await work(*args)
    except Exception as error:
        return error


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first leaf of an exception group."""
    first = errors.exceptions[0]
    return first_error(first) if isinstance(first, BaseExceptionGroup) else first


async def backoff(attempt: int, *, base: float = 0.001, most: float = 0.1) -> None:
    """Sleep a random time below an exponentially growing bound ("full jitter")."""
    # Not for secrets: the jitter only has to differ between writers.
    await asyncio.sleep(random.uniform(0, min(most, base * 2 ** min(attempt, 64))))


class NameLocks:
    """One lock a name, gone when nobody holds or awaits it.

    Each event loop has its own: who waits in one cannot be woken from another.
    """

    def __init__(self) -> None:
        self._locks: dict[tuple[asyncio.AbstractEventLoop, str], tuple[asyncio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, name: str, *, timeout: float | None = None) -> AsyncGenerator[None]:
        """Hold the lock of ``name``; waiters are served in order.

        Raises TimeoutError where it is not to be had within ``timeout`` seconds.
        """
        at = (asyncio.get_running_loop(), name)
        lock, users = self._locks.get(at, (None, 0))
        lock = lock or asyncio.Lock()
        self._locks[at] = (lock, users + 1)
        try:
            if lock.locked():
                async with asyncio.timeout(timeout):
                    await lock.acquire()
            else:
                await lock.acquire()
            try:
                yield
            finally:
                lock.release()
        finally:
            users = self._locks[at][1] - 1
            if users:
                self._locks[at] = (lock, users)
            else:
                del self._locks[at]


class ByteLRU(Generic[T]):
    """A mapping that forgets the least recently used once its values exceed ``capacity`` bytes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._used = 0
        self._items: OrderedDict[str, tuple[T, int]] = OrderedDict()

    def get(self, key: str) -> T | None:
        """What is kept for ``key``."""
        item = self._items.get(key)
        if item is None:
            return None
        self._items.move_to_end(key)
        return item[0]

    def put(self, key: str, value: T, size: int) -> None:
        """Keep a value of so many bytes, if it is not too large to be worth it."""
        self.drop(key)
        if size > self._capacity // 8:
            return
        self._items[key] = (value, size)
        self._used += size
        while self._used > self._capacity:
            _, (_, dropped) = self._items.popitem(last=False)
            self._used -= dropped

    def drop(self, key: str) -> None:
        """Forget ``key``."""
        item = self._items.pop(key, None)
        if item is not None:
            self._used -= item[1]

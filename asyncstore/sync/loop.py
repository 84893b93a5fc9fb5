"""One event loop in a thread of its own, on which every synchronous call runs."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """An event loop in a daemon thread. Calls come from any other thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="asyncstore-sync", daemon=True
        )
        self._thread.start()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine to its end and answer its result or raise its error.

        Ctrl-C (or whatever else interrupts the wait) cancels it and waits for its clean end.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "a synchronous call inside asyncstore's own event loop would wait for itself: "
                "use the asynchronous class there"
            )
        if sys.is_finalizing():  # daemon threads stand still by now
            raise RuntimeError("the interpreter is shutting down, and asyncstore's loop is gone")
        call = _Call(self._loop, work)
        try:
            self._loop.call_soon_threadsafe(call.start)
            call.wait()
        except BaseException:
            self._loop.call_soon_threadsafe(call.cancel)
            call.wait()
            raise
        return call.result()

    def end(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run what ends something that was left half-way, and wait for it where one can.

        Garbage collection calls this from anywhere. In the loop's own thread there is nothing to
        do, since asyncio ends the asynchronous generators that are dropped; and while the
        interpreter shuts down there is nothing left to end.
        """
        if not sys.is_finalizing() and threading.current_thread() is not self._thread:
            self.run(work)


class _Call(Generic[T]):
    """One call: its task, and the event that says that the task has ended."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> None:
        self._ended = threading.Event()
        self._loop = loop
        self._work = work
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._work(), context=self._context)
        self._task.add_done_callback(lambda _: self._ended.set())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:  # interrupted before it was even scheduled
            self._ended.set()

    def wait(self) -> None:
        # A signal that comes just before the thread blocks is seen only when it wakes up again.
        while not self._ended.wait(0.2):
            pass

    def result(self) -> T:
        assert self._task is not None  # it has ended, so it was started
        return self._task.result()


class _Shared:
    """The loop of this process, started by the first call. A forked child starts its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: BackgroundLoop | None = None
        self._watches_forks = False

    def get(self) -> BackgroundLoop:
        with self._lock:
            if not self._watches_forks and hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=self._forget)
                self._watches_forks = True
            if self._loop is None:
                self._loop = BackgroundLoop()
            return self._loop

    def _forget(self) -> None:
        # The child has neither the thread nor, perhaps, whoever held the lock.
        self._lock = threading.Lock()
        self._loop = None


_shared = _Shared()


def end(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run the end of something that was left half-way; see :meth:`BackgroundLoop.end`."""
    _shared.get().end(work)


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on the process's background loop, from any thread but that loop's own."""
    return _shared.get().run(work)

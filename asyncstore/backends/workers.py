"""Worker threads for small jobs: the shortest way there and back that was measured.

A hop through ``concurrent.futures`` makes two futures and chains them, which costs a small load a
third of its time. Here a job is handed over as it is, and hands its own result back. The class is
still an ``Executor``, for what wants one.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Job: TypeAlias = Callable[[], None]


class Workers(Executor):
    """Up to ``most`` threads, each started when a job finds none idle.

    They end when this is shut down or forgotten. They are daemons: what is still under way when
    the process ends was acknowledged to nobody.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._team = _Team()
        weakref.finalize(self, self._team.dismiss)

    def hand(self, job: Job) -> None:
        """Have a job done soon. It must not raise, and takes care of its result itself."""
        if self._team.needs_one_more(self._most):
            number = self._team.threads
            threading.Thread(
                target=self._team.work, name=f"{self._name}_{number}", daemon=True
            ).start()
        self._team.jobs.put(job)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a call done soon, as an ``Executor`` does."""
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.hand(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the threads end once the jobs that were handed over are done; never waits."""
        self._team.dismiss()


class _Team:
    """What the threads share, so that none of them keeps the pool itself alive."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.threads = 0
        self._idle = 0  # less the jobs that wait for a thread to become so
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def needs_one_more(self, most: int) -> bool:
        with self._lock:
            if (self._idle <= 0 or not self.threads) and self.threads < most:
                self.threads += 1
                return True
            self._idle -= 1
            return False

    def work(self) -> None:
        while (job := self.jobs.get()) is not None:
            job()
            del job  # its result may be large, and the next job may be long in coming
            with self._lock:
                self._idle += 1

    def dismiss(self) -> None:
        if os.getpid() != self._owner:
            return  # a forked child has none of the threads, and perhaps a lock held for ever
        with self._lock:
            count, self.threads = self.threads, 0
        for _ in range(count):
            self.jobs.put(None)

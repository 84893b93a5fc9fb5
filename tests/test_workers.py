"""The worker threads of the local backend: every job is done once, and threads come and go."""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import Future

import pytest

from asyncstore.backends.workers import Workers


def names(of: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(of)]


def ended(of: str) -> bool:
    """Whether all threads of that name end, given a moment."""
    for thread in threading.enumerate():
        if thread.name.startswith(of):
            thread.join(5)
    return not names(of)


def test_every_job_is_done_once_whoever_hands_it_over() -> None:
    workers = Workers(4, "w-once")
    done: list[int] = []
    left = threading.Semaphore(0)

    def hand(start: int) -> None:
        for number in range(start, start + 500):
            workers.hand(lambda number=number: (done.append(number), left.release())[1])

    callers = [threading.Thread(target=hand, args=(start,)) for start in range(0, 2000, 500)]
    for caller in callers:
        caller.start()
    for _ in range(2000):
        assert left.acquire(timeout=10)
    assert sorted(done) == list(range(2000))
    assert 1 <= len(names("w-once")) <= 4
    workers.shutdown()
    assert ended("w-once")


def test_one_job_after_the_other_needs_one_thread() -> None:
    workers = Workers(8, "w-single")
    for number in range(200):
        assert workers.submit(pow, number, 2).result(10) == number * number
    # A thread may be told from an idle one a moment before it is one.
    assert len(names("w-single")) <= 2
    workers.shutdown()


def test_jobs_that_wait_for_each_other_run_side_by_side() -> None:
    workers = Workers(8, "w-side")
    barrier = threading.Barrier(8, timeout=10)
    futures = [workers.submit(barrier.wait) for _ in range(8)]
    assert sorted(future.result(10) for future in futures) == list(range(8))
    workers.shutdown()


def test_results_and_errors_come_back() -> None:
    workers = Workers(2, "w-back")
    with pytest.raises(ZeroDivisionError):
        workers.submit(divmod, 1, 0).result(10)
    assert workers.submit(int, "12", base=3).result(10) == 5
    workers.shutdown()


def test_a_cancelled_call_is_not_made() -> None:
    workers = Workers(1, "w-cancel")
    free, called = threading.Event(), []
    blocking = workers.submit(free.wait, 10)
    waiting: Future[None] = workers.submit(called.append, 1)
    assert waiting.cancel()
    free.set()
    assert blocking.result(10)
    workers.submit(int).result(10)
    assert called == []
    workers.shutdown()


def test_what_was_handed_over_is_done_before_the_threads_end() -> None:
    workers = Workers(2, "w-end")
    futures = [workers.submit(pow, 2, number) for number in range(50)]
    workers.shutdown()
    assert [future.result(10) for future in futures] == [2**number for number in range(50)]
    assert ended("w-end")


def test_it_works_again_after_it_was_shut_down() -> None:
    """Two event loops may share a backend, and one close it while the other uses it."""
    workers = Workers(2, "w-again")
    for _ in range(20):
        assert workers.submit(int, "3").result(10) == 3
        workers.shutdown()
        assert workers.submit(int, "4").result(10) == 4
    workers.shutdown()
    assert ended("w-again")


def test_threads_end_with_the_last_reference() -> None:
    workers = Workers(2, "w-forgotten")
    workers.submit(int).result(10)
    assert names("w-forgotten")
    del workers
    gc.collect()
    assert ended("w-forgotten")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # newer Pythons warn of such a fork
def test_a_forked_child_may_forget_them() -> None:
    workers = Workers(2, "w-fork")
    workers.submit(int).result(10)
    child = os.fork()
    if child == 0:
        workers.shutdown()
        del workers
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert workers.submit(int, "5").result(10) == 5
    workers.shutdown()

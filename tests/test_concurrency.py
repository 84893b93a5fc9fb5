"""The rules of waiting. Lesson T3: no cancellation tears a commit from its end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest
import pytest_asyncio

from asyncstore.concurrency import (
    ByteLRU,
    NameLocks,
    backoff,
    in_worker,
    maybe_in_worker,
    task_of,
    to_the_end,
)

pytestmark = pytest.mark.asyncio

LONG = 3600.0
"""Seconds of grace that no test waits for."""


@pytest_asyncio.fixture(autouse=True)
async def nothing_is_left_behind() -> AsyncIterator[None]:
    """No test leaves a task or an exception that nobody retrieved."""
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() <= before | {asyncio.current_task()}
    assert unheard == []


class Work:
    """Work that starts, waits to be let go, and ends; or is cancelled."""

    def __init__(self, outcome: Exception | str = "done") -> None:
        self.started, self.let_go = asyncio.Event(), asyncio.Event()
        self.ended = self.cancelled = False
        self._outcome = outcome

    async def run(self) -> str:
        """Do it."""
        self.started.set()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        self.ended = True
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


async def turns(count: int = 20) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


# to_the_end


async def test_undisturbed_work_gives_its_result_or_error() -> None:
    async def result() -> int:
        return 7

    async def error() -> int:
        raise ValueError("bad")

    assert await to_the_end(result(), grace=LONG) == 7
    assert await to_the_end(task_of(result(), "named"), grace=LONG) == 7
    assert await to_the_end(asyncio.ensure_future(result()), grace=0) == 7
    with pytest.raises(ValueError, match="bad"):
        await to_the_end(error(), grace=LONG)


async def test_t3_a_cancelled_caller_waits_until_the_work_has_ended() -> None:
    work = Work()
    caller = asyncio.create_task(to_the_end(work.run(), grace=LONG))
    await work.started.wait()
    caller.cancel("stop")
    await turns()
    assert not caller.done()
    work.let_go.set()
    with pytest.raises(asyncio.CancelledError, match="stop") as caught:
        await caller
    assert work.ended
    assert not work.cancelled
    assert caught.value.__cause__ is None


async def test_t3_cancelling_again_and_again_changes_nothing() -> None:
    work = Work()
    caller = asyncio.create_task(to_the_end(work.run(), grace=LONG))
    await work.started.wait()
    for _ in range(50):
        caller.cancel()
        await turns(3)
        assert not caller.done()
    caller.cancel()
    work.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.ended
    assert not work.cancelled


async def test_a_caller_cancelled_before_it_began_to_wait() -> None:
    work = Work()
    task = task_of(work.run(), "work")

    async def call() -> str:
        own = asyncio.current_task()
        assert own is not None
        own.cancel()
        return await to_the_end(task, grace=LONG)

    caller = asyncio.create_task(call())
    await work.started.wait()
    await turns()
    assert not caller.done()
    work.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.ended


async def test_work_that_raises_after_the_cancellation_is_its_cause() -> None:
    work = Work(ValueError("bad"))
    caller = asyncio.create_task(to_the_end(work.run(), grace=LONG))
    await work.started.wait()
    caller.cancel()
    await turns()
    work.let_go.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await caller
    assert isinstance(caught.value.__cause__, ValueError)
    assert str(caught.value.__cause__) == "bad"


async def test_work_that_is_cancelled_by_somebody_else_ends_as_cancelled() -> None:
    work = Work()
    task = task_of(work.run(), "work")
    caller = asyncio.create_task(to_the_end(task, grace=LONG))
    await work.started.wait()
    task.cancel("from elsewhere")
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert work.cancelled


async def test_after_its_grace_the_work_is_cancelled_and_awaited() -> None:
    work = Work()
    caller = asyncio.create_task(to_the_end(work.run(), grace=0.01))
    await work.started.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await caller
    assert work.cancelled
    assert not work.ended
    assert caught.value.__cause__ is None


async def test_work_may_say_what_its_cancellation_left_open() -> None:
    class Unknown(Exception):
        pass

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Unknown("who knows") from None

    caller = asyncio.create_task(to_the_end(run(), grace=0.01))
    await turns()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await caller
    assert isinstance(caught.value.__cause__, Unknown)


async def test_work_that_cleans_up_after_its_grace_is_awaited() -> None:
    cleaning, go_on = asyncio.Event(), asyncio.Event()
    clean = False

    async def run() -> None:
        nonlocal clean
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await go_on.wait()
            clean = True

    caller = asyncio.create_task(to_the_end(run(), grace=0.01))
    await turns()
    caller.cancel()
    await cleaning.wait()
    await turns()
    assert not caller.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert clean


async def test_the_clock_of_grace_starts_with_the_cancellation() -> None:
    """Undisturbed work may take longer than the grace."""
    work = Work()
    caller = asyncio.create_task(to_the_end(work.run(), grace=0.0))
    await work.started.wait()
    await turns(100)
    assert not caller.done()
    work.let_go.set()
    assert await caller == "done"


Limit = Callable[[Awaitable[str]], Awaitable[str]]


async def _wait_for(call: Awaitable[str]) -> str:
    return await asyncio.wait_for(call, 0.01)


async def _timeout(call: Awaitable[str]) -> str:
    async with asyncio.timeout(0.01):
        return await call


async def _fail_after(call: Awaitable[str]) -> str:
    with anyio.fail_after(0.01):
        return await call


async def _move_on_after(call: Awaitable[str]) -> str:
    with anyio.move_on_after(0.01):
        return await call
    raise TimeoutError


async def _cancelled_scope(call: Awaitable[str]) -> str:
    with anyio.CancelScope() as scope:
        scope.cancel()
        return await call
    raise TimeoutError


async def _task_group(call: Awaitable[str]) -> str:
    async def run() -> None:
        await call

    with anyio.move_on_after(0.01):
        async with anyio.create_task_group() as group:
            group.start_soon(run)
        return "done"
    raise TimeoutError


limited = pytest.mark.parametrize(
    "limit", [_wait_for, _timeout, _fail_after, _move_on_after, _cancelled_scope, _task_group]
)


@limited
async def test_t3_no_kind_of_timeout_tears_the_work(limit: Limit) -> None:
    work, elapsed = Work(), asyncio.Event()

    async def call() -> str:
        try:
            return await to_the_end(work.run(), grace=LONG)
        finally:
            elapsed.set()

    caller = asyncio.create_task(limit(call()))  # type: ignore[arg-type]
    await work.started.wait()
    # The limit of 10 ms is long over when this sleep, which began after it, ends.
    await asyncio.sleep(0.05)
    assert not elapsed.is_set()
    assert not caller.done()
    work.let_go.set()
    with pytest.raises(TimeoutError):
        await caller
    assert work.ended
    assert not work.cancelled


@limited
async def test_the_grace_holds_for_every_kind_of_timeout(limit: Limit) -> None:
    work = Work()
    with pytest.raises(TimeoutError):
        await limit(to_the_end(work.run(), grace=0.01))
    assert work.cancelled
    assert not work.ended


@limited
async def test_the_task_goes_on_after_a_timeout(limit: Limit) -> None:
    """No cancellation is left over to strike the next await."""
    work = Work()
    with pytest.raises(TimeoutError):
        await limit(to_the_end(work.run(), grace=0.0))
    own = asyncio.current_task()
    assert own is not None
    assert own.cancelling() == 0
    await turns()
    with anyio.CancelScope():
        await turns()


async def test_an_anyio_cancellation_does_not_spin_while_the_work_goes_on() -> None:
    """anyio cancels a task again on every turn of the loop; the shield keeps that away."""
    work = Work()
    waits = 0
    wait = asyncio.wait

    async def counted(*args: object, **options: object) -> object:
        nonlocal waits
        waits += 1
        return await wait(*args, **options)  # type: ignore[call-overload]

    async def call() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await to_the_end(work.run(), grace=LONG)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "wait", counted)
        caller = asyncio.create_task(call())
        await work.started.wait()
        await turns(200)
        work.let_go.set()
        await caller
    assert work.ended
    assert waits <= 3


# NameLocks


async def test_one_name_is_held_by_one_at_a_time_in_order_of_asking() -> None:
    locks = NameLocks()
    order: list[int] = []
    holders = 0

    async def hold(number: int) -> None:
        nonlocal holders
        async with locks.hold("a"):
            holders += 1
            assert holders == 1
            order.append(number)
            await turns(number % 3)
            holders -= 1

    await asyncio.gather(*(hold(number) for number in range(30)))
    assert order == list(range(30))
    assert locks._locks == {}


async def test_different_names_do_not_wait_for_each_other() -> None:
    locks = NameLocks()
    async with locks.hold("a"), locks.hold("b"), locks.hold("A"):
        assert {name for _, name in locks._locks} == {"a", "b", "A"}
    assert locks._locks == {}


async def test_a_lock_is_kept_while_somebody_awaits_it() -> None:
    locks = NameLocks()
    order: list[str] = []

    async def hold(number: int) -> None:
        async with locks.hold("a"):
            order.append(f"in {number}")
            await turns()
            order.append(f"out {number}")

    tasks = []
    async with locks.hold("a"):
        tasks.append(asyncio.create_task(hold(1)))
        await turns()
    tasks.append(asyncio.create_task(hold(2)))
    await asyncio.gather(*tasks)
    assert order == ["in 1", "out 1", "in 2", "out 2"]
    assert locks._locks == {}


async def test_a_cancelled_waiter_leaves_the_queue() -> None:
    locks = NameLocks()
    entered: list[int] = []

    async def hold(number: int) -> None:
        async with locks.hold("a"):
            entered.append(number)

    async with locks.hold("a"):
        waiters = [asyncio.create_task(hold(number)) for number in range(3)]
        await turns()
        waiters[1].cancel()
        await turns()
    answers = await asyncio.gather(*waiters, return_exceptions=True)
    assert entered == [0, 2]
    assert isinstance(answers[1], asyncio.CancelledError)
    assert locks._locks == {}


async def test_an_error_or_cancellation_inside_lets_go_of_the_lock() -> None:
    locks = NameLocks()
    with pytest.raises(ValueError, match="bad"):
        async with locks.hold("a"):
            raise ValueError("bad")
    with anyio.CancelScope() as scope:
        async with locks.hold("a"):
            scope.cancel()
            await asyncio.Event().wait()
    assert locks._locks == {}
    async with locks.hold("a"):
        pass


# ByteLRU


async def test_the_least_recently_used_goes_first() -> None:
    cache = ByteLRU[str](80)
    for number in range(8):
        cache.put(f"k{number}", f"v{number}", 10)
    assert cache.get("k0") == "v0"
    cache.put("k8", "v8", 10)  # k1 is now the one that was not used for longest
    assert cache.get("k1") is None
    assert [number for number in range(9) if cache.get(f"k{number}")] == [0, 2, 3, 4, 5, 6, 7, 8]
    cache.put("k9", "v9", 1)
    assert cache.get("k0") is None
    assert cache.get("k2") is not None


async def test_the_cache_is_bounded_in_bytes() -> None:
    cache = ByteLRU[int](1000)
    for number in range(500):
        size = number * 7 % 126
        cache.put(f"k{number % 90}", size, size)
        kept = [item for key in range(90) if (item := cache.get(f"k{key}")) is not None]
        assert sum(kept) == cache._used <= 1000
    assert len(kept) > 5


async def test_a_newer_value_replaces_the_older_one() -> None:
    cache = ByteLRU[str](80)
    cache.put("k", "old", 10)
    cache.put("k", "new", 5)
    assert cache.get("k") == "new"
    assert cache._used == 5
    cache.drop("k")
    cache.drop("k")
    assert cache.get("k") is None
    assert cache._used == 0


async def test_what_is_too_large_is_not_kept_and_hides_no_older_value() -> None:
    cache = ByteLRU[str](80)
    cache.put("k", "old", 10)
    cache.put("k", "new", 11)
    assert cache.get("k") is None
    nothing = ByteLRU[str](0)
    nothing.put("k", "v", 1)
    assert nothing.get("k") is None


# Workers and waits


async def test_small_work_is_done_here_and_large_work_in_a_thread() -> None:
    here = threading.get_ident()
    assert await maybe_in_worker(False, threading.get_ident) == here
    assert await maybe_in_worker(True, threading.get_ident) != here
    assert await in_worker(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_worker(divmod, 7, 0)


async def test_a_cancelled_caller_does_not_wait_for_its_worker() -> None:
    begun, let_go = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        let_go.wait(60)

    caller = asyncio.create_task(in_worker(work))
    assert await in_worker(begun.wait, 60)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not let_go.is_set()
    let_go.set()


async def test_backoff_grows_up_to_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("asyncstore.concurrency.random.uniform", lambda low, high: low + high)
    monkeypatch.setattr("asyncstore.concurrency.asyncio.sleep", sleep)
    for attempt in (0, 1, 2, 5, 7, 50, 100_000):
        await backoff(attempt, base=0.001, most=0.1)
    assert slept == [0.001, 0.002, 0.004, 0.032, 0.1, 0.1, 0.1]

"""Cancelling a task at its k-th await, for every k.

A task factory puts every coroutine of the event loop into :class:`Counted`, which sees each time
it suspends. So each await of an operation, and of the tasks that it starts, can be counted and
struck, without changing a line of the code under test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

When = Literal["pending", "done"]


@dataclass(frozen=True)
class Strike:
    """Cancel a task when it suspends for the ``step``-th time (from 1).

    ``task`` counts the tasks in the order of their creation; 0 is the operation itself. With
    ``when="pending"`` the cancellation comes while the task waits; with ``"done"``, after what it
    waits for has come, but before it runs again, so that a result is in danger of being dropped.
    """

    task: int
    step: int
    when: When = "pending"


class Counted(Coroutine[Any, Any, Any]):
    """A coroutine that tells of every suspension, and else is the one that it holds."""

    def __init__(self, inner: Coroutine[Any, Any, Any], suspended: Callable[[Any], None]) -> None:
        self._inner = inner
        self._suspended = suspended

    def send(self, value: Any) -> Any:
        yielded = self._inner.send(value)
        self._suspended(yielded)
        return yielded

    def throw(self, *error: Any) -> Any:
        yielded = self._inner.throw(*error)
        self._suspended(yielded)
        return yielded

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self._inner.__await__()

    def __getattr__(self, name: str) -> Any:  # cr_running and so on, which anyio looks at
        return getattr(self._inner, name)


@dataclass
class Watch:
    """A task factory that counts the awaits of every task, and strikes once if told to.

    ``hit`` is what a strike does to the task; by default it cancels it.
    """

    strike: Strike | None = None
    hit: Callable[[asyncio.Task[Any]], object] = lambda task: task.cancel()
    steps: list[int] = field(default_factory=list)
    fired: bool = False

    def __call__(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Task[Any]:
        number = len(self.steps)
        self.steps.append(0)

        def suspended(yielded: Any) -> None:
            self.steps[number] += 1
            if self.strike is None or (number, self.steps[number]) != (
                self.strike.task,
                self.strike.step,
            ):
                return

            def strike(_: object = None) -> None:
                self.fired = True
                self.hit(task)

            if self.strike.when == "done" and yielded is not None:
                # Ahead of the task's own callback, which the loop adds after this returns.
                yielded.add_done_callback(strike)
            else:
                loop.call_soon(strike)

        task: asyncio.Task[Any] = asyncio.Task(Counted(coro, suspended), loop=loop, **options)
        return task

    async def run(
        self, operation: Coroutine[Any, Any, Any], *, seconds: float = 20.0
    ) -> asyncio.Task[Any]:
        """Run an operation as task 0 under this watch; answers the task, which has ended."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(self)
        try:
            task = loop.create_task(operation)
            await asyncio.wait([task], timeout=seconds)
        finally:
            loop.set_task_factory(None)
        assert task.done(), f"it hangs: {task}, {asyncio.all_tasks()}"
        return task

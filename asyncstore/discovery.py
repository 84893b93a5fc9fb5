"""Asking every mount at once, and starting the load on the first that answers.

The fan-out of one unqualified read is one task group, which ends with the call. Every probe gives
its outcome as a value, so that one mount's failure cancels nobody (anyio's gather is fail-fast),
and every piece of work that turns out to be wasted is cancelled and awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from asyncstore.backends.bounded import Slots
from asyncstore.concurrency import as_value
from asyncstore.errors import AsyncStoreError, BackendError, BackendTimeout
from asyncstore.mounts import StoreMount
from asyncstore.settings import DiscoveryPolicy
from asyncstore.stats import Stats
from asyncstore.verdicts import Chosen, Failure, Hit, Miss, Outcome

V = TypeVar("V")

Fetch = Callable[[StoreMount, Hit], Awaitable[Any]]
"""Starts the load of a hit: fetches and verifies bytes, and decodes nothing."""


class DegradedDiscoveryWarning(UserWarning):
    """A mount gave no answer, and the discovery went on without it as it was told to."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[V]):
    """The verdict of a discovery, the outcomes behind it, and the load of the chosen mount.

    ``fetched`` is what speculation has brought of the chosen mount's object, or the error it
    ended in; None where nothing was started.
    """

    verdict: V
    outcomes: Mapping[str, Outcome]
    fetched: Any = None


@dataclass(slots=True)
class Discovery:
    """One name that is looked for in all mounts."""

    mounts: Sequence[StoreMount]
    name: str
    version: str | None
    policy: DiscoveryPolicy
    slots: Slots
    stats: Stats
    on_hit: Callable[[str, str], None]
    on_miss: Callable[[str, str], None]
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    left_out: dict[str, Exception] = field(default_factory=dict[str, Exception])
    """The mounts that failed and were taken for misses, because they may be."""

    async def run(
        self,
        decide: Callable[[Sequence[str], Mapping[str, Outcome]], V | None],
        *,
        fetch: Fetch | None = None,
        preferred: str | None = None,
    ) -> Answer[V]:
        """Probe until ``decide`` has an answer; mounts with an outcome already are not asked.

        With ``fetch``, the load of the first hit starts while the other probes are still out;
        that of the ``preferred`` mount starts with its own probe, whoever is first.
        """
        names = [mount.name for mount in self.mounts]
        if (verdict := decide(names, self.outcomes)) is not None:
            return Answer(verdict, self.outcomes)
        decided: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        loads: dict[str, asyncio.Task[Any]] = {}
        tasks: dict[str, asyncio.Task[Any]] = {}

        def end(probe: asyncio.Task[Any]) -> None:
            if probe.cancelled():  # alone: its outcome would be awaited for ever
                decided.cancel()

        async with asyncio.TaskGroup() as group:

            async def ask(mount: StoreMount) -> Any:
                outcome = await self._probe(mount)
                self.outcomes[mount.name] = outcome
                if decided.done():
                    return None
                verdict = decide(names, self.outcomes)
                if verdict is not None:
                    decided.set_result(verdict)
                wanted = verdict is None or verdict == Chosen(mount.name)
                wanted &= mount.name == preferred or not loads
                if fetch is None or not isinstance(outcome, Hit) or not wanted:
                    return None
                # In this very task: a new one would start behind every answer that is in already,
                # which with many mounts costs as much as a round trip.
                loads[mount.name] = tasks[mount.name]
                return await as_value(fetch, mount, outcome)

            # The preferred mount's request goes out first.
            unasked = [mount for mount in self.mounts if mount.name not in self.outcomes]
            ordered = sorted(unasked, key=lambda mount: mount.name != preferred)
            for mount in ordered:
                tasks[mount.name] = probe = group.create_task(ask(mount))
                probe.add_done_callback(end)
            verdict = await decided
            chosen = verdict.location if isinstance(verdict, Chosen) else None
            self.stats.speculated(len(loads), used=chosen in loads)
            for name, task in tasks.items():
                if name != chosen or name not in loads:
                    task.cancel()
        loaded = loads.get(chosen) if chosen else None
        return Answer(verdict, self.outcomes, loaded.result() if loaded else None)

    async def _probe(self, mount: StoreMount) -> Outcome:
        """One probe, under its own time limit, which starts when its request is sent."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        timer = asyncio.timeout(None)

        def sent() -> None:
            nonlocal began
            if timer.when() is None:
                began = loop.time()
                timer.reschedule(began + self.policy.probe_timeout)

        try:
            async with timer:
                outcome = await self._ask(mount, sent)
        except Exception as error:
            outcome = self._failure(mount, error, timer.expired())
        self.stats.probed(mount.name, outcome, loop.time() - began)
        if isinstance(outcome, Hit):
            self.on_hit(self.name, mount.name)
        elif isinstance(outcome, Miss) and self.version is None:
            self.on_miss(self.name, mount.name)
        return self._tolerated(mount, outcome)

    async def _ask(self, mount: StoreMount, sent: Callable[[], None]) -> Outcome:
        registry = mount.registry.within(self.slots, sent)
        found = await registry.probe(self.name, self.version)
        if found is not None:
            return Hit(found.version, found)
        if self.policy.mode == "first" and self.version is not None:
            return Miss(await registry.probe(self.name) is not None)
        return Miss()

    def _failure(self, mount: StoreMount, error: Exception, expired: bool) -> Failure:
        if expired:
            seconds = self.policy.probe_timeout
            return Failure(
                BackendTimeout(f"mount {mount.name!r} gave no answer within {seconds} s")
            )
        if isinstance(error, AsyncStoreError):
            return Failure(error)
        wrapped = BackendError(f"mount {mount.name!r} failed: {type(error).__name__}: {error}")
        wrapped.__cause__ = error
        return Failure(wrapped)

    def _tolerated(self, mount: StoreMount, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Failure) and (mount.optional or self.policy.on_error == "ignore"):
            self.left_out[mount.name] = outcome.error
            return Miss()
        return outcome

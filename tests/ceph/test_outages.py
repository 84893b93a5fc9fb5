"""Daemons that stand still or die under a registry: slower or refused, never wrong, never lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from asyncstore import AsyncRegistry
from asyncstore.errors import BackendError, CommitUnknown
from tests.ceph.rig import opened
from tests.servers.ceph import Ceph
from tests.support import fresh_name

pytestmark = pytest.mark.asyncio

LARGE = bytes(range(256)) * 400  # 100 KB, so it does not fit into a record
SLACK = 1.0


@dataclass
class Load:
    """Tasks that save and load without end, what was acknowledged to them, and how long it took."""

    registry: AsyncRegistry
    limit: float
    saved: dict[str, Any] = field(default_factory=dict[str, Any])
    maybe: list[CommitUnknown] = field(default_factory=list[CommitUnknown])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    longest: float = 0.0
    ending: bool = False

    async def save(self, task: int) -> None:
        turn = 0
        while not self.ending:
            turn += 1
            value: Any = LARGE + b"%d %d" % (task, turn) if turn % 5 == 0 else [task, turn]
            name = "shared" if turn % 2 else f"own-{task}"
            version = await self.timed("save", lambda: self.registry.save(name, value))  # noqa: B023
            if version is not None:
                assert self.saved.setdefault(f"{name}@{version}", value) is value, "given twice"

    async def load(self) -> None:
        turn = 0
        while not self.ending:
            turn += 1
            key = list(self.saved)[-1 - turn % min(len(self.saved), 20)]
            found = await self.timed("load", lambda: self.registry.load(key))  # noqa: B023
            if found is not None:
                assert found == self.saved[key]
            # Present for sure, so "no" would be a lie.
            assert await self.timed("ask", lambda: self.registry.has_object(key)) is not False  # noqa: B023

    async def timed(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """The answer, or None where the service failed; anything else is raised."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            answer = await call()
        except CommitUnknown as error:
            self.maybe.append(error)
            self.outcomes[f"{what} unknown"] += 1
            answer = None
        except BackendError:
            self.outcomes[f"{what} failed"] += 1
            await asyncio.sleep(0.01)  # not to spin while nobody listens
            answer = None
        else:
            self.outcomes[what] += 1
        took = clock() - began
        self.longest = max(self.longest, took)
        assert took < self.limit + SLACK, f"{what} took {took:.1f} s"
        return answer

    async def check(self, url: str, prefix: str) -> None:
        """Everything acknowledged is there, asked of a gateway; once all is over, nothing else."""
        saved = dict(self.saved)
        async with opened(url, prefix) as registry:
            loaded = await registry.load(list(saved))
            assert loaded.errors == {}, "what was acknowledged is lost"
            assert list(loaded) == list(saved.values())
            listed = await registry.list_objects_and_versions()
        present = {f"{name}@{version}" for name, versions in listed.items() for version in versions}
        assert saved.keys() <= present
        if self.ending:
            assert present <= saved.keys() | {f"{e.name}@{e.version}" for e in self.maybe}

    def told(self, what: str) -> None:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        print(f"{what}: {counts}; the longest took {self.longest:.2f} s of {self.limit:.0f}")


@asynccontextmanager
async def under_load(url: str, prefix: str, limit: float) -> AsyncIterator[Load]:
    """Saves and loads by eight tasks, through one gateway, for as long as the body runs."""
    async with opened(url, prefix, operation_timeout=limit, request_timeout=3) as registry:
        load = Load(registry, limit)
        load.saved[f"shared@{await registry.save('shared', 0)}"] = 0
        async with asyncio.TaskGroup() as group:
            for task in range(4):
                group.create_task(load.save(task))
                group.create_task(load.load())
            try:
                yield load
            finally:
                load.ending = True


async def more(load: Load, operations: int = 40) -> None:
    """Wait for so many more operations that succeed."""
    goal = load.outcomes["save"] + operations
    async with asyncio.timeout(60):
        while load.outcomes["save"] < goal:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_an_osd_that_stands_still_and_goes_on_loses_nothing(
    ceph: Ceph, gateways: list[str]
) -> None:
    prefix = fresh_name()
    async with under_load(gateways[0], prefix, 20) as load:
        await more(load)
        ceph.stop_osd(1)
        try:
            await asyncio.to_thread(ceph.wait_for_osds, 2)  # some 6 s, until the others say so
        finally:
            ceph.continue_osd(1)
        await asyncio.to_thread(ceph.wait_for_osds, 3)
        await more(load)
    load.told("an OSD stood still")
    await load.check(gateways[1], prefix)
    assert load.outcomes["save"] > load.outcomes["save failed"] + load.outcomes["save unknown"]


async def test_a_gateway_that_dies_under_its_clients_loses_nothing(
    ceph: Ceph, gateways: list[str]
) -> None:
    prefix = fresh_name()
    async with under_load(gateways[1], prefix, 5) as load:
        for _ in range(2):
            await more(load)
            ceph.kill_gateway(1)
            try:
                async with asyncio.timeout(30):
                    while not (load.outcomes["save failed"] and load.outcomes["load failed"]):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                await load.check(gateways[0], prefix)
            finally:
                await asyncio.to_thread(ceph.start_gateway, 1)
        await more(load)  # the same clients go on
    load.told("a gateway died twice")
    for url in gateways:
        await load.check(url, prefix)


async def test_what_is_unknown_is_resolved_through_another_gateway(
    ceph: Ceph, gateways: list[str]
) -> None:
    """A commit that was under way when its gateway died is wholly there or wholly absent."""
    prefix = fresh_name()
    async with opened(gateways[1], prefix, operation_timeout=2) as registry:
        await registry.save("x", 0)
        saves = [asyncio.create_task(registry.save(f"x{at}", LARGE)) for at in range(64)]
        await asyncio.wait(saves, return_when=asyncio.FIRST_COMPLETED)
        ceph.kill_gateway(1)
        try:
            answers = await asyncio.gather(*saves, return_exceptions=True)
            outcomes = Counter(type(answer).__name__ for answer in answers)
            async with opened(gateways[0], prefix) as other:
                for at, answer in enumerate(answers):
                    there = await other.has_object(f"x{at}")
                    if there:
                        assert await other.load(f"x{at}", "1.0.0") == LARGE
                    if isinstance(answer, BaseException):
                        assert isinstance(answer, (BackendError, CommitUnknown)), repr(answer)
                        assert isinstance(answer, CommitUnknown) or not there, repr(answer)
                    else:
                        assert there, "an acknowledged save is lost"
        finally:
            await asyncio.to_thread(ceph.start_gateway, 1)
        unknown = [answer for answer in answers if isinstance(answer, CommitUnknown)]
        resolved = Counter([await answer.resolve() for answer in unknown])
    print(f"64 saves under way when the gateway died: {dict(outcomes)}, resolved {dict(resolved)}")
    assert False not in resolved

"""Faults between a registry and a gateway of Ceph; what is true is asked of the other gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from asyncstore import AsyncRegistry, RegistryObjectNotFound
from asyncstore.errors import BackendError, CommitUnknown
from tests.ceph.rig import opened
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.support import fresh_name

pytestmark = pytest.mark.asyncio

LARGE = bytes(range(256)) * 400  # 100 KB, so it does not fit into a record

COMMITS: dict[str, Callable[[AsyncRegistry], Awaitable[Any]]] = {
    "explicit": lambda registry: registry.save("x", LARGE, version="2.0.0"),
    "next": lambda registry: registry.save("x", LARGE),
    "overwrite": lambda registry: registry.save("x", LARGE, version="1.0.0"),
}
VERSIONS = {"explicit": "2.0.0", "next": "1.0.1", "overwrite": "1.0.0"}

READS: dict[str, Callable[[AsyncRegistry], Awaitable[Any]]] = {
    "latest": lambda registry: registry.load("x"),
    "pinned": lambda registry: registry.load("x", "1.0.0"),
    "has": lambda registry: registry.has_object("x"),
    "versions": lambda registry: registry.list_versions("x"),
    "objects": lambda registry: registry.list_objects(),
}


@pytest.fixture
def proxy(gateways: list[str]) -> Iterator[FaultProxy]:
    with FaultProxy(gateways[0]) as proxy:
        yield proxy


@pytest.mark.parametrize("commit", COMMITS)
async def test_a_commit_whose_reply_is_lost_is_done(
    gateways: list[str], proxy: FaultProxy, commit: str
) -> None:
    prefix = fresh_name()
    async with opened(proxy.url, prefix, mutable=commit == "overwrite") as registry:
        await registry.save("x", "old", version="1.0.0")
        proxy.faults.add(Fault.LOSE, method="PUT", match="/m/", times=1)
        assert await COMMITS[commit](registry) == VERSIONS[commit]
    assert proxy.faults.applied[Fault.LOSE] == 1
    async with opened(gateways[1], prefix) as other:
        assert await other.load("x", VERSIONS[commit]) == LARGE


async def test_a_deletion_whose_reply_is_lost_is_done(
    gateways: list[str], proxy: FaultProxy
) -> None:
    prefix = fresh_name()
    async with opened(proxy.url, prefix) as registry:
        await registry.save("x", "old")
        proxy.faults.add(Fault.LOSE, method="PUT", match="/m/", times=1)
        await registry.delete("x", "1.0.0")
    assert proxy.faults.applied[Fault.LOSE] == 1
    async with opened(gateways[1], prefix) as other:
        with pytest.raises(RegistryObjectNotFound):
            await other.load("x")


async def test_two_hundred_saves_with_one_reply_in_twenty_lost(
    gateways: list[str], proxy: FaultProxy
) -> None:
    prefix = fresh_name()
    slots = asyncio.Semaphore(16)
    saved: dict[str, Any] = {}
    unknown: list[CommitUnknown] = []
    async with opened(proxy.url, prefix) as one, opened(proxy.url, prefix) as other:
        await one.save("x", "first")
        proxy.faults.add(Fault.LOSE, method="PUT", chance=0.05)

        async def save(number: int) -> None:
            name, value = f"x{number % 10}", LARGE + b"%d" % number if number % 20 == 0 else number
            async with slots:
                try:
                    version = await (one, other)[number // 10 % 2].save(name, value)
                except CommitUnknown as error:
                    unknown.append(error)
                    return
            assert saved.setdefault(f"{name}@{version}", value) is value, "given twice"

        async with asyncio.TaskGroup() as group:  # a conflict here would be spurious
            for number in range(200):
                group.create_task(save(number))
    lost = proxy.faults.applied[Fault.LOSE]
    print(f"200 saves, {lost} replies lost: {len(unknown)} of them unknown")
    assert lost > 5
    assert len(saved) + len(unknown) == 200
    async with opened(gateways[1], prefix) as there:
        loaded = await there.load(list(saved))
        assert loaded.errors == {}
        assert list(loaded) == list(saved.values())


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.FORBID, Fault.GARBAGE, Fault.TRUNCATE])
async def test_what_is_there_is_never_reported_missing(
    gateways: list[str], proxy: FaultProxy, fault: Fault
) -> None:
    prefix = fresh_name()
    async with opened(gateways[1], prefix) as registry:
        await registry.save("x", LARGE)
    proxy.faults.add(fault)
    for name, read in READS.items():
        async with opened(proxy.url, prefix) as registry:
            with pytest.raises(BackendError):
                print(name, await read(registry))


async def test_a_hang_ends_in_its_time(gateways: list[str], proxy: FaultProxy) -> None:
    prefix = fresh_name()
    times = {"request_timeout": 0.5, "operation_timeout": 1.0}
    async with opened(proxy.url, prefix, **times) as registry:
        await registry.save("x", 1)
        proxy.faults.add(Fault.HANG)
        for read in READS.values():
            async with asyncio.timeout(2.0):
                with pytest.raises(BackendError):
                    await read(registry)

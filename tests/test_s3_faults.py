"""A registry in a bucket whose service loses replies, refuses, babbles or says nothing at all.

Whatever happens, what is there is never reported as missing, and what was acknowledged stays.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    DegradedDiscoveryWarning,
    DiscoveryPolicy,
    RetryPolicy,
    StoreDiscoveryIncomplete,
    StoreMount,
)
from asyncstore.errors import BackendError, BackendTimeout, CommitUnknown, RegistryObjectNotFound
from tests.servers.control import Control
from tests.servers.fault_proxy import Fault, FaultProxy
from tests.support import fresh_name, s3_uri, until

pytestmark = pytest.mark.asyncio

OLD = {"old": True}
LARGE = bytes(range(256)) * 400  # 100 KB, so it does not fit into a record


def opened(url: str, prefix: str, **options: Any) -> AsyncRegistry:
    """A registry in the bucket of the tests."""
    return AsyncRegistry(
        s3_uri(url, prefix), access_key_id="test", secret_access_key="test", **options
    )


@pytest.fixture
def proxy(counting: Control) -> Iterator[FaultProxy]:
    """A proxy before the S3 that counts."""
    with FaultProxy(counting.url, seed=1) as found:
        yield found


def now() -> float:
    return asyncio.get_running_loop().time()


# -- lost replies of commits -----------------------------------------------------------------------

COMMITS: dict[str, Callable[[AsyncRegistry], Awaitable[Any]]] = {
    "next": lambda registry: registry.save("x", LARGE),
    "explicit": lambda registry: registry.save("x", LARGE, version="2.0.0"),
    "overwrite": lambda registry: registry.save("x", LARGE, version="1.0.0"),
    "delete": lambda registry: registry.delete("x", "1.0.0"),
}
VERSIONS = {"next": "1.0.1", "explicit": "2.0.0", "overwrite": "1.0.0", "delete": "1.0.0"}


async def state_of(url: str, prefix: str, operation: str) -> str:
    """What a client that met no fault sees of a commit: all of it, or nothing of it."""
    async with opened(url, prefix) as registry:
        try:
            found = await registry.load("x", VERSIONS[operation])
        except RegistryObjectNotFound:
            return "done" if operation == "delete" else "absent"
    assert found in (OLD, LARGE), "a torn value"
    return "done" if found == LARGE else "absent"


def rolled_back(counting: Control) -> list[str]:
    """The keys of records and payload that were deleted."""
    deleted = [entry.key for entry in counting.log() if entry.method == "DELETE"]
    return [key for key in deleted if "/m/" in key or "/d/" in key]


@pytest.mark.parametrize("times", [1, 2, 3, 5])
@pytest.mark.parametrize("operation", COMMITS)
async def test_a_commit_whose_replies_are_lost_is_done(
    counting: Control, proxy: FaultProxy, operation: str, times: int
) -> None:
    prefix = fresh_name()
    async with opened(proxy.url, prefix, mutable=operation == "overwrite") as registry:
        await registry.save("x", OLD, version="1.0.0")
        proxy.faults.add(Fault.LOSE, method="PUT", match="/m/", times=times)
        answer = await COMMITS[operation](registry)
    assert answer in (VERSIONS[operation], None)
    # Nothing is sent again before the slot was read back, which shows the record.
    assert proxy.faults.applied[Fault.LOSE] == 1
    assert await state_of(counting.url, prefix, operation) == "done"
    assert rolled_back(counting) == []


@pytest.mark.parametrize("landed", [True, False])
@pytest.mark.parametrize("operation", COMMITS)
async def test_a_commit_that_cannot_be_read_back_is_unknown_and_rolls_nothing_back(
    counting: Control, proxy: FaultProxy, operation: str, landed: bool
) -> None:
    prefix = fresh_name()
    mutable = operation == "overwrite"
    async with opened(proxy.url, prefix, mutable=mutable, operation_timeout=0.5) as registry:
        await registry.save("x", OLD, version="1.0.0")
        proxy.faults.add(Fault.DELAY, method="PUT", match="/m/", seconds=0.1)
        proxy.faults.add(Fault.LOSE if landed else Fault.BUSY, method="PUT", match="/m/")
        commit = asyncio.ensure_future(COMMITS[operation](registry))
        await until(lambda: proxy.faults.applied[Fault.DELAY])  # what it reads before, it has read
        proxy.faults.add(Fault.RESET, method="GET", match="/m/")
        with pytest.raises(CommitUnknown) as caught:
            await commit
        proxy.faults.clear()
        state = await state_of(counting.url, prefix, operation)
        assert state == ("done" if landed else "absent")
        assert await caught.value.resolve() is (True if landed else None)
        assert caught.value.name == "x"
        assert caught.value.version == VERSIONS[operation]
    assert rolled_back(counting) == []


async def test_a_thousand_saves_with_one_reply_in_twenty_lost(
    counting: Control, proxy: FaultProxy
) -> None:
    prefix = fresh_name()
    slots = asyncio.Semaphore(16)
    saved: dict[str, Any] = {}
    unknown: list[CommitUnknown] = []
    # Two registries, since the savers of one name in one registry queue and so never race.
    async with opened(proxy.url, prefix) as one, opened(proxy.url, prefix) as other:
        await one.save("x", OLD)
        proxy.faults.add(Fault.LOSE, method="PUT", chance=0.05)

        async def save(number: int) -> None:
            value: Any = LARGE + b"%d" % number if number % 100 == 0 else {"n": number}
            name = f"x{number % 20}" if number % 2 else f"y{number}"
            version = None if number % 2 else "3.1.4"
            async with slots:
                try:
                    done = await (one, other)[number // 2 % 2].save(name, value, version=version)
                except CommitUnknown as error:
                    unknown.append(error)
                    return
            key = f"{name}@{done}"
            assert key not in saved, "a version was given away twice"
            saved[key] = value

        async with asyncio.TaskGroup() as group:  # a conflict here would be spurious
            for number in range(1000):
                group.create_task(save(number))
    lost = proxy.faults.applied[Fault.LOSE]
    assert lost > 40
    assert len(saved) + len(unknown) == 1000
    async with opened(counting.url, prefix) as registry:
        loaded = await registry.load(list(saved))
        assert loaded.errors == {}, "an acknowledged save is lost"
        assert list(loaded) == list(saved.values())
        listed = await registry.list_objects_and_versions()
    everything = {f"{name}@{version}" for name, versions in listed.items() for version in versions}
    maybe = {f"{error.name}@{error.version}" for error in unknown} | {"x@1.0.0"}
    assert saved.keys() <= everything <= saved.keys() | maybe
    print(f"1000 saves, {lost} replies lost: {len(unknown)} of them unknown")


# -- reads of a service that is not well -----------------------------------------------------------

READS: dict[str, tuple[Callable[[AsyncStore], Awaitable[Any]], Any]] = {
    "latest": (lambda store: store.load("x"), LARGE),
    "qualified": (lambda store: store.load("a/x"), LARGE),
    "pinned": (lambda store: store.load("x@1.0.0"), OLD),
    "qualified, pinned": (lambda store: store.load("a/x@1.0.0"), OLD),
    "record": (lambda store: store.load_record("a/x"), ...),
    "info": (lambda store: store.info("a/x"), ...),
    "get": (lambda store: store.get("a/x", "default"), LARGE),
    "has": (lambda store: store.has_object("x"), True),
    "qualified has": (lambda store: store.has_object("a/x", "1.0.0"), True),
    "objects": (lambda store: store.list_objects(), ["a/x"]),
    "versions": (lambda store: store.list_versions("a/x"), ["1.0.0", "1.0.1"]),
    "objects and versions": (lambda store: store.list_objects_and_versions("a"), ...),
    "locate": (lambda store: store.locate("x"), ["a"]),
    "iterate": (lambda store: names_of(store), ["a/x"]),
}


async def names_of(store: AsyncStore) -> list[str]:
    return [name async for name in store.iter_objects()]


AT_ONCE = RetryPolicy(first_delay=0.002)
"""The usual repetitions, with little time between them."""

FAILED = (BackendError, StoreDiscoveryIncomplete)
"""What a read may raise where the service fails, and nothing else."""


@asynccontextmanager
async def store_of(proxy: FaultProxy, prefix: str, **options: Any) -> AsyncIterator[AsyncStore]:
    """A store whose mount ``a`` is behind the proxy, with a second one that is empty."""
    mounts = {
        "a": opened(proxy.url, prefix, **{"retries": AT_ONCE, **options}),
        "b": AsyncRegistry("memory://"),
    }
    async with AsyncStore(mounts) as store:
        yield store


@pytest.fixture
def prefix(counting: Control) -> str:
    """A prefix that holds ``x``: small and old, large and new."""
    place = fresh_name()

    async def fill() -> None:
        async with opened(counting.url, place) as registry:
            await registry.save("x", OLD)
            await registry.save("x", LARGE)

    with asyncio.Runner() as runner:
        runner.run(fill())
    return place


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.RESET, Fault.TRUNCATE, Fault.GARBAGE])
async def test_reads_outlive_faults_that_pass(
    proxy: FaultProxy, prefix: str, fault: Fault, warm: bool
) -> None:
    for read, expected in READS.values():
        async with store_of(proxy, prefix) as store:
            if warm:
                await read(store)
            proxy.faults.add(fault, times=3)
            answer = await read(store)
        assert expected in (answer, ...)
        proxy.faults.clear()
    assert proxy.faults.applied[fault] == 3 * len(READS)


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(
    "fault", [Fault.BUSY, Fault.RESET, Fault.LOSE, Fault.TRUNCATE, Fault.GARBAGE, Fault.FORBID]
)
async def test_what_is_there_is_never_reported_missing(
    proxy: FaultProxy, prefix: str, fault: Fault, warm: bool
) -> None:
    async with store_of(proxy, prefix) as store:
        if warm:
            await store.load("a/x")
        before = proxy.faults.requests
        proxy.faults.add(fault)
        for name, (read, _) in READS.items():
            with pytest.raises(FAILED):
                print(name, await read(store))
        if fault is Fault.FORBID:  # asking again would not help
            assert proxy.faults.requests - before <= 2 * len(READS)


@pytest.mark.parametrize("part", ["/d/", "/m/", "list-type", "asv.json"])
@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.TRUNCATE, Fault.GARBAGE])
async def test_a_fault_of_one_kind_of_request(
    proxy: FaultProxy, prefix: str, fault: Fault, part: str
) -> None:
    """Every answer is right, or an error that says that there was none."""

    async def is_answered(read: Callable[[AsyncStore], Awaitable[Any]], expected: Any) -> bool:
        async with store_of(proxy, prefix) as store:
            try:
                answer = await read(store)
            except FAILED:
                return False
        assert expected in (answer, ...)
        return True

    proxy.faults.add(fault, match=part)
    async with asyncio.TaskGroup() as group:
        reads = [group.create_task(is_answered(*each)) for each in READS.values()]
    assert not all(read.result() for read in reads)


def assert_timeout(error: Exception) -> None:
    cause = error.errors["a"] if isinstance(error, StoreDiscoveryIncomplete) else error
    assert isinstance(cause, BackendTimeout), repr(cause)


@pytest.mark.parametrize("part", ["", "/d/", "/m/", "list-type", "asv.json"])
async def test_a_read_that_hangs_ends_in_its_time(
    proxy: FaultProxy, prefix: str, part: str
) -> None:
    times = {"request_timeout": 0.5, "operation_timeout": 2.0, "read_timeout": 5.0}

    async def timed(read: Callable[[AsyncStore], Awaitable[Any]], expected: Any) -> float:
        async with store_of(proxy, prefix, **times) as store:
            began = now()
            try:
                answer = await read(store)
            except FAILED as error:
                assert_timeout(error)
            else:
                assert expected in (answer, ...)
            return now() - began

    async with opened(proxy.url, prefix, **times) as registry:
        await registry.load("x")  # so that the client is there, which all of them share
        proxy.faults.add(Fault.HANG, match=part)
        async with asyncio.TaskGroup() as group:
            reads = [group.create_task(timed(*each)) for each in READS.values()]
    took = [read.result() for read in reads]
    assert proxy.faults.applied[Fault.HANG]
    print(f"hanging {part or 'altogether'}: at most {max(took):.2f} s")
    assert max(took) < (2.8 if part == "/d/" else 2.4)  # payload: by its size, each time


WRITES: dict[str, Callable[[AsyncRegistry], Awaitable[Any]]] = {
    "next": lambda registry: registry.save("new", OLD),
    "large": lambda registry: registry.save("large", LARGE),
    "explicit": lambda registry: registry.save("x", OLD, version="7.0.0"),
    "delete": lambda registry: registry.delete("x", "1.0.0"),
}


@pytest.mark.parametrize("part", ["", "/d/", "/m/", "list-type", "asv.json"])
async def test_a_write_that_hangs_ends_in_its_time(
    proxy: FaultProxy, prefix: str, part: str
) -> None:
    async def timed(write: Callable[[AsyncRegistry], Awaitable[Any]]) -> float:
        async with opened(proxy.url, prefix, request_timeout=0.5, operation_timeout=2.0) as one:
            began = now()
            with suppress(BackendTimeout, CommitUnknown):
                await write(one)
            return now() - began

    async with opened(proxy.url, prefix) as registry:
        await registry.load("x")  # so that the library is loaded
        proxy.faults.add(Fault.HANG, match=part)
        async with asyncio.TaskGroup() as group:
            writes = {name: group.create_task(timed(each)) for name, each in WRITES.items()}
    took = {name: round(write.result(), 2) for name, write in writes.items()}
    print(f"hanging {part or 'altogether'}: {took}")
    # Payload that could not be stored is removed, which may take as long again.
    assert max(took.values()) < (5.4 if part == "/d/" else 2.6), took


async def test_a_slow_service_does_not_stretch_the_time_of_an_operation(
    proxy: FaultProxy, prefix: str
) -> None:
    """Each of the requests of one load takes nearly its whole time: together they may not."""
    times = {"request_timeout": 0.5, "operation_timeout": 1.0}
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(store_of(proxy, prefix, **times)) for _ in READS]
        await asyncio.gather(*(store.has_object("a/none") for store in stores))
        proxy.faults.add(Fault.DELAY, seconds=0.4)
        proxy.faults.add(Fault.HANG, match="/d/")

        async def over(name: str, store: AsyncStore) -> float:
            began = now()
            with suppress(*FAILED):
                await READS[name][0](store)
            # To discover where a name is has a time of its own.
            return round(now() - began - (2 if name == "latest" else 1), 2)

        late = await asyncio.gather(*map(over, READS, stores))
    assert max(late) < 0.5, dict(zip(READS, late, strict=True))


async def test_a_dead_service_is_not_asked_again_for_every_request(
    proxy: FaultProxy, prefix: str
) -> None:
    async with opened(proxy.url, prefix) as registry:
        await registry.load("x")
        before = proxy.faults.requests
        proxy.faults.add(Fault.BUSY)
        slots = asyncio.Semaphore(10)

        async def load() -> None:
            async with slots:
                with pytest.raises(BackendError):
                    await registry.load("x")

        await asyncio.gather(*(load() for _ in range(200)))
    asked = proxy.faults.requests - before
    print(f"200 loads of a dead service: {asked} requests")
    assert asked <= 200 * 1.1 + 10


# -- a slow request, a silent mount ----------------------------------------------------------------


async def test_a_read_that_is_slow_is_sent_twice_and_a_write_never(
    counting: Control, proxy: FaultProxy, prefix: str
) -> None:
    policy = RetryPolicy(hedge_after=0.05)
    async with opened(proxy.url, prefix, retries=policy) as registry:
        assert await registry.load("x", "1.0.0") == OLD
        slowest = 0.0
        for number in range(20):
            if number % 5 == 0:
                proxy.faults.add(Fault.DELAY, method="GET", seconds=5, times=1)
            began = now()
            assert await registry.load("x", None if number % 2 else "1.0.0") in (OLD, LARGE)
            slowest = max(slowest, now() - began)
        assert proxy.faults.applied[Fault.DELAY] == 4
        print(f"20 loads, 4 of their requests 5 s slow: at most {slowest:.3f} s")
        assert slowest < 1
        proxy.faults.clear()
        counting.reset()
        proxy.faults.add(Fault.DELAY, method="PUT", seconds=0.3)
        assert await registry.save("x", LARGE) == "1.0.2"
    written = [entry.key for entry in counting.log() if entry.kind == "PUT"]
    assert len(written) == len(set(written))
    assert sum("/d/" in key for key in written) == sum("/m/" in key for key in written) == 1


@pytest.mark.filterwarnings("ignore::asyncstore.DegradedDiscoveryWarning")
async def test_one_silent_mount_of_32_costs_no_more_than_the_time_of_a_probe(
    counting: Control, proxy: FaultProxy
) -> None:
    patience = 0.5
    place = fresh_name()
    registries = {
        f"m{at:02}": opened(proxy.url if at == 7 else counting.url, f"{place}-{at}")
        for at in range(32)
    }
    policy = DiscoveryPolicy(probe_timeout=patience)
    took = {True: patience + 9, False: patience + 9}
    async with AsyncStore(registries, discovery=policy) as store:
        await asyncio.gather(*(store.save(f"{at}/y", at) for at in registries))
        await store.save("m20/x", OLD)
        assert await store.load("x") == OLD
        proxy.faults.add(Fault.HANG)
        for optional in (False, True) * 3:
            mounts = [StoreMount(*each, optional=optional) for each in registries.items()]
            asking = AsyncStore(mounts, discovery=policy)
            began = now()
            if optional:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    assert await asking.load("x") == OLD
                assert [each.category for each in caught] == [DegradedDiscoveryWarning]
            else:
                with pytest.raises(StoreDiscoveryIncomplete) as error:
                    await asking.load("x")
                assert error.value.hits == ["m20"]
                assert list(error.value.errors) == ["m07"]
            took[optional] = min(took[optional], now() - began)
            for location in list(registries):
                asking.remove_mount(location)
    over = {optional: round(1000 * (seconds - patience)) for optional, seconds in took.items()}
    print(f"one silent mount of 32: {over[False]} ms over, {over[True]} ms where it is optional")
    assert max(took.values()) < patience + 0.1

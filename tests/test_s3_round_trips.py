"""What every operation costs on S3: requests, and how many of them wait for each other.

Both come from the log of the S3 that counts. It answers nothing sooner than :data:`DELAY` after it
arrived, so a request that needs the answer to another arrives at least that much later: the depth
is the longest such chain. A busy machine can only make it look deeper, so a few tries are made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from asyncstore import AsyncRegistry, AsyncStore
from tests.servers.control import Control, Entry
from tests.servers.process import Server
from tests.support import Files, fresh_name, s3_uri

pytestmark = pytest.mark.asyncio

DELAY = 0.04
"""Seconds that each request takes at the server."""

_EARLY = 0.002
"""Seconds by which a timer of the server may be early."""

_TRIES = 6
_FILES = {f"part-{at}": bytes([at]) * 100_000 for at in range(3)}
_NAME = "model:resnet"
_OTHER = "something else"
_MOUNTS = ("a", "b", "c", "d")


class Cost(NamedTuple):
    """What an operation took of the service."""

    requests: int
    depth: int


Operation = Callable[[], Awaitable[Any]]


def depth_of(log: list[Entry]) -> int:
    """The longest chain of requests each of which arrived when the one before was answered."""
    depths: list[tuple[float, int]] = []
    for arrival in sorted(entry.seconds for entry in log):
        before = [depth for at, depth in depths if at + DELAY - _EARLY <= arrival]
        depths.append((arrival, 1 + max(before, default=0)))
    return max((depth for _, depth in depths), default=0)


class Ground:
    """Registries below one prefix of the server that counts, and what is done with them."""

    def __init__(self, url: str, folder: str, obj: Any, ends: AsyncExitStack) -> None:
        self.obj = obj
        self._control = Control(url)
        self._folder = folder
        self._ends = ends

    async def registry(self, place: str = "a") -> AsyncRegistry:
        """The registry of a place, by a process that has not used it yet."""
        registry = AsyncRegistry(
            s3_uri(self._control.url, f"{self._folder}/{place}"),
            access_key_id="test",
            secret_access_key="test",
            materializers=[Files(*[_FILES] * 64)],
        )
        return await self._ends.enter_async_context(registry)

    async def reader(self, place: str = "a") -> AsyncRegistry:
        """A registry that this process has read something else of."""
        registry = await self.registry(place)
        await registry.has_object(_OTHER)
        return registry

    async def writer(self, place: str = "a") -> AsyncRegistry:
        """A registry that this process has written something else to."""
        registry = await self.registry(place)
        await registry.save(fresh_name(), 1, version="1.0.0")
        return registry

    async def store(self) -> AsyncStore:
        """Four mounts, each used before; one of them has the object."""
        return AsyncStore({place: await self.reader(place) for place in _MOUNTS})

    async def cost(self, operation: Operation) -> Cost:
        """Run it once, and count."""
        self._control.reset()
        self._control.delay(DELAY * 1000)
        await operation()
        log = self._control.log()
        self._control.reset()
        return Cost(len(log), depth_of(log))


@pytest_asyncio.fixture
async def ends() -> AsyncIterator[AsyncExitStack]:
    """Closes what the test opened."""
    async with AsyncExitStack() as stack:
        yield stack


OBJECTS = {"inline": {"acc": 0.92}, "large": 1j}
"""An object that stands in its record, and one that stands beside it in three files."""


@pytest.fixture(scope="module", params=OBJECTS)
def payload(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def folder(counting_server: Server, payload: str) -> str:
    """Where there is something in every place, and the object that is looked for in one."""
    name = fresh_name()

    async def fill() -> None:
        async with AsyncExitStack() as ends:
            ground = Ground(counting_server.url, name, OBJECTS[payload], ends)
            for place in _MOUNTS:
                await (await ground.registry(place)).save(_OTHER, 1)
            await (await ground.registry()).save(_NAME, ground.obj)

    asyncio.run(fill())
    return name


@pytest.fixture
def ground(counting: Control, folder: str, payload: str, ends: AsyncExitStack) -> Ground:
    return Ground(counting.url, folder, OBJECTS[payload], ends)


@pytest_asyncio.fixture
async def small(counting: Control, ends: AsyncExitStack) -> Ground:
    """A place of the test's own, with nothing in it but a registry."""
    ground = Ground(counting.url, fresh_name(), 1, ends)
    await (await ground.registry()).save(_OTHER, 1)
    return ground


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """The lines of the table, printed when the module has ended (``pytest -s`` shows it)."""
    lines: list[str] = []
    yield lines
    print(f"\n{'operation':48}{'payload':9}{'requests':>9}{'depth':>7}")
    print("\n".join(lines))


# -- the operations: each function gets everything ready, and answers what is to be counted


async def load_pinned(g: Ground) -> Operation:
    registry = await g.reader()
    return lambda: registry.load(_NAME, "1.0.0")


async def load_latest_cold(g: Ground) -> Operation:
    registry = await g.reader()
    return lambda: registry.load(_NAME)


async def load_latest_warm(g: Ground) -> Operation:
    registry = await g.reader()
    await registry.load(_NAME)
    return lambda: registry.load(_NAME)


async def unqualified_pinned_cold(g: Ground) -> Operation:
    store = await g.store()
    return lambda: store.load(f"{_NAME}@1.0.0")


async def unqualified_pinned_warm(g: Ground) -> Operation:
    store = await g.store()
    await store.load(f"{_NAME}@1.0.0")
    return lambda: store.load(f"{_NAME}@1.0.0")


async def unqualified_latest_cold(g: Ground) -> Operation:
    store = await g.store()
    return lambda: store.load(_NAME)


async def unqualified_latest_warm(g: Ground) -> Operation:
    store = await g.store()
    await store.load(_NAME)
    return lambda: store.load(_NAME)


async def has_pinned(g: Ground) -> Operation:
    registry = await g.reader()
    return lambda: registry.has_object(_NAME, "1.0.0")


async def has_latest(g: Ground) -> Operation:
    registry = await g.reader()
    return lambda: registry.has_object(_NAME)


async def has_not(g: Ground) -> Operation:
    registry = await g.reader()
    return lambda: registry.has_object("no such name")


async def save_explicit(g: Ground) -> Operation:
    registry = await g.writer()
    return lambda: registry.save(fresh_name(), g.obj, version="1.0.0")


async def save_next(g: Ground) -> Operation:
    registry = await g.writer()
    return lambda: registry.save(_OTHER, g.obj)


async def save_first_of_name(g: Ground) -> Operation:
    registry = await g.writer()
    return lambda: registry.save(fresh_name(), g.obj)


async def delete_one(g: Ground) -> Operation:
    registry, name = await g.writer(), fresh_name()
    await registry.save(name, g.obj)
    await registry.save(name, g.obj)
    return lambda: registry.delete(name, "1.0.0")


async def first_use_pinned(g: Ground) -> Operation:
    registry = await g.registry()
    return lambda: registry.load(_NAME, "1.0.0")


async def first_use_latest(g: Ground) -> Operation:
    registry = await g.registry()
    return lambda: registry.load(_NAME)


async def first_write_explicit(g: Ground) -> Operation:
    registry = await g.reader()
    return lambda: registry.save(fresh_name(), g.obj, version="1.0.0")


async def first_write_next(g: Ground) -> Operation:
    registry = await g.reader()
    return lambda: registry.save(_OTHER, g.obj)


async def first_use_and_write(g: Ground) -> Operation:
    registry = await g.registry()
    return lambda: registry.save(fresh_name(), g.obj, version="1.0.0")


class Row(NamedTuple):
    """A row of the table: what it may cost with the payload inline, and with three files."""

    name: str
    prepare: Callable[[Ground], Awaitable[Operation]]
    inline: Cost
    large: Cost
    at_most: bool = False


ROWS = [
    Row("load pinned", load_pinned, Cost(1, 1), Cost(4, 2)),
    Row("load latest, cold", load_latest_cold, Cost(2, 2), Cost(5, 3)),
    Row("load latest, warm", load_latest_warm, Cost(1, 1), Cost(4, 2), True),
    Row("unqualified, 4 mounts, pinned, cold", unqualified_pinned_cold, Cost(4, 1), Cost(7, 2)),
    Row("unqualified, 4 mounts, pinned, warm", unqualified_pinned_warm, Cost(4, 1), Cost(7, 2)),
    Row("unqualified, 4 mounts, latest, cold", unqualified_latest_cold, Cost(5, 2), Cost(8, 3)),
    Row(
        "unqualified, 4 mounts, latest, warm", unqualified_latest_warm, Cost(4, 1), Cost(7, 2), True
    ),
    Row("has_object pinned", has_pinned, Cost(1, 1), Cost(1, 1)),
    Row("has_object latest", has_latest, Cost(1, 1), Cost(1, 1)),
    Row("has_object, not there", has_not, Cost(1, 1), Cost(1, 1)),
    Row("save, explicit version", save_explicit, Cost(1, 1), Cost(4, 2)),
    Row("save, next version", save_next, Cost(2, 2), Cost(5, 2)),
    Row("save, first version of a name", save_first_of_name, Cost(2, 2), Cost(5, 2)),
    Row("delete one version", delete_one, Cost(3, 2), Cost(3, 2)),
    # The settings are read beside what is asked for: one request more, no round trip more.
    Row("first use: load pinned", first_use_pinned, Cost(2, 1), Cost(5, 2)),
    Row("first use: load latest", first_use_latest, Cost(3, 2), Cost(6, 3)),
    # Before the first write it is asked whether creation is conditional: one request, and a round
    # trip, beside which the settings are read if they are not known.
    Row("first write: save, explicit version", first_write_explicit, Cost(2, 2), Cost(5, 3)),
    Row("first write: save, next version", first_write_next, Cost(3, 3), Cost(6, 3)),
    Row("first use and write: save, explicit version", first_use_and_write, Cost(3, 2), Cost(6, 3)),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
async def test_requests_and_round_trips(
    ground: Ground, payload: str, row: Row, table: list[str]
) -> None:
    expected = row.large if payload == "large" else row.inline
    cost = await best_of(ground, row.prepare, expected.depth)
    table.append(line(row.name, payload, cost))
    if row.at_most:
        assert cost.requests <= expected.requests
        assert cost.depth <= expected.depth
    else:
        assert cost == expected


async def best_of(g: Ground, prepare: Callable[[Ground], Awaitable[Operation]], depth: int) -> Cost:
    """The cost of an operation: always the same requests, and the least depth of a few tries."""
    found: list[Cost] = []
    while len(found) < _TRIES and min((cost.depth for cost in found), default=depth + 1) > depth:
        found.append(await g.cost(await prepare(g)))
    assert len({cost.requests for cost in found}) == 1
    return min(found)


def line(name: str, payload: str, cost: Cost) -> str:
    return f"{name:48}{payload:9}{cost.requests:9}{cost.depth:7}"


# -- lost races


async def test_each_lost_race_for_a_number_costs_two_round_trips(
    small: Ground, table: list[str]
) -> None:
    one, two = await small.writer(), await small.writer()
    found: list[Cost] = []
    for _ in range(_TRIES):
        name = fresh_name()
        cost = await small.cost(lambda n=name: asyncio.gather(one.save(n, 1), two.save(n, 2)))
        if cost.requests > 4:  # else the machine was so busy that they did not meet
            found.append(cost)
    table.append(line("save, next version, by two at once", "inline", min(found)))
    assert min(cost.depth for cost in found) == 2 + 2


# -- growth


async def test_costs_do_not_grow_with_the_number_of_versions(
    small: Ground, table: list[str]
) -> None:
    registry = await small.writer()
    for _ in range(30):
        await registry.save("often", 1)

    async def load(g: Ground) -> Operation:
        cold = await g.reader()
        return lambda: cold.load("often")

    async def save(g: Ground) -> Operation:
        return lambda: registry.save("often", 1)

    async def has(g: Ground) -> Operation:
        return lambda: registry.has_object("often")

    async def versions(g: Ground) -> Operation:
        return lambda: registry.list_versions("often")

    operations = {
        "load latest, cold": (load, Cost(2, 2)),
        "save, next version": (save, Cost(2, 2)),
        "has_object latest": (has, Cost(1, 1)),
        "list_versions": (versions, Cost(1, 1)),
    }
    for name, (prepare, expected) in operations.items():
        cost = await best_of(small, prepare, expected.depth)
        table.append(line(f"of 30 versions: {name}", "inline", cost))
        assert cost == expected


@pytest.mark.parametrize(("dead", "expected"), [(3, Cost(3, 3)), (12, Cost(5, 5))])
async def test_a_load_lists_again_where_deleted_versions_stand_before_the_newest(
    small: Ground, table: list[str], dead: int, expected: Cost
) -> None:
    # The exception to the table: a listing that showed a tombstone is repeated, and what is beyond
    # the first eight takes another page.
    registry = await small.writer()
    for _ in range(1 + dead):
        await registry.save("buried", 1)
    for at in range(1, 1 + dead):
        await registry.delete("buried", f"1.0.{at}")

    async def load(g: Ground) -> Operation:
        cold = await g.reader()
        return lambda: cold.load("buried")

    async def save(g: Ground) -> Operation:
        return lambda: registry.save("buried", 1)

    cost = await best_of(small, load, expected.depth)
    table.append(line(f"load latest behind {dead} deleted versions", "inline", cost))
    assert cost == expected
    assert await best_of(small, save, 2) == Cost(2, 2)  # dead numbers count


# -- listings


async def test_names_are_listed_by_the_thousand(small: Ground, table: list[str]) -> None:
    registry = await small.writer()
    names = [f"name-{at:04}" for at in range(2500)]
    saved = await registry.save(names, [1] * len(names), version="1.0.0")
    assert saved.all_succeeded
    others = set(await registry.list_objects()) - set(names)

    async def listing(g: Ground) -> Operation:
        reader = await g.reader()

        async def listed() -> None:
            assert await reader.list_objects() == sorted({*names, *others})

        return listed

    # Three pages of names, and one of the marks of names that ever had a delete.
    cost = await best_of(small, listing, 3)
    table.append(line("list 2,500 names", "inline", cost))
    assert cost == Cost(4, 3)

    deleted = names[::500]
    assert (await registry.delete(deleted, "1.0.0")).all_succeeded
    names = [name for name in names if name not in deleted]
    cost = await best_of(small, listing, 3 + 3)
    table.append(line("list 2,495 names, 5 more deleted", "inline", cost))
    assert cost.requests <= 4 + len(deleted)

    await registry.save(deleted, [2] * len(deleted))  # marked for ever, and there again
    names = sorted([*names, *deleted])
    assert (await best_of(small, listing, 3 + 3)).requests <= 4 + len(deleted)

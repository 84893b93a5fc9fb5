"""Cancelling every operation at every await (rig R4; lesson T3).

Each operation runs once to count its awaits, and then once for each of them, and is cancelled
there. Whatever the moment: ``CancelledError`` comes out, the whole version is there or nothing,
everything that is listed loads, no payload is left that no record refers to, no staged file, no
task, no open file, and the same registry goes on working.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncstore.errors import (
    CommitUnknown,
    RegistryObjectNotFound,
    RegistryVersionConflict,
    StoreAmbiguousObjectError,
)
from tests.rigs.operations import OTHER, REGISTRY, STORE, Operation
from tests.rigs.steps import Strike, Watch, When
from tests.rigs.world import Versions, World, files_closed, no_tasks, open_files

SECONDS = 5.0
"""Within which an operation that was cancelled must have ended."""

FreshRoot = Callable[[], Path | None]
both_backends = pytest.mark.parametrize("backend", ["memory", "local"])
registry_operations = pytest.mark.parametrize("operation", REGISTRY, ids=lambda one: one.name)
store_operations = pytest.mark.parametrize("operation", STORE, ids=lambda one: one.name)
sample = pytest.mark.parametrize(
    "operation",
    [one for one in REGISTRY + STORE if one.name in {
        "save large", "overwrite large", "save a batch", "delete all", "pop", "move large",
        "load unqualified large", "open_writer, large", "copy",
    }],
    ids=lambda one: one.name,
)  # fmt: skip


@pytest.fixture
def fresh(tmp_path: Path, backend: str) -> FreshRoot:
    """A new place for a world, each time it is called."""
    places = itertools.count()
    return lambda: None if backend == "memory" else tmp_path / str(next(places))


async def clean_run(operation: Operation, fresh: FreshRoot) -> tuple[list[int], Versions, Versions]:
    """Run the operation undisturbed: the awaits of its tasks, what is there before, and after."""
    world = World(fresh(), mutable=operation.mutable)
    await prepare(operation, world)
    before = await world.versions()
    watch = Watch()
    (await watch.run(operation.call(world))).result()
    after = await world.versions()
    await world.audit()
    await world.aclose()
    return watch.steps, before, after


async def prepare(operation: Operation, world: World) -> None:
    if operation.prepare is not None:
        await operation.prepare(world)


async def strike_at(
    operation: Operation, fresh: FreshRoot, strike: Strike, before: Versions, after: Versions
) -> bool:
    """Cancel the operation at one await and check everything; False if it has no such await."""
    world = World(fresh(), mutable=operation.mutable)
    await prepare(operation, world)
    files = open_files()
    watch = Watch(strike)
    task = await watch.run(operation.call(world), seconds=SECONDS)
    no_tasks()
    error = None if task.cancelled() else task.exception()
    if watch.fired:
        assert error is None or isinstance(error, CommitUnknown)
        if strike.task == 0:
            assert task.cancelled(), f"the cancellation was swallowed: {task}"
        await check_left(operation, world, files, before, after, alone=strike.task > 0)
        if strike.task == 0 and strike.when == "pending":
            await check_usable(operation, world, after)
    else:
        task.result()
    await world.aclose()
    return watch.fired


async def check_left(
    operation: Operation,
    world: World,
    files: int,
    before: Versions,
    after: Versions,
    *,
    alone: bool = False,
) -> None:
    """What the operation left is what was there before, or what it was to do: nothing between.

    A task of it that was cancelled ``alone`` fails its item of a batch, so that the next item may
    have the version; and a commit may be applied for all that is known, so that the payload stays.
    """
    now = await world.versions()
    if operation.whole:
        assert now in (before, after)
    elif alone:
        assert all(value in [*before.values(), *after.values()] for value in now.values())
    else:
        for key in {*before, *after, *now}:
            assert now.get(key) in (before.get(key), after.get(key)), f"{key} is torn"
    await world.audit(orphans=alone)
    await files_closed(files)


async def check_usable(operation: Operation, world: World, after: Versions) -> None:
    """The same objects go on: the operation can be repeated, and the name be saved to."""
    async with asyncio.timeout(SECONDS):
        try:
            await operation.call(world)
        except (RegistryObjectNotFound, RegistryVersionConflict, StoreAmbiguousObjectError):
            assert await world.versions() == after, "it was not done, and cannot be repeated"
        for registry in (world.a, world.b):
            version = await registry.save("x", OTHER)
            assert await registry.load("x", version) == OTHER
    no_tasks()


async def strike_everywhere(
    operation: Operation, fresh: FreshRoot, *, children: tuple[When, ...]
) -> str:
    """Cancel the operation at every await, and the tasks that it starts at every one of theirs."""
    steps, before, after = await clean_run(operation, fresh)
    assert steps[0] > 0, "no await was found"
    struck = [0, 0]
    for number in range(len(steps)):
        whens: tuple[When, ...] = ("pending", "done") if number == 0 else children
        for when in whens:
            for step in itertools.count(1):
                strike = Strike(number, step, when)
                if not await strike_at(operation, fresh, strike, before, after):
                    break
                struck[number > 0] += 1
    assert struck[0] >= steps[0]
    return (
        f"{steps[0]} awaits of its own and {sum(steps[1:])} of {len(steps) - 1} tasks: "
        f"cancelled {struck[0]} + {struck[1]} times"
    )


@both_backends
@registry_operations
@pytest.mark.asyncio
async def test_a_registry_survives_cancellation_at_every_await(
    operation: Operation, backend: str, fresh: FreshRoot
) -> None:
    children: tuple[When, ...] = ("pending", "done") if backend == "memory" else ("pending",)
    told = await strike_everywhere(operation, fresh, children=children)
    print(f"{operation.name} ({backend}): {told}")


@both_backends
@store_operations
@pytest.mark.asyncio
async def test_a_store_survives_cancellation_at_every_await(
    operation: Operation, backend: str, fresh: FreshRoot
) -> None:
    # On a directory, the children that matter are those of its registries, struck above.
    children: tuple[When, ...] = ("pending",) if backend == "memory" else ()
    told = await strike_everywhere(operation, fresh, children=children)
    print(f"store: {operation.name} ({backend}): {told}")


@both_backends
@sample
@pytest.mark.asyncio
async def test_a_cancel_scope_of_anyio_leaves_the_same(
    operation: Operation, backend: str, fresh: FreshRoot
) -> None:
    """Anyio cancels again on every turn of the loop, until the task has left the scope."""
    _, before, after = await clean_run(operation, fresh)
    struck = 0
    for step in itertools.count(1):
        world = World(fresh(), mutable=operation.mutable)
        await prepare(operation, world)
        files = open_files()
        scope = anyio.CancelScope()

        async def scoped(world: World = world, scope: anyio.CancelScope = scope) -> None:
            with scope:
                await operation.call(world)

        watch = Watch(Strike(0, step), hit=lambda task, scope=scope: scope.cancel())
        task = await watch.run(scoped(), seconds=SECONDS)
        task.result()  # the scope takes the cancellation in
        no_tasks()
        if watch.fired:
            assert scope.cancelled_caught
            struck += 1
            await check_left(operation, world, files, before, after)
            await check_usable(operation, world, after)
        await world.aclose()
        if not watch.fired:
            break
    assert struck
    print(f"{operation.name} ({backend}): cancelled {struck} times through a scope")


async def by_wait_for(work: Any, seconds: float) -> bool:
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return True
    return False


async def by_move_on_after(work: Any, seconds: float) -> bool:
    with anyio.move_on_after(seconds) as scope:
        await work
    return scope.cancelled_caught


@both_backends
@pytest.mark.parametrize("way", [by_wait_for, by_move_on_after])
@sample
@pytest.mark.asyncio
async def test_a_timeout_at_any_time_leaves_the_same(
    operation: Operation, way: Any, backend: str, fresh: FreshRoot
) -> None:
    began = time.perf_counter()
    _, before, after = await clean_run(operation, fresh)
    whole = time.perf_counter() - began
    late = 0
    for part in range(4):
        world = World(fresh(), mutable=operation.mutable)
        await prepare(operation, world)
        files = open_files()
        late += await way(operation.call(world), whole / 5 * part)
        no_tasks()
        await check_left(operation, world, files, before, after)
        await world.aclose()
    assert late, "no timeout came while it was running"
    print(f"{operation.name} ({backend}): {late} of 4 timeouts came in time")


@pytest.mark.asyncio
async def test_a_probe_that_is_cancelled_alone_does_not_hang_the_load() -> None:
    operation = next(one for one in STORE if one.name == "load unqualified")
    world = World(None, mutable=False)
    await prepare(operation, world)
    try:
        await Watch(Strike(1, 1)).run(operation.call(world), seconds=0.2)
    finally:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            await asyncio.wait([task])


@pytest.mark.asyncio
async def test_a_batch_whose_worker_is_cancelled_alone_does_not_answer_success() -> None:
    world = World(None, mutable=False)
    task = await Watch(Strike(1, 1)).run(world.a.save(["x", "y"], [OTHER, OTHER]))
    assert task.cancelled() or not task.result().all_succeeded

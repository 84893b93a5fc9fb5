"""A store outlives the task that made it: fixtures that yield one, under both pytest plugins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
import pytest_asyncio

from asyncstore import AsyncStore
from tests.support import watched


@pytest_asyncio.fixture
async def yielded(tmp_path: Path) -> AsyncIterator[AsyncStore]:
    async with AsyncStore({"a": tmp_path / "a", "b": "memory://"}) as store:
        await store.save("a/x", "from the fixture")
        yield store


@pytest.mark.asyncio
async def test_a_yielded_store_under_pytest_asyncio(yielded: AsyncStore) -> None:
    assert await yielded.load("x") == "from the fixture"
    await yielded.save("b/y", 1)
    assert await yielded.list_objects() == ["a/x", "b/y"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def yielded_by_anyio(anyio_backend: str, tmp_path: Path) -> AsyncIterator[AsyncStore]:
    async with AsyncStore({"a": tmp_path / "a", "b": "memory://"}) as store:
        await store.save("a/x", "from the fixture")
        yield store


@pytest.mark.anyio
async def test_a_yielded_store_under_anyios_plugin(yielded_by_anyio: AsyncStore) -> None:
    assert await yielded_by_anyio.load("x") == "from the fixture"
    await yielded_by_anyio.save("b/y", 1)
    assert await yielded_by_anyio.list_objects() == ["a/x", "b/y"]


@pytest.mark.anyio
async def test_a_cancelled_scope_ends_a_load_and_leaves_the_store_usable(
    anyio_backend: str,
) -> None:
    there = watched()
    store = AsyncStore({"a": there.registry, "b": "memory://"})
    await store.save("a/x", 1)
    there.slow.hang()
    with anyio.move_on_after(0.01) as scope:
        await store.load("x")
    assert scope.cancelled_caught
    there.slow.resume()
    assert await store.load("x") == 1


@pytest.mark.asyncio
async def test_entered_in_one_task_and_left_in_another(tmp_path: Path) -> None:
    store = AsyncStore({"a": tmp_path})
    await asyncio.create_task(store.__aenter__())
    await asyncio.create_task(store.save("a/x", 1))
    assert await asyncio.create_task(store.load("x")) == 1
    await asyncio.create_task(store.__aexit__(None, None, None))


@pytest.mark.asyncio
async def test_an_iterator_of_keys_may_be_pulled_from_several_tasks(yielded: AsyncStore) -> None:
    await yielded.save("b/y", 1)
    keys = yielded.iter_objects()

    async def pull() -> str:
        return await anext(keys)

    assert [await asyncio.create_task(pull()) for _ in range(2)] == ["a/x", "b/y"]
    await keys.aclose()  # type: ignore[attr-defined]


def test_two_loops_one_after_the_other(tmp_path: Path) -> None:
    store = AsyncStore({"a": tmp_path / "a", "b": tmp_path / "b"}, max_concurrency=2)

    async def use(at: int) -> object:
        await asyncio.gather(*(store.save(f"a/{number}", at) for number in range(8)))
        answer = await asyncio.gather(*(store.load(str(number)) for number in range(8)))
        await store.aclose()
        return answer

    assert asyncio.run(use(1)) == [1] * 8
    assert asyncio.run(use(2)) == [2] * 8

"""Turns at sending."""

from __future__ import annotations

import asyncio

import pytest

from asyncstore.asgi.pacing import Pace, pace_of_loop

pytestmark = pytest.mark.asyncio


async def test_few_go_on_in_one_turn_of_the_loop_and_in_order() -> None:
    pace = Pace()
    gone: list[int] = []

    async def one(number: int) -> None:
        await pace.turn()
        gone.append(number)

    tasks = [asyncio.create_task(one(number)) for number in range(50)]
    most, before = 0, 0
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        most, before = max(most, len(gone) - before), len(gone)
    assert gone == list(range(50))
    assert most <= 4


async def test_who_is_cancelled_takes_nobodys_turn() -> None:
    pace = Pace()
    tasks = [asyncio.create_task(pace.turn()) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait(tasks)
        await pace.turn()
    assert [task.cancelled() for task in tasks[1::2]] == [False] * 10


async def test_a_loop_has_one_pace() -> None:
    assert pace_of_loop() is pace_of_loop()
